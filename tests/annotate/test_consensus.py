"""Scores, maps and preferences recovered from many opinions, against hand-worked numbers and a known truth."""

import json
import shutil
import sys

import numpy as np
import pytest

from fgr.annotate import consensus, decide
from fgr.annotate.consensus import Bounds, Judgement
from fgr.dataset import tables
from fgr.errors import UserError
from fgr.images import codec
from fgr.metrics import agreement

N = np.nan


def test_mean_scores_by_hand():
    found = consensus.mean_scores(np.array([[10, 20, N], [30, N, 50], [N, N, N]]))
    assert found.mean[:2].tolist() == [15, 40]
    assert np.isnan(found.mean[2])
    assert found.std.tolist() == [5, 10, 0]
    assert found.raters.tolist() == [2, 2, 0]
    assert found.bias.tolist() == [-7.5, 5, 10]
    assert found.inconsistency.tolist() == [2.5, 0, 0]


def test_bt500_agrees_with_sureal_where_everybody_sees_everything():
    from sureal.dataset_reader import RawDatasetReader
    from sureal.subjective_model import SubjrejMosModel

    rng = np.random.default_rng(0)
    scores = np.clip(rng.uniform(35, 65, (60, 1)) + rng.normal(0, 4, (60, 40)), 0, 100)
    scores[:, [3, 11]] = rng.uniform(35, 65, (60, 1)) + rng.choice([-14, 14], (60, 2))
    with np.errstate(invalid="ignore"):  # it divides by the zero outliers of the faultless
        expected = SubjrejMosModel(RawDatasetReader(consensus._dataset(scores))).run_modeling()["observer_rejected"]
    assert consensus.bt500(scores).tolist() == expected
    assert {3, 11} <= set(np.flatnonzero(expected))


def test_bt500_judges_by_what_an_annotator_has_seen():
    rng = np.random.default_rng(1)
    scores = np.clip(rng.uniform(20, 80, (200, 1)) + rng.normal(0, 4, (200, 15)), 0, 100)
    scores[:, 5] = np.nan
    scores[:20, 5] = np.nanmean(scores[:20], 1) + np.tile([-11.0, 11.0], 10)
    assert consensus.bt500(scores)[5]
    assert not consensus.bt500(np.full((4, 3), 50.0)).any()
    assert not consensus.bt500(scores[:, :3]).any(), "three scores a sample judge nobody"


def test_maximum_likelihood_weighs_the_inconsistent_down():
    rng = np.random.default_rng(2)
    truth = rng.uniform(15, 85, 80)
    spread = np.array([5] * 12 + [30] * 8)
    bias = np.array([8, -8, 0, 4, -4] * 4)
    scores = truth[:, None] + bias + rng.normal(0, 1, (80, 20)) * spread
    scores[rng.random(scores.shape) < 0.3] = np.nan
    best, plain = consensus.mle_scores(scores), consensus.mean_scores(scores)
    assert best.method == "mle"
    assert np.abs(best.mean - truth).mean() < 0.7 * np.abs(plain.mean - truth).mean()
    assert np.abs(best.bias - bias)[:12].max() < 3
    assert best.inconsistency[12:].min() > 2 * best.inconsistency[:12].max()


def test_maximum_likelihood_that_has_no_maximum_says_so():
    one = np.array([[10.0, N], [N, 20.0], [30.0, 31.0]])
    found = consensus.mle_scores(one)
    assert found.method.startswith("mean without biases (")
    assert found.mean.tolist() == [10.25, 19.75, 30.5]
    assert "too few" in consensus.mle_scores(np.array([[10.0], [20.0]])).method


def test_alpha_by_hand():
    assert agreement.alpha(np.array([[10, 10], [50, 50], [90, 90.0]])) == 1
    # coincidences of (0,0) (10,10) (0,10): observed 100/3, expected over 15 pairs of 6 values: 9 × 100 / 15
    assert agreement.alpha(np.array([[0, 0], [10, 10], [0, 10.0]])) == pytest.approx(1 - (100 / 3) / (9 * 100 / 15))
    assert np.isnan(agreement.alpha(np.array([[10, N], [N, 20.0]])))
    scores = np.random.default_rng(0).uniform(0, 100, (50, 1)) + np.random.default_rng(1).normal(0, 5, (50, 4))
    scores[:, 3] = np.random.default_rng(2).uniform(0, 100, 50)
    by_one = agreement.alpha_by_annotator(scores)
    assert by_one[:3].min() > 0.6 > 0.4 > by_one[3]


def test_correlation_leaves_oneself_out():
    scores = np.array([[0, 0, 100], [50, 50, 50], [100, 100, 0.0]])
    assert agreement.mean_of_others(scores)[:, 2].tolist() == [0, 50, 100]
    assert agreement.correlation(scores)[2] == pytest.approx(-1)
    assert np.isnan(agreement.correlation(scores[:2])).all()
    assert agreement.correlation(np.array([[5, 1], [5, 2], [5, 3.0]])).tolist() == [0, 0]


def test_overlaps_by_hand():
    maps = np.array([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]], bool)
    dice, iou = agreement.overlaps(maps)
    assert dice[0, 1] == 0.5
    assert iou[0, 1] == pytest.approx(1 / 3)
    assert dice[0, 2] == iou[0, 2] == 0
    assert dice[2, 3] == iou[2, 3] == 1
    assert agreement.mean_pairwise(dice[:3, :3]) == pytest.approx(0.5 / 3)
    assert np.isnan(agreement.mean_pairwise(dice[:1, :1]))


def test_soft_map_by_hand():
    maps = np.stack([np.full((2, 2), 255), np.zeros((2, 2)), np.full((2, 2), 51)]).astype(np.uint8)
    assert consensus.soft_map(maps, np.array([1, 1, 0.0]))[0, 0] == 0.5
    assert consensus.soft_map(maps, np.zeros(3))[0, 0] == pytest.approx(0.4)


def test_staple_outvotes_the_one_who_paints_anything():
    rng = np.random.default_rng(0)
    truth = np.zeros((48, 48), bool)
    truth[10:30, 12:34] = True
    good = [truth ^ (rng.random(truth.shape) < 0.03) for _ in range(3)]
    maps = np.stack([*good, rng.random(truth.shape) < 0.5]).astype(np.uint8) * 204
    found = consensus.staple_map(maps, np.ones(4))
    assert found[truth].mean() == pytest.approx(0.8, abs=0.03)
    assert found[~truth].mean() < 0.03
    assert np.array_equal(consensus.staple_map(maps[:1], np.ones(1)), consensus.soft_map(maps[:1], np.ones(1)))


@pytest.mark.parametrize(
    ("kind", "score", "painted", "right"),
    [
        ("clean", 95, 0, True), ("clean", 50, 0, False), ("clean", 95, 12, False),
        ("strong", 40, 6, True), ("strong", 95, 6, False), ("strong", 40, 0, False), ("strong", 40, 1, False),
    ],
)  # fmt: skip
def test_gold_answers(kind, score, painted, right):
    truth, mine = np.zeros((10, 10), bool), np.zeros((10, 10), bool)
    truth[:6, :6] = kind == "strong"
    mine[:painted, :painted] = True
    assert consensus.gold_right(kind, score, mine, truth) == right
    assert consensus.gold_weight(np.array([0, 8]), np.array([0, 8])).tolist() == [0.5, 0.9]


def judgement(**changed):
    same = {
        "work": 20, "seconds": 30.0, "correlation": 0.8, "dice": 0.6, "gold_right": 4, "gold_total": 4, "spread": 15.0,
        "screened": False,
    }  # fmt: skip
    columns = [{**same}, {**same}, {**same, **changed}]
    return Judgement(**{name: np.array([column[name] for column in columns]) for name in same})


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"gold_right": 1}, "1 of 4 gold"),
        ({"correlation": 0.1}, "correlation of 0.10"),
        ({"correlation": -0.9}, "correlation of -0.90"),
        ({"spread": 0.0, "correlation": 0.0}, "the same score"),
        ({"dice": 0.1}, "Dice 0.10, the usual is 0.60"),
        ({"seconds": 1.2}, "1.2 s a sample"),
        ({"screened": True}, "BT.500"),
    ],
)
def test_flags_name_the_reason(changed, says):
    reasons = consensus.flags(judgement(**changed), Bounds(), True)
    assert reasons[:2] == [[], []]
    assert len(reasons[2]) == 1
    assert says in reasons[2][0]
    assert consensus.flags(judgement(**{"work": 4, "gold_total": 2, "gold_right": 0, **changed}), Bounds(), True)[2] == [] or (
        "gold" in says
    )
    assert consensus.flags(judgement(screened=True), Bounds(), False)[2] == []


def test_bradley_terry():
    rng = np.random.default_rng(0)
    truth = dict(zip("abcdef", np.linspace(-1.5, 1.5, 6), strict=True))
    choices = []
    for _ in range(3000):
        left, right = rng.choice(list("abcdef"), 2, replace=False)
        wins = rng.random() < 1 / (1 + np.exp(truth[right] - truth[left]))
        choices.append((str(left), str(right), "left" if wins else "right"))
    found = consensus.bradley_terry(choices)
    assert max(abs(found[name] - value) for name, value in truth.items()) < 0.2
    tied = consensus.bradley_terry([("a", "b", "tie"), ("c", "d", "left")])
    assert tied["a"] == pytest.approx(tied["b"], abs=1e-6)
    assert tied["c"] == pytest.approx(-tied["d"])
    assert tied["c"] > 0
    assert consensus.bradley_terry([]) == {}


@pytest.mark.parametrize("module", ["krippendorff", "sureal.dataset_reader", "choix", "SimpleITK"])
def test_a_missing_extra_is_named(module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    calls = {
        "krippendorff": lambda: agreement.alpha(np.zeros((2, 2))),
        "sureal.dataset_reader": lambda: consensus.mle_scores(np.zeros((2, 2))),
        "choix": lambda: consensus.bradley_terry([("a", "b", "left")]),
        "SimpleITK": lambda: consensus.staple_map(np.zeros((2, 4, 4), np.uint8), np.ones(2)),
    }
    with pytest.raises(UserError, match=r"fgr\[annotate\]"):
        calls[module]()


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
    report = decide.decide(folder, {}, Bounds(), "mle", "weighted")
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
    assert json.loads((folder / decide.REPORT).read_text())["alpha"] > 0.6


def test_nothing_to_decide_on(tiny):
    with pytest.raises(UserError, match="neither annotations nor preferences"):
        decide.decide(tiny, {}, Bounds(), "mean", "weighted")
