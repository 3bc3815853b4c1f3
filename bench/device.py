"""What a device does: `generate`, replay, precisions, diffusion, RL at real size, reward training; in nine minutes, or three.

    python -m bench.device [--photos FOLDER] [--device cuda] [--quick] [--out device.json] [--only ROW,ROW…]

Every row is printed when it is measured, and all of them are written to the JSON file, with the hardware. Weights that are not on
the machine are drawn at random, in real size. On the CPU everything is small: that shows that the rows work, and no more. Rows
for which no time is left, or whose weights or packages are missing, say so.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.environment import describe

BUDGET = {False: 520, True: 165}  # seconds, --quick or not
Figures = dict[str, float | int | str]
Found = Iterator[tuple[str, Figures]]


@dataclass
class Bench:
    """What rows are measured with; `small` is the form for the CPU."""

    device: str
    photos: str
    folder: Path
    quick: bool
    small: bool
    until: float
    made: dict[str, Path] = field(default_factory=dict)  # datasets, by the row that made them

    def left(self) -> float:
        """Seconds that may still be used."""
        return self.until - time.monotonic()

    def sync(self) -> None:
        """Wait for the device."""
        import torch

        if self.device.startswith("cuda"):
            torch.cuda.synchronize(self.device)

    def peak(self) -> float:
        """GB that tensors took at most on the device since the last call of `forget`; 0 on the CPU."""
        import torch

        return torch.cuda.max_memory_allocated(self.device) / 1e9 if self.device.startswith("cuda") else 0.0

    def forget(self) -> None:
        """Begin to count memory anew."""
        import gc

        import torch

        gc.collect()
        if self.device.startswith("cuda"):
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)

    def seconds(self, run: Callable[[], Any], rounds: int = 3) -> float:
        """The least time of `rounds` runs after one that is not counted."""
        times = []
        for _ in range(rounds + 1):
            self.sync()
            began = time.perf_counter()
            run()
            self.sync()
            times.append(time.perf_counter() - began)
        return min(times[1:])

    def network(self) -> str:
        """realesrgan, or an RRDBNet of its size with random weights where it is not here, or a small one."""
        from bench.random_weights import rrdbnet
        from fgr.errors import UserError
        from fgr.sr import parse_name, weights

        try:
            weights.locate(parse_name("realesrgan"))
            return rrdbnet(self.folder, real=False) if self.small else "realesrgan"
        except UserError:
            return rrdbnet(self.folder, real=not self.small)


class Busy:
    """The GPU's share of time at work, asked of nvidia-smi four times a second; empty where there is none."""

    def __init__(self, device: str) -> None:
        self._seen: list[float] = []
        self._stop = threading.Event()
        there = device.startswith("cuda") and shutil.which("nvidia-smi")
        self._thread = threading.Thread(target=self._watch, daemon=True) if there else None

    def __enter__(self) -> "Busy":
        if self._thread:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()

    def figures(self) -> Figures:
        half = self._seen[len(self._seen) // 2 :]  # without the start
        return {"gpu_busy": round(sum(half) / len(half) / 100, 2)} if half else {}

    def _watch(self) -> None:
        command = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-i", "0"]
        while not self._stop.wait(0.25):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            self._seen += [float(word) for word in done.stdout.split() if word.isdigit()]


def generated(bench: Bench, name: str, models: list[str], crop: int, samples: int, precision: str) -> Figures:
    """A run of `fgr generate`: seconds to the first sample, then samples a second, and cores and device at work meanwhile."""
    from fgr import recipe as recipes
    from fgr.generate import run
    from fgr.progress import Progress

    changeable: Any = run

    ticks: list[float] = []

    class Timed(Progress):
        def advance(self, count: int = 1, drops: dict[str, int] | None = None) -> None:
            if self.title == "samples" and count > 0:
                ticks.append(time.perf_counter())
            super().advance(count, drops)

    out = bench.folder / name
    overrides = [
        f"source.path={bench.photos}", f"source.crop={crop}", "degradation=real-esrgan", "map.features=gradient",
        "severity=[0, 1]", f"inference.precision={precision}", "map.calibration_pairs=16", "shard_rows=60", "not_finite=1",
    ]  # fmt: skip
    recipe = recipes.load("demo", "generate", overrides, {"models": models, "samples": samples})
    began, cores = time.perf_counter(), os.times()
    changeable.Progress = Timed
    try:
        with Busy(bench.device) as busy:
            run.generate(recipe, out, device=bench.device, workers=1)
    finally:
        changeable.Progress = Progress
    spent = sum(os.times()[:4]) - sum(cores[:4])
    bench.made[name] = out
    tail = ticks[len(ticks) // 4 :]  # without what was begun before the first came out
    rate = (len(tail) - 1) / max(tail[-1] - tail[0], 1e-9)
    return {
        "samples_per_s": round(rate, 2), "start_s": round(ticks[0] - began, 1), "core_s_per_sample": round(spent / len(ticks), 3),
        **busy.figures(),
    }  # fmt: skip


def generate(bench: Bench) -> Found:
    """The dataset's main recipe on one network, in full and in the default precision, and three networks at 256 pixels."""
    network = bench.network()
    crop, samples = (128, 12) if bench.small else (512, 240 if bench.quick else 480)
    for precision in ("fp32", "auto"):
        number = samples if precision == "fp32" or bench.small else 3 * samples
        figures = generated(bench, f"one-{precision}", [network], crop, number, precision)
        yield f"generate, one network, {crop}², {precision}", figures
    three, side = [network, "bicubic", f"{network}@passes=2"], crop if bench.small else crop // 2  # rlhf audits these
    yield f"generate, three models, {side}², auto", generated(bench, "three", three, side, samples, "auto")


def replay(bench: Bench) -> Found:
    """`fgr verify --replay` of what was just made: rows that come out exactly, by another device's rounding, or not."""
    from collections import Counter

    from fgr.generate.replay import replay as replayed

    for name, folder in list(bench.made.items())[:2]:
        counts = Counter(type(one).__name__ for one in replayed(folder, 4 if bench.small else 12, bench.device))
        yield f"replay, {name}", {"exact": counts["NoneType"], "inexact": counts["Inexact"], "broken": counts["Problem"]}


def precisions(bench: Bench) -> Found:
    """SR networks alone in each precision: images a second and how far the output is from fp32."""
    import numpy as np

    from fgr.errors import UserError
    from fgr.sr import Job, open_upscaler

    side, batch = (32, 2) if bench.small else (128, 8)
    rng = np.random.default_rng(0)
    images = [_low(bench, side, rng) for _ in range(batch)]
    jobs = [Job(image, "", (side, side), (0, 0, side)) for image in images]
    for name in (bench.network(), "realesr-animevideov3", "realesrgan-anime", "swinir"):
        exact: list[np.ndarray] = []
        for precision in ("fp32", "tf32", "bf16", "fp16"):
            if bench.small and precision in ("tf32", "fp16"):
                continue
            try:
                upscaler = open_upscaler(name, scale=4, device=bench.device, precision=precision, batch=batch)
            except UserError as error:
                yield f"{_short(name)}, {precision}", {"not measured": error.message.splitlines()[0]}
                break
            found = upscaler.upscale(jobs)
            exact = exact or found
            seconds = bench.seconds(lambda upscaler=upscaler: upscaler.upscale(jobs), 1 if bench.small else 5)  # type: ignore[misc]
            squares = np.mean([np.square(a.astype(float) - b).mean() for a, b in zip(found, exact, strict=True)])
            apart: Figures = {"psnr_to_fp32_db": round(float(10 * np.log10(255**2 / squares)), 1)} if squares else {}
            yield f"{_short(name)}, {side}² → ×4, {precision}", {"images_per_s": round(batch / seconds, 1), **apart}


def _low(bench: Bench, side: int, rng: Any) -> Any:
    """A low-resolution input of the astronaut, at a random place."""
    import cv2
    from skimage import data

    small = cv2.resize(data.astronaut(), (256, 256), interpolation=cv2.INTER_AREA)
    top, left = rng.integers(0, 257 - side, 2)
    return small[top : top + side, left : left + side].copy()


def _short(name: str) -> str:
    return "an RRDBNet of random weights" if name.startswith("spandrel:") else name


def rows() -> dict[str, Callable[[Bench], Found]]:
    """Every row by name, in the order of their importance."""
    from bench.device_training import LARGE

    return {"generate": generate, "replay": replay, "precisions": precisions, **LARGE}


def measure(bench: Bench, wanted: list[str]) -> list[dict[str, Any]]:
    """All rows, printed as they come."""
    found: list[dict[str, Any]] = []
    print("| what | figures |\n|---|---|", flush=True)
    for name, row in rows().items():
        if wanted and name not in wanted:
            continue
        began = time.monotonic()
        try:
            lines = iter(row(bench)) if bench.left() > 0 else iter([(name, {"not measured": "no time is left"})])
            for what, figures in lines:
                found.append({"row": name, "what": what, **figures, "took_s": round(time.monotonic() - began, 1)})
                print(f"| {what} | {', '.join(f'{key} {value}' for key, value in figures.items())} |", flush=True)
                began = time.monotonic()
                if bench.left() <= 0:
                    break
        except Exception as error:  # a row that fails must not take the others with it
            reason = (str(error) or type(error).__name__).splitlines()[0]
            found.append({"row": name, "what": name, "failed": reason})
            print(f"| {name} | failed: {reason} |", flush=True)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", default="embedded", help="a folder of photographs; embedded = scikit-image's")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--quick", action="store_true", help="three minutes instead of nine")
    parser.add_argument("--out", type=Path, default=Path("device.json"))
    parser.add_argument("--seconds", type=int, help="time for all rows, in place of nine or three minutes")
    parser.add_argument("--only", default="", metavar="ROW,ROW…")
    given = parser.parse_args()
    from fgr.devices import choose_device, hardware

    device = choose_device(given.device)
    environment = describe("torch", "numpy", "opencv-python", "timm", "transformers", "diffusers")
    gpu = hardware(device)
    print(environment, f"· {gpu or 'CPU'}\n", flush=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        small = device == "cpu"
        until = began + (given.seconds or BUDGET[given.quick])
        bench = Bench(device, given.photos, Path(folder), given.quick, small, until)
        found = measure(bench, [name for name in given.only.split(",") if name])
    taken = round(time.monotonic() - began)
    content = {"environment": environment, "hardware": gpu, "small": small, "seconds": taken, "rows": found}
    given.out.write_text(json.dumps(content, indent=1) + "\n")
    print(f"\n{taken} s; {given.out}")
    return int(any("failed" in row for row in found))


if __name__ == "__main__":
    sys.exit(main())
