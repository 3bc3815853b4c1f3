"""Scores, maps and preferences estimated from several raters, against hand-worked numbers and a known truth."""

import sys

import numpy as np
import pytest

from fgr.annotate import consensus
from fgr.errors import UserError
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
        expected = SubjrejMosModel(RawDatasetReader(consensus.sureal_dataset(scores))).run_modeling()["observer_rejected"]
    assert consensus.bt500(scores).tolist() == expected
    assert {3, 11} <= set(np.flatnonzero(expected))


def test_bt500_screens_by_what_an_annotator_has_seen():
    rng = np.random.default_rng(1)
    scores = np.clip(rng.uniform(20, 80, (200, 1)) + rng.normal(0, 4, (200, 15)), 0, 100)
    scores[:, 5] = np.nan
    scores[:20, 5] = np.nanmean(scores[:20], 1) + np.tile([-11.0, 11.0], 10)
    assert consensus.bt500(scores)[5]
    assert not consensus.bt500(np.full((4, 3), 50.0)).any()
    noise = np.random.default_rng(3).uniform(0, 100, 200)
    for many in (3, 4, 5):
        assert not consensus.bt500(np.column_stack([scores[:, 6 : 5 + many], noise])).any(), (
            "too few scores a sample judge nobody"
        )


def test_a_panel_that_contradicts_a_gold_samples_truth_puts_it_in_doubt():
    truth = np.zeros((8, 8), bool)
    truth[:4] = True
    on, off = truth, ~truth
    bad = np.array([40.0, 50.0, 90.0])
    assert consensus.gold_stands("strong", bad, np.stack([on, on, off]), truth)
    assert not consensus.gold_stands("strong", bad, np.stack([off, off, on]), truth)
    assert not consensus.gold_stands("strong", np.full(3, 95.0), np.stack([on] * 3), truth)  # most find it excellent
    assert consensus.gold_stands("strong", bad[:2], np.stack([off, off]), truth)  # two are no panel


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
