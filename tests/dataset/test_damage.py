"""Damaged and incomplete datasets: the file is named wherever the dataset is opened."""

import shutil

import datasets
import pytest

from fgr import load_samples
from fgr.dataset import tables
from fgr.dataset.damage import damaged_files, dataset_error, reason
from fgr.dataset.verify import verify
from fgr.errors import UserError
from fgr.evaluate.testset import open_test_set
from fgr.generate.sources import open_source
from fgr.reward import splits
from fgr.rlhf.inputs import open_inputs


@pytest.fixture
def copy(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    return shutil.copytree(tiny, tmp_path / "copy")


def cut_off(shard):
    shard.write_bytes(shard.read_bytes()[:-3000])


def spoilt(shard):
    content = shard.read_bytes()
    shard.write_bytes(content[:4] + bytes(len(content) - 40_000) + content[-39_996:])


OPENERS = {
    "train-rm": lambda data: splits.open_split(str(data), "train"),
    "evaluate": lambda data: open_test_set(str(data), split="train"),
    "rlhf": lambda data: open_inputs(str(data), "train", 4),
    "--source": lambda data: list(open_source(f"{data}:samples/train", license="", attribution="").photos),
    "load_samples": lambda data: load_samples(data, "train"),
}


@pytest.mark.parametrize("opener", OPENERS)
def test_every_command_names_the_damaged_file(copy, opener):
    shard = tables.shards(copy, "samples", "train")[0]
    cut_off(shard)
    sentence = f"samples/{shard.name}: it is not a readable Parquet file: damaged or cut off"
    with pytest.raises(UserError, match=sentence):
        OPENERS[opener](copy)
    assert sentence in [str(problem) for problem in verify(copy)]


@pytest.mark.parametrize("opener", sorted(OPENERS.keys() - {"--source"}))  # streams: no counts are compared
def test_every_command_names_the_missing_file(copy, opener):
    shard = tables.shards(copy, "samples", "train")[0]
    shard.unlink()
    with pytest.raises(UserError, match=f"samples/{shard.name}: missing, though fgr.json lists it"):
        OPENERS[opener](copy)


def test_damage_behind_a_whole_footer_is_found_when_it_is_met(copy):
    shard = tables.shards(copy, "samples", "train")[0]
    spoilt(shard)
    assert list(damaged_files(copy)) == []
    assert [name for name, _ in damaged_files(copy, whole=True)] == [f"samples/{shard.name}"]
    with pytest.raises(UserError, match=shard.name):
        splits.open_split(str(copy), "train")


def test_what_says_nothing_is_told_by_its_cause(tmp_path):
    error = datasets.exceptions.DatasetGenerationError("An error occurred while generating the dataset")
    error.__cause__ = KeyError("odd")
    assert "odd" in reason(error)
    assert reason(KeyError()) == "KeyError"
    assert "cannot be opened: 'odd'" in str(dataset_error("a/b", error))
    (tmp_path / "fgr.json").write_text("[" * 10_000)
    assert list(damaged_files(tmp_path)) == []
