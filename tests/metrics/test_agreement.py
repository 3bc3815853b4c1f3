"""Agreement of raters, by hand."""

import numpy as np
import pytest

from fgr.metrics import agreement

N = np.nan


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
