"""What a folder holds, and so what becomes a package."""

import pytest

from fgr.errors import UserError
from fgr.publish import run
from fgr.publish.package import Consent


def pack(folder):
    return run.pack(folder, "acme/tiny", Consent(), write=False)


def test_a_folder_that_cannot_be_published_is_a_sentence(tmp_path):
    with pytest.raises(UserError, match="There is no folder"):
        pack(tmp_path / "absent")
    with pytest.raises(UserError, match="neither a finished dataset nor a run"):
        pack(tmp_path)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(UserError, match=r"run\.json is damaged"):
        pack(tmp_path)


def test_the_kind_of_folder_decides_what_is_packed(tiny, trained):
    assert pack(tiny).kind == "dataset"
    assert pack(trained).what == "stage 1 of a reward model"
    assert pack(trained / "stage-0").what == "stage 0 of a reward model"
