"""Scores against people's opinions: a reward model's, beside metrics and what others published."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np

from fgr import __version__
from fgr.dataset.tables import evenly_drawn
from fgr.devices import choose_device
from fgr.errors import UserError
from fgr.evaluate import evaluation_page, page_images, show
from fgr.image_files import ImageFileError
from fgr.images.arrays import as_tensor
from fgr.metrics import ranks
from fgr.metrics.registry import Metric, Options, open_metrics
from fgr.people.opinions import FORMATS, RatedImage, RatedPair, ScoreBenchmark, read_source
from fgr.people.published import published
from fgr.people.scenes import expect_part, part_of
from fgr.people.score_layouts import open_score_benchmark
from fgr.progress import Progress
from fgr.report.swipe import Picture
from fgr.reward import baselines
from fgr.reward.people_labels import learned_note
from fgr.reward.pretrained import load_reward_model
from fgr.reward.score import score_many, worst

TOGETHER = 16  # images that are judged together
REWARD, MEAN_MAP, WORST_MAP = "reward", "reward, mean map alone", "reward, worst of the map alone"
COMBINED = "score and map together: the score is computed of features gated by the map, so it falls as the map rises"


def evaluate_on_benchmark(
    path: str, *, data: str | None = None, columns: Mapping[str, str] | None = None, split: str | None = None,
    reward: str | None = None, metrics: Sequence[str] = (), border: int = 0, luma: bool = False, limit: int | None = None,
    draws: int = 0, device: str = "auto", html: Path | None = None, pictures: int = evaluation_page.PICTURES,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:  # fmt: skip
    """A reward model, and metrics, on a benchmark of people's opinions, with trivial baselines and published figures beside them.

    The summary, and a record an image; as a page too (`html`), with pictures of so many scenes. `split` takes a part of the
    scenes (`people.scenes`), None all; `limit` so many images. Images that cannot be used are left out with the pairs they are
    in, and named with the reason in `left_out`. UserError for a benchmark that is absent or incomplete, and if nothing of it can
    be used.
    """
    chosen, opened = choose_device(device), open_score_benchmark(path, data, columns)
    chosen_metrics = open_metrics(metrics, Options(chosen, border, luma))
    found = _part(opened, split, limit)
    _expect_references(found, chosen_metrics)
    model = load_reward_model(reward, chosen) if reward else None
    scores: dict[str, list[float]] = {}
    sizes: dict[str, set[tuple[int, ...]]] = {}
    kept: list[int] = []
    for number, size, figures in _scored(found, model, chosen_metrics, chosen, draws):
        kept.append(number)
        sizes.setdefault(found.rows[number].scene, set()).add(size)
        for name, value in figures.items():
            scores.setdefault(name, []).append(value)
    found = _only(found, kept)
    lower = [metric.name for metric in chosen_metrics if metric.lower_is_better]
    signed = {name: (-1 if name in lower else 1) * np.array(values) for name, values in scores.items()}
    result = {
        "protocol": {
            "fgr": __version__, "benchmark": str(path), "data": data, "images": len(found.rows), "reward": reward,
            "reward_model": model.settings if model is not None else None, "reward_is": COMBINED, "draws": draws,
            "channel": "Y" if luma else "RGB", "border": border, "opinions": found.opinions,
            "opinions_hidden": len(found.hidden), "split": split, "scenes": len({row.scene for row in found.rows}),
            "scenes_of_several_sizes": sum(len(one) > 1 for one in sizes.values()) if not found.pairs else 0,
            "metrics": {metric.name: metric.origin for metric in chosen_metrics},
            "accuracy": "ties of people left out, equal scores as half", "resampled": "scenes",
        },
        "kind": "pairs" if found.pairs else "scores", **_summary(found, signed),
        "left_out": found.left_out, "notes": learned_note(reward, path, split),
    }  # fmt: skip
    records = list(_records(found, scores))
    if html:
        images = _images(found, records, lower, model, pictures, draws)
        evaluation_page.write(html, show.opinions_title(result), show.opinions(result), show.opinions_notes(result), images)
    return result, records


def _images(
    found: ScoreBenchmark, records: list[dict[str, Any]], lower: Sequence[str], model: Any, limit: int, draws: int
) -> evaluation_page.Images:
    """What the page shows of single images: scenes of outputs, or for pairs the two that people chose from."""
    scorer = next(name for name in records[0] if name not in (*page_images.FACTS, "mos"))
    sources = {str(row.image): row for row in found.rows}

    def pictures(scene: str, rows: Sequence[dict[str, Any]]) -> list[Picture]:
        shown = []
        for row in rows[: page_images.MOST_PICTURES]:
            image = read_source(sources[row["image"]].image)
            map_ = next(score_many(model, [image], draws=draws))[1] if model is not None else None
            figures = {"opinion": row.get("mos"), scorer: row[scorer]}
            shown.append(page_images.picture(row["picture"], image, map_, **figures))
        reference = next((source for row in rows if (source := sources[row["image"]].reference) is not None), None)
        return [page_images.picture("reference", read_source(reference)), *shown] if reference is not None else shown

    sign = -1 if scorer in lower else 1
    if found.pairs:
        records = [
            {**records[own], "scene": f"pair {number + 1}", "generator": "", "choice": share, "margin": margin}
            for number, pair in enumerate(found.pairs)
            for own, share, margin in _sides(pair, [sign * row[scorer] for row in records])
        ]
    rows = page_images.named_rows(records, "picture", lambda row: row["generator"] or Path(row["image"]).stem)
    columns = ("margin", "choice") if found.pairs else (scorer, "mos")
    return page_images.of_rows(
        rows, *columns, "generator", "scene", "picture", pictures, limit, better=(1 if found.pairs else sign, 1)
    )


def _sides(pair: RatedPair, scores: Sequence[float]) -> Iterator[tuple[int, float, float]]:
    """Of both images of a pair the number, the share of people for it, and how far it is scored above the other."""
    margin = scores[pair.left] - scores[pair.right]
    yield pair.left, pair.share, margin
    yield pair.right, 1 - pair.share, -margin


def _part(found: ScoreBenchmark, split: str | None, limit: int | None) -> ScoreBenchmark:
    """The rows of a part of the scenes, at most `limit`. UserError."""
    expect_part(split)
    if found.pairs and (split or limit):
        raise UserError("A benchmark of pairs is evaluated whole.", "Leave --split and --limit out.")
    kept = [number for number, row in enumerate(found.rows) if split is None or part_of(row.scene) == split]
    if not kept:
        raise UserError(f"No scene of {found.name} is in the part {split}.", "Leave --split out.")
    if limit and limit < len(kept):
        kept = [kept[place] for place in evenly_drawn(len(kept), limit)]
    return found if len(kept) == len(found.rows) else _only(found, kept)


def _scored(
    found: ScoreBenchmark, model: Any, metrics: Sequence[Metric], device: str, draws: int
) -> Iterator[tuple[int, tuple[int, ...], dict[str, float]]]:
    """Of each image that can be used its number, its size, and what each scorer says; the others go to `found.left_out`."""
    paired = any(metric.needs_reference for metric in metrics)
    with Progress("benchmark", len(found.rows), "images") as progress:
        for begin in range(0, len(found.rows), TOGETHER):
            read = []
            for number, row in enumerate(found.rows[begin : begin + TOGETHER], begin):
                try:
                    read.append((number, *_read(row, paired)))
                except ImageFileError as error:
                    found.left_out[str(row.image)] = error.message
                    progress.advance(1, {error.reason: 1})
            judged = score_many(model, (image for _, image, _ in read), draws=draws) if model is not None else repeat(None)
            for (number, image, reference), said in zip(read, judged, strict=False):
                try:
                    figures = _figures(image, reference, metrics, device)
                except ValueError as error:
                    found.left_out[str(found.rows[number].image)] = f"it cannot be measured: {error}."
                    progress.advance(1, {"size": 1})
                    continue
                of_model = {} if said is None else {REWARD: said[0], MEAN_MAP: -float(said[1].mean()), WORST_MAP: -worst(said[1])}
                yield number, image.shape[:2], of_model | figures
                progress.advance()


def _read(row: RatedImage, paired: bool) -> tuple[np.ndarray, np.ndarray | None]:
    """An image and, if needed, its reference. ImageFileError."""
    image = read_source(row.image)
    if not paired or row.reference is None:
        return image, None
    reference = read_source(row.reference)
    if reference.shape != image.shape:
        sizes = " and ".join(f"{one.shape[1]}×{one.shape[0]}" for one in (image, reference))
        raise ImageFileError(f"the image and its reference {row.reference} have {sizes} pixels.", None, "two_sizes")
    return image, reference


def _figures(image: np.ndarray, reference: np.ndarray | None, metrics: Sequence[Metric], device: str) -> dict[str, float]:
    """ValueError for an image that is too small."""
    tensor, target = as_tensor([image], device), None if reference is None else as_tensor([reference], device)
    scores = {metric.name: metric.value(tensor, target) for metric in metrics}
    return scores | {name: baseline(image) for name, baseline in baselines.SCORES.items()}


def _only(found: ScoreBenchmark, kept: Sequence[int]) -> ScoreBenchmark:
    """The benchmark with some of its images, and the pairs that are whole. UserError if nothing is left to compare."""
    place = {number: i for i, number in enumerate(kept)}
    pairs = [
        RatedPair(place[left], place[right], share, group)
        for left, right, share, group in found.pairs
        if left in place and right in place
    ]
    if not kept or (found.pairs and not pairs):
        reasons = [f"{file}: {reason}" for file, reason in list(found.left_out.items())[:3]]
        raise UserError(f"No image of {found.name} can be used.", f"Check the images. {FORMATS}", reasons)
    return replace(found, rows=[found.rows[number] for number in kept], pairs=pairs)


def _expect_references(found: ScoreBenchmark, metrics: Sequence[Metric]) -> None:
    blind = [metric.name for metric in metrics if metric.needs_reference]
    absent = sum(row.reference is None for row in found.rows)
    if blind and absent:
        raise UserError(
            f"{absent} of {len(found.rows)} images of the benchmark have no references, which {', '.join(blind)} need.",
            "Add the column reference.",
        )


def _summary(found: ScoreBenchmark, scores: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Agreement with people by scorer: of all, `by_family`, `by_generator`; and what is published of the benchmark."""
    if found.pairs:
        return {"figures": {name: ranks.choice_figures(values, found.pairs) for name, values in scores.items()}}
    known = published(found.name)
    summary: dict[str, Any] = {"figures": _agreement(found.rows, scores), "published": known._asdict()}
    for key in ("family", "generator"):
        names = np.array([getattr(row, key) for row in found.rows])
        values = sorted({*names.tolist()} - {""})
        told = len(values) > 1 or any(value in known.figures for value in values)
        summary[f"by_{key}"] = {value: _agreement(found.rows, scores, names == value) for value in values} if told else {}
    return summary


def _agreement(
    rows: Sequence[RatedImage], scores: Mapping[str, np.ndarray], chosen: np.ndarray | None = None
) -> dict[str, dict[str, Any]]:
    """By scorer, of the `chosen` images (N,), a mask."""
    kept = np.flatnonzero(np.ones(len(rows), bool) if chosen is None else chosen)
    mos, scenes = np.array([rows[number].mos for number in kept]), [rows[number].scene for number in kept]
    found: dict[str, dict[str, Any]] = {}
    for name, values in scores.items():
        figures = ranks.opinion_figures(values[kept], mos, scenes)
        best = ranks.best_of(values[kept], mos, scenes)
        found[name] = figures | {"images": len(kept)} | ({"best_of": best} if best else {})
    return found


def _records(found: ScoreBenchmark, scores: Mapping[str, Sequence[float]]) -> Iterator[dict[str, Any]]:
    for number, row in enumerate(found.rows):
        facts: dict[str, Any] = {"image": str(row.image)}
        if not found.pairs:
            facts |= {"scene": row.scene, "generator": row.generator, "family": row.family, "mos": row.mos}
        yield facts | {name: values[number] for name, values in scores.items()}
