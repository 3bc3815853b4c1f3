"""The table `consensus`, from the work of a crowd whose truth is known."""

import json
import shutil

import numpy as np
import pytest

from fgr.annotate import consensus_table
from fgr.dataset import tables
from fgr.errors import UserError
from fgr.images import codec
from fgr.recipe.annotate import Consensus

SIDE, SAMPLES, PEOPLE, EACH, CHEATERS = 48, 200, 500, 16, (17, 333)


def crowd(folder, rng):
    """500 people's work: true regions shifted, grown or shrunk, sometimes missed; true scores with bias and noise; two cheats."""
    y, x = np.mgrid[:SIDE, :SIDE]
    shapes = [(rng.uniform(14, 34, 2), rng.uniform(5, 12), int(rng.integers(2, 6))) for _ in range(SAMPLES)]
    scores = rng.uniform(10, 95, SAMPLES)
    truth = {
        f"s{i:03d}": (s, ((y - c[0]) ** 2 + (x - c[1]) ** 2 <= r * r) * star)
        for i, ((c, r, star), s) in enumerate(zip(shapes, scores, strict=True))
    }
    rows = []
    for a in range(PEOPLE):
        bias, noise = rng.normal(0, 6), rng.uniform(4, 12)
        for i in rng.permutation(SAMPLES)[:EACH]:
            centre, radius, star = shapes[i]
            centre, radius = centre + rng.normal(0, 2.5, 2), radius * rng.uniform(0.7, 1.35)
            painted = ((y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2) & (rng.random() > 0.08)
            map_ = painted * int(np.clip(star + rng.integers(-1, 2), 1, 5))
            score = scores[i] + bias + rng.normal(0, noise)
            if a in CHEATERS:
                corner = rng.integers(0, SIDE - 12, 2)
                map_ = ((abs(y - corner[0]) < 6) & (abs(x - corner[1]) < 6)) * int(rng.integers(1, 6))
                score = rng.uniform(0, 100)
            rows.append({
                "id": f"s{i:03d}", "annotator": f"p{a:03d}", "score": float(np.clip(np.rint(score), 0, 100)),
                "degradation_map": codec.encode_mask((map_ * 51).astype(np.uint8)), "defects": [], "comment": "",
                "lead_time_s": 30.0, "created_at": "", "project": "crowd",
            })  # fmt: skip
    rows.sort(key=lambda row: (row["id"], row["annotator"]))
    tables.write_table(folder / "annotations" / "part-00000-of-00001.parquet", "annotations", rows)
    return truth, rows


def soft_iou(map8, truth):
    a, b = map8 / 255, truth / 5
    return float(np.minimum(a, b).sum() / np.maximum(a, b).sum())


def region_iou(map8, truth):
    """IoU of the region where the map is at least half its highest value."""
    a, b = (map8 > 0) & (map8 >= map8.max() / 2), truth > 0
    return float((a & b).sum() / (a | b).sum())


def test_five_hundred_annotators_with_two_cheaters(tiny, tmp_path):
    folder = tmp_path / "crowd"
    folder.mkdir()
    for name in ("samples", "fgr.json"):
        (shutil.copytree if (tiny / name).is_dir() else shutil.copy)(tiny / name, folder / name)
    truth, rows = crowd(folder, np.random.default_rng(7))
    report = consensus_table.write_consensus(folder, {}, Consensus())
    out = {row["annotator"]: row["left_out"] for row in report["annotators"] if row["left_out"]}
    cheats = {f"p{a:03d}" for a in CHEATERS}
    assert cheats <= out.keys()
    assert len(out) <= 2 + 0.02 * PEOPLE, "hardly anybody honest is left out"
    assert all(any("Dice" in reason for reason in out[cheat]) for cheat in cheats)
    found = list(tables.read_rows(folder, "consensus"))
    assert len(found) == SAMPLES
    assert report["scores"] == "mle"
    assert np.corrcoef([row["score_mean"] for row in found], [truth[row["id"]][0] for row in found])[0, 1] > 0.99
    ours = np.mean([soft_iou(codec.decode_mask(row["degradation_map"]), truth[row["id"]][1]) for row in found])
    single = np.mean([soft_iou(codec.decode_mask(row["degradation_map"]), truth[row["id"]][1]) for row in rows])
    ours_at = np.mean([region_iou(codec.decode_mask(row["degradation_map"]), truth[row["id"]][1]) for row in found])
    single_at = np.mean([region_iou(codec.decode_mask(row["degradation_map"]), truth[row["id"]][1]) for row in rows])
    assert ours > single + 0.05
    assert ours_at > single_at + 0.15
    assert cheats & {name for row in found for name in row["rejected_raters"]}
    assert json.loads((folder / consensus_table.REPORT).read_text())["alpha"] > 0.6


def test_nothing_to_decide_on(tiny):
    with pytest.raises(UserError, match="neither annotations nor preferences"):
        consensus_table.write_consensus(tiny, {}, Consensus(scores="mean"))
