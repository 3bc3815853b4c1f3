"""The planted yardstick, on figures that are right, blind and wrong."""

import numpy as np
import pytest

from fgr.images.defects import KINDS
from fgr.images.structural import ssim_difference
from fgr.rlhf import yardstick
from fgr.rlhf.changes import MetricRole

PHOTOGRAPHS = ["a", "b"]


def textured(seed):
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:48, :48]
    image = 128 + 60 * np.sin(rows / 5)[..., None] * np.cos(columns / 7)[..., None] + rng.normal(0, 12, (48, 48, 3))
    return np.clip(image, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def images():
    import cv2

    references = [textured(seed) for seed in range(2)]
    return references, [cv2.GaussianBlur(image, (0, 0), 1.2) for image in references]


@pytest.fixture(scope="module")
def planted(images):
    return yardstick.plant(*images)


def energy(image):
    return float(np.abs(np.diff(image.astype(float), axis=0)).mean())


def test_every_kind_comes_in_four_severities_at_the_same_distance(images, planted):
    assert len(planted) == 2 * 2 * len(KINDS) * 4
    references, starts = images
    for one in planted:
        made_of = (references if one.on == "reference" else starts)[one.of]
        distance = float(ssim_difference(one.image, made_of).mean())
        assert distance <= yardstick.SEVERITIES[one.severity] + 0.04 or one.kind == "banding"
    assert all(one.counts for one in planted if one.on == "reference")
    grain = [one for one in planted if one.kind == "grain" and one.on == "start" and one.of == 0]
    distances = [float(ssim_difference(one.image, starts[0]).mean()) for one in grain]
    assert distances == pytest.approx(yardstick.SEVERITIES, abs=0.01)


def test_a_figure_that_grain_buys_loses_its_vote_and_one_that_measures_the_distance_keeps_it(images, planted):
    references, _ = images

    def distance(image, of):
        return float(ssim_difference(image, references[of]).mean())

    values = {
        "energy": np.array([energy(one.image) for one in planted]),
        "distance": np.array([distance(one.image, one.of) for one in planted]),
    }
    plain = {
        on: {
            "energy": np.array([energy(image) for image in sort]),
            "distance": np.array([distance(image, of) for of, image in enumerate(sort)]),
        }
        for on, sort in zip(("reference", "start"), images, strict=True)
    }
    metrics = {"energy": MetricRole("naturalness", 1), "distance": MetricRole("fidelity", -1)}
    rows = yardstick.judged(planted, values, plain, metrics, PHOTOGRAPHS)
    assert yardstick.without_vote(rows) == ["energy"]
    said = {(row["figure"], row["kind"], row["on"]): row for row in rows}
    assert said["energy", "grain", "start"]["says"] == "wrong"
    assert said["energy", "blur", "start"]["says"] in ("right", "none")
    assert all(row["says"] in ("right", "none") for row in rows if row["figure"] == "distance")
    gaps = said["energy", "grain", "start"]["gaps"]
    assert len(gaps) == 4
    assert gaps == sorted(gaps)
    assert gaps[0] > 0


def test_what_does_not_move_is_unsure_and_says_nothing(planted):
    values, plain = {"flat": np.ones(len(planted))}, {on: {"flat": np.ones(2)} for on in ("reference", "start")}
    rows = yardstick.judged(planted, values, plain, {"flat": MetricRole("quality", 1)}, PHOTOGRAPHS)
    assert {row["says"] for row in rows} <= {"unsure", "none"}
    assert yardstick.without_vote(rows) == []
