import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import yaml
from datasets import disable_progress_bars, load_dataset
from huggingface_hub import DatasetCard

from fgr import records
from fgr.dataset import card, tables
from fgr.images import codec

disable_progress_bars()


def test_the_template_itself_is_valid():
    front, body = card.template()
    assert front["tags"]
    assert "{{ name | text }}" in body


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


def test_the_card_says_what_made_the_maps_and_declares_the_columns_that_are_there(tiny, older):
    for directory, text, has in (
        (tiny, "minimum over shifts by up to a pixel", True),
        (older, "mean absolute difference", False),
    ):
        loaded = DatasetCard.load(directory / "README.md")
        assert text in " ".join(loaded.text.split())
        assert ("| `sr_map` |" in loaded.text) is has
        assert any(one["name"] == "sr_map" for one in loaded.data.dataset_info[0]["features"]) is has


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


def labelled(tiny, target):
    """A copy of the dataset with annotations, consensus and preferences."""
    copy = shutil.copytree(tiny, target)
    ids = [row["id"] for row in tables.read_rows(copy, "samples", ["id"])]
    blank = codec.encode_mask(np.zeros((128, 128), np.uint8))
    label = {"score": 60.0, "degradation_map": blank, "comment": "", "created_at": "2026-01-01T00:00:00Z", "project": "p"}
    defects = [{"kind": "blur", "severity": 3, "area": 0.1}]
    people = [
        {"id": ids[i], "annotator": who, "lead_time_s": 20.0 + i, "defects": defects, **label} for i in (0, 1) for who in "ab"
    ]
    tables.write_small(copy, "annotations", people)
    agreed = {"score_mean": 60.0, "score_std": 1.0, "raters": 2, "degradation_map": blank, "agreement": 0.75}
    tables.write_small(copy, "consensus", [{"id": name, "rejected_raters": ["c"], **agreed} for name in ids[:2]])
    card.write(copy)
    return copy


def test_every_python_block_of_the_card_runs_without_fgr(tiny, tmp_path):
    copy = labelled(tiny, tmp_path / "copy")
    card.write(copy, str(copy))
    text = (copy / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 5
    ending = """
import sys
assert "fgr" not in sys.modules
assert batch["image"].shape == (4, 3, 128, 128) and batch["map"].shape == (4, 128, 128) and batch["score"].shape == (4,)
assert 0 <= float(batch["image"].min()) and float(batch["image"].max()) <= 1
assert sorted(by_id) == sorted({label["id"] for label in labels})
stored = load_dataset(LOCATION, "samples", split=samples.split)
for name in pictures:
    same = [rows.cast_column(name, Image(decode=False))[name] for rows in (stored, mapped)]
    assert [cell["bytes"] for cell in same[0]] == [cell["bytes"] for cell in same[1]], name
assert mapped["clean"] == [score > 0.9 for score in stored["score"]] and mapped[0]["mask"].mode == "L"
print(table.select("id").collect().height)
""".replace("LOCATION", repr(str(copy)))
    script = "import datasets; datasets.disable_progress_bars()\n" + "\n".join(blocks) + ending
    done = subprocess.run(
        [sys.executable, "-I", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env={"HF_HOME": str(tmp_path), "HOME": str(tmp_path)},
    )
    assert done.stdout.strip() == str(tables.count_rows(copy, "samples")), done.stderr


def test_the_card_tells_of_people_and_of_the_recipe(tiny, tmp_path):
    text = (labelled(tiny, tmp_path / "copy") / "README.md").read_text()
    assert "4 annotations of 2 samples by 2 people" in text
    assert "the median took 21 seconds" in text
    assert (
        "from 2.0 accepted annotators on average\n(1 excluded for at least one sample); "
        "mean pairwise agreement of their maps (Dice): 0.75." in text
    )
    assert "| `agreement` | float32 |" in text
    assert "calibration_pairs: 4" in text
    assert "{{" not in text
    assert "{%" not in text
