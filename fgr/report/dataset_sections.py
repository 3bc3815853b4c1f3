"""Report on a dataset: counts, distributions; how maps are drawn."""

from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fgr import records
from fgr.dataset import manifest, tables
from fgr.images import codec
from fgr.report import charts
from fgr.report.section import Section, data_uri, render

SCALARS = (
    "id", "model", "mask_kind", "mask_area", "score", "pixel_difference", "feature_difference", "license", "attribution",
)  # fmt: skip


def title(directory: Path) -> str:
    """The page's title."""
    return f"{manifest.read(directory)['recipe']['name']} – fgr dataset"


def summary(directory: Path, rows: int) -> Section:
    """Counts by split, model and mask kind, drops, models, and how it was made."""
    content = manifest.read(directory)
    table = scalars(directory)
    names = {"split": "split", "SR model": "model", "mask": "mask_kind", "licence": "license"}
    counts = {name: Counter(row[column] for row in table) for name, column in names.items()}
    return Section(
        "Summary", render("summary.html", content=content, counts=counts, total=len(table), photographs=content["photographs"])
    )


def distributions(directory: Path, rows: int) -> Section:
    """Histograms of severity, area and score by SR model. Sham rows, which have no defect, are left out."""
    table = [row for row in scalars(directory) if row["mask_kind"] != "sham"]
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
            charts.histogram(grouped["severity"], 0, 1, x="severity"),
        ),
        (
            "Swapped area",
            "logarithmic scale",
            charts.histogram(grouped["mask_area"], 0.005, 1, log=True, x="share of the image"),
        ),
        ("Score", "1 − pooled map; 1 = no visible defect", charts.histogram(grouped["score"], 0, 1, x="score")),
    ]
    return Section("Distributions", render("panels.html", panels=panels, legend=charts.legend(models)))


def scalars(directory: Path) -> list[dict[str, Any]]:
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
