"""What an SR model lacks on this machine, told without opening it; what there is to fetch; its speed."""

from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from fgr import hub_files as hub
from fgr.errors import UserError, missing_extra
from fgr.sr import conversion, weights
from fgr.sr.release import WeightFile
from fgr.sr.spec import ModelSpec


class Speed(NamedTuple):
    """Seconds a megapixel of output: on one CPU core and on a GPU; about, and of another machine than the user's."""

    cpu: float
    gpu: float


# By the beginning of a release's family. CPU: as bench/upscalers.py measures, scaled by parameters where a network was not
# measured. GPU: published figures of comparable networks on one consumer card; diffusion models by their default steps.
SPEEDS = {
    "RRDBNet": Speed(21, 0.05), "SRVGGNetCompact": Speed(2.5, 0.002), "SPAN": Speed(2, 0.002), "SwinIR-M": Speed(82, 0.3),
    "SwinIR-L": Speed(190, 0.45), "HAT": Speed(160, 0.5), "DAT-light": Speed(20, 0.2), "DAT": Speed(150, 0.5),
    "Stable Diffusion": Speed(3000, 12), "latent diffusion": Speed(900, 8), "StableSR-Turbo": Speed(400, 2),
    "StableSR": Speed(9000, 44), "ResShift": Speed(300, 2.5), "OSEDiff": Speed(200, 0.5),
    "DiffBIR 2": Speed(5000, 11), "DiffBIR 2.1": Speed(1000, 2.5),
    "SeeSR": Speed(5000, 14),
}  # fmt: skip
STEPS = {"sd-x4-upscaler": 75, "ldm-sr": 100, "stablesr": 200, "stablesr-turbo": 4, "diffbir": 10, "diffbir-v2": 50, "seesr": 50}
UNKNOWN_SPEED = Speed(60, 0.3)  # of a network that is opened by its file
MEGABYTES = {  # about, of what `fgr models NAME --fetch` brings; networks without an entry: NETWORK_MEGABYTES
    "realesr-general": 5, "realesr-general-wdn": 5, "realesr-animevideov3": 3, "realesrgan-anime": 18, "swinir-large": 140,
    "hat": 85, "hat-sharper": 85, "dat": 60, "realsr": 33, "dat-light": 3, "span": 1, "sd-x4-upscaler": 3500, "ldm-sr": 700,
    "stablesr": 7400, "stablesr-turbo": 7400, "resshift": 700, "resshift-s4": 700, "resshift-bicubic": 700, "osediff": 5200,
    "diffbir": 6400, "diffbir-v2": 6700, "seesr": 13800,
}  # fmt: skip
NETWORK_MEGABYTES = 67


def lacking(spec: ModelSpec, base: str | None = None) -> list[str]:
    """The names that `fgr models NAME --fetch` takes, of those parts of a model whose weights are not on this machine.

    `base` is where the Stable Diffusion base lies that a recipe names. Nothing is hashed, opened, or asked of the network.
    UserError for what fetching does not mend: a path with nothing, a package that is not installed or of another version.
    """
    if spec.kind == "diffusion" and find_spec("diffusers") is None:
        raise missing_extra("diffusers", "diffusion", f"The SR model '{spec.text}'")
    if spec.kind == "folder" and not Path(spec.path).expanduser().is_dir():
        raise UserError(f"There is no folder {spec.path}, which '{spec.text}' names.", "Check the path.")
    if spec.kind == "spandrel" and spec.on_hub is None and weights.file_of(spec) is None:
        raise UserError(f"There is no weight file {Path(spec.path).expanduser()}.", "Check the path.")
    if spec.lora and not Path(spec.lora).expanduser().is_file():
        raise UserError(f"There is no file {spec.lora}, which '{spec.text}' names.", "Check the path.")
    return [part.base for part in spec.parts() if not _is_here(part, base)]


def megabytes(name: str) -> int | None:
    """About how much there is to fetch of a model of the zoo; None of another."""
    from fgr.sr.zoo import ZOO

    return MEGABYTES.get(name, NETWORK_MEGABYTES) if name in ZOO else None


def speed(spec: ModelSpec) -> Speed:
    """About how fast a model is, its setting `passes` and `steps` included."""
    if spec.release is None:
        return Speed(0, 0) if spec.kind in ("bicubic", "folder") else UNKNOWN_SPEED
    fitting = [name for name in SPEEDS if spec.release.family.startswith(name)]
    found = SPEEDS[max(fitting, key=len)] if fitting else UNKNOWN_SPEED
    factor = spec.settings.get("passes", 1) * _share_of_steps(spec)
    return Speed(found.cpu * factor, found.gpu * factor)


def _share_of_steps(spec: ModelSpec) -> float:
    usual = {
        "sd-x4-upscaler": 75,
        "ldm-sr": 100,
        "stablesr": 200,
        "stablesr-turbo": 4,
        "diffbir": 50,
        "diffbir-v2": 50,
        "seesr": 50,
    }
    steps = spec.settings.get("steps")
    return float(steps) / usual[spec.base] if steps and spec.base in usual else 1.0


def _is_here(spec: ModelSpec, base: str | None) -> bool:
    """Whether the weights of one network are on this machine."""
    if spec.kind == "spandrel":
        return weights.file_of(spec) is not None
    release = spec.release
    if release is None:
        return True
    if release.is_diffusion:
        return all(_is_file_here(file) for file in release.files if not (base and file.name.startswith("sd2.1-base/")))
    if any(weights.present(spec.base, file) for file in release.files[:1]):
        return True
    if release.ncnn is None:
        return False
    taken = all(weights.present(spec.base, file, exactly=True) for file in (release.ncnn.param, release.ncnn.tensors))
    return taken or conversion.kept_file(release.ncnn, weights.folder()).is_file()


def _is_file_here(file: WeightFile) -> bool:
    return weights.downloaded(file) is not None or any(hub.cached(*place) is not None for place in file.on_hub)
