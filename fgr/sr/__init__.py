"""SR models by name: photographs' degraded crops in, restored crops out.

realesrgan · swinir · hat · …     the networks of `releases.RELEASES`
sd-x4-upscaler · ldm-sr · …       its diffusion models (extra `fgr[diffusion]`)
bicubic                          the baseline
folder:DIR                       outputs made elsewhere
spandrel:PATH_OR_HUB_FILE        any weight file whose network spandrel knows, on the disk or as ORG/REPOSITORY/FILE on the Hub
NAME+lora:PATH                   a diffusion model with low-rank changes of its UNet, as `fgr rlhf` writes them
NAME@KEY=VALUE@KEY=VALUE         any of them, run in another way: see `settings`
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fgr.errors import UserError, nearest
from fgr.sr.diffusion import MARK
from fgr.sr.diffusion.releases import DIFFUSION
from fgr.sr.jobs import Job, NonFiniteOutput, Upscaler
from fgr.sr.releases import RELEASES
from fgr.sr.settings import WEAK, Repeated, expect_known, merged, mixed, split

__all__ = ["Job", "NonFiniteOutput", "Upscaler", "known", "license_of", "open_upscaler"]

SPOKEN = ("folder:DIR", "spandrel:PATH_OR_HUB_FILE")


def known() -> list[str]:
    """The names that `open_upscaler` takes."""
    return [*RELEASES, "bicubic", *SPOKEN]


def open_upscaler(
    name: str, *, scale: int, device: str = "cpu", tile: int = 0, overlap: int = 16, precision: str = "fp32", batch: int = 1,
    compile: bool = False, passes: int = 1, denoise: float | None = None, diffusion: Mapping[str, Any] | None = None,
) -> Upscaler:  # fmt: skip
    """Open the SR model `name` for `scale`.

    `tile` (0 = whole) and `overlap` are in low-resolution pixels; `batch` is ignored on the CPU, where images run one by one
    so that their bytes do not depend on their neighbours. `passes` and `denoise` are as in `settings`, `diffusion` holds what is
    set of `recipe.sampling.Sampling`; what `name` says of any setting holds. Thread counts are left to the caller.
    `compile` is of networks alone.
    UserError: unknown name, weights absent or damaged or of another network, another scale, settings that cannot work.
    """
    check_name(name)
    base, own = split(name)
    if own or passes > 1:
        given: dict[str, Any] = {"tile": tile, "overlap": overlap, "precision": precision, "denoise": denoise}
        given, times, sampling = merged(given, passes, diffusion, own)
        opened = open_upscaler(base, scale=scale, device=device, batch=batch, diffusion=sampling, compile=compile, **given)
        expect_known(opened, own)
        opened.name = name
        return Repeated(opened, times) if times > 1 else opened
    if name == "bicubic":
        from fgr.sr.bicubic import Bicubic

        return Bicubic(scale)
    if name.startswith("folder:"):
        from fgr.sr.folder import Folder

        return Folder(name, scale)
    from fgr.sr import network, weights

    if (plain := name.partition(MARK)[0]) in DIFFUSION:
        from fgr.recipe.sampling import Sampling
        from fgr.sr.diffusion import open_diffusion

        if DIFFUSION[plain].scale != scale:
            raise network.wrong_scale(name, DIFFUSION[plain].scale, scale)
        return open_diffusion(
            name,
            device=device,
            tile=tile,
            overlap=overlap,
            precision=precision,
            batch=batch,
            sampling=Sampling(**diffusion or {}),
        )
    found = weights.locate(name)
    if found.scale and found.scale != scale:
        raise network.wrong_scale(name, found.scale, scale)
    loaded = weights.load(found)
    if denoise is not None:
        loaded = mixed(loaded, weights.load(weights.locate(WEAK)), denoise)
    return network.Network(name, loaded, scale, device, tile, overlap, precision, batch, denoise, compile)


def license_of(name: str) -> str:
    """The licence of the weights that `name` stands for, without opening them; "unknown" for files that state none."""
    check_name(name)
    name = split(name)[0].partition(MARK)[0]
    if name.startswith("spandrel:"):
        from fgr.sr import weights

        return weights.stated_license(Path(name.partition(":")[2]).expanduser())
    return RELEASES[name].license if name in RELEASES else "none" if name == "bicubic" else "unknown"


def check_name(name: str) -> None:
    """UserError, naming the nearest known name or setting, unless `name` is one that `open_upscaler` takes."""
    name, changed, changes = split(name)[0].partition(MARK)
    if changed and (name not in DIFFUSION or not changes):
        raise UserError(
            f"'{name}{changed}{changes}' names no diffusion model with low-rank changes.",
            f"Write NAME{MARK}PATH; NAME can be: {', '.join(DIFFUSION)}.",
        )
    kind, colon, rest = name.partition(":")
    if name in RELEASES or name == "bicubic" or (colon and rest and kind in ("folder", "spandrel")):
        return
    if kind in ("folder", "spandrel"):
        raise UserError(f"'{name}' names no {'folder' if kind == 'folder' else 'file'}.", f"Write {kind}:PATH.")
    known_names = [one.partition(":")[0] for one in known()]
    written = kind if colon else name
    raise UserError(f"There is no SR model '{name}'{nearest(written, known_names)}", f"Known: {', '.join(known())}.")
