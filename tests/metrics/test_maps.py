import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fgr.metrics import maps as m

MAP = np.array([[0.1, 0.2], [0.3, 0.4]])
TARGET = np.array([[0.0, 0.0], [0.5, 0.5]])


def test_maps_by_hand():
    assert m.correlation(MAP, TARGET) == pytest.approx(0.1 / math.sqrt(0.05 * 0.25))
    # normalised: map .1 .2 .3 .4, target 0 0 .5 .5
    assert m.similarity(MAP, TARGET) == pytest.approx(0.3 + 0.4)
    assert m.kl_divergence(MAP, TARGET) == pytest.approx(0.5 * math.log(0.5 / 0.3) + 0.5 * math.log(0.5 / 0.4))
    assert m.scanpath_saliency(MAP, TARGET) == pytest.approx(0.1 / MAP.std())
    assert m.auc_judd(MAP, TARGET) == 1
    assert m.average_precision(MAP, TARGET) == 1
    assert m.overlap(MAP, TARGET, 0.15) == pytest.approx((2 / 3, 4 / 5))
    assert m.map_figures(MAP, TARGET)["mse"] == pytest.approx((0.01 + 0.04 + 0.04 + 0.01) / 4)


def test_chance_is_chance():
    constant = np.full((2, 2), 0.3)
    assert m.auc_judd(constant, TARGET) == 0.5
    assert m.average_precision(constant, TARGET) == 0.5
    assert m.auc_judd(1 - MAP, TARGET) == 0
    assert math.isnan(m.correlation(constant, TARGET))


@settings(max_examples=40)
@given(st.integers(0, 2**31), st.sampled_from([np.float32, np.float64]), st.integers(0, 3), st.booleans())
def test_ap_and_auc_of_both_classes_agree_with_scikit_learn(seed, dtype, digits, negative):
    """Ties, both ways of sorting, and values that the fast one does not take."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    rng = np.random.default_rng(seed)
    map_ = (rng.random((12, 12)).round(digits) - 0.5 * negative).astype(dtype)
    classes = [rng.random((12, 12)) > 0.7, map_ + rng.random((12, 12)) > 0.9]
    for one in classes:
        one[0, :2] = True, False
    for (precision, area), one in zip(m.detection(map_, classes), classes, strict=True):
        assert precision == pytest.approx(average_precision_score(one.ravel(), map_.ravel()), abs=1e-9)
        assert area == pytest.approx(roc_auc_score(one.ravel(), map_.ravel()), abs=1e-9)


def test_both_positive_classes_by_hand():
    mask = np.array([[False, True], [True, False]])
    figures = m.map_figures(MAP, TARGET, mask)
    assert figures["ap"] == 1
    assert figures["ap_mask"] == pytest.approx((1 / 2 + 2 / 3) / 2)  # found second and third
    assert m.map_figures(MAP.astype(np.float32), TARGET, mask)["ap_mask"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    for of_all in (np.ones((2, 2), bool), np.zeros((2, 2), bool), None):  # the whole image, a sham, not said
        assert math.isnan(m.map_figures(MAP, TARGET, of_all)["ap_mask"])


def test_an_empty_target_has_no_localisation_figures():
    figures = m.map_figures(MAP, np.zeros((2, 2)))
    assert figures["mse"] == pytest.approx(0.3 / 4)
    assert all(math.isnan(figures[name]) for name in ("cc", "kld", "sim", "nss", "auc", "ap"))
    assert figures["iou@0.25"] == 0
    assert math.isnan(figures["iou@0.5"])


def test_reliability_by_hand():
    result = m.reliability(np.array([0.05, 0.05, 0.95]), np.array([0.0, 0.3, 0.95]))
    assert result["share"][0] == pytest.approx(2 / 3)
    assert result["observed"][0] == pytest.approx(0.15)
    assert result["ece"] == pytest.approx(2 / 3 * 0.1)


@settings(max_examples=30)
@given(st.integers(0, 2**31), st.floats(0.1, 10), st.floats(-5, 5))
def test_what_ranks_alike_scores_alike(seed, slope, offset):
    """AP and AUC do not change under an increasing map of the prediction, CC not under a linear one."""
    rng = np.random.default_rng(seed)
    map_, target = rng.random((8, 8)), rng.random((8, 8))
    target[0, 0] = 1
    assert m.average_precision(slope * map_ + offset, target) == pytest.approx(m.average_precision(map_, target))
    assert m.correlation(slope * map_ + offset, target) == pytest.approx(m.correlation(map_, target))
