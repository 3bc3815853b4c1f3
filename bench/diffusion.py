"""Diffusion upscalers: seconds an image, peak memory, calls of the UNet, and what a pipeline costs beyond its networks.

    python -m bench.diffusion [NAME…] [--side 32] [--steps N] [--device cuda] [--precision fp16] [--set KEY=VALUE…]

Without weights of a model (see `fgr models`), small random ones in the official layout are taken, and the row says so: they
measure what is around the networks, not a model's speed. "Alone" runs the networks as often as the pipeline did, on inputs of
the same shapes, and nothing else.
"""

import argparse
import importlib
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench.environment import describe

TILES = {"latent_tile": 16, "latent_overlap": 8}
SMALL_SETTINGS = {"stablesr": TILES, "stablesr-turbo": TILES}


def small(name: str, folder: Path) -> dict[str, Any]:
    """Put small random weights of `name` into `folder`; return the settings that fit their size. KeyError if none are known."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    import small_diffusion

    small_diffusion.SMALL[name](folder)
    return SMALL_SETTINGS.get(name, {})


def own_steps(name: str) -> int:
    """The steps that a model takes where none are set."""
    from fgr.sr.diffusion.opening import MODELS

    module, kind = MODELS[name]
    return int(getattr(importlib.import_module(f"fgr.sr.diffusion.{module}"), kind).defaults["steps"])


class Watched:
    """Records the calls of a module's `forward`, or of `encode` and `decode`."""

    def __init__(self, module: Any) -> None:
        self.calls: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = []
        names = ("encode", "decode") if hasattr(module, "decode") else ("forward",)
        for name in names:
            setattr(module, name, self._recorded(getattr(module, name)))

    def _recorded(self, call: Any) -> Any:
        def recorded(*arguments: Any, **options: Any) -> Any:
            self.calls.append((call, arguments, options))
            return call(*arguments, **options)

        return recorded


def measure(name: str, given: argparse.Namespace) -> str:
    import torch

    from fgr.errors import UserError
    from fgr.sr import Job, open_upscaler

    settings = dict(one.partition("=")[::2] for one in given.set)
    settings = {key: float(value) if value.replace(".", "").isdigit() else value for key, value in settings.items()}
    settings |= {"steps": min(given.steps, own_steps(name))} if given.steps else {}
    options = {"scale": 4, "device": given.device, "precision": given.precision}
    weights = "official"
    try:
        upscaler: Any = open_upscaler(name, **options, diffusion=settings)
    except UserError:
        with tempfile.TemporaryDirectory() as folder:
            os.environ["FGR_WEIGHTS"] = folder
            settings = small(name, Path(folder)) | settings
            upscaler, weights = open_upscaler(name, **options, diffusion=settings), "small random"
    image = np.random.default_rng(0).integers(0, 256, (given.side, given.side, 3), np.uint8)
    job = [Job(image, "", (given.side, given.side), (0, 0, 0))]
    watched = {what: Watched(module) for what, module in upscaler.model.networks.items()}
    upscaler.upscale(job)
    calls = {what: list(one.calls) for what, one in watched.items()}
    best = {"pipeline": float("inf"), "alone": float("inf")}
    if given.device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
    for _ in range(given.rounds):
        for one in watched.values():
            one.calls.clear()
        best["pipeline"] = min(best["pipeline"], seconds(lambda: upscaler.upscale(job), given.device))
        best["alone"] = min(best["alone"], seconds(lambda: alone(calls, upscaler), given.device))
    if given.device.startswith("cuda"):
        peak = torch.cuda.max_memory_allocated()
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    case = f"{name} ({weights}), {given.side}×{given.side} → ×4, {upscaler.model.settings['steps']} steps, {given.precision}"
    return (
        f"| {case} | "
        f"{best['pipeline']:.2f} s | {len(calls['unet'])} | {peak / 2**20:.0f} MB | {best['alone']:.2f} s | "
        f"{best['pipeline'] / best['alone'] - 1:+.1%} |"
    )


def alone(calls: dict[str, list[Any]], upscaler: Any) -> None:
    """The same calls on the same inputs; networks that hand features on find those of the last call, which have the same size."""
    from fgr.devices import numerics

    with numerics(upscaler.device, upscaler.precision):
        for recorded in calls.values():
            for call, arguments, options in recorded:
                call(*arguments, **options)


def seconds(run: Any, device: str) -> float:
    import torch

    if device == "cpu":
        start = time.process_time()  # of one thread: on a machine that others use the wall clock says little
        run()
        return time.process_time() - start
    start = time.perf_counter()
    run()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--side", type=int, default=32, help="of the low-resolution input, in pixels")
    parser.add_argument("--steps", type=int, default=0, help="at most so many; 0 = the model's own number")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="other settings of inference.diffusion")
    given = parser.parse_args()
    import torch

    from fgr.sr.diffusion.opening import MODELS

    torch.set_num_threads(1)
    print(describe("torch", "diffusers"), f"· {given.device}, load {os.getloadavg()[0]:.1f}\n")
    print("| case | s/image | UNet calls | peak memory | networks alone | beyond them |\n|---|---|---|---|---|---|")
    for name in given.names or MODELS:
        print(measure(name, given), flush=True)


if __name__ == "__main__":
    main()
