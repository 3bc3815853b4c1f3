"""The page of `fgr score --html`: images in order of their scores, each beside its map."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fgr import atomic
from fgr.report.dataset_sections import colour_scale
from fgr.report.section import Section, data_uri, jpeg, render, smaller

SIDE = 480  # pixels that a picture in the page has at most


def thumbnail(image: np.ndarray) -> str:
    """A uint8 (H, W, 3) image, made smaller to at most SIDE pixels, as a data URI."""
    return data_uri(jpeg(smaller(image, SIDE), 88))


def write(
    path: Path, title: str, records: Sequence[Mapping[str, Any]], pictures: Mapping[str, tuple[str, str]], notes: Sequence[str]
) -> None:
    """Write the page of ranked `records` to `path`; `pictures` are image and overlay of each as data URIs, by its name."""
    rows = [{**record, "picture": pictures[record["image"]][0], "map": pictures[record["image"]][1]} for record in records]
    calibrated = any("calibrated" in record for record in records)
    html = render("scores.html", rows=rows, notes=notes, calibrated=calibrated, scale=colour_scale())
    atomic.write_text(path, render("page.html", title=title, sections=[Section("Scores", html)]))
