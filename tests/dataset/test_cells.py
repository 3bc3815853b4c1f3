"""Image cells: their bytes, never what their paths point at."""

import re

import numpy as np
import pytest

from fgr import load_samples
from fgr.dataset import cells, tables
from fgr.dataset.verify import verify
from fgr.errors import UserError
from fgr.evaluate.testset import open_test_set
from fgr.images import codec
from fgr.reward import splits
from fgr.reward.data import Samples

IMAGE = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)


def pointing_at(directory, path, columns=("reference", "sr", "composite", "mask")):
    """The dataset in `directory`, its images taken out and a path put in their place."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for file in tables.shards(directory, "samples"):
        table = pq.read_table(file)
        for name in columns:
            empty = pa.array([{"bytes": None, "path": str(path)}] * len(table), table.schema.field(name).type)
            table = table.set_column(table.schema.names.index(name), table.schema.field(name), empty)
        pq.write_table(table, file)
    return directory


@pytest.fixture
def stolen(tiny, tmp_path, monkeypatch):
    """A dataset whose cells name a picture of the user's."""
    import shutil

    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    private = tmp_path / "private.png"
    private.write_bytes(codec.encode_rgb(IMAGE))
    return pointing_at(shutil.copytree(tiny, tmp_path / "tiny"), private)


@pytest.mark.parametrize("cell", [b"", None, {"bytes": None, "path": None}, {"bytes": b"", "path": "/etc/x.png"}])
def test_cells_without_bytes_are_refused(cell):
    with pytest.raises(UserError, match=r"row abc has (no image|only the path '/etc/x.png', which is not followed)"):
        cells.encoded({"id": "abc", "reference": cell}, "reference")


def test_cells_of_both_readers_are_decoded_by_their_column():
    row = {"id": "a", "sr": codec.encode_rgb(IMAGE), "mask": {"bytes": codec.encode_mask(IMAGE[..., 0]), "path": "x.png"}}
    assert np.array_equal(cells.pixels(row, "sr"), IMAGE)
    assert np.array_equal(cells.pixels(row, "mask"), IMAGE[..., 0])
    with pytest.raises(UserError, match="row a cannot be read: sr: these bytes are not an image"):
        cells.pixels(row | {"sr": b"%!PS-Adobe-3.0 EPSF-3.0"}, "sr")


def test_no_reader_follows_a_path(stolen):
    refused = r"only the path '/.*', which is not followed"  # a long one is cut off
    with pytest.raises(UserError, match=refused):
        splits.size_of(splits.open_split(str(stolen), "train"))
    for streaming in (False, True):
        rows = splits.open_split(str(stolen), "train", streaming=streaming)
        with pytest.raises(UserError, match=refused):
            Samples(rows, 0).decode(next(iter(rows)))
        with pytest.raises(UserError, match=refused):
            next(iter(load_samples(stolen, "train", streaming=streaming)))
    with pytest.raises(UserError, match=refused):
        open_test_set(str(stolen)).items[0].reference()
    assert [one for one in verify(stolen) if re.search("no value in reference, sr, composite, mask", one.text)]
