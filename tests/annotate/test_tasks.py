"""What is sent for a sample and what comes back, without a server."""

import numpy as np
import pytest

from fgr.annotate import brush, tasks
from fgr.annotate.labelling import KINDS
from fgr.annotate.tasks import WorkError


def disc(height, width, row, column, radius):
    y, x = np.mgrid[:height, :width]
    return (y - row) ** 2 + (x - column) ** 2 <= radius**2


def region(mask, kind="ringing", stars=4, identity="r1", alpha=255):
    size = {"original_width": mask.shape[1], "original_height": mask.shape[0]}
    code = brush.encode((mask * alpha).astype(np.uint8))
    painted = {"id": identity, "from_name": "defect", "value": {"rle": code, "brushlabels": [kind]}} | size
    return [painted] + (
        [{"id": identity, "from_name": "severity", "value": {"rle": code, "rating": stars}} | size] if stars else []
    )


SCORE = {"from_name": "score", "value": {"number": 63}}


def test_reads_regions_score_and_comment():
    a, b = disc(40, 60, 12, 20, 8), disc(40, 60, 14, 26, 8)
    comment = {"from_name": "comment", "value": {"text": ["<b>one</b>", "two"]}}
    work = tasks.read_defects([*region(a, "ringing", 2, "x"), *region(b, "noise", 5, "y"), SCORE, comment], 40, 60)
    assert work.score == 63
    assert work.comment == "<b>one</b>\ntwo"
    assert np.array_equal(work.severity, np.maximum(a * 2, b * 5))
    assert set(np.unique(work.map8)) == {0, 102, 255}
    assert work.defects == [
        {"kind": "ringing", "severity": 2, "area": pytest.approx(a.mean())},
        {"kind": "noise", "severity": 5, "area": pytest.approx(b.mean())},
    ]


def test_antialiased_edges_and_missing_stars():
    mask = disc(40, 60, 20, 30, 9)
    assert tasks.read_defects([*region(mask, alpha=127), SCORE], 40, 60).defects == []
    work = tasks.read_defects([*region(mask, stars=None, alpha=128), SCORE], 40, 60)
    assert work.unrated == 1
    assert work.severity.max() == tasks.UNRATED
    assert np.array_equal(work.severity > 0, mask)


M = disc(40, 60, 20, 30, 9)


@pytest.mark.parametrize(
    ("result", "says"),
    [
        ([], "no score"),
        ([{"from_name": "score", "value": {"number": True}}], "no score"),
        ([{"from_name": "score", "value": {"number": "63"}}], "no score"),
        ([{"from_name": "score", "value": {"number": 101}}], "outside 0 to 100"),
        ([{"from_name": "score", "value": {"number": float("nan")}}], "outside 0 to 100"),
        (["text"], "unknown form"),
        ([{"from_name": "score", "value": 3}], "unknown form"),
        ([*region(M, kind="halo"), SCORE], "a kind of defect"),
        ([*region(M, stars=9), SCORE], "not 1 to 5"),
        ([*region(M.T), SCORE], "another size"),
        ([{**region(M)[0], "value": {"rle": [1, 2, 3], "brushlabels": ["noise"]}}, SCORE], "broken brush"),
        ([{**region(M)[0], "value": {"rle": None, "brushlabels": ["noise"]}}, SCORE], "broken brush"),
    ],
)
def test_work_that_cannot_be_read_is_refused_with_the_reason(result, says):
    with pytest.raises(WorkError, match=says):
        tasks.read_defects(result, 40, 60)


def test_what_is_painted_beforehand_comes_back_as_it_was():
    values = np.zeros((96, 128), np.float32)
    values[20:60, 30:90] = 0.35
    values[35:50, 50:70] = 0.95
    stars = tasks.levels(values, 1.0, 0.15, 0.0005)
    kinds = np.where(np.arange(128) < 60, KINDS.index("noise"), KINDS.index("colour"))[None].repeat(96, 0)
    items = tasks.regions(stars, kinds)
    assert sorted({item["value"]["rating"] for item in items if item["type"] == "rating"}) == np.unique(stars[stars > 0]).tolist()
    work = tasks.read_defects([*items, SCORE], 96, 128)
    assert np.array_equal(work.severity, stars)
    sides = {(defect["kind"], defect["severity"]) for defect in work.defects}
    assert sides == {(kind, star) for kind in ("noise", "colour") for star in np.unique(stars[stars > 0])}
    assert stars[42, 60] == 5
    assert stars[25, 40] == 2
    assert stars[5, 5] == 0


def test_specks_and_holes_are_not_sent():
    rng = np.random.default_rng(0)
    values = np.full((128, 128), 0.5, np.float32) * disc(128, 128, 64, 64, 40)
    noisy = np.clip(values + (rng.random((128, 128)) < 0.02) * 0.5 - (rng.random((128, 128)) < 0.02) * 0.5, 0, 1).astype(
        np.float32
    )
    clean, ragged = tasks.levels(values, 0, 0.15, 0.005), tasks.levels(noisy, 0, 0.15, 0.005)
    assert (clean != ragged).mean() < 0.01
    assert tasks.regions(tasks.levels(np.zeros((8, 8), np.float32), 4, 0.15, 0.0005), 0) == []


def test_preferences():
    item = {"from_name": "preference", "value": {"choices": ["tie"]}}
    assert tasks.read_preference([item]) == "tie"
    for bad in ([], [{"from_name": "preference", "value": {"choices": ["both"]}}], [{"from_name": "preference", "value": {}}]):
        with pytest.raises(WorkError, match="no choice"):
            tasks.read_preference(bad)
