import numpy as np
import pytest

from fgr.metrics.marked import overlap, overlaps, prominence_figures, region_figures, thresholds


def square(*boxes, side=30):
    """A bool (side, side) array with boxes (top, left, height, width) in it."""
    found = np.zeros((side, side), bool)
    for top, left, height, width in boxes:
        found[top : top + height, left : left + width] = True
    return found


def test_desra_figures_by_hand():
    marked = square((6, 6, 4, 4), (15, 15, 4, 4))
    detected = square((6, 6, 4, 2), (15, 18, 4, 4), (22, 6, 2, 2))  # half of the first; a quarter of the second; a stray one
    found = overlap(detected, marked)
    assert found.iou == pytest.approx((8 + 4) / (16 + 16 + 8 + 16 + 4 - 12))
    assert found[1:] == (3, 1, 2, 1)  # only the first lies half inside; only the first is half found


def test_the_border_is_cut_first_and_corners_connect():
    assert overlap(square((0, 0, 5, 30)), square((10, 10, 2, 2)))[1:] == (0, 0, 1, 0)
    assert overlap(square((10, 10, 2, 2), (12, 12, 2, 2)), square((10, 10, 4, 4)))[1:4] == (1, 1, 1)
    assert np.isnan(overlap(square(), square((0, 0, 3, 3))).iou)


def test_a_binary_map_is_kept_by_one_of_its_thresholds():
    mask = square((8, 8, 2, 2))  # fewer pixels than any quantile shows
    levels = thresholds([mask.astype(np.float32)])
    assert max(one.iou for one in overlaps(mask.astype(np.float32), mask, levels)) == 1


def test_no_image_chooses_its_own_threshold():
    table = np.zeros((2, 2, 5))
    table[0, :, 0], table[1, :, 0] = (1.0, 0.2), (0.1, 0.8)  # the first is best with threshold 0, the second with 1
    table[..., 1:] = (2, 1, 4, 1)
    found = region_figures(table, ["a", "b"])
    assert found["iou"] == pytest.approx((0.2 + 0.1) / 2)
    assert (found["precision"], found["recall"], found["images"]) == (0.5, 0.25, 2)


def test_prominence_by_hand():
    pooled, prominence = np.array([0.1, 0.4, 0.2, 0.9]), np.array([0.0, 0.5, 0.6, 1.0])
    found = prominence_figures(pooled, prominence, ["a", "b", "c", "d"])
    assert found["srcc"] == pytest.approx(0.8)  # ranks 1 3 2 4 and 1 2 3 4: 1 − 6·2 / (4·15)
    assert found["plcc"] == pytest.approx(np.corrcoef(pooled, prominence)[0, 1])
    assert (found["masks"], found["prominent"], found["auc"], found["ap"]) == (4, 3, 1, 1)
    assert found["srcc_low"] <= found["srcc"] <= found["srcc_high"]


def test_ties_count_half_and_too_few_are_nan():
    found = prominence_figures(np.full(4, 0.3), np.array([0, 0, 1, 1.0]), list("abcd"))
    assert (found["auc"], found["ap"]) == (0.5, 0.5)
    assert np.isnan(found["srcc"])
    assert np.isnan(prominence_figures(np.ones(1), np.ones(1), ["a"])["auc"])
