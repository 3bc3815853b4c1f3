import json
from collections import Counter
from math import pi

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage import data

from fgr.images import basicsr_kernels, degrade

PHOTO = np.ascontiguousarray(data.astronaut()[100:228, 150:278])


def drawn(preset, number):
    return [degrade.draw(preset, np.random.default_rng(seed), 4) for seed in range(number)]


@given(seed=st.integers(0, 10_000), preset=st.sampled_from(sorted(degrade.PRESETS)), scale=st.sampled_from([1, 2, 4]))
@settings(max_examples=40)
def test_a_record_replays_bit_for_bit_after_json(seed, preset, scale):
    record = degrade.draw(preset, np.random.default_rng(seed), scale)
    again = json.loads(json.dumps(record))
    assert again == record
    image = degrade.apply(PHOTO, record)
    assert image.shape == (128 // scale, 128 // scale, 3)
    assert image.dtype == np.uint8
    assert np.array_equal(degrade.apply(PHOTO, again), image)


def test_the_same_bytes_with_any_number_of_threads_and_no_global_generator_moves():
    photo = data.astronaut()
    before, threads = np.random.get_state()[1].copy(), cv2.getNumThreads()
    try:
        for record in drawn("real-esrgan", 12):
            results = []
            for number in (1, 2, 4):
                cv2.setNumThreads(number)
                results.append(degrade.apply(photo, record))
            assert all(np.array_equal(results[0], other) for other in results[1:])
    finally:
        cv2.setNumThreads(threads)
    assert np.array_equal(np.random.get_state()[1], before)


def test_real_esrgan_draws_from_the_published_ranges_and_probabilities():
    records = drawn("real-esrgan", 4000)
    first, second, final = ([record[part] for record in records] for part in ("first", "second", "final"))
    factors = np.array([stage["resize"]["factor"] for stage in first])
    assert (factors > 1).mean() == pytest.approx(0.2, abs=0.03)
    assert (factors == 1).mean() == pytest.approx(0.1, abs=0.03)
    assert factors.min() >= 0.15
    assert factors.max() <= 1.5
    assert {stage["resize"]["mode"] for stage in first} == {"area", "linear", "cubic"}
    kinds = Counter((stage["kernel"]["shape"], stage["kernel"].get("isotropic")) for stage in first)
    for shape, isotropic, share in degrade.FAMILY:
        assert kinds[shape, isotropic] / len(first) == pytest.approx(0.9 * share, abs=0.025)
    assert kinds["sinc", None] / len(first) == pytest.approx(0.1, abs=0.02)
    assert {stage["kernel"]["size"] for stage in first} == set(range(7, 22, 2))
    sigmas = [stage["kernel"]["sigma_x"] for stage in first if "sigma_x" in stage["kernel"]]
    assert (min(sigmas) >= 0.2, max(sigmas) <= 3, max(sigmas) > 2.9) == (True, True, True)
    assert np.mean([stage["kernel"] is None for stage in second]) == pytest.approx(0.2, abs=0.03)
    assert np.mean([stage["noise"]["kind"] == "poisson" for stage in first]) == pytest.approx(0.5, abs=0.03)
    assert np.mean([stage["noise"]["grey"] for stage in second]) == pytest.approx(0.4, abs=0.03)
    levels = [stage["noise"]["level"] for stage in first if stage["noise"]["kind"] == "gaussian"]
    assert (min(levels) >= 1, max(levels) <= 30, max(levels) > 29) == (True, True, True)
    assert {stage["jpeg"] for stage in first} == set(range(30, 96))
    assert np.mean([end["kernel"] is None for end in final]) == pytest.approx(0.2, abs=0.03)
    assert np.mean([end["jpeg_last"] for end in final]) == pytest.approx(0.5, abs=0.03)
    assert all(pi / 3 <= end["kernel"]["omega"] <= pi for end in final if end["kernel"])


def test_the_presets_are_ordered_by_how_much_they_take_away():
    def error(preset):
        small = np.asarray(Image.fromarray(PHOTO).resize((32, 32), Image.Resampling.BICUBIC)).astype(float)
        return np.mean([np.abs(degrade.apply(PHOTO, record) - small).mean() for record in drawn(preset, 40)])

    assert 0 == error("bicubic") < error("light") < error("stablesr") < error("real-esrgan")


def record(**changes):
    """A degradation that does nothing but JPEG of the best quality, with `changes` to its first round."""
    quiet = {
        "kernel": None, "resize": {"factor": 1.0, "mode": "area"}, "jpeg": 100,
        "noise": {"kind": "gaussian", "level": 0.0, "grey": False, "seed": 1},
    }  # fmt: skip
    final = {"mode": "area", "jpeg_last": True, "jpeg": 100, "kernel": None}
    return {"preset": "test", "scale": 1, "first": quiet | changes, "second": quiet, "final": final}


def test_a_round_that_does_nothing_leaves_only_jpeg():
    assert np.abs(degrade.apply(PHOTO, record()).astype(int) - PHOTO).mean() < 2


def test_gaussian_noise_has_the_drawn_strength_and_grey_noise_is_alike_in_all_channels():
    flat = np.full((256, 256, 3), 128, np.float32) / 255
    noisy = degrade._noisy(flat, {"kind": "gaussian", "level": 20.0, "grey": False, "seed": 3}) * 255 - 128
    assert noisy.std() == pytest.approx(20, rel=0.02)
    assert abs(np.corrcoef(noisy[..., 0].ravel(), noisy[..., 1].ravel())[0, 1]) < 0.02
    grey = degrade._noisy(flat, {"kind": "gaussian", "level": 20.0, "grey": True, "seed": 3})
    assert np.array_equal(grey[..., 0], grey[..., 2])


def test_poisson_noise_grows_with_the_light():
    noise = {"kind": "poisson", "level": 2.0, "grey": False, "seed": 3}
    for value in (64, 255):
        flat = np.full((256, 256, 3), value / 255, np.float32)
        assert (degrade._noisy(flat, noise) - flat).std() == pytest.approx(2 * np.sqrt(value / 255 / 256), rel=0.02)


@pytest.mark.parametrize(
    "kernel",
    [
        {"shape": "gaussian", "isotropic": True, "size": 21, "sigma_x": 2.5, "sigma_y": 2.5, "rotation": 0.0},
        {"shape": "gaussian", "isotropic": False, "size": 13, "sigma_x": 2.5, "sigma_y": 0.6, "rotation": 0.7},
        {"shape": "generalised", "isotropic": False, "size": 11, "sigma_x": 1.5, "sigma_y": 0.6, "rotation": 0.7, "beta": 2.0},
        {"shape": "plateau", "isotropic": True, "size": 7, "sigma_x": 1.5, "sigma_y": 1.5, "rotation": 0.0, "beta": 1.5},
        {"shape": "sinc", "size": 15, "omega": 1.5},
    ],
)
def test_filtering_equals_that_of_basicsr(kernel):
    import torch

    basicsr_kernels.make_importable()
    from basicsr.utils.img_process_util import filter2D

    photo = PHOTO.astype(np.float32) / 255
    weights = torch.from_numpy(degrade.kernel_weights(kernel)).float()
    theirs = filter2D(torch.from_numpy(photo).permute(2, 0, 1)[None], weights)[0].permute(1, 2, 0).numpy()
    assert np.abs(degrade._filter(photo, kernel) - theirs).max() < 1 / 2550


def test_bicubic_is_pillows_antialiased_bicubic():
    small = degrade.apply(PHOTO, degrade.draw("bicubic", np.random.default_rng(0), 4))
    assert np.array_equal(small, np.asarray(Image.fromarray(PHOTO).resize((32, 32), Image.Resampling.BICUBIC)))


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="did you mean 'light'"):
        degrade.draw("ligth", np.random.default_rng(0), 4)
    with pytest.raises(ValueError, match="multiples of 4"):
        degrade.apply(PHOTO[:127], degrade.draw("light", np.random.default_rng(0), 4))
