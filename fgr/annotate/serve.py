"""A local Label Studio server for a try-out or a small team: SQLite, loopback, no telemetry."""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import httpx

from fgr import atomic
from fgr.errors import UserError, missing_extra

HOST = "127.0.0.1"
READY = 300.0  # seconds: the first start migrates an empty database, about a minute on two cores
EMAIL = "owner@fgr.local"
ENDING = (signal.SIGTERM, signal.SIGHUP)


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


@contextmanager
def serving(folder: Path, port: int) -> Iterator[Server]:
    """Start the server of `folder` on the loopback port and stop it on leaving. UserError if it does not come up."""
    folder = folder.resolve()
    command = _command()
    who = login(folder)
    _expect_free(port)
    for name in ("files", "home"):
        (folder / name).mkdir(exist_ok=True)
    with open(folder / "server.log", "ab") as log:
        arguments = [*command, "start", "--no-browser", "--internal-host", HOST, "--port", str(port), "--log-level", "WARNING"]
        process = subprocess.Popen(
            arguments, env=environment(folder, who), cwd=folder / "home", stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    server = Server(f"http://{HOST}:{port}", who, folder / "files", process)
    try:
        _await(server, folder)
        yield server
    finally:
        server.stop()


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Within, SIGTERM and SIGHUP end the program as an interrupt does, so that a server is stopped: exit 128 + number.

    For the main thread alone: only there can signals be caught.
    """

    def end(number: int, _: object) -> NoReturn:
        sys.exit(128 + number)

    before = {number: signal.signal(number, end) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
    return [sys.executable, "-c", "from label_studio.server import main; main()"]


def _expect_free(port: int) -> None:
    """UserError if the port is taken: Label Studio would silently take the next one."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            raise UserError(f"The port {port} is taken.", "Choose another: --port 8081") from None


def _await(server: Server, folder: Path) -> None:
    """Return once the server answers and knows the owner's token. UserError if it ends or takes too long."""
    from fgr.annotate.studio import Studio

    deadline = time.monotonic() + READY
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            raise UserError(
                f"Label Studio exited while starting (code {server.process.returncode}).", f"See {folder}/server.log."
            )
        try:
            if httpx.get(f"{server.url}/health", timeout=2, trust_env=False).status_code == 200:
                with Studio(server.url, server.login.token) as studio:
                    studio.me()
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    raise UserError(
        f"Label Studio did not start within {READY:.0f} s.",
        f"On a busy machine run the same command again: it continues where it was. Otherwise see {folder}/server.log.",
    )
