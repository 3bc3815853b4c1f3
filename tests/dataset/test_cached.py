"""The copies that `datasets` keeps: of these files and no others."""

import os
import shutil

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fgr import load_samples
from fgr.dataset import tables
from fgr.dataset.cached import load_table
from fgr.reward import splits


@pytest.fixture
def copies(tiny, tmp_path, monkeypatch):
    """Two dataset directories of one name, card and sizes; the rows' seeds differ."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    found = [shutil.copytree(tiny, tmp_path / place / "tiny") for place in "ab"]
    rewritten(tables.shards(found[1], "samples", "train")[0])
    return found


def rewritten(file, seed=7):
    """Put another seed into every row; the file's times stay."""
    times, table = file.stat(), pq.read_table(file)
    place = table.schema.names.index("seed")
    pq.write_table(table.set_column(place, table.schema.field("seed"), pa.array([seed] * len(table), pa.int64())), file)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_another_folder_of_the_same_name_and_card_is_another_dataset(copies):
    for _ in range(2):  # the second time out of the copies
        first, second = (splits.open_split(str(folder), "train") for folder in copies)
        assert 7 not in first["seed"]
        assert 7 in second["seed"]
        assert 7 in load_samples(copies[1], "train", ["seed"])["seed"]


def test_a_file_that_changed_is_read_again_and_other_tables_are_not(copies):
    folder = copies[0]
    before = load_table(str(folder), "samples", "train")
    (folder / "consensus").mkdir()
    (folder / "consensus" / "part.parquet").write_bytes(b"of another table")
    assert load_table(str(folder), "samples", "train").cache_files == before.cache_files
    file = tables.shards(folder, "samples", "train")[0]
    rewritten(file)
    os.utime(file, ns=(1, file.stat().st_mtime_ns + 1))
    assert 7 in load_table(str(folder), "samples", "train")["seed"]
    assert 7 not in before["seed"]
