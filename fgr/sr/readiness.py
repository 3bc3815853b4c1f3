"""What an SR model lacks on this machine, told without opening it; what there is to fetch; its speed."""

from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from fgr import hub_files as hub
from fgr.errors import UserError, missing_extra
from fgr.recipe.sampling import AUTO, Sampling
from fgr.sr import conversion, weights
from fgr.sr.release import WeightFile
from fgr.sr.spec import WITHOUT_NETWORK, ModelSpec, parse_name
from fgr.sr.zoo import OFFLINE_PACKAGES, ZOO


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
    "StableSR-768": Speed(2500, 12), "SinSR": Speed(40, 0.4),
    "StableSR": Speed(9000, 44), "ResShift": Speed(300, 2.5), "OSEDiff": Speed(200, 0.5),
    "PiSA-SR": Speed(200, 0.5), "DiffBIR 2": Speed(5000, 11), "DiffBIR 2.1": Speed(1000, 2.5),
    "SeeSR": Speed(5000, 14),
}  # fmt: skip
STEPS = {
    "sd-x4-upscaler": 75, "ldm-sr": 100, "stablesr": 200, "stablesr-turbo": 4, "stablesr-768": 20, "resshift": 15,
    "resshift-s4": 4, "resshift-bicubic": 4, "sinsr": 1, "osediff": 1, "pisasr": 1, "diffbir": 10, "diffbir-v2": 50, "seesr": 50,
}  # fmt: skip
GUIDED = ("sd-x4-upscaler", "stablesr-768", "diffbir", "diffbir-v2", "seesr")  # two calls of their networks a step
TERAFLOP = {"stablesr": 199}  # of a 512×512 image by the default steps, where counted
UNKNOWN_SPEED = Speed(60, 0.3)  # of a network that is opened by its file
MEGABYTES = {  # about, of what `fgr models NAME --fetch` brings; networks without an entry: NETWORK_MEGABYTES
    "realesr-general": 5, "realesr-general-wdn": 5, "realesr-animevideov3": 3, "realesrgan-anime": 18, "swinir-large": 140,
    "hat": 85, "hat-sharper": 85, "dat": 60, "realsr": 33, "dat-light": 3, "span": 1, "sd-x4-upscaler": 3500, "ldm-sr": 700,
    "stablesr": 7400, "stablesr-turbo": 7400, "resshift": 700, "resshift-s4": 700, "resshift-bicubic": 700,
    "osediff": 10800, "pisasr": 5200, "sinsr": 700, "stablesr-768": 7400,
    "diffbir": 7400, "diffbir-v2": 6700, "seesr": 13800,
}  # fmt: skip
NETWORK_MEGABYTES = 67


def in_offline_extra(name: str) -> bool:
    """Whether the extra `fgr[offline]` brings the weights of a name that `lacking` gives."""
    release = ZOO.get(name)
    carried = (release.ncnn.tensors, release.ncnn.param) if release is not None and release.ncnn else ()
    return any(place.package in OFFLINE_PACKAGES for file in carried for place in file.in_packages)


def lacking(spec: ModelSpec, sampling: Sampling | None = None) -> list[str]:
    """The names that `fgr models NAME --fetch` takes, of those parts of a model whose weights are not on this machine.

    `sampling` is the recipe's, of diffusion models: it may name another Stable Diffusion base, or prompts that need no tagger.
    Nothing is hashed, opened, or asked of the network.
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
    return [part.base for part in spec.parts() if not _is_here(part, _chosen(spec, sampling))]


def megabytes(name: str) -> int | None:
    """About how much there is to fetch of a model of the zoo; None of another."""
    from fgr.sr.zoo import ZOO

    return MEGABYTES.get(name, NETWORK_MEGABYTES) if name in ZOO else None


def speed(spec: ModelSpec) -> Speed:
    """About how fast a model is, its setting `passes` and `steps` included."""
    if spec.release is None:
        return Speed(0, 0) if spec.kind in WITHOUT_NETWORK else UNKNOWN_SPEED
    fitting = [name for name in SPEEDS if spec.release.family.startswith(name)]
    found = SPEEDS[max(fitting, key=len)] if fitting else UNKNOWN_SPEED
    factor = spec.settings.get("passes", 1) * _share_of_steps(spec)
    return Speed(found.cpu * factor, found.gpu * factor)


def _share_of_steps(spec: ModelSpec) -> float:
    steps = spec.settings.get("steps")
    return float(steps) / STEPS[spec.base] if steps and spec.base in STEPS else 1.0


def cost(name: str) -> str | None:
    """What a model of the zoo costs, in a line: what is to fetch, memory, calls of its network, seconds. None for others."""
    size = megabytes(name)
    if size is None:
        return None
    found = speed(parse_name(name))
    parts = [f"{size / 1000:.1f} GB" if size >= 1000 else f"{size} MB"]
    if name in STEPS:
        calls = STEPS[name] * (2 if name in GUIDED else 1)
        parts[0] += f" to fetch, {size / 4:,.0f} M parameters; as much memory in fp32, and that of images"
        parts.append(f"{calls} call{'s' if calls > 1 else ''} of its UNet an image or latent tile")
        parts += [f"{TERAFLOP[name]} TFLOP a 512×512 image"] if name in TERAFLOP else []
    else:
        parts[0] += " to fetch"
    parts.append(f"about {found.gpu:.3g} s a megapixel on a GPU, {found.cpu:.3g} s on a CPU core")
    return "; ".join(parts)


def _chosen(spec: ModelSpec, sampling: Sampling | None) -> Sampling:
    return (sampling or Sampling()).model_copy(update=spec.sampling)


def _needs_words(sampling: Sampling) -> bool:
    """Whether a prompt needs what is fetched for words that follow from images: the model's own may, and others with a place."""
    own = sampling.prompt in (None, AUTO)
    return (own or "{" in str(sampling.prompt)) and sampling.captions in (None, "blip")


def _is_here(spec: ModelSpec, sampling: Sampling) -> bool:
    """Whether the weights of one network are on this machine."""
    if spec.kind == "spandrel":
        return weights.file_of(spec) is not None
    release = spec.release
    if release is None:
        return True
    if release.is_diffusion:
        words = [file for file in release.words if "/tokenizer/" not in file.name] if _needs_words(sampling) else []
        own = [file for file in release.files if not (sampling.base and file.name.startswith("sd2.1-base/"))]
        return all(_is_file_here(file) for file in (*own, *words))
    if any(weights.present(spec.base, file) for file in release.files[:1]):
        return True
    if release.ncnn is None:
        return False
    taken = all(weights.present(spec.base, file, exactly=True) for file in (release.ncnn.param, release.ncnn.tensors))
    return taken or conversion.kept_file(release.ncnn, weights.folder()).is_file()


def _is_file_here(file: WeightFile) -> bool:
    return weights.downloaded(file) is not None or any(hub.cached(*place) is not None for place in file.on_hub)
