"""Each SR model in `fgr generate`, and Real-ESRGAN ×4 in float32 against RealESRGANer of the `realesrgan` package.

    python -m bench.upscalers --models realesrgan,realesr-animevideov3 [--device cuda] [KEY=VALUE …]
    python -m bench.upscalers --peer DIR

The first makes whole shards with one worker and prints images/s, peak memory, and the share of the time in which the device is at
work on SR and features; KEY=VALUE are those of the recipe `demo`. The second compares same weights and same images; the peer goes
into a folder of its own:  pip install --no-deps --target DIR realesrgan==0.3.0
It runs with pre_pad=0. A tile of 128 pixels is to it what goes into the result, and of 256×256 pixels four tiles of 138 go
through the network; to fgr it is what goes through the network. Both ways to give the two the same tile are measured.
"""

import argparse
import contextlib
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.environment import describe

Run = Callable[[np.ndarray], np.ndarray]
OVERLAP, PEER_PAD = 16, 10  # fgr's default; RealESRGANer's


def ours(model: str, tile: int, overlap: int = OVERLAP) -> Run:
    from fgr.sr import Job, open_upscaler

    upscaler = open_upscaler(model, scale=4, device="cpu", tile=tile, overlap=overlap)
    return lambda image: upscaler.upscale([Job(image, "", image.shape[:2], (0, 0, 0))])[0]


def peer(model: str, tile: int) -> Run:
    import torch
    from torchvision.transforms.functional import rgb_to_grayscale

    moved = types.ModuleType("torchvision.transforms.functional_tensor")
    setattr(moved, "rgb_to_grayscale", rgb_to_grayscale)  # noqa: B010  # what basicsr 1.4.2 looks for under its old name
    sys.modules[moved.__name__] = moved
    from basicsr.archs.rrdbnet_arch import RRDBNet
    from basicsr.archs.srvgg_arch import SRVGGNetCompact
    from realesrgan import RealESRGANer

    from fgr.sr import parse_name, weights

    network = SRVGGNetCompact(num_conv=16, upscale=4) if model == "realesr-animevideov3" else RRDBNet(3, 3, scale=4)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.pth"
        torch.save({"params_ema": weights.load(weights.locate(parse_name(model))).state}, path)
        upsampler = RealESRGANer(4, str(path), model=network, tile=tile, tile_pad=PEER_PAD, pre_pad=0, half=False)

    def run(image: np.ndarray) -> np.ndarray:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints every tile
            return upsampler.enhance(image[:, :, ::-1])[0][:, :, ::-1]

    return run


SIDES = {"ours": ours, "peer": peer}


def photograph(height: int, width: int) -> np.ndarray:
    """The astronaut, cropped or repeated: uint8 (height, width, 3)."""
    from skimage import data

    image = data.astronaut()[:, 100:]
    return np.tile(image, (-(-height // image.shape[0]), -(-width // image.shape[1]), 1))[:height, :width].copy()


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(np.mean((a.astype(np.float32) - b) ** 2), 1e-12)))


def speed(model: str, side: int, rounds: int, tile: int = 0, peer_tile: int = 0, overlap: int = OVERLAP) -> str:
    """Best of `rounds`, the two sides by turns: wall time, and processor time, which other programs disturb less."""
    image = photograph(side, side)
    runs = {"ours": ours(model, tile, overlap), "peer": peer(model, peer_tile)}
    outputs, wall, busy = {}, dict.fromkeys(runs, float("inf")), dict.fromkeys(runs, float("inf"))
    for _ in range(rounds):
        for name, run in runs.items():
            start, started = time.perf_counter(), time.process_time()
            outputs[name] = run(image)
            wall[name] = min(wall[name], time.perf_counter() - start)
            busy[name] = min(busy[name], time.process_time() - started)
    difference = np.abs(outputs["ours"].astype(int) - outputs["peer"]).max()
    what, fidelity = "whole", f"largest difference {difference}/255"
    if tile:
        whole = ours(model, 0)(image)
        fidelity = f"to the untiled output {psnr(outputs['ours'], whole):.1f} dB, peer {psnr(outputs['peer'], whole):.1f} dB"
        what = f"tile {tile}, overlap {overlap} (peer: {peer_tile} and {PEER_PAD} around)"
    times = " | ".join(f"{wall[name]:.2f} s ({busy[name]:.2f} s)" for name in runs)
    ratios = f"{wall['peer'] / wall['ours']:.2f}× ({busy['peer'] / busy['ours']:.2f}×)"
    return f"| {model} {side}×{side}, {what} | {times} | {ratios} | {fidelity} |"


def memory(model: str, height: int, width: int, tile: int, arguments: list[str]) -> str:
    """Peak resident memory and seconds of one upscaling, each side in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        found = {}
        for name in SIDES:
            command = [
                sys.executable,
                "-m",
                "bench.upscalers",
                *arguments,
                "--one",
                name,
                model,
                str(height),
                str(width),
                str(tile),
                f"{folder}/{name}.npy",
            ]
            found[name] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        outputs = [np.load(f"{folder}/{name}.npy", mmap_mode="r") for name in SIDES]
        difference = max(np.abs(a.astype(np.int16) - b).max() for a, b in zip(*outputs, strict=True))
    peaks = {name: one["peak"] / 2**20 for name, one in found.items()}
    return (
        f"| {model} {width}×{height}, tile {tile} | {peaks['ours']:.0f} MB, {found['ours']['seconds']:.0f} s | "
        f"{peaks['peer']:.0f} MB, {found['peer']['seconds']:.0f} s | {peaks['ours'] / peaks['peer']:.2f} of the memory, "
        f"{found['peer']['seconds'] / found['ours']['seconds']:.2f}× as fast | largest difference {difference}/255 |"
    )


def rate(model: str, device: str, overrides: list[str]) -> str:
    """A model's row, made in a process of its own."""
    command = [sys.executable, "-m", "bench.upscalers", "--device", device, "--rate", model, *overrides]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode:
        return f"| {model} | {(made.stderr.strip().splitlines() or ['failed'])[-1]} | | |"
    found = json.loads(made.stdout.splitlines()[-1])
    return f"| {model} | {found['rate']:.2f} | {found['peak'] / 2**20:.0f} MiB | {found['busy']:.0%} |"


def shards(model: str, device: str, overrides: list[str]) -> None:
    """Print one model's images/s in whole shards, its peak memory, and the share of the time that the device was at work."""
    import torch

    from fgr import recipe as recipes
    from fgr.devices import choose_devices, cpu_threads
    from fgr.generate import factory as factories
    from fgr.generate import plan
    from fgr.generate.calibration import calibrate
    from fgr.generate.shards import plan_shards

    chosen = choose_devices(device, 1)[0]
    recipe = recipes.load("demo", "generate", overrides, {"models": [model]})
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()), cpu_threads(1):
        out = Path(folder)
        factory = factories.MakerFactory(recipe, out)
        references = plan.build(factory.workspace.plan, recipe.source, recipe.splits, workers=1)
        opened = factory.models(chosen)
        factory.workspace.models.write_text(json.dumps(factories.describe(opened)))
        calibrate(factory, chosen)  # which also warms everything up
        busy = 0.0

        def timed(call: Callable[..., Any]) -> Callable[..., Any]:
            def wrapped(*arguments: Any) -> Any:
                nonlocal busy
                start = time.perf_counter()
                result = call(*arguments)  # its results are on the processor: the device is done
                busy += time.perf_counter() - start
                return result

            return wrapped

        for upscaler in opened.upscalers.values():
            upscaler.upscale = timed(upscaler.upscale)  # type: ignore[method-assign]
        opened.features.extract = timed(opened.features.extract)  # type: ignore[method-assign]
        maker = factory(chosen)
        todo = plan_shards(references.source_ids(), recipe)
        start = time.perf_counter()
        maker.make(todo, lambda *_: None)
        wall = time.perf_counter() - start
    cuda = chosen.startswith("cuda")
    peak = torch.cuda.max_memory_allocated() if cuda else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"rate": recipe.samples / wall, "peak": peak, "busy": busy / wall}))


def one(side: str, model: str, height: str, width: str, tile: str, out: str) -> None:
    """Print the peak above what importing and building the network took."""
    run = SIDES[side](model, int(tile))
    image = photograph(int(height), int(width))
    run(image[:32, :32])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    result = run(image)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    np.save(out, result)
    print(json.dumps({"peak": (peak - before) * 1024, "seconds": seconds}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="bicubic,realesr-animevideov3,realesrgan", help="comma-separated")
    parser.add_argument("--device", default="auto")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--rate", help=argparse.SUPPRESS)
    parser.add_argument("--peer", help="folder into which realesrgan was installed")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", nargs=6, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.rate:
        shards(given.rate, given.device, given.overrides)
        return
    if not given.peer and not given.one:
        print(describe("torch", "spandrel", "opencv-python", "pillow"), f"· {given.device} {' '.join(given.overrides)}\n")
        print("| model | images/s | peak memory | device at work |\n|---|---|---|---|")
        for model in given.models.split(","):
            print(rate(model, given.device, given.overrides), flush=True)
        return
    if given.peer:
        sys.path.append(given.peer)
    import torch

    torch.set_num_threads(given.threads)
    if given.one:
        one(*given.one)
        return
    try:
        peer("realesr-animevideov3", 0)
    except ImportError as error:
        sys.exit(f"The peer is missing ({error}). pip install --no-deps --target DIR realesrgan==0.3.0, then --peer DIR.")
    print(describe("torch", "spandrel", "basicsr", "realesrgan"), f"· {given.threads} threads, float32, CPU\n")
    print("Wall time, in brackets processor time.\n\n| case | fgr | RealESRGANer | ratio | outputs |\n|---|---|---|---|---|")
    arguments = [*(["--peer", given.peer] if given.peer else []), "--threads", str(given.threads)]
    print(speed("realesrgan", 64, given.rounds), flush=True)
    print(speed("realesrgan", 128, given.rounds), flush=True)
    print(speed("realesr-animevideov3", 128, given.rounds), flush=True)
    print(speed("realesrgan", 256, 1, 128 + PEER_PAD, 128, 2 * PEER_PAD), flush=True)
    print(speed("realesrgan", 256, 1, 128, 128), flush=True)
    print(memory("realesr-animevideov3", 1365, 2048, 512, arguments), flush=True)
    print(memory("realesr-animevideov3", 1365, 2048, 0, arguments), flush=True)


if __name__ == "__main__":
    main()
