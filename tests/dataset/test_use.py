"""Using a dataset with and without `fgr`: what the card shows runs."""

import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

import fgr
from fgr import records
from fgr.dataset import card, tables
from fgr.errors import UserError
from fgr.images import codec


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()


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
    assert len(blocks) == 4
    ending = """
import sys
assert "fgr" not in sys.modules
assert batch["image"].shape == (4, 3, 128, 128) and batch["map"].shape == (4, 128, 128) and batch["score"].shape == (4,)
assert 0 <= float(batch["image"].min()) and float(batch["image"].max()) <= 1
assert sorted(by_id) == sorted({label["id"] for label in labels})
print(table.select("id").collect().height)
"""
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


def test_load_samples_names_what_is_wrong(tiny, tmp_path):
    with pytest.raises(UserError, match="did you mean 'composite'"):
        fgr.load_samples(tiny, columns=["compsite"])
    with pytest.raises(UserError, match="cannot be opened"):
        fgr.load_samples(tiny, "nonsense")
    with pytest.raises(UserError, match="cannot be opened"):
        fgr.load_samples(tmp_path / "absent")
