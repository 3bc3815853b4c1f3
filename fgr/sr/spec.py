"""A model's name, parsed once: which SR model it stands for, and the settings in it.

realesrgan · swinir · hat · …     the networks of `zoo.ZOO`
sd-x4-upscaler · ldm-sr · …       its diffusion models (extra `fgr[diffusion]`)
bicubic                          the baseline
folder:DIR                       outputs made elsewhere
planted:KIND                     no SR model: the reference with a defect drawn into it (for fgr generate alone)
spandrel:PATH_OR_HUB_FILE        any weight file whose network spandrel knows, on the disk or as ORG/REPOSITORY/FILE on the Hub
NAME+lora:PATH                   a diffusion model with low-rank changes of its UNet, as `fgr rlhf` writes them
NAME@KEY=VALUE@KEY=VALUE         any of them but folder:DIR, run in another way:

tile=64 · overlap=8 · precision=bf16    in place of the recipe's `inference`
steps=20 · guidance=1 · …               of diffusion models, in place of the recipe's `inference.diffusion`
passes=2                                the output, made as small as the input was, is restored once more
denoise=0.3                             realesr-general alone, by default 0.5: 1 removes noise, 0 keeps it; between them the
                                        weights of realesr-general and realesr-general-wdn are mixed (Wang et al., Deep
                                        Network Interpolation, CVPR 2019)
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from fgr.errors import UserError, nearest
from fgr.hub_files import hub_file
from fgr.recipe.fields import Strict
from fgr.recipe.generate import Inference
from fgr.recipe.sampling import Sampling
from fgr.records import PLANTED_KINDS
from fgr.sr.release import Release
from fgr.sr.zoo import DIFFUSION, ZOO

Kind = Literal["network", "diffusion", "bicubic", "folder", "spandrel", "planted"]
LORA = "+lora:"
WITHOUT_NETWORK: tuple[Kind, ...] = ("bicubic", "folder", "planted")  # any scale will do
PLANTED = "planted:KIND"
PLACES = {"folder": "folder:DIR", "spandrel": "spandrel:PATH_OR_HUB_FILE"}  # kinds that are followed by a path
DENOISE, DENOISE_WEAK = "realesr-general", "realesr-general-wdn"  # what the setting `denoise` is of, and what it mixes in
USUAL_DENOISE = 0.5  # as Real-ESRGAN's program has it
SETTING = re.compile(r"(.+)@([A-Za-z_]+)=([^@=]*)")


class OfNames(Strict):
    """Settings that only a name can have."""

    passes: int = Field(1, ge=1, le=4, description="times that the model runs, each on the last output made small")
    denoise: float | None = Field(None, ge=0, le=1, description="share of the network that removes noise")


SETTINGS = dict.fromkeys(("tile", "overlap", "precision"), Inference) | dict.fromkeys(OfNames.model_fields, OfNames)
SAMPLING = dict.fromkeys(Sampling.model_fields, Sampling)


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A parsed name. `text` is how it was written, which tables and manifests keep.

    `base` is without settings and low-rank changes: a name of the zoo, bicubic, folder:DIR or spandrel:PATH.
    """

    text: str
    kind: Kind
    base: str
    path: str = ""  # of folder and spandrel; of planted, the kind of defect
    lora: str = ""  # the file of low-rank changes
    settings: Mapping[str, Any] = field(default_factory=dict)  # typed, in the order in which they are written

    @property
    def model(self) -> str:
        """The name without settings: what licences are accepted by."""
        return f"{self.base}{LORA}{self.lora}" if self.lora else self.base

    @property
    def release(self) -> Release | None:
        """Its row of the zoo, if it has one."""
        return ZOO.get(self.base)

    @property
    def scale(self) -> int | None:
        """The factor by which it upscales; None where that is known only of the weights (spandrel), or any will do."""
        return self.release.scale if self.release else None

    @property
    def on_hub(self) -> tuple[str, str] | None:
        """The Hub's repository and the path in it of spandrel:ORG/REPOSITORY/FILE; None where a file on the disk goes first."""
        return None if self.kind != "spandrel" or Path(self.path).expanduser().exists() else hub_file(self.path)

    @property
    def sampling(self) -> dict[str, Any]:
        """Those of its settings that belong to the recipe's `inference.diffusion`."""
        return {key: value for key, value in self.settings.items() if key in SAMPLING}

    def parts(self) -> list["ModelSpec"]:
        """The models whose weights it needs, without settings."""
        return [parse_name(self.base), *([] if self.denoise in (None, 1) else [parse_name(DENOISE_WEAK)])]

    @property
    def denoise(self) -> float | None:
        """The share of realesr-general's network that removes noise; None for other models."""
        return float(self.settings.get("denoise", USUAL_DENOISE)) if self.base == DENOISE else None


def known_names() -> list[str]:
    """The names that can be opened; the last ones stand for a folder, for a file and for a kind of defect."""
    return [*ZOO, "bicubic", *PLACES.values(), PLANTED]


def parse_name(name: str) -> ModelSpec:
    """What `name` stands for. Nothing on the disk is looked at.

    UserError: an unknown name or setting, with the nearest known one; a value that a setting cannot have; a setting twice, or one
    that the model does not have; low-rank changes of anything but a diffusion model.
    """
    model, settings = _settings(name)
    base, changed, lora = model.partition(LORA)
    release = ZOO.get(base)
    if changed and not (release and release.is_diffusion and lora):
        raise UserError(
            f"'{model}' does not name a diffusion model with low-rank changes.",
            f"Write NAME{LORA}PATH; NAME can be: {', '.join(DIFFUSION)}.",
        )
    kind, path = _kind(base)
    _expect_fitting(base, kind, settings)
    return ModelSpec(name, kind, base, path, lora, settings)


def _kind(base: str) -> tuple[Kind, str]:
    """The kind and, after folder: and spandrel:, the path."""
    if base in ZOO:
        return ("diffusion" if ZOO[base].is_diffusion else "network"), ""
    if base == "bicubic":
        return "bicubic", ""
    kind, colon, path = base.partition(":")
    if kind in PLACES and not path:
        raise UserError(f"'{base}' does not name a {'folder' if kind == 'folder' else 'file'}.", f"Write {kind}:PATH.")
    if kind == "planted":
        return "planted", _expect_defect(base, path)
    if kind == "folder":
        return "folder", path
    if kind == "spandrel":
        return "spandrel", path
    names = [known.partition(":")[0] for known in known_names()]
    raise UserError(
        f"There is no SR model '{base}'{nearest(kind if colon else base, names)}", f"Known: {', '.join(known_names())}."
    )


def _expect_defect(base: str, kind: str) -> str:
    if kind not in (*PLANTED_KINDS, "KIND"):
        raise UserError(f"There is no defect '{base}'{nearest(kind, PLANTED_KINDS)}", f"Known: {', '.join(PLANTED_KINDS)}.")
    return kind


def _settings(name: str) -> tuple[str, dict[str, Any]]:
    """The name without its settings, and these, read."""
    model, settings = name, {}
    while match := SETTING.fullmatch(model):
        model, key, text = match.groups()
        if key in settings:
            raise UserError(f"The SR model '{name}' sets {key} twice.", "Leave one of them out.")
        settings[key] = _value(name, key, text)
    return model, dict(reversed(settings.items()))


def _value(name: str, key: str, text: str) -> Any:
    known = SETTINGS | SAMPLING
    if key not in known:
        raise UserError(
            f"The SR model '{name}' has an unknown setting '{key}'{nearest(key, list(known))}",
            f"Write NAME@KEY=VALUE; known: {', '.join(known)}.",
        )
    try:
        return getattr(known[key].model_validate({key: text}), key)
    except ValidationError as error:
        problem = str(error.errors()[0]["msg"]).replace("Input should be", "It must be")
        raise UserError(f"The SR model '{name}' sets {key} to '{text}'.", f"{problem}.") from None


def _expect_fitting(base: str, kind: Kind, settings: Mapping[str, Any]) -> None:
    """UserError for settings that no model of that kind has."""
    if settings and kind in ("folder", "planted"):
        what = "Outputs made elsewhere" if kind == "folder" else "Planted defects"
        raise UserError(f"{what} have no settings ('{base}').", f"Write {base}.")
    if "denoise" in settings and base != DENOISE:
        raise UserError(f"'{base}' has no setting denoise.", f"Only {DENOISE} has: {DENOISE}@denoise=0.5.")
    sampling = [key for key in settings if key in SAMPLING]
    if sampling and kind != "diffusion":
        raise UserError(f"'{base}' has no setting {sampling[0]}.", f"Only diffusion models have: {', '.join(DIFFUSION)}.")
