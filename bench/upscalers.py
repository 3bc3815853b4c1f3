"""Real-ESRGAN ×4 in float32: `fgr`'s upscalers against RealESRGANer of the `realesrgan` package, same weights, same images.

    python bench/upscalers.py --peer DIR

The peer goes into a folder of its own:  pip install --no-deps --target DIR realesrgan==0.3.0
It runs with pre_pad=0; its tiles are `tile` + 2·10 pixels wide, ours `tile` pixels and share 16 or more.
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

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from bench.environment import describe

Run = Callable[[np.ndarray], np.ndarray]
OVERLAP, PEER_PAD = 16, 10


def ours(model: str, tile: int) -> Run:
    from fgr.generate.upscalers import Job, open_upscaler

    upscaler = open_upscaler(model, scale=4, device="cpu", tile=tile, overlap=OVERLAP)
    return lambda image: upscaler.upscale([Job(image, "", image.shape[:2], (0, 0, 0))])[0]


def peer(model: str, tile: int) -> Run:
    import torch
    from torchvision.transforms.functional import rgb_to_grayscale

    moved = types.ModuleType("torchvision.transforms.functional_tensor")
    moved.rgb_to_grayscale = rgb_to_grayscale  # what basicsr 1.4.2 looks for under its old name
    sys.modules[moved.__name__] = moved
    from basicsr.archs.rrdbnet_arch import RRDBNet
    from basicsr.archs.srvgg_arch import SRVGGNetCompact
    from realesrgan import RealESRGANer

    from fgr.generate.upscalers import weights

    network = SRVGGNetCompact(num_conv=16, upscale=4) if model == "realesr-animevideov3" else RRDBNet(3, 3, scale=4)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.pth"
        torch.save({"params_ema": weights.load(weights.locate(model)).state}, path)
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


def speed(model: str, side: int, tile: int, rounds: int) -> str:
    """Best of `rounds`, the two sides by turns."""
    image = photograph(side, side)
    runs = {name: make(model, tile) for name, make in SIDES.items()}
    outputs, best = {}, dict.fromkeys(runs, float("inf"))
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            outputs[name] = run(image)
            best[name] = min(best[name], time.perf_counter() - start)
    difference = np.abs(outputs["ours"].astype(int) - outputs["peer"]).max()
    fidelity = ""
    if tile:
        whole = ours(model, 0)(image)
        fidelity = f"; to the untiled output: {psnr(outputs['ours'], whole):.1f} dB, peer {psnr(outputs['peer'], whole):.1f} dB"
    return (
        f"| {model} {side}×{side}, tile {tile} | {best['ours']:.2f} s | {best['peer']:.2f} s | "
        f"{best['peer'] / best['ours']:.2f}× as fast | largest difference {difference}/255{fidelity} |"
    )


def memory(model: str, height: int, width: int, tile: int, arguments: list[str]) -> str:
    """Peak resident memory and seconds of one upscaling, each side in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        found = {}
        for name in SIDES:
            command = [
                sys.executable,
                __file__,
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
    parser.add_argument("--peer", help="folder into which realesrgan was installed")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", nargs=6, help=argparse.SUPPRESS)
    given = parser.parse_args()
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
    print("| case | fgr | RealESRGANer | ratio | outputs |\n|---|---|---|---|---|")
    arguments = [*(["--peer", given.peer] if given.peer else []), "--threads", str(given.threads)]
    print(speed("realesrgan", 64, 0, given.rounds), flush=True)
    print(speed("realesrgan", 128, 0, given.rounds), flush=True)
    print(speed("realesr-animevideov3", 128, 0, given.rounds), flush=True)
    print(speed("realesrgan", 256, 128, 1), flush=True)
    print(memory("realesr-animevideov3", 1365, 2048, 512, arguments), flush=True)
    print(memory("realesr-animevideov3", 1365, 2048, 0, arguments), flush=True)


if __name__ == "__main__":
    main()
