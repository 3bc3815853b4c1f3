"""Fetching weights from release servers and the Hub: wrong files, gated and vanished repositories, what is here already."""

import hashlib
import json

import pytest
import torch
from typer.testing import CliRunner
from weights_double import CONTENT, SHA256

from fgr.cli import app
from fgr.errors import UserError
from fgr.sr import open_upscaler, weights
from fgr.sr.catalogue import catalogue
from fgr.sr.fetch import ask, fetch
from fgr.sr.zoo import ZOO


def test_a_file_is_fetched_checked_and_then_left_alone(weights_server, listed):
    target = listed("/net.pth")
    assert catalogue(["net"])[0]["state"] == "fetchable"
    assert fetch("net") == [target]
    assert target.read_bytes() == CONTENT
    assert [file.name for file in target.parent.iterdir()] == ["net.pth"]
    asked = len(weights_server.requests)
    assert fetch("net") == [target]
    assert len(weights_server.requests) == asked
    row = catalogue(["net"])[0]
    assert (row["state"], row["digest"], row["weights"]) == ("here", SHA256, "net.pth, the official release")


@pytest.mark.parametrize("source", ["/net.pth", "hf:org/net/net.pth"])
def test_another_file_than_the_released_one_is_refused(weights_server, listed, source):
    target = listed(source)
    weights_server.content = CONTENT[:-1] + b"!"
    with pytest.raises(UserError, match="another file is there now: its sha256 is") as raised:
        fetch("net")
    assert f"expected {SHA256[:16]}" in str(raised.value)
    assert not target.exists()
    assert not list(target.parent.iterdir())


@pytest.mark.parametrize("gone", ["/gone/net.pth", "hf:org/gone/net.pth", "hf:org/empty/net.pth", "hf:org/gated/net.pth"])
@pytest.mark.parametrize("there", ["/net.pth", "hf:org/net/deep/net.pth"])
def test_the_next_source_serves_when_one_does_not(weights_server, listed, gone, there):
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
def test_what_cannot_be_had_is_a_state_and_a_sentence(weights_server, listed, source, state, says):
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


def test_offline_nothing_is_asked(weights_server, listed, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    listed("/net.pth", "hf:org/net/net.pth")
    assert ask("net") == "offline"
    with pytest.raises(UserError, match="HF_HUB_OFFLINE forbids the network"):
        fetch("net")
    assert not weights_server.requests


def test_a_file_put_there_by_hand_is_not_overwritten(listed):
    target = listed("/net.pth")
    target.parent.mkdir()
    target.write_bytes(b"mine")
    with pytest.raises(UserError, match="is not the released file"):
        fetch("net")
    assert target.read_bytes() == b"mine"


def test_any_file_on_the_hub_by_name(weights_server, tmp_path):
    name = "spandrel:org/net/weights/net.pth"
    with pytest.raises(UserError, match=f"fgr models {name} --fetch"):
        open_upscaler(name, scale=2)
    assert catalogue([name], ask=True)[0]["state"] == "fetchable"
    torch.save({"a": torch.zeros(1)}, tmp_path / "net.pth")
    weights_server.content = (tmp_path / "net.pth").read_bytes()
    result = CliRunner().invoke(app, ["models", name, "--fetch", "--json"])
    assert json.loads(result.stdout)[0]["digest"] == hashlib.sha256(weights_server.content).hexdigest()
    with pytest.raises(UserError, match="holds no network that spandrel knows"):
        open_upscaler(name, scale=2)
    with pytest.raises(UserError, match=r"'spandrel:org/gated/net.pth' could not be fetched: its licence"):
        fetch("spandrel:org/gated/net.pth")


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


def test_a_model_of_many_files_is_fetched_into_folders_of_its_own(weights_server):
    found = fetch("ldm-sr")
    assert [file.relative_to(weights.folder()).as_posix() for file in found] == [file.name for file in ZOO["ldm-sr"].files]
    assert all(file.read_bytes() == CONTENT for file in found)
    assert not [file for file in weights.folder().rglob("*") if file.name.startswith(".")]
    assert ("GET", "/CompVis/ldm-super-resolution-4x-openimages/resolve/main/unet/config.json", None) in weights_server.requests
