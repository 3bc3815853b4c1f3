"""Which dataset a name stands for: local folders before the Hub, and no waiting for what is not there."""

import logging
import time

import pytest

import fgr
from fgr import hub_files
from fgr.dataset import manifest
from fgr.dataset.location import expect_dataset, open_table, table_names
from fgr.errors import UserError
from fgr.reward.pretrained import load_reward_model


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """Names that the Hub is asked for; it does not answer. The working folder has a folder `out` with a dataset `demo`."""
    from huggingface_hub import HfApi

    names = []

    def refused(self, name, **_):
        names.append(name)
        raise OSError("no route to it")

    monkeypatch.setattr(HfApi, "repo_info", refused)
    (tmp_path / "out" / "demo").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return names


def sources(name):
    from fgr.generate.sources import open_source

    open_source(name, license="", attribution="")


@pytest.mark.parametrize("opened", [open_table, load_reward_model, sources, fgr.load_samples], ids=lambda one: one.__name__)
@pytest.mark.parametrize("name", ["out/dmo", "./out/dmo", "out/deeper/dmo"])
def test_a_folder_that_is_not_there_is_named_at_once_and_the_hub_is_not_asked(asked, opened, name):
    began = time.monotonic()
    with pytest.raises(UserError, match=rf"{name} does not exist: there is no such folder"):
        opened(name, *(["samples", "train"] if opened is open_table else []))
    assert time.monotonic() - began < 5
    assert asked == []


def test_the_nearest_folder_is_offered(asked):
    with pytest.raises(UserError, match="did you mean 'out/demo'\\?\nMake one with"):
        open_table("out/dmo", "samples", "train")


@pytest.mark.parametrize("opened", [open_table, load_reward_model, sources], ids=lambda one: one.__name__)
def test_a_name_of_the_hub_is_asked_for_once(asked, opened):
    with pytest.raises(UserError, match="no such folder here, and the Hub cannot be asked: no route to it"):
        opened("org/set", *(["samples", "train"] if opened is open_table else []))
    assert asked == ["org/set"]


def test_what_was_read_before_needs_no_answer(asked, monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache" / "datasets--org--set").mkdir(parents=True)
    assert expect_dataset("org/set") is None
    assert asked == ["org/set"]


def test_an_unfinished_dataset_is_called_that(asked, tmp_path):
    (tmp_path / "out" / "demo" / ".fgr" / "plan").mkdir(parents=True)
    (tmp_path / "out" / "demo" / "samples").mkdir()
    (tmp_path / "out" / "demo" / "samples" / "train-00000-of-00002.parquet").touch()
    for opened in (expect_dataset, table_names, manifest.read, sources, fgr.load_samples):
        with pytest.raises(UserError, match=r"out/demo is not finished.*\nRun its fgr generate command again"):
            opened("out/demo")


def test_a_folder_without_tables_and_a_file_are_no_datasets(asked, tmp_path):
    with pytest.raises(UserError, match="no table is in it"):
        expect_dataset("out/demo")
    (tmp_path / "out" / "file").touch()
    with pytest.raises(UserError, match="is a file"):
        expect_dataset("out/file")


def test_retries_are_one_line(asked, capsys, monkeypatch):
    monkeypatch.setattr(hub_files.FIRST_RETRY, "told", False)
    with pytest.raises(UserError):
        expect_dataset("org/set")
    log = logging.getLogger("huggingface_hub.utils._http")
    for attempt in range(3):
        log.warning("'broken' thrown while requesting GET x")
        log.warning("Retrying in %ss [Retry %s/5].", attempt, attempt)
    assert capsys.readouterr().err == "fgr: the Hub does not answer; trying again, for two minutes at most.\n"
