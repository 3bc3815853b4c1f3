"""Fixed defects: what each defect does to a plain grey, by hand."""

import numpy as np
import pytest
from skimage import data

from fgr.images import fixed_defects
from fgr.images.defects import KINDS

GREY = np.full((24, 36, 3), 100, np.uint8)
FIXED = fixed_defects.FIXED


def planted(name, image=GREY, seed=0):
    return FIXED[name].change(image, np.random.default_rng(seed)).astype(int)


def test_ten_kinds_count_and_the_colour_cast_is_apart():
    assert [name for name, defect in FIXED.items() if defect.apart] == ["colour cast"]
    assert len(FIXED) == 11
    assert {defect.kind for defect in FIXED.values()} <= KINDS.keys()


@pytest.mark.parametrize(
    ("name", "share", "step"), [("dots 3, 16", 1 / 9, 16), ("dots 4, 16", 1 / 16, 16), ("dots 4, 8", 1 / 16, 8)]
)
def test_dots_by_hand(name, share, step):
    change = planted(name) - 100
    assert set(np.unique(change)) == {0, step}
    assert (change > 0).mean() == pytest.approx(share)
    period = FIXED[name].period
    assert (change[period:] == change[:-period]).all()
    assert (change[:, period:] == change[:, :-period]).all()


def test_noise_checkerboard_and_cast_by_hand():
    board = planted("checkerboard 4") - 100
    assert set(np.unique(board)) == {-4, 4}
    assert (board[1:] == -board[:-1]).all()
    assert planted("noise 8", np.full((200, 200, 3), 100, np.uint8)).std() == pytest.approx(8, rel=0.02)
    assert (planted("colour cast") == (124, 90, 93)).all()


def test_what_changes_structure_leaves_plain_ground_alone_and_photographs_not():
    photograph = np.ascontiguousarray(data.astronaut()[:96, 150:246])
    for name in ("ringing", "sharpening", "smoothing", "blur 1.5"):
        assert np.abs(planted(name) - 100).max() <= 1
        changed = planted(name, photograph)
        assert np.abs(changed - photograph).mean() > 1.5
        gradients = [np.abs(np.diff(image.astype(int), axis=0)).mean() for image in (changed, photograph)]
        assert (gradients[0] > gradients[1]) == (name in ("ringing", "sharpening"))


def test_random_steps_are_all_of_one_size_and_stay_in_range():
    change = fixed_defects.random_steps(GREY, 2, np.random.default_rng(0)).astype(int) - 100
    assert set(np.unique(change)) == {-2, 2}
    assert abs(change.mean()) < 0.2
    assert fixed_defects.random_steps(np.zeros_like(GREY), 1, np.random.default_rng(0)).max() == 1
