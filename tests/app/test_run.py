"""The server of the page, and the SR models that it offers."""

import builtins
import signal
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from fgr.cli import app
from fgr.errors import UserError

pytest.importorskip("gradio", reason="the extra app is not installed")
ENDED_BY = signal.SIGTERM  # the page that these tests see; that of the tests in a browser is interrupted


def test_it_listens_on_this_machine_alone(served):
    assert served.startswith("http://127.0.0.1:")


def test_other_hosts_are_refused_and_uploads_are_for_their_owner_alone(served):
    """A page elsewhere whose name is made to mean 127.0.0.1 gets nothing. That uploads go when the page ends, `served` checks."""
    import httpx

    with httpx.Client(base_url=served, trust_env=False, timeout=60) as client:
        assert client.get("/").status_code == 200
        assert client.get("/config", headers={"Host": "localhost"}).status_code == 200
        for path in ("/", "/gradio_api/info", "/config"):
            assert client.get(path, headers={"Host": "attacker.example"}).status_code == 400
        [place] = client.post("/gradio_api/upload", files={"files": ("secret.png", b"pixels")}).json()
    assert Path(place).read_bytes() == b"pixels"
    assert Path(place).parents[1].name.startswith("fgr-app-")
    assert Path(place).parents[1].stat().st_mode & 0o77 == 0


def test_without_gradio_the_extra_is_named(monkeypatch, reward):
    real = builtins.__import__

    def refuse(name, *rest):
        if name == "gradio":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    done = CliRunner().invoke(app, ["app", "--reward", str(reward), "--device", "cpu"])
    assert isinstance(done.exception, UserError)
    assert "pip install 'fgr[app]'" in str(done.exception)


def test_wrong_names_and_ports_are_sentences(reward):
    from fgr.app.run import serving

    with pytest.raises(UserError, match="did you mean 'bicubic'"), serving(str(reward), ["bicubik"], 0, "cpu"):
        pass
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UserError, match="cannot be used"), serving(str(reward), None, taken.getsockname()[1], "cpu"):
            pass


def test_models_open_at_their_own_scale_and_small_images_only():
    from fgr.app.run import LARGEST_INPUT, Upscalers

    upscale = Upscalers(["bicubic"], "cpu")
    assert upscale("bicubic", np.zeros((8, 9, 3), np.uint8)).shape == (32, 36, 3)
    with pytest.raises(UserError, match="too many for the page"):
        upscale("bicubic", np.zeros((LARGEST_INPUT // 64 + 1, 64, 3), np.uint8))


def test_transparency_is_restored_by_the_network_as_a_grey_image():
    from fgr.app.run import Upscalers

    upscale, rng = Upscalers(["bicubic"], "cpu"), np.random.default_rng(0)
    image = rng.integers(0, 256, (8, 9, 4), np.uint8)
    restored = upscale("bicubic", image)
    assert restored.shape == (32, 36, 4)
    assert np.array_equal(restored[:, :, :3], upscale("bicubic", image[:, :, :3]))
    assert np.array_equal(restored[:, :, 3], upscale("bicubic", np.repeat(image[:, :, 3:], 3, axis=2))[:, :, 0])


def test_a_tuned_run_and_a_network_of_another_factor(tmp_path):
    from safetensors.torch import save_file
    from spandrel.architectures.Compact.__arch.SRVGG import SRVGGNetCompact

    from fgr.app.run import Upscalers

    torch.manual_seed(0)
    save_file(SRVGGNetCompact(num_feat=8, num_conv=1, upscale=2).state_dict(), tmp_path / "best.safetensors")
    (tmp_path / "summary.json").write_text('{"generator": {"name": "spandrel:x.pth"}, "metrics": []}')
    assert Upscalers([str(tmp_path)], "cpu")(str(tmp_path), np.zeros((32, 40, 3), np.uint8)).shape == (64, 80, 3)


def test_models_that_are_here_are_offered():
    from fgr.app.run import available

    assert available()[-1] == "bicubic"
    assert len(set(available())) == len(available())
