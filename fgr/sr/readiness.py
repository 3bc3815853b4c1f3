"""What an SR model lacks on this machine, told without opening it."""

from importlib.util import find_spec
from pathlib import Path

from fgr import hub_files as hub
from fgr.errors import UserError, missing_extra
from fgr.recipe.sampling import AUTO, Sampling
from fgr.sr import conversion, weights
from fgr.sr.release import WeightFile
from fgr.sr.spec import ModelSpec
from fgr.sr.zoo import OFFLINE_PACKAGES, ZOO


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
