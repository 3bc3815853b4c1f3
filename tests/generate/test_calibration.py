import numpy as np
import pytest
from skimage import data

from fgr import load_samples, recipe
from fgr.generate import samples
from fgr.generate.calibration import DifferenceHistogram
from fgr.images import difference
from fgr.images.swap import sham_source
from fgr.metrics.features import open_features


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


def crop(name, top, left):
    return np.ascontiguousarray(getattr(data, name)()[top : top + 96, left : left + 96])


SMOOTH = {  # ground on which nothing masks a lattice
    "sky": crop("rocket", 0, 352),
    "gradient": np.repeat(np.linspace(100, 160, 96).astype(np.uint8)[None, :, None], 96, 0).repeat(3, 2),
    "grey": np.full((96, 96, 3), 128, np.uint8),
}
TEXTURE = {"suit": crop("astronaut", 300, 180), "fur": crop("chelsea", 60, 150), "cup": crop("coffee", 150, 250)}


def planted(image, pattern):
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    return (image + pattern(rows, columns)[..., None]).clip(0, 255).astype(np.uint8)


def dots(period, amplitude=16):
    return lambda rows, columns: amplitude * ((rows % period == 0) & (columns % period == 0)).astype(int)


def checkerboard(rows, columns):
    return np.where((rows + columns) % 2, 6, -6)


LATTICES = {"checkerboard": checkerboard} | {f"dots {period}": dots(period) for period in (3, 4, 5, 6, 8)}


@pytest.fixture(scope="module")
def mean_map(tiny):
    """The mean of the map of two images, away from the rim, as the demo recipe defines it, calibrated on real restored images."""
    settings = recipe.load("demo", "generate").map
    features = open_features(settings.features)

    def combined(a, b):
        return samples.make_pair(a, b, features.difference(a, b), settings.pixel, settings.alpha, settings.smooth).combined

    histogram = DifferenceHistogram()
    for row in load_samples(str(tiny), "train", columns=["reference", "sr"]):
        histogram.add(combined(row["reference"], row["sr"]))
    scale = histogram.scale(settings.percentile)

    def mean(a, b):
        return float(difference.whole_map(combined(a, b), scale)[16:-16, 16:-16].mean())

    return mean


@pytest.mark.parametrize("ground", SMOOTH)
@pytest.mark.parametrize("lattice", LATTICES)
def test_a_visible_lattice_on_smooth_ground_is_a_defect(mean_map, ground, lattice):
    assert mean_map(SMOOTH[ground], planted(SMOOTH[ground], LATTICES[lattice])) >= 0.1


@pytest.mark.parametrize("ground", [*SMOOTH, *TEXTURE])
def test_a_shift_by_a_pixel_is_next_to_nothing(mean_map, ground):
    image = (SMOOTH | TEXTURE)[ground]
    assert mean_map(image, sham_source(image, 1)) < 0.02


def test_texture_masks_a_lattice_of_few_dots(mean_map):
    for image in TEXTURE.values():
        assert mean_map(image, planted(image, dots(8))) < mean_map(SMOOTH["grey"], planted(SMOOTH["grey"], dots(8)))
