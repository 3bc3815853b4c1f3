"""The kind that a painted place is suggested to have, against defects planted in photographs."""

import numpy as np
import pytest
import skimage.data

from fgr.annotate.kinds import kinds_of
from fgr.annotate.labelling import KINDS
from fgr.images import defects

PLANTED = {
    "blur": "painterly", "smoothing": "painterly", "sharpening": "ringing", "ringing": "ringing", "warp": "structure",
    "colour-cast": "colour", "dots": "noise", "checkerboard": "noise",
}  # fmt: skip


@pytest.fixture(scope="module")
def photos():
    return [getattr(skimage.data, name)()[60:220, 100:260] for name in ("astronaut", "coffee", "chelsea", "immunohistochemistry")]


@pytest.mark.parametrize(("planted", "kind"), PLANTED.items())
def test_planted_defects_get_their_kind(photos, planted, kind):
    painted = np.zeros(photos[0].shape[:2], bool)
    painted[40:120, 30:130] = True
    found = [
        kinds_of(defects.plant(photo, planted, 0.5, np.random.default_rng(seed)), photo, painted)[80, 80]
        for seed, photo in enumerate(photos)
    ]
    assert [KINDS[one] for one in found].count(kind) >= 3, found


def test_each_part_has_its_own(photos):
    photo, painted = photos[0], np.zeros(photos[0].shape[:2], bool)
    painted[:, :60] = painted[:, 100:] = True
    left, right = (defects.plant(photo, kind, 0.6, np.random.default_rng(0)) for kind in ("blur", "dots"))
    kinds = kinds_of(np.concatenate([left[:, :80], right[:, 80:]], 1), photo, painted)
    assert (kinds[:, :60] == KINDS.index("painterly")).all()
    assert (kinds[:, 100:] == KINDS.index("noise")).all()
    assert not kinds[:, 60:100].any()
    with pytest.raises(ValueError, match="sizes differ"):
        kinds_of(photo, photo[1:], painted)
