import shutil

import numpy as np
import pytest
import yaml
from datasets import disable_progress_bars, load_dataset
from huggingface_hub import DatasetCard

from fgr import records
from fgr.dataset import card, tables

disable_progress_bars()


def test_the_template_itself_is_valid():
    front, body = card.template()
    assert front["tags"]
    assert "{{ name }}" in body


def test_load_dataset_opens_the_folder_in_three_splits_with_decoded_images(tiny, tmp_path):
    samples = load_dataset(str(tiny), "samples", cache_dir=tmp_path)
    assert set(samples) == set(records.SPLITS)
    row = samples["train"][0]
    assert row["composite"].size == (128, 128)
    assert row["mask"].mode == "L"
    words = np.asarray(row["degradation_map"])
    assert words.dtype == np.uint16
    assert not words[np.asarray(row["mask"]) == 0].any()
    assert samples["train"].column_names == records.columns("samples")


def test_load_dataset_streams(tiny):
    rows = list(load_dataset(str(tiny), "samples", split="test", streaming=True))
    assert len(rows) == tables.count_rows(tiny, "samples", "test")


def test_the_card_is_valid_and_counts_what_is_there(tiny):
    loaded = DatasetCard.load(tiny / "README.md")
    assert loaded.data.license == "other"
    assert loaded.data.size_categories == ["n<1K"]
    for name in ("realesr-animevideov3", "bicubic", "sham", "Rows"[:1]):
        assert name in loaded.text
    assert f"| train | {tables.count_rows(tiny, 'samples', 'train')} |" in loaded.text


def test_a_new_table_is_declared_and_loads(tiny, tmp_path):
    copy = shutil.copytree(tiny, tmp_path / "copy")
    ids = [row["id"] for row in tables.read_rows(copy, "samples", ["id"])]
    rows = [{"left_id": ids[0], "right_id": ids[1], "annotator": "a", "choice": "left"}]
    tables.write_small(copy, "preferences", rows)
    card.write(copy)
    assert load_dataset(str(copy), "preferences", split="train", cache_dir=tmp_path)[0] == rows[0]
    tables.write_small(copy, "preferences", [])
    card.write(copy)
    front = yaml.safe_load((copy / "README.md").read_text().split("---\n")[1])
    assert [config["config_name"] for config in front["configs"]] == ["samples"]


@pytest.mark.parametrize(
    ("names", "license"), [({"CC0-1.0"}, "cc0-1.0"), ({"CC0-1.0", "cc-by-4.0"}, "other"), ({"my own"}, "other"), ({"mit"}, "mit")]
)
def test_one_known_licence_is_named_and_a_mixture_is_other(names, license):
    from collections import Counter

    assert card._license(Counter(names)) == license


@pytest.mark.parametrize(
    ("rows", "size"), [(0, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (30_000, "10K<n<100K"), (10**6, "n>1M")]
)
def test_size_category(rows, size):
    assert card._size(rows) == size
