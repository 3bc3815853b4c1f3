"""Gap closure of networks, with ones whose outputs are known: the start itself, the references, half of the way."""

import json

import numpy as np
import pytest
import skimage.data

from fgr.errors import UserError
from fgr.images import codec
from fgr.metrics import registry
from fgr.reward import system_closure
from fgr.reward.system_closure import SystemClosure
from fgr.sr import Job, open_upscaler

SIDE = 64


class Answers:
    """A network whose outputs are given, in order."""

    digest = "0"

    def __init__(self, outputs):
        self.name, self.waiting = "answers", iter(outputs)

    def upscale(self, jobs):
        return [next(self.waiting) for _ in jobs]


@pytest.fixture(scope="module")
def images():
    whole = [skimage.data.astronaut(), skimage.data.coffee(), skimage.data.chelsea()]
    return [np.ascontiguousarray(one[100 : 100 + SIDE, 150 : 150 + SIDE]) for one in whole]


@pytest.fixture(scope="module")
def rows(images):
    record = json.dumps({"preset": "bicubic", "scale": 4})
    return [
        {"id": str(i), "photo_id": f"p{i}", "reference": codec.encode_rgb(image), "degradation": record}
        for i, image in enumerate(images)
    ]


def sharpness(images):
    """A judge that likes differences of neighbours, and whose map shows their absence."""
    for image in images:
        rough = np.abs(np.diff(image.astype(float), axis=0)).mean()
        yield rough, np.full((SIDE, SIDE), max(0.0, 1 - rough / 40))


@pytest.fixture(autouse=True)
def _without_weights(monkeypatch):
    """Weights of features are not on this machine: 1 − SSIM needs none."""

    def open_metric(name, options):
        if name == "lite0-distance":
            raise UserError("its weights are not here")
        return registry.open_metric(name, options)

    monkeypatch.setattr(system_closure, "open_metric", open_metric)


def test_closures_by_hand(images, rows):
    found = SystemClosure(["bicubic"], "bicubic", 4, "cpu")
    start = [open_upscaler("bicubic", scale=4).upscale([Job(image[::4, ::4], "", (1, 1), (0, 0, 1))])[0] for image in images]
    halfway = [((one.astype(int) + other + 1) // 2).astype(np.uint8) for one, other in zip(start, images, strict=True)]
    rng = np.random.default_rng(0)
    grainy = [np.clip(one + rng.normal(0, 12, one.shape), 0, 255).astype(np.uint8) for one in start]
    found.systems = {
        name: Answers(out) for name, out in {"same": start, "goal": images, "half": halfway, "grain": grainy}.items()
    }
    found.start = Answers(start)
    result = found.measure(sharpness, rows)
    assert (result["images"], result["photographs"], result["start"]["name"]) == (3, 3, "bicubic")
    closed = {
        name: {figure: one["value"] for figure, one in system["closure"].items()} for name, system in result["systems"].items()
    }
    assert set(closed["same"]) == {"score", "map", "1 − ssim"}
    assert result["missing"] == {"lite0-distance": "its weights are not here"}
    assert all(value == pytest.approx(0) for value in closed["same"].values())
    assert all(value == pytest.approx(1) for value in closed["goal"].values())
    assert all(0 < value < 1 for value in closed["half"].values())
    assert closed["grain"]["score"] > 0.5  # bought
    assert closed["grain"]["1 − ssim"] < 0
    assert result["systems"]["grain"]["lead"]["score"]["low"] > 0.4
    assert result["systems"]["goal"]["lead"]["score"]["value"] == pytest.approx(0)
    assert result["systems"]["grain"]["above_reference"]["score"]["value"] <= 1


def test_what_cannot_be_measured_is_a_sentence(rows):
    with pytest.raises(UserError, match="tuned from is not known"):
        SystemClosure(["bicubic"], None, 4, "cpu")
    with pytest.raises(UserError, match="named twice"):
        SystemClosure(["bicubic", "bicubic"], "bicubic", 4, "cpu")
    with pytest.raises(UserError, match="bicubik"):
        SystemClosure(["bicubik"], "bicubic", 4, "cpu")
    elsewhere = [row | {"degradation": '{"preset": "external"}'} for row in rows]
    with pytest.raises(UserError, match="can be made again"):
        SystemClosure(["bicubic"], "bicubic", 4, "cpu").measure(sharpness, elsewhere)
