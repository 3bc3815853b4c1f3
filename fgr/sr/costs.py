"""What SR models cost: what there is to fetch, parameters, memory, calls of a UNet, operations, time."""

from typing import NamedTuple

from fgr.progress import duration
from fgr.recipe.sampling import Sampling
from fgr.sr.spec import WITHOUT_NETWORK, ModelSpec, parse_name
from fgr.sr.zoo import ZOO


class Speed(NamedTuple):
    """Seconds a megapixel of output: on one CPU core and on a GPU; about, and of another machine than the user's."""

    cpu: float
    gpu: float


class DiffusionCost(NamedTuple):
    """What a diffusion model costs by its own settings; from `million` on counted by bench/cost.py for an image of 512×512."""

    megabytes: int  # to fetch, about
    steps: int
    guided: bool  # two calls of the UNet a step
    least: int  # side in pixels of the output that the model works on at least: smaller images cost as much
    million: float  # parameters
    teraflop: float
    gigabytes: float  # of memory in float32


# Seconds a megapixel by the beginning of a release's family. CPU: as bench/upscalers.py measures, scaled by parameters where a
# network was not measured. GPU: published figures of comparable networks on one consumer card.
SPEEDS = {
    "RRDBNet": Speed(21, 0.05), "SRVGGNetCompact": Speed(2.5, 0.002), "SPAN": Speed(2, 0.002), "SwinIR-M": Speed(82, 0.3),
    "SwinIR-L": Speed(190, 0.45), "HAT": Speed(160, 0.5), "DAT-light": Speed(20, 0.2), "DAT": Speed(150, 0.5),
}  # fmt: skip
UNKNOWN_SPEED = Speed(60, 0.3)  # of a network that is opened by its file
MEGABYTES = {  # about, of what `fgr models NAME --fetch` brings; networks without an entry: NETWORK_MEGABYTES
    "realesr-general": 5, "realesr-general-wdn": 5, "realesr-animevideov3": 3, "realesrgan-anime": 18, "swinir-large": 140,
    "hat": 85, "hat-sharper": 85, "dat": 60, "realsr": 33, "dat-light": 3, "span": 1,
}  # fmt: skip
NETWORK_MEGABYTES = 67

DIFFUSION_COSTS = {
    "sd-x4-upscaler": DiffusionCost(3500, 75, True, 0, 869, 172.8, 4.3),
    "ldm-sr": DiffusionCost(700, 100, False, 0, 169, 35.4, 1.5),
    "stablesr": DiffusionCost(7400, 200, False, 512, 1440, 199.2, 6.6),
    "stablesr-turbo": DiffusionCost(7400, 4, False, 512, 1440, 10.0, 6.6),
    "stablesr-768": DiffusionCost(7400, 20, True, 512, 1440, 112.5, 7.6),  # on 768 pixels whatever the image
    "resshift": DiffusionCost(700, 15, False, 256, 174, 11.0, 1.5),
    "resshift-s4": DiffusionCost(700, 4, False, 256, 174, 6.5, 1.5),
    "resshift-bicubic": DiffusionCost(700, 4, False, 256, 174, 6.5, 1.5),
    "sinsr": DiffusionCost(700, 1, False, 256, 174, 5.3, 1.5),
    "osediff": DiffusionCost(10800, 1, False, 512, 1290, 4.4, 6.0),
    "pisasr": DiffusionCost(5200, 1, False, 512, 1290, 4.4, 6.0),
    "invsr": DiffusionCost(5300, 1, False, 512, 1324, 5.8, 6.1),
    "s3diff": DiffusionCost(5300, 1, True, 512, 1290, 5.2, 6.0),
    "diffbir": DiffusionCost(7400, 10, True, 512, 1669, 25.3, 7.5),
    "diffbir-v2": DiffusionCost(6700, 50, True, 512, 1670, 111.6, 7.5),
    "seesr": DiffusionCost(13800, 50, True, 512, 2235, 167.3, 9.7),
}
COUNTED = 512  # side in pixels of the image that operations are counted for
# TFLOP a second, by which seconds are computed from operations: a GPU that takes StableSR's published 11.5 s, and one CPU core.
GPU_RATE, CPU_RATE = 17.0, 0.08


def megabytes(name: str) -> int | None:
    """About how much there is to fetch of a model of the zoo; None of another."""
    if name in DIFFUSION_COSTS:
        return DIFFUSION_COSTS[name].megabytes
    return MEGABYTES.get(name, NETWORK_MEGABYTES) if name in ZOO else None


def speed(spec: ModelSpec, sampling: Sampling | None = None) -> Speed:
    """About how fast a model is, with its setting `passes`. Of diffusion models computed from operations, by the settings in the
    name or else in `sampling`, the recipe's."""
    passes = spec.settings.get("passes", 1)
    if spec.base in DIFFUSION_COSTS:
        work = DIFFUSION_COSTS[spec.base].teraflop * 1e6 / COUNTED**2 * passes * _share(spec, sampling or Sampling())
        return Speed(work / CPU_RATE, work / GPU_RATE)
    if spec.release is None:
        return Speed(0, 0) if spec.kind in WITHOUT_NETWORK else UNKNOWN_SPEED
    fitting = [name for name in SPEEDS if spec.release.family.startswith(name)]
    found = SPEEDS[max(fitting, key=len)] if fitting else UNKNOWN_SPEED
    return Speed(found.cpu * passes, found.gpu * passes)


def image_seconds(spec: ModelSpec, side: int, sampling: Sampling | None = None) -> Speed:
    """About how long a model takes for an output of side×side pixels, as `speed` says."""
    least = DIFFUSION_COSTS[spec.base].least if spec.base in DIFFUSION_COSTS else 0
    found, megapixels = speed(spec, sampling), max(side, least) ** 2 / 1e6
    return Speed(found.cpu * megapixels, found.gpu * megapixels)


def cost(name: str) -> str | None:
    """What a model of the zoo costs, in a line: what is to fetch, memory, calls of its network, time. None for others."""
    size = megabytes(name)
    if size is None:
        return None
    fetched = f"{size / 1000:.1f} GB to fetch" if size >= 1000 else f"{size} MB to fetch"
    if name not in DIFFUSION_COSTS:
        found = speed(parse_name(name))
        return f"{fetched}; about {found.gpu:.3g} s a megapixel on a GPU, {found.cpu:.3g} s on a CPU core"
    own, found = DIFFUSION_COSTS[name], image_seconds(parse_name(name), COUNTED)
    calls = own.steps * (2 if own.guided else 1)
    return (
        f"{fetched}; {own.million:,.0f} M parameters; for an image of {COUNTED}×{COUNTED}: {own.gigabytes:.1f} GB of memory in "
        f"fp32, {calls} call{'s' if calls > 1 else ''} of its UNet, {own.teraflop:,.1f} TFLOP (counted), about "
        f"{found.gpu:.2g} s on a GPU, {duration(found.cpu)} on a CPU core (computed from them)"
    )


def _share(spec: ModelSpec, sampling: Sampling) -> float:
    """Calls of the UNet by the chosen steps and guidance, of those by the model's own."""
    own, chosen = DIFFUSION_COSTS[spec.base], sampling.model_copy(update=spec.sampling)
    prompts = (1 if chosen.guidance == 1 else 2) if chosen.guidance is not None else 1 + own.guided
    return (chosen.steps or own.steps) * prompts / (own.steps * (1 + own.guided))
