import numpy as np
import pytest

from fgr.generate.calibration import DifferenceHistogram


def test_the_percentile_becomes_one():
    values = np.random.default_rng(0).random((300, 300)).astype(np.float32) * 0.3
    histogram = DifferenceHistogram()
    for part in np.array_split(values, 7):
        histogram.add(part)
    assert histogram.scale(99) == pytest.approx(1 / np.percentile(values, 99), rel=1e-3)
    assert histogram.scale(100) == pytest.approx(1 / values.max(), rel=1e-3)


def test_differences_of_one_count():
    histogram = DifferenceHistogram()
    histogram.add(np.ones((2, 2), np.float32))
    assert histogram.scale(50) == 1


def test_nothing_or_no_difference_has_no_scale():
    with pytest.raises(ValueError, match="no difference was counted"):
        DifferenceHistogram().scale(99)
    histogram = DifferenceHistogram()
    histogram.add(np.zeros((4, 4), np.float32))
    with pytest.raises(ValueError, match="equal their references"):
        histogram.scale(99)
