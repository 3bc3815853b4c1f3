"""A local Label Studio server for a try-out or a small team: SQLite, loopback, no telemetry."""

import contextlib
import json
import os
import secrets
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import httpx

from fgr import atomic
from fgr.errors import UserError, missing_extra, notice

HOST = "127.0.0.1"
READY = 300.0  # seconds without a sign of progress
SHOW = 10.0  # seconds between lines about a start that takes long
DATABASE, STARTING = "label_studio.sqlite3", "first-start"  # a file that is there while the first start goes on
EMAIL = "owner@fgr.local"
# The server ends with the command, however that ends: its standard input, which nobody writes to, is then at its end.
PROGRAM = """
import os, threading
command = os.dup(0)
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
threading.Thread(target=lambda: (os.read(command, 1), os._exit(1)), daemon=True).start()
from label_studio.server import main
main()
"""


@dataclass(frozen=True, slots=True)
class Login:
    """The owner's login of a local server."""

    email: str
    password: str
    token: str


@dataclass(frozen=True, slots=True)
class Server:
    """A running local server."""

    url: str
    login: Login
    files: Path
    process: subprocess.Popen[bytes]

    def stop(self, wait: float = 20.0) -> None:
        """Ask the server to end, and end it if it does not."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(wait)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.process.stdin:
            self.process.stdin.close()


def login(folder: Path) -> Login:
    """The owner's login of the server in `folder`, made at first use; the file is readable by its owner alone."""
    file = folder / "login.json"
    if not file.exists():
        made = {"email": EMAIL, "password": secrets.token_urlsafe(12), "token": secrets.token_hex(20)}
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with atomic.replacing(file) as out:
            os.fchmod(out.fileno(), 0o600)
            out.write(json.dumps(made).encode())
    try:
        return Login(**json.loads(file.read_text(encoding="utf-8")))
    except (json.JSONDecodeError, TypeError):
        raise UserError(f"{file} is damaged.", "Restore it, or serve from another folder.") from None


def local_token(url: str) -> str | None:
    """The owner's token of the local server that runs at `url`, started by this user; None for any other address."""
    address = httpx.URL(url)
    folder = _servers().get(str(address.port)) if address.host in (HOST, "localhost") else None
    return login(Path(folder)).token if folder and (Path(folder) / "login.json").is_file() else None


@contextmanager
def running(port: int, folder: Path) -> Iterator[None]:
    """Within, `local_token` knows that the server of `folder` runs on that port."""
    _note_servers(_servers() | {str(port): str(folder)})
    try:
        yield
    finally:
        _note_servers({key: place for key, place in _servers().items() if key != str(port)})


def _servers() -> dict[str, str]:
    """The folders of this user's running servers by their ports."""
    try:
        found = json.loads(_state_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(port): str(folder) for port, folder in found.items()} if isinstance(found, dict) else {}


def _note_servers(servers: Mapping[str, str]) -> None:
    with contextlib.suppress(OSError):  # without it the token has to be given
        atomic.write_json(_state_file(), dict(servers))


def _state_file() -> Path:
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state").expanduser() / "fgr" / "servers.json"


@contextmanager
def serving(folder: Path, port: int) -> Iterator[Server]:
    """Start the server of `folder` on the loopback port and stop it on leaving. UserError if it does not come up.

    What it does while it starts is told on stderr. What a first start that was cut off left is begun anew.
    """
    folder = folder.resolve()
    command = _command()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with atomic.alone(folder, f"the server in {folder}", "serving"):
        who = login(folder)
        _expect_free(port)
        _begin_anew(folder)
        with _started(command, folder, who, port) as server:
            yield server


@contextmanager
def _started(command: Sequence[str], folder: Path, who: Login, port: int) -> Iterator[Server]:
    for name in ("files", "home"):
        (folder / name).mkdir(exist_ok=True)
    with open(folder / "server.log", "ab") as log:
        arguments = [*command, "start", "--no-browser", "--internal-host", HOST, "--port", str(port), "--log-level", "WARNING"]
        process = subprocess.Popen(
            arguments, env=environment(folder, who), cwd=folder / "home", stdin=subprocess.PIPE, stdout=log, stderr=log
        )
    server = Server(f"http://{HOST}:{port}", who, folder / "files", process)
    try:
        _await(server, folder)
        (folder / STARTING).unlink(missing_ok=True)
        with running(port, folder):
            yield server
    finally:
        server.stop()


def environment(folder: Path, who: Login) -> dict[str, str]:
    """All the variables that the server sees: nothing of the caller's leaks into its settings."""
    settings = {
        "BASE_DATA_DIR": str(folder),
        "USERNAME": who.email,
        "PASSWORD": who.password,
        "USER_TOKEN": who.token,
        "ENABLE_LEGACY_API_TOKEN": "true",  # acts at the first start alone
        "DISABLE_SIGNUP_WITHOUT_LINK": "true",
        "LOCAL_FILES_SERVING_ENABLED": "true",
        "LOCAL_FILES_DOCUMENT_ROOT": str(folder / "files"),
        "COLLECT_ANALYTICS": "false",
        "LATEST_VERSION_CHECK": "false",
        "SENTRY_DSN": "",
        "FRONTEND_SENTRY_DSN": "",
        "SSRF_PROTECTION_ENABLED": "false",  # so that `fgr annotate ml-backend` on this machine is reached
        "ML_BLOCK_LOCAL_IP": "false",
    }
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT", "TMPDIR") if name in os.environ}
    validate = {"fflag_feat_utc_210_prediction_validation_15082025": "true"}
    return (
        kept
        | validate
        | {"HOME": str(folder / "home"), "LANG": "C.UTF-8"}
        | {f"LABEL_STUDIO_{k}": v for k, v in settings.items()}
    )


def free_port() -> int:
    """A loopback port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _command() -> list[str]:
    import importlib.util

    if importlib.util.find_spec("label_studio") is None:
        raise missing_extra("label-studio", "annotate", "The local annotation server")
    return [sys.executable, "-c", PROGRAM]


def _expect_free(port: int) -> None:
    """UserError if the port is taken: Label Studio would silently take the next one."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            raise UserError(f"The port {port} is taken.", "Choose another: --port 8081") from None


def _begin_anew(folder: Path) -> None:
    """Remove the half-made database of a first start that was cut off: its migrations cannot go on. Nobody's work is in it."""
    database = folder / DATABASE
    if database.exists() and (folder / STARTING).exists() and not _has_work(database):
        notice("the first start was cut off; the database is made anew.")
        for file in folder.glob(f"{DATABASE}*"):
            file.unlink()
    if not database.exists():
        (folder / STARTING).touch()


def _has_work(database: Path) -> bool:
    """Whether somebody made a project, or it cannot be told."""
    try:
        with closing(sqlite3.connect(f"file:{quote(str(database))}?mode=ro", uri=True, timeout=5)) as content:
            tables = {name for (name,) in content.execute("select name from sqlite_master")}
            return "project" in tables and bool(content.execute("select count(*) from project").fetchone()[0])
    except sqlite3.DatabaseError as error:
        return isinstance(error, sqlite3.OperationalError) and "locked" in str(error)


def _state(folder: Path) -> tuple[int, int, int]:
    """Signs of progress: migrations applied, and the sizes of the database with its journals and of the log."""
    files = {file.name: file.stat().st_size for file in folder.glob("*") if file.is_file()}
    try:
        with closing(sqlite3.connect(f"file:{quote(str(folder / DATABASE))}?mode=ro", uri=True, timeout=0.1)) as content:
            applied = int(content.execute("select count(*) from django_migrations").fetchone()[0])
    except sqlite3.Error:  # not there yet, or just being written
        applied = 0
    return applied, sum(size for name, size in files.items() if name.startswith(DATABASE)), files.get("server.log", 0)


class _Patience:
    """Waits as long as there is progress, and says what is going on."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._seen = folder, _state(folder)
        self._first = self._moved = self._told = time.monotonic()
        self._applied = self._seen[0]

    def left(self) -> bool:
        """Whether to wait on."""
        now, state = time.monotonic(), _state(self._folder)
        if state != self._seen:
            self._seen, self._moved = state, now
        self._applied = max(self._applied, state[0])
        if now - self._told >= SHOW:
            self._told = now
            what = f"{self._applied} migrations of the database applied" if state[0] else "the program is being loaded"
            quiet = f", nothing new for {now - self._moved:.0f} s" if now - self._moved >= SHOW else ""
            notice(f"Label Studio starts, {now - self._first:.0f} s so far: {what}{quiet}")
        return now - self._moved < READY


def _await(server: Server, folder: Path) -> None:
    """Return once the server answers and knows the owner's token. UserError if it ends, or makes no progress for too long."""
    from fgr.annotate.studio import Studio

    patience = _Patience(folder)
    with httpx.Client(timeout=2, trust_env=False) as client:  # one for all: each would load the certificates anew
        while patience.left():
            if server.process.poll() is not None:
                raise UserError(
                    f"Label Studio exited while starting (code {server.process.returncode}).", f"See {folder}/server.log."
                )
            try:
                if client.get(f"{server.url}/health").status_code == 200:
                    with Studio(server.url, server.login.token) as studio:
                        studio.me()
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.2)
    raise UserError(
        f"Label Studio did not start: no progress for {READY:.0f} s.",
        f"On a busy machine run the same command again: it continues where it was. Otherwise see {folder}/server.log.",
    )
