"""ResShift's steps one after the other: how far runs move apart that begin alike, and how many code words of the decoder change.

    python -m bench.free_run [--side 64] [--seed 0] [--whole-size]

The decoder rounds each place of the latent to the nearest code word, so runs that differ by rounding can give pictures that
differ by a code word. Compared are runs in float32 and in float64, and runs from a start that is larger by a ten-millionth.
Without the weights of `resshift` small random ones in its layout are taken, with --whole-size a UNet of the official size with
random weights (minutes a run), and a random code book of the official size beside theirs.
"""

import argparse
import copy
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

PAIRS = {  # what is compared: precision of both, and by how much the second start is larger
    "float32 and float64": (torch.float32, torch.float64, 0.0),
    "float32 and a start moved by 1e-7": (torch.float32, torch.float32, 1e-7),
    "float64 and a start moved by 1e-7": (torch.float64, torch.float64, 1e-7),
    "float64 and a start moved by 1e-12": (torch.float64, torch.float64, 1e-12),
}


def run(model: Any, image: np.ndarray, dtype: torch.dtype, moved: float = 0.0) -> list[torch.Tensor]:
    """The latents after each step of a ResShift model from `image`, uint8 (h, w, 3) with sides that are multiples of 64, all
    computed in `dtype` on a copy of its networks, but for the sines of the times, in float32 as published; the start is times
    1 + `moved`. The noise is seeded as the upscaler's, but drawn in float64: in float32 its last digits depend on the processor.
    """
    from fgr.images.arrays import as_tensor
    from fgr.sr.diffusion.stepwise import SCALE, generators

    [source], sampler = generators([image], model.settings["seed"]), model.sampler
    unet, vae = (torch.nn.Module.to(copy.deepcopy(model.networks[name]), dtype) for name in ("unet", "vae"))
    with torch.no_grad():
        shown, states = as_tensor([image]).to(dtype) * 2 - 1, []
        known = vae.encode(functional.interpolate(shown, scale_factor=SCALE, mode="bicubic")).latents
        latents = sampler.beginning(known, _drawn(known, source)) * (1 + moved)
        for index, time in enumerate(sampler.times):
            times = torch.full((1,), time)
            step = sampler.step(latents, unet(sampler.scaled(latents, times), times, shown), index)
            latents = step.drawn(_drawn(known, source) if step.sd else None)
            states.append(latents)
    return states


def _drawn(like: torch.Tensor, source: torch.Generator) -> torch.Tensor:
    return torch.randn(like.shape, generator=source, dtype=torch.float64).to(like.dtype)


def changed(one: torch.Tensor, other: torch.Tensor, book: torch.Tensor) -> int:
    """Places whose nearest code word is another: latents (1, C, h, w), code words (n, C)."""
    words = [torch.cdist(latents.double().flatten(2)[0].T, book.double()).argmin(1) for latents in (one, other)]
    return int((words[0] != words[1]).sum())


def opened(whole_size: bool) -> tuple[Any, str]:
    """ResShift with its weights, or with random ones, and which."""
    from fgr.errors import UserError
    from fgr.recipe.sampling import Sampling
    from fgr.sr.diffusion.opening import open_model
    from fgr.sr.diffusion.swin import SwinUNet

    try:
        return open_model("resshift", Sampling(), torch.device("cpu")), "official weights"
    except UserError:
        sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
        from recordings import filled
        from small_diffusion import resshift

        with tempfile.TemporaryDirectory() as folder:
            resshift(Path(folder))
            os.environ["FGR_WEIGHTS"] = folder
            model = open_model("resshift", Sampling(), torch.device("cpu"))
        if not whole_size:
            return model, "small random weights"
        unet = SwinUNet(6, 3, (160, 320, 320, 640), (192, 6, 8, 768))
        shapes = {name: tuple(tensor.shape) for name, tensor in unet.state_dict().items() if tensor.is_floating_point()}
        random = {name: one for name, one in filled(shapes).items() if not name.endswith("attn_mask")}
        unet.load_state_dict(random, strict=False)
        model.networks["unet"] = unet.eval().requires_grad_(False)
        return model, "random weights of the official size"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=64, help="of the low-resolution input, a multiple of 64")
    parser.add_argument("--seed", type=int, default=0, help="of the input's pixels")
    parser.add_argument("--whole-size", action="store_true", help="random weights of the official size")
    given = parser.parse_args()
    model, weights = opened(given.whole_size)
    image = np.random.default_rng(given.seed).integers(0, 256, (given.side, given.side, 3), np.uint8)
    own = model.networks["vae"].quantize.embedding.weight.detach()
    runs: dict[tuple[torch.dtype, float], list[torch.Tensor]] = {}
    print(f"ResShift, {weights}, {len(model.sampler.times)} steps, {given.side**2:,} places\n")
    print("| runs | apart after 1 step | after all but 1 | after all | words changed of 8,192 random ones, of its own |")
    print("|---|---|---|---|---|")
    for name, (one, other, moved) in PAIRS.items():
        keys = ((one, 0.0), (other, moved))
        runs |= {key: run(model, image, *key) for key in keys if key not in runs}
        first, second = (runs[key] for key in keys)
        apart = [float((a.double() - b.double()).abs().max()) for a, b in zip(first, second, strict=True)]
        book = torch.randn(8192, own.shape[1], generator=torch.Generator().manual_seed(0)) * first[-1].std().float()
        words = ", ".join(str(changed(first[-1], second[-1], one)) for one in (book, own))
        print(f"| {name} | {apart[0]:.1e} | {apart[-2]:.1e} | {apart[-1]:.1e} | {words} |", flush=True)


if __name__ == "__main__":
    main()
