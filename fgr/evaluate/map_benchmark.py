"""Maps measured against regions that people marked, a reward model's beside those of its rivals."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fgr import __version__
from fgr.devices import choose_device
from fgr.errors import UserError
from fgr.evaluate import evaluation_page, page_images, show
from fgr.evaluate.map_rivals import STEP, WINDOW, Rival, Scene, fitted, given, rivals
from fgr.image_files import ImageFileError, read_file, read_image
from fgr.metrics import marked
from fgr.metrics.maps import detection
from fgr.metrics.registry import Options, open_metrics
from fgr.people.map_layouts import MapBenchmark, Marked, by_image, open_map_benchmark, scene_of
from fgr.people.published import published
from fgr.people.scenes import expect_part, part_of
from fgr.progress import Progress
from fgr.report.swipe import Picture
from fgr.reward.people_labels import learned_note
from fgr.reward.pretrained import load_reward_model

CALIBRATION = 12  # images, spread over the set, whose maps tell which thresholds to try


@dataclass(slots=True)
class Measured:
    """What was measured of an image: its regions, and by rival the map pooled in each, pixels found, overlaps by threshold."""

    rows: list[Marked]
    scaled: int
    pooled: dict[str, list[float]] = field(default_factory=dict)
    pixels: dict[str, tuple[float, float]] = field(default_factory=dict)  # AP and AUC of those in prominent masks
    overlaps: dict[str, list[marked.Overlap]] = field(default_factory=dict)


def evaluate_on_map_benchmark(
    benchmark: str, data: str | None = None, *, reward: str | None = None, metrics: Sequence[str] = (),
    maps: Mapping[str, str] | None = None, columns: Mapping[str, str] | None = None, split: str | None = None,
    limit: int | None = None, draws: int = 0, device: str = "auto", html: Path | None = None,
    pictures: int = evaluation_page.PICTURES,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:  # fmt: skip
    """A reward model's maps, and those of its rivals, on a benchmark of regions that people marked.

    As a page too (`html`), with pictures of so many images. Gives the summary, with `figures` of all, `by_subset` and
    `by_generator`, each by rival, and a record a region with the maps pooled in it. Regions that cannot be used are named with
    the reason in `left_out`. UserError for a benchmark that is absent or incomplete, and if none of its regions can be used.
    """
    chosen = choose_device(device)
    expect_part(split)
    found = open_map_benchmark(benchmark, data, columns)
    opened = open_metrics(metrics, Options(chosen))
    model = load_reward_model(reward, chosen) if reward else None
    folders = {name: Path(folder).expanduser() for name, folder in (maps or {}).items()}
    compared = rivals(model, opened, folders, chosen, draws)
    compared |= {name: given(name) for name in sorted({name for row in found.rows for name in row.maps})}
    images = list(by_image([row for row in found.rows if split is None or part_of(scene_of(row)) == split]))
    if limit is not None and limit < len(images):
        images = [images[i] for i in np.linspace(0, len(images) - 1, max(limit, 1)).round().astype(int)]
    measured = list(_measured(found, images, compared))
    if not measured:
        reasons = [f"{file}: {reason}" for file, reason in list(found.left_out.items())[:3]]
        raise UserError(f"No region of {benchmark} can be measured.", "Check the files.", reasons)
    records = list(_records(measured))
    result = _summary(found, measured, list(compared)) | {
        "protocol": {
            "fgr": __version__, "benchmark": benchmark, "data": data, "split": split, "reward": reward, "draws": draws,
            "reward_model": model.settings if model is not None else None, "images": len(measured),
            "regions": sum(len(one.rows) for one in measured), "masks_scaled": sum(one.scaled for one in measured),
            "metrics": {metric.name: metric.origin for metric in opened}, "window": [WINDOW, STEP], "resampled": "images",
            "references": "MSE-SR" if benchmark == "desra" else "references", "border": marked.BORDER,
            "thresholds": "of the best IoU on the other half of the images", "prominent": f"prominence ≥ {marked.HALF}",
        },
        "kind": "maps", "rated": found.rated, "published": published(benchmark)._asdict(), "left_out": found.left_out,
        "notes": learned_note(reward, benchmark, split),
    }  # fmt: skip
    if html:
        shown = _images(found, measured, records, compared, pictures)
        title, notes = show.marked_maps_title(result), show.marked_maps_notes(result)
        evaluation_page.write(html, title, show.marked_maps(result), notes, shown)
    return result, records


def _images(
    found: MapBenchmark, measured: Sequence[Measured], records: list[dict[str, Any]], compared: Mapping[str, Rival], limit: int
) -> evaluation_page.Images:
    """What the page shows of single images: what people marked, and each rival's map, over the same picture."""
    rows = {str(one.rows[0].image): one.rows for one in measured}
    scorer = next(name for name in compared if any(name in record for record in records))

    def pictures(name: str, regions: Sequence[dict[str, Any]]) -> list[Picture]:
        scene = _scene(found, rows[name][0])
        people = np.zeros(scene.image.shape[:2], np.float32)
        for row in rows[name]:
            mask, _ = _mask(row.mask, scene.image.shape[:2])
            people[mask] = np.maximum(people[mask], row.prominence)
        shown = [page_images.picture("people", scene.image, people)]
        for rival, map_of in compared.items():
            if (map_ := map_of(scene)) is not None:
                shown.append(page_images.picture(rival, scene.image, page_images.scaled(map_, 1.0 if rival == "reward" else 0.0)))
        reference = [] if scene.reference is None else [page_images.picture("reference", scene.reference)]
        return shown[: page_images.MOST_PICTURES] + reference

    against = "prominence" if found.rated else ""
    named = [record | {"picture": scorer} for record in records]
    return page_images.of_rows(named, scorer, against, "generator", "image", "picture", pictures, limit, maps_shown=True)


def _measured(
    found: MapBenchmark, images: Sequence[tuple[Path, list[Marked]]], compared: Mapping[str, Rival]
) -> Iterator[Measured]:
    """Each image that can be used; the others are named in `found.left_out`."""
    levels = _thresholds(found, images, compared)
    with Progress("benchmark", len(images), "images") as progress:
        for file, rows in images:
            try:
                yield _one(found, rows, compared, levels)
                progress.advance()
            except ImageFileError as error:
                found.left_out[str(file)] = error.message
                progress.advance(1, {error.reason: 1})


def _thresholds(
    found: MapBenchmark, images: Sequence[tuple[Path, list[Marked]]], compared: Mapping[str, Rival]
) -> dict[str, np.ndarray]:
    """For each rival the thresholds to try, of its maps of a few images."""
    maps: dict[str, list[np.ndarray]] = {name: [] for name in compared}
    for number in sorted({*np.linspace(0, len(images) - 1, CALIBRATION).round().astype(int).tolist()}):
        try:
            scene = _scene(found, images[number][1][0])
            for name, rival in compared.items():
                if (map_ := rival(scene)) is not None:
                    maps[name].append(map_)
        except ImageFileError:
            continue  # named when it is measured
    return {name: marked.thresholds(some) if some else np.zeros(1) for name, some in maps.items()}


def _scene(found: MapBenchmark, row: Marked) -> Scene:
    image = read_image(row.image)
    reference = read_image(row.reference) if row.reference else None
    if reference is not None and reference.shape != image.shape:
        sizes = " and ".join(f"{one.shape[1]}×{one.shape[0]}" for one in (image, reference))
        raise ImageFileError(f"the image and its reference {row.reference} have {sizes} pixels.", "Check both.", "two_sizes")
    root, file = found.root.resolve(), row.image.resolve()
    return Scene(image, file.relative_to(root) if file.is_relative_to(root) else Path(file.name), reference, row.maps)


def _one(found: MapBenchmark, rows: list[Marked], compared: Mapping[str, Rival], levels: Mapping[str, np.ndarray]) -> Measured:
    """ImageFileError if the image, its reference, one of its maps or all of its masks cannot be used."""
    scene = _scene(found, rows[0])
    masks, kept, scaled = [], [], 0
    for row in rows:
        try:
            mask, changed = _mask(row.mask, scene.image.shape[:2])
        except ImageFileError as error:
            found.left_out[f"{row.image}, mask {row.mask}"] = error.message
            continue
        masks.append(mask)
        kept.append(row)
        scaled += changed
    if not kept:
        raise ImageFileError("none of its masks can be used.", "Check the masks.", "no_mask")
    one = Measured(kept, scaled)
    every = np.logical_or.reduce(masks)
    prominent = [mask for mask, row in zip(masks, kept, strict=True) if row.prominence >= marked.HALF]
    target = np.logical_or.reduce(prominent) if prominent else None
    for name, rival in compared.items():
        if (map_ := rival(scene)) is None:
            continue
        one.pooled[name] = [float(map_[mask].mean()) for mask in masks]
        if target is not None:
            outside = ~every | target  # masks that few see are neither right nor wrong
            one.pixels[name] = detection(map_[outside], [target[outside]])[0]
            one.overlaps[name] = marked.overlaps(map_, target, levels[name])
    return one


def _mask(path: Path, shape: tuple[int, ...]) -> tuple[np.ndarray, bool]:
    """A mask as bool (H, W): above half of its largest value; and whether it was scaled. ImageFileError."""
    data = read_file(path)
    grey = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE) if data else None
    if grey is None:
        raise ImageFileError("the mask cannot be read.", "Write it as PNG.")
    if not grey.any():
        raise ImageFileError("the mask is empty.", "Leave such rows out.")
    fits = fitted(grey, shape, path, cv2.INTER_NEAREST)
    if not fits.any():
        raise ImageFileError("nothing is left of the mask at the image's size.", "Give masks at the image's size.")
    return fits > grey.max() / 2, grey.shape != tuple(shape)


def _summary(found: MapBenchmark, measured: Sequence[Measured], names: Sequence[str]) -> dict[str, Any]:
    summary: dict[str, Any] = {"figures": _figures(measured, names, found.rated)}
    for key in ("subset", "generator"):
        values = sorted({getattr(row, key) for one in measured for row in one.rows})
        parts = {value: _part(measured, key, value) for value in values} if len(values) > 1 else {}
        summary[f"by_{key}"] = {value or "(none)": _figures(part, names, found.rated) for value, part in parts.items()}
    return summary


def _part(measured: Sequence[Measured], key: str, value: str) -> list[Measured]:
    """The images whose first region is of this subset or generator: both are properties of images."""
    return [one for one in measured if getattr(one.rows[0], key) == value]


def _figures(measured: Sequence[Measured], names: Sequence[str], rated: bool) -> dict[str, dict[str, Any]]:
    """By rival, of the images that it has maps for."""
    found = {}
    for name in names:
        ours = [one for one in measured if name in one.pooled]
        if not ours:
            continue
        groups = [row.group for one in ours for row in one.rows]
        pooled = np.array([value for one in ours for value in one.pooled[name]], np.float64)
        shares = np.array([row.prominence for one in ours for row in one.rows])
        figures: dict[str, Any] = marked.prominence_figures(pooled, shares, groups) if rated else {"masks": len(pooled)}
        seen = [one for one in ours if name in one.overlaps]
        table = np.array([one.overlaps[name] for one in seen], np.float64)
        figures |= marked.region_figures(table, [one.rows[0].group for one in seen])
        pixels = np.array([one.pixels[name] for one in seen]).reshape(-1, 2)
        for key, column in (("pixel_ap", pixels[:, 0]), ("pixel_auc", pixels[:, 1])):
            figures[key] = float(np.nanmean(column)) if np.isfinite(column).any() else float("nan")
        found[name] = figures
    return found


def _records(measured: Sequence[Measured]) -> Iterator[dict[str, Any]]:
    for one in measured:
        for number, row in enumerate(one.rows):
            facts = {"image": str(row.image), "mask": str(row.mask), "prominence": row.prominence}
            told = {"subset": row.subset, "generator": row.generator, "group": row.group}
            yield facts | told | {name: values[number] for name, values in one.pooled.items()}
