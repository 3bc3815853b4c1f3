"""What becomes of damaged, foreign and malicious weight files."""

import hashlib
import os
import pickle
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from fgr.errors import UserError
from fgr.tensors import file_digest, metadata, non_finite, read_tensors, unpickled

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2)}


class Payload:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (os.mkdir, (str(self.target),))


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt", ".ckpt", ".PTH"])
@pytest.mark.parametrize("lazily", [False, True])
def test_a_state_dict_comes_back_from_every_kind_of_file(tmp_path, suffix, lazily):
    path = tmp_path / f"weights{suffix}"
    save_file(STATE, path) if suffix == ".safetensors" else torch.save({"params_ema": STATE}, path)
    found = read_tensors(path, lazily)
    assert found.keys() == STATE.keys()
    assert all(torch.equal(found[name], STATE[name]) for name in STATE)


@pytest.mark.parametrize("form", ["torch", "legacy", "pickle"])
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt"])
@pytest.mark.parametrize("read", [read_tensors, unpickled])
def test_a_pickle_that_would_run_code_is_refused_and_does_not(tmp_path, form, suffix, read):
    target, path = tmp_path / "hacked", tmp_path / f"evil{suffix}"
    content = {"params": Payload(target)}
    if form == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "torch")
    with pytest.raises(UserError, match="loading it could run code, so it was refused"):
        read(path)
    assert not target.exists()


def cut_off(path):
    torch.save(STATE, path)
    path.write_bytes(path.read_bytes()[:-400])


@pytest.mark.parametrize(
    ("suffix", "write", "says"),
    [
        (".pth", cut_off, "is damaged or cut off"),
        (".pth", lambda path: path.write_bytes(b""), "is damaged or cut off"),
        (".pth", lambda path: path.write_bytes(b"\n <!DOCTYPE html><html>404</html>"), "is a web page, not weights"),
        (".safetensors", lambda path: path.write_bytes(b"<html>404</html>"), "is a web page, not weights"),
        (".pth", lambda path: path.write_bytes(b"<?xml version='1.0'?><Error/>"), "is an answer in XML, not weights"),
        (".safetensors", lambda path: path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid"), "LFS pointer"),
        (".pth", lambda path: None, "is damaged or cut off"),
        (".pth", lambda path: torch.save(torch.nn.Linear(2, 2), path), "could run code, so it was refused"),
        (".pth", lambda path: torch.save([1, 2], path), "holds no state dict"),
        (".pth", lambda path: torch.save({}, path), "holds no state dict"),
        (".pth", lambda path: torch.save({"epoch": 3, "loss": 0.1}, path), "holds no state dict: its keys are epoch, loss"),
        (".safetensors", lambda path: path.write_bytes(b""), "is damaged or cut off"),
        (".safetensors", lambda path: path.write_bytes(b"\xff" * 100), "is damaged or cut off"),
        (".safetensors", lambda path: torch.save(STATE, path), "is damaged or cut off"),
        (".safetensors", lambda path: None, "is damaged or cut off"),
        (".bin", lambda path: path.write_bytes(b"x"), "does not have the name of a weight file"),
    ],
)  # fmt: skip
def test_bad_weight_files(tmp_path, suffix, write, says):
    path = tmp_path / f"bad{suffix}"
    write(path)
    with pytest.raises(UserError, match=says) as raised:
        read_tensors(path)
    assert len(str(raised.value)) < 500


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda state: {f"_orig_mod.{key}": value for key, value in state.items()},
        lambda state: {f"module._orig_mod.{key}": value for key, value in state.items()},
        lambda state: {"state_dict": {f"net.{key}": value for key, value in state.items()}, "epoch": 3},
        lambda state: {"generator": {f"generator.{key}": value for key, value in state.items()}, "discriminator": {}},
        lambda state: {"n_averaged": torch.tensor(7), **{f"module.{key}": value for key, value in state.items()}},
        lambda state: {"ema": {"net.n_averaged": torch.tensor(7)} | {f"net.{key}": one for key, one in state.items()}},
        lambda state: {"model": {"params": state}, "optimizer": {"state": {0: torch.ones(1)}}},
        lambda state: state | {"epoch": 3, "optimizer": {"lr": 1e-3}},
    ],
)  # fmt: skip
def test_wrappers_of_training_programs_come_off(tmp_path, wrapped):
    torch.save(wrapped(STATE), tmp_path / "weights.pth")
    found = read_tensors(tmp_path / "weights.pth")
    assert found.keys() == STATE.keys()
    assert all(torch.equal(found[name], STATE[name]) for name in STATE)


def test_a_plain_value_of_the_architecture_stays(tmp_path):
    torch.save(STATE | {"pro": True}, tmp_path / "cugan.pth")
    found = read_tensors(tmp_path / "cugan.pth")
    assert found.keys() == {*STATE, "pro"}
    assert isinstance(found["pro"], torch.Tensor)


def test_a_dict_that_holds_itself_is_no_state_dict(tmp_path):
    content = {"a": 1}
    content["model"] = content
    torch.save(content, tmp_path / "round.pth")
    with pytest.raises(UserError, match="holds no state dict: its keys are a, model"):
        read_tensors(tmp_path / "round.pth")


def test_values_that_are_not_finite_are_named():
    assert non_finite({"a": torch.ones(2), "b": torch.tensor([1.0, float("nan")]), "c": torch.tensor(3)}) == ["b"]


def test_what_a_file_says_of_itself(tmp_path):
    save_file(STATE, tmp_path / "a.safetensors", {"license": "MIT"})
    save_file(STATE, tmp_path / "b.safetensors")
    torch.save(STATE, tmp_path / "c.pth")
    (tmp_path / "d.safetensors").write_bytes(b"no tensors")
    assert metadata(tmp_path / "a.safetensors") == {"license": "MIT"}
    assert metadata(tmp_path / "b.safetensors") == metadata(tmp_path / "c.pth") == {}
    with pytest.raises(UserError, match="is damaged or cut off"):
        metadata(tmp_path / "d.safetensors")


def test_the_digest_of_a_file(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert file_digest(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()
    with pytest.raises(UserError, match="There is no file"):
        file_digest(tmp_path / "b")
    with pytest.raises(UserError, match="Is a directory"):
        file_digest(tmp_path)


def test_equal_tensors_and_words_are_equal_bytes_in_every_process(tmp_path):
    """The library's own order of the metadata changes from process to process."""
    script = (
        "import sys, torch\nfrom pathlib import Path\nfrom fgr.tensors import write_tensors\n"
        "words = {name: name * 2 for name in ('tuned_from', 'license', 'step', 'format', 'base', 'ö')}\n"
        "write_tensors(Path(sys.argv[1]), {'b': torch.ones(2, 3), 'a': torch.zeros(5, dtype=torch.float16)}, words)\n"
    )
    files = [tmp_path / f"{number}.safetensors" for number in range(3)]
    for file in files:
        subprocess.run([sys.executable, "-c", script, str(file)], check=True)
    assert len({file.read_bytes() for file in files}) == 1
    state = read_tensors(files[0])
    assert torch.equal(state["b"], torch.ones(2, 3))
    assert state["a"].dtype == torch.float16
    assert metadata(files[0])["ö"] == "öö"
    assert int.from_bytes(files[0].read_bytes()[:8], "little") % 8 == 0


@pytest.mark.parametrize("read", [read_tensors, file_digest, metadata])
def test_a_pipe_is_no_weight_file_and_is_not_opened(tmp_path, read):
    for name in ("x.pth", "x.safetensors"):
        os.mkfifo(tmp_path / name)
        if read is not metadata or name.endswith("safetensors"):
            with pytest.raises(UserError, match="is not a regular file"):
                read(tmp_path / name)
