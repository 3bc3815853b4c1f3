import io
from collections import Counter

import numpy as np
import polars
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fgr import records
from fgr.dataset import tables
from fgr.errors import UserError
from fgr.images import codec


def sample(number: int) -> dict:
    pixels = np.full((16, 16, 3), number, np.uint8)
    images = {"reference": pixels, "sr": pixels + 1, "composite": pixels}
    scalars = {"string": f"text {number}", "float32": number / 4, "int32": number, "int64": 2**62 + number}
    row = {column.name: scalars.get(column.type) for column in records.TABLES["samples"]}
    row |= {name: codec.encode_rgb(image) for name, image in images.items()}
    mask = np.zeros((16, 16), np.uint8)
    map_ = codec.encode_map(mask / np.float32(255))
    return row | {"mask": codec.encode_mask(mask), "degradation_map": map_, "sr_map": map_}


@pytest.fixture
def directory(tmp_path):
    for split, numbers in {"train": (0, 1, 2), "test": (3,)}.items():
        tables.write_table(tmp_path / "samples" / f"{split}-00000-of-00001.parquet", "samples", [sample(i) for i in numbers])
    return tmp_path


def test_rows_come_back_as_written(directory):
    rows = list(tables.read_rows(directory, "samples"))
    assert [row["scale"] for row in rows] == [3, 0, 1, 2]
    assert rows[1] == sample(0)
    assert tables.count_rows(directory, "samples") == 4
    assert tables.count_rows(directory, "samples", "train") == 3
    assert list(tables.read_rows(directory, "samples", ["id", "sr"], "test")) == [{"id": "text 3", "sr": sample(3)["sr"]}]


def test_bytes_depend_on_the_rows_alone(directory, tmp_path):
    again = tmp_path / "again.parquet"
    tables.write_table(again, "samples", [sample(i) for i in range(3)])
    assert again.read_bytes() == (directory / "samples" / "train-00000-of-00001.parquet").read_bytes()


def test_polars_reads_bytes_that_are_the_image(directory):
    frame = polars.read_parquet(directory / "samples" / "*.parquet", columns=["id", "reference"])
    cell = frame.filter(polars.col("id") == "text 2")["reference"][0]["bytes"]
    assert Image.open(io.BytesIO(cell)).convert("RGB").getpixel((3, 3)) == (2, 2, 2)


def test_row_groups_stay_within_what_the_viewer_reads(tmp_path):
    rows = [{"left_id": "a", "right_id": "b", "annotator": "c", "choice": "tie"}] * 250
    tables.write_table(tmp_path / "p.parquet", "preferences", rows)
    footer = pq.read_metadata(tmp_path / "p.parquet")
    assert [footer.row_group(i).num_rows for i in range(footer.num_row_groups)] == [100, 100, 50]


def test_an_image_that_is_not_bytes_leaves_no_file(tmp_path):
    with pytest.raises(ValueError, match="encoded bytes"):
        tables.write_table(tmp_path / "s.parquet", "samples", [sample(0) | {"sr": None}])
    with pytest.raises(ValueError, match="without rows"):
        tables.write_table(tmp_path / "s.parquet", "samples", [])
    assert not list(tmp_path.iterdir())


def test_missing_and_damaged_tables_are_sentences(directory):
    with pytest.raises(UserError, match="no split 'validation'"):
        list(tables.read_rows(directory, "samples", split="validation"))
    with pytest.raises(UserError, match="no table 'consensus'"):
        list(tables.read_rows(directory, "consensus"))
    shard = directory / "samples" / "train-00000-of-00001.parquet"
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(UserError, match="not a readable Parquet file"):
        list(tables.read_rows(directory, "samples"))


@given(st.integers(0, 500), st.integers(0, 500))
def test_rows_are_distinct_ascending_and_one_of_each_part(count, most):
    chosen = tables.evenly_drawn(count, most)
    assert len(chosen) == min(count, most)
    assert chosen == sorted(set(chosen))
    assert all(0 <= index < count for index in chosen)
    if 0 < most < count:
        assert [index * most // count for index in chosen] == pytest.approx(range(most), abs=1)
    assert chosen == tables.evenly_drawn(count, most)


@pytest.mark.parametrize(("count", "most", "models"), [(716, 240, 3), (1000, 500, 2), (1200, 100, 4)])
def test_rows_that_take_turns_are_all_met(count, most, models):
    met = Counter(index % models for index in tables.evenly_drawn(count, most))
    assert min(met.values()) > 0.6 * most / models
