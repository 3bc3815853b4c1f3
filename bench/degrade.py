"""Degradation of 512×512 crops against the Real-ESRGAN pipeline on basicsr's functions, one thread.

python -m bench.degrade [--images 60] [--photos DIR]
"""

import argparse
import random
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch.nn.functional import interpolate, pad

from bench.environment import describe
from bench.generate import crops
from fgr.dataset.screen import choose_crops
from fgr.images import basicsr_kernels, degrade
from fgr.images.photos import decode_photo

basicsr_kernels.make_importable()
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from basicsr.data import degradations as basicsr
    from basicsr.utils import DiffJPEG
    from basicsr.utils.img_process_util import filter2D

KINDS = ["iso", "aniso", "generalized_iso", "generalized_aniso", "plateau_iso", "plateau_aniso"]
SHARES = [0.45, 0.25, 0.12, 0.03, 0.12, 0.03]
MODES = ["area", "bilinear", "bicubic"]
Range = tuple[float, float]


class Peer:
    """The published second-order pipeline (its order, ranges and probabilities) on basicsr's own functions, for one image."""

    def __init__(self) -> None:
        self.jpeg = DiffJPEG(differentiable=False)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        size, side = random.choice(range(7, 22, 2)), image.shape[0]
        work = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
        work = filter2D(work, kernel(size, [0.2, 3]))
        work = self._round(work, side, (0.15, 1.5), [0.2, 0.7, 0.1], (1, 30), (0.05, 3))
        work = self.jpeg(work.clamp(0, 1), quality=torch.zeros(1).uniform_(30, 95))
        if random.random() < 0.8:
            work = filter2D(work, kernel(random.choice(range(7, 22, 2)), [0.2, 1.5]))
        work = self._round(work, side // 4, (0.3, 1.2), [0.3, 0.4, 0.3], (1, 25), (0.05, 2.5))
        if random.random() < 0.5:
            work = self._last_resize(work, side // 4)
            work = self.jpeg(work.clamp(0, 1), quality=torch.zeros(1).uniform_(30, 95))
        else:
            work = self.jpeg(work.clamp(0, 1), quality=torch.zeros(1).uniform_(30, 95))
            work = self._last_resize(work, side // 4)
        return (work[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()

    def _round(
        self, work: torch.Tensor, side: int, factors: Range, shares: list[float], gaussian: Range, poisson: Range
    ) -> torch.Tensor:
        direction = random.choices(["up", "down", "keep"], shares)[0]
        factor = {"up": random.uniform(1, factors[1]), "down": random.uniform(factors[0], 1), "keep": 1}[direction]
        target = int(side * factor)
        work = interpolate(work, size=(target, target), mode=random.choice(MODES))
        if random.random() < 0.5:
            return basicsr.random_add_gaussian_noise_pt(work, sigma_range=gaussian, clip=True, rounds=False, gray_prob=0.4)
        return basicsr.random_add_poisson_noise_pt(work, scale_range=poisson, gray_prob=0.4, clip=True, rounds=False)

    def _last_resize(self, work: torch.Tensor, side: int) -> torch.Tensor:
        work = interpolate(work, size=(side, side), mode=random.choice(MODES))
        if random.random() < 0.8:
            size = random.choice(range(7, 22, 2))
            work = filter2D(work, padded(basicsr.circular_lowpass_kernel(np.random.uniform(np.pi / 3, np.pi), size)))
        return work


def kernel(size: int, sigma: list[float]) -> torch.Tensor:
    if random.random() < 0.1:
        return padded(basicsr.circular_lowpass_kernel(np.random.uniform(np.pi / 3, np.pi), size))
    made = basicsr.random_mixed_kernels(KINDS, SHARES, size, sigma, sigma, [-np.pi, np.pi], [0.5, 4], [1, 2], noise_range=None)
    return padded(made)


def padded(made: np.ndarray) -> torch.Tensor:
    """To 21×21, as the published pipeline does so that kernels can be batched."""
    gap = (21 - made.shape[0]) // 2
    return pad(torch.from_numpy(made).float(), (gap, gap, gap, gap))


def ours(image: np.ndarray, seed: int) -> np.ndarray:
    return degrade.apply(image, degrade.draw("real-esrgan", np.random.default_rng(seed), 4))


def seconds(run: Callable[[int], object], number: int) -> list[float]:
    times = []
    for i in range(number):
        start = time.perf_counter()
        run(i)
        times.append(time.perf_counter() - start)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--photos", type=Path, help="folder of photographs (default: scikit-image's)")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    images = from_folder(chosen.photos, chosen.images) if chosen.photos else crops(chosen.images)
    peer = Peer()
    with threadpool_limits(1), torch.inference_mode():
        seconds(lambda i: (peer(images[i]), ours(images[i], i)), 3)
        slow = seconds(lambda i: peer(images[i]), len(images))
        fast = seconds(lambda i: ours(images[i], i), len(images))
    print(describe("torch", "basicsr", "opencv-python", "numpy"))
    for name, times in (("basicsr", slow), ("fgr", fast)):
        print(f"{name:8} mean {np.mean(times) * 1e3:6.1f} ms, median {np.median(times) * 1e3:6.1f} ms an image of 512×512")
    print(
        f"images a second, fgr : basicsr = {np.mean(slow) / np.mean(fast):.1f} (medians {np.median(slow) / np.median(fast):.1f})"
    )


def from_folder(folder: Path, number: int) -> list[np.ndarray]:
    found: list[np.ndarray] = []
    for path in sorted(folder.rglob("*.*")):
        if path.suffix.lower() in (".png", ".jpg") and len(found) < number:
            photo = decode_photo(path.read_bytes(), 10**8)
            kept, _ = choose_crops(photo, 512, 4, 0, 0)
            found += [np.ascontiguousarray(photo[one.top : one.top + 512, one.left : one.left + 512]) for one in kept]
    return found[:number]


if __name__ == "__main__":
    main()
