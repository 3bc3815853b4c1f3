"""`fgr generate` without SR inference against a script of scikit-image and PIL calls; its scaling.

The script does the same per image. Also: two workers against one; peak memory of ten times the samples.

    python -m bench.generate [--images 24] [--only stages|workers|memory]
"""

import argparse
import io
import json
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image
from scipy import ndimage
from skimage import color, data, draw, filters, segmentation, transform
from threadpoolctl import threadpool_limits

from bench.environment import describe
from fgr.dataset import tables
from fgr.generate import samples
from fgr.images import codec, degrade, difference, masks
from fgr.recipe.generate import GenerateRecipe

ROUNDS = 3
cv2.setNumThreads(1)
RECIPE, MAP_SCALE = GenerateRecipe(name="bench", models=("bicubic",), severity=(0.0, 1.0), attempts=1), 4.0
TOLERANT = "fgr, map.pixel=ssim-tolerant"
PEAK = "resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss"
TEXTS = ("id", "source_id", "photo_id", "model", "model_digest", "degradation", "inference", "license", "attribution")
ROW = dict.fromkeys(TEXTS, "text")
PLAIN: dict[
    str, tuple[str, dict[str, Any]]
] = {  # how the plain script stores its RGB images: Pillow's defaults, and the settings that fgr chose
    "plain, lossless WebP by default settings": ("webp", {"lossless": True, "exact": True}),
    "plain, PNG by default settings": ("png", {}),
    "plain, lossless WebP with fgr's settings": ("webp", {"lossless": True, "method": 0, "quality": 0, "exact": True}),
}


def crops(number: int) -> list[np.ndarray]:
    """512×512 crops of photographs that scikit-image carries."""
    photos = [data.astronaut(), data.retina()[300:, 300:], data.hubble_deep_field()[:, :, :3]]
    made = []
    for i in range(number):
        photo = photos[i % len(photos)]
        top, left = (i * 37) % (photo.shape[0] - 511), (i * 53) % (photo.shape[1] - 511)
        made.append(np.ascontiguousarray(photo[top : top + 512, left : left + 512]))
    return made


def ours(references: list[np.ndarray], restored: list[np.ndarray], folder: Path, pixel: str) -> None:
    rows = []
    for i, (reference, sr) in enumerate(zip(references, restored, strict=True)):
        degrade.apply(reference, degrade.draw("real-esrgan", np.random.default_rng(i), 4))
        feature = difference.gradient_difference(reference, sr)
        pair = samples.make_pair(reference, sr, feature, pixel, 0.5, 2.0)
        segments = masks.slic_segments(reference) if samples.mask_kind(i, RECIPE.masks.kinds) == "semantic" else None
        made = samples.make_sample(pair, i, RECIPE, MAP_SCALE, segments)
        assert made is not None  # every severity is in range
        rows.append(ROW | {
            "scale": 4,
            "reference": codec.encode_rgb(reference), "sr": codec.encode_rgb(sr), "composite": codec.encode_rgb(made.composite),
            "mask": codec.encode_mask(made.mask), "degradation_map": codec.encode_map(made.degradation_map), "score": made.score,
            "sr_map": codec.encode_map(difference.whole_map(pair.combined, MAP_SCALE)), "mask_kind": made.mask_kind,
            "mask_area": float(made.mask.mean() / 255), "pixel_difference": made.pixel_difference,
            "feature_difference": made.feature_difference, "seed": i,
        })  # fmt: skip
    tables.write_table(folder / "ours.parquet", "samples", rows)


def plain(references: list[np.ndarray], restored: list[np.ndarray], folder: Path, suffix: str, options: dict[str, Any]) -> None:
    """The same steps with the calls a reader of the two libraries' tutorials would use, one file an image."""
    for i, (reference, sr) in enumerate(zip(references, restored, strict=True)):
        rng = np.random.default_rng(i)
        plain_degrade(reference, degrade.draw("real-esrgan", rng, 4))
        mask = plain_mask(reference, rng, samples.mask_kind(i, RECIPE.masks.kinds))
        values = plain_map(reference / 255, sr / 255) * mask
        composite = np.rint(mask[..., None] * sr + (1 - mask[..., None]) * reference).astype(np.uint8)
        for name, image in {"reference": reference, "sr": sr, "composite": composite}.items():
            Image.fromarray(image).save(folder / f"{i}-{name}.{suffix}", **options)
        Image.fromarray((mask * 255).astype(np.uint8)).save(folder / f"{i}-mask.png")
        Image.fromarray((values * 65535).astype(np.uint16)).save(folder / f"{i}-map.png")
        (folder / f"{i}.json").write_text(json.dumps({"score": 1 - float(np.sqrt((values**2).mean()))}))


def plain_degrade(reference: np.ndarray, record: dict[str, Any]) -> np.ndarray:
    """The drawn degradation, step by step: every step that `degrade.apply` takes, in float64 as scikit-image works."""
    image, final = reference / 255, record["final"]
    for stage, side, quality in ((record["first"], 512, record["first"]["jpeg"]), (record["second"], 128, None)):
        image = plain_blur(image, stage["kernel"])
        image = plain_resize(image, max(1, round(side * stage["resize"]["factor"])), stage["resize"]["mode"])
        image = plain_noise(image, stage["noise"])
        image = image if quality is None else plain_jpeg(image, quality)
    if not final["jpeg_last"]:
        image = plain_jpeg(image, final["jpeg"])
    image = plain_blur(plain_resize(image, 128, final["mode"]), final["kernel"])
    return plain_jpeg(image, final["jpeg"]) if final["jpeg_last"] else image


def plain_blur(image: np.ndarray, kernel: dict[str, Any] | None) -> np.ndarray:
    if kernel is None:
        return image
    weights = degrade.kernel_weights(kernel)
    return np.stack([ndimage.convolve(image[..., channel], weights, mode="mirror") for channel in range(3)], axis=2)


def plain_resize(image: np.ndarray, side: int, mode: str) -> np.ndarray:
    return transform.resize(image, (side, side), order=3 if mode == "cubic" else 1, anti_aliasing=side < len(image))


def plain_noise(image: np.ndarray, noise: dict[str, Any]) -> np.ndarray:
    rng = np.random.default_rng(noise["seed"])
    light = color.rgb2gray(image)[..., None] if noise["grey"] else image
    if noise["kind"] == "gaussian":
        return np.clip(image + rng.normal(0, noise["level"] / 255, light.shape), 0, 1)
    light = np.clip(light, 0, 1)
    return np.clip(image + (rng.poisson(light * 255) / 255 - light) * noise["level"], 0, 1)


def plain_jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray((image * 255).astype(np.uint8)).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer)) / 255


def plain_mask(reference: np.ndarray, rng: np.random.Generator, kind: str) -> np.ndarray:
    mask = np.zeros(reference.shape[:2])
    if kind == "full":
        return mask + 1
    if kind == "semantic":
        segments = segmentation.slic(reference, n_segments=200, compactness=10)
        mask[np.isin(segments, rng.choice(segments.max(), 20))] = 1
    else:
        angles = np.sort(rng.uniform(0, 2 * np.pi, 9))
        radii = rng.uniform(60, 160, 9)
        mask[draw.polygon(256 + radii * np.sin(angles), 256 + radii * np.cos(angles), mask.shape)] = 1
    return filters.gaussian(mask, rng.uniform(2, 6))


def plain_map(reference: np.ndarray, sr: np.ndarray) -> np.ndarray:
    pixel = np.abs(reference - sr).mean(axis=2)
    feature = np.zeros(pixel.shape)
    a, b = reference.mean(axis=2), sr.mean(axis=2)
    for _ in range(3):
        ga, gb = filters.prewitt(a), filters.prewitt(b)
        similarity = (2 * ga * gb + 0.0026) / (ga**2 + gb**2 + 0.0026)
        feature += transform.resize(1 - similarity, feature.shape) / 3
        a, b = transform.rescale(a, 0.5, anti_aliasing=True), transform.rescale(b, 0.5, anti_aliasing=True)
    return np.clip(4 * filters.gaussian(0.5 * pixel + 0.5 * feature, 2), 0, 1)


def stages(number: int) -> None:
    references = crops(number)
    small = [cv2.resize(image, (128, 128), interpolation=cv2.INTER_AREA) for image in references]
    restored = [cv2.resize(image, (512, 512), interpolation=cv2.INTER_CUBIC) for image in small]
    seconds: dict[str, float] = {}
    runs = {"fgr": partial(ours, pixel="l1"), TOLERANT: partial(ours, pixel="ssim-tolerant")}
    runs |= {name: partial(plain, suffix=suffix, options=options) for name, (suffix, options) in PLAIN.items()}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            with tempfile.TemporaryDirectory() as folder:
                run(references[:2], restored[:2], Path(folder))  # imports and first-call costs
                start = time.process_time()  # of one thread, which waits for nothing: other programs disturb it less
                run(references, restored, Path(folder))
                seconds[name] = min(seconds.get(name, 1e9), (time.process_time() - start) / number)
    print(f"without SR inference, 512×512, one thread, processor time an image: fgr {seconds['fgr'] * 1e3:.0f} ms")
    print(f"  {TOLERANT}: {seconds[TOLERANT] * 1e3:.0f} ms")
    for name in PLAIN:
        print(f"  {name}: {seconds[name] * 1e3:.0f} ms, {seconds[name] / seconds['fgr']:.1f}×")


def command(folder: Path, limit: int, workers: int) -> list[str]:
    overrides = ("source.crop=256", "source.crops_per_photo=8", "map.calibration_pairs=2", "shard_rows=10")
    options = ["--models", "bicubic", "--limit", str(limit), "--workers", str(workers), "--device", "cpu", "--out", str(folder)]
    return [sys.executable, "-m", "fgr", "generate", "demo", *overrides, "degradation=real-esrgan", *options]


def workers(number: int) -> None:
    """Start-up (imports, plan, calibration) is measured by a run of a quarter of the samples and taken off."""
    seconds = {}
    for count in (1, 2):
        with tempfile.TemporaryDirectory() as folder:
            times = []
            for limit in (number // 4, number):
                start = time.perf_counter()
                subprocess.run(command(Path(folder) / str(limit), limit, count), check=True, capture_output=True)
                times.append(time.perf_counter() - start)
            seconds[count] = times[1] - times[0]
    ratio = f"{seconds[1] / seconds[2]:.2f}×"
    made = f"{number - number // 4} samples of 256×256, bicubic"
    print(f"{made}: 1 worker {seconds[1]:.1f} s, 2 workers {seconds[2]:.1f} s: {ratio}")


def memory(number: int) -> None:
    peaks = {}
    for limit in (number, 10 * number):
        with tempfile.TemporaryDirectory() as folder:
            made = command(Path(folder) / "out", limit, 1)
            script = f"import resource, subprocess; subprocess.run({made!r}, check=True, capture_output=True); print({PEAK})"
            peaks[limit] = (
                int(subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout) / 1024
            )
    small, large = peaks[number], peaks[10 * number]
    print(f"peak memory: {number} samples {small:.0f} MiB, {10 * number} samples {large:.0f} MiB: {large / small:.2f}×")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--only", choices=("stages", "workers", "memory"))
    chosen = parser.parse_args()
    print(describe("numpy", "opencv-python", "scikit-image", "pillow", "pyarrow"))
    for name, run, number in (("stages", stages, chosen.images), ("workers", workers, 800), ("memory", memory, 60)):
        if chosen.only in (None, name):
            with threadpool_limits(1):
                run(number)


if __name__ == "__main__":
    main()
