import numpy as np
import pytest
import torch

import fgr
from fgr import records
from fgr.dataset import tables
from fgr.errors import UserError
from fgr.images import codec


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()


def test_load_samples_gives_arrays(tiny):
    rows = fgr.load_samples(tiny, "test")
    stored = list(tables.read_rows(tiny, "samples", split="test"))
    assert len(rows) == len(stored)
    row = rows[0]
    assert list(row) == records.columns("samples")
    assert row["composite"].dtype == np.uint8
    assert np.array_equal(row["composite"], codec.decode_rgb(stored[0]["composite"]))
    assert np.array_equal(row["degradation_map"], codec.decode_map(stored[0]["degradation_map"]))
    assert row["mask"].dtype == np.float32
    assert row["mask"].max() <= 1
    assert row["score"] == stored[0]["score"]


def test_load_samples_feeds_a_data_loader(tiny):
    rows = fgr.load_samples(tiny, columns=["composite", "degradation_map", "score"], format="torch")
    batch = next(iter(torch.utils.data.DataLoader(rows, batch_size=3)))
    assert batch["composite"].shape == (3, 3, 128, 128)
    assert batch["composite"].dtype == torch.float32
    assert batch["degradation_map"].shape == (3, 1, 128, 128)
    assert batch["score"].shape == (3,)


def test_load_samples_streams_the_same(tiny):
    streamed = next(iter(fgr.load_samples(tiny, "validation", ["id", "composite"], streaming=True)))
    row = fgr.load_samples(tiny, "validation", ["id", "composite"])[0]
    assert streamed["id"] == row["id"]
    assert np.array_equal(streamed["composite"], row["composite"])


def test_a_dataset_of_version_0_1_loads_but_has_no_maps_of_whole_images(older, tiny):
    assert list(fgr.load_samples(older)[0]) == [name for name in records.columns("samples") if name != "sr_map"]
    assert fgr.load_samples(tiny, columns=["sr_map"])[0]["sr_map"].dtype == np.float32
    for streaming in (False, True):
        with pytest.raises(UserError, match=r"has no column sr_map: it was made before version 0\.2"):
            fgr.load_samples(older, columns=["composite", "sr_map"], streaming=streaming)


def test_encoded_images_survive_map_bit_by_bit(tiny, tmp_path):
    import datasets

    stored = list(tables.read_rows(tiny, "samples", split="test"))
    mapped = fgr.load_samples(tiny, "test", format="encoded").map(lambda row: {"clean": row["score"] > 0.9})
    mapped.to_parquet(tmp_path / "mapped.parquet")
    again = datasets.load_dataset("parquet", data_files=str(tmp_path / "mapped.parquet"), split="train")
    for name in records.media_columns("samples"):
        assert [row["bytes"] for row in mapped[name]] == [row[name] for row in stored]
        kept = again.cast_column(name, datasets.Image(decode=False))
        assert [row["bytes"] for row in kept[name]] == [row[name] for row in stored]
    assert mapped["clean"] == [row["score"] > 0.9 for row in stored]
    streamed = next(iter(fgr.load_samples(tiny, "test", ["sr"], format="encoded", streaming=True)))
    assert streamed["sr"]["bytes"] == stored[0]["sr"]


def test_load_samples_names_what_is_wrong(tiny, tmp_path):
    with pytest.raises(UserError, match="did you mean 'composite'"):
        fgr.load_samples(tiny, columns=["compsite"])
    with pytest.raises(UserError, match="has no split 'nonsense'"):
        fgr.load_samples(tiny, "nonsense")
    with pytest.raises(UserError, match="does not exist"):
        fgr.load_samples(tmp_path / "absent")
