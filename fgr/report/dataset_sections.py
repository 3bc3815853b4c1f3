"""Report on a dataset: counts, distributions, a gallery of samples."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fgr import records
from fgr.dataset import cells, manifest, tables
from fgr.images import codec
from fgr.report import charts
from fgr.report.section import Section, data_uri, render

SCALARS = (
    "id", "model", "mask_kind", "mask_area", "score", "pixel_difference", "feature_difference", "license", "attribution",
)  # fmt: skip
IMAGES = ("reference", "sr", "composite", "mask", "degradation_map")


def title(directory: Path) -> str:
    """The page's title."""
    return f"{manifest.read(directory)['recipe']['name']} – fgr dataset"


def summary(directory: Path, rows: int) -> Section:
    """Counts by split, model and mask kind, drops, models, and how it was made."""
    content = manifest.read(directory)
    table = _scalars(directory)
    names = {"split": "split", "SR model": "model", "mask": "mask_kind", "licence": "license"}
    counts = {name: Counter(row[column] for row in table) for name, column in names.items()}
    return Section(
        "Summary", render("summary.html", content=content, counts=counts, total=len(table), photographs=content["photographs"])
    )


def distributions(directory: Path, rows: int) -> Section:
    """Histograms of severity, area and score by SR model. Sham rows, which have no defect, are left out."""
    table = [row for row in _scalars(directory) if row["mask_kind"] != "sham"]
    models = sorted({row["model"] for row in table})
    grouped: dict[str, dict[str, list[float]]] = {
        key: {model: [] for model in models} for key in ("severity", "mask_area", "score")
    }
    for row in table:
        for key, by_model in grouped.items():
            by_model[row["model"]].append(row[key])
    panels = [
        (
            "Severity",
            "mean difference inside the mask × scale; 1 = the worst percent",
            charts.histogram(grouped["severity"], 0, 1),
        ),
        ("Swapped area", "share of the image, logarithmic", charts.histogram(grouped["mask_area"], 0.005, 1, log=True)),
        ("Score", "1 − pooled map", charts.histogram(grouped["score"], 0, 1)),
    ]
    return Section("Distributions", render("panels.html", panels=panels, legend=charts.legend(models)))


def gallery(directory: Path, rows: int) -> Section:
    """The worst and the subtlest samples, and one of each mask kind, as pictures."""
    groups = examples(_scalars(directory), rows)
    pictures = _pictures(directory, {row["id"] for group in groups.values() for row in group})
    shown = [(name, [row | pictures[row["id"]] for row in group]) for name, group in groups.items() if group]
    return Section("Samples", render("gallery.html", groups=shown, scale=colour_scale()))


def _scalars(directory: Path) -> list[dict[str, Any]]:
    """The small columns of every row, with its split and severity: a few hundred bytes a row, no image is read."""
    content = manifest.read(directory)
    alpha, scale = content["recipe"]["map"]["alpha"], content["calibration"]["scale"]
    return [
        row
        | {
            "split": split,
            "severity": min(1.0, scale * (alpha * row["pixel_difference"] + (1 - alpha) * row["feature_difference"])),
        }
        for split in records.SPLITS
        if tables.shards(directory, "samples", split)
        for row in tables.read_rows(directory, "samples", SCALARS, split)
    ]


def examples(table: list[dict[str, Any]], rows: int) -> dict[str, list[dict[str, Any]]]:
    """Up to `rows` rows with the highest and with the lowest `severity`, and one of each mask kind, by the group's title."""
    real = sorted(
        (row for row in table if row["mask_kind"] not in ("sham", "full")), key=lambda row: (row["severity"], row["id"])
    )
    by_kind: Mapping[str, list[dict[str, Any]]] = defaultdict(list)
    for row in table:
        by_kind[row["mask_kind"]].append(row)
    kinds = [by_kind[kind][len(by_kind[kind]) // 2] for kind in records.MASK_KINDS if by_kind[kind]]
    worst = real[::-1][:rows]
    subtlest = [row for row in real[:rows] if row not in worst]
    return {"Worst first": worst, "Subtlest first": subtlest, "One of each mask": kinds}


def _pictures(directory: Path, ids: Iterable[str]) -> dict[str, dict[str, str]]:
    """Data URIs of the chosen samples' images; only shards that hold one are read, a few rows at a time."""
    wanted = set(ids)
    uris: dict[str, dict[str, str]] = {}
    for shard in tables.shards(directory, "samples"):
        here = {row["id"] for row in tables.read_shard(shard, ["id"])} & wanted
        if here:
            uris |= {row["id"]: _uris(row) for row in tables.read_shard(shard, ["id", *IMAGES], batch=1) if row["id"] in here}
    return uris


def _uris(row: Mapping[str, Any]) -> dict[str, str]:
    uris = {name: data_uri(cells.encoded(row, name)) for name in ("reference", "sr", "composite")}
    shown = overlay(*(cells.pixels(row, name) for name in ("composite", "mask", "degradation_map")))
    return uris | {"overlay": data_uri(codec.encode_rgb(shown))}


def overlay(composite: np.ndarray, mask: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The degradation map in colours over the darkened composite, with the mask's outline in white: uint8 (H, W, 3)."""
    inside = (mask > 0)[..., None]
    shown = np.where(inside, 0.35 * composite + 0.65 * _colours(values), 0.45 * composite).astype(np.uint8)
    outlines, _ = cv2.findContours((mask >= 128).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(np.ascontiguousarray(shown), outlines, -1, (255, 255, 255), 1)


def _colours(values: np.ndarray) -> np.ndarray:
    coloured = cv2.applyColorMap(np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
    return cv2.cvtColor(coloured, cv2.COLOR_BGR2RGB)


def colour_scale() -> str:
    """The colours from clean to worst as a data URI."""
    return data_uri(codec.encode_rgb(np.ascontiguousarray(_colours(np.tile(np.linspace(0, 1, 256, dtype=np.float32), (12, 1))))))
