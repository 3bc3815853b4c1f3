import numpy as np

from fgr.reward import baselines


def test_baselines_see_what_they_are_named_for():
    rng = np.random.default_rng(0)
    image = np.full((64, 64, 3), 128, np.uint8)
    image[:, 32:] = rng.integers(0, 256, (64, 32, 3))
    for name in ("gradient energy", "high frequency"):
        map_ = baselines.MAPS[name](image)
        assert map_.shape == (64, 64)
        assert map_[:, 48:].mean() > 5 * map_[:, :16].mean()
    assert baselines.flatness(image)[:, :16].mean() > 0.9
    assert baselines.centre(image).argmax() // 64 in (31, 32)
    flat = np.full((64, 64, 3), 128, np.uint8)
    assert baselines.SCORES["gradient energy"](image) > baselines.SCORES["gradient energy"](flat)
    assert baselines.SCORES["smoothness"](image) < baselines.SCORES["smoothness"](flat)
    assert baselines.SCORES["no-reference PSNR"](image) > baselines.SCORES["no-reference PSNR"](flat)
    assert baselines.scores(image) == {name: score(image) for name, score in baselines.SCORES.items()}
