"""A section of a report page: rendered from a template, with pictures inside it."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import cv2
import numpy as np


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page: `html` is trusted markup (rendered by `render`, which escapes all data)."""

    title: str
    html: str


def render(template: str, **data: Any) -> str:
    """Render a template of `fgr/report/templates`; everything in `data` is escaped unless the template says otherwise."""
    return _environment().get_template(template).render(**data)


def image_kind(image: bytes) -> str:
    """What an encoded image is: png, jpeg or webp."""
    return "png" if image.startswith(b"\x89PNG") else "jpeg" if image.startswith(b"\xff\xd8") else "webp"


def data_uri(image: bytes) -> str:
    """An encoded PNG, JPEG or WebP as a data URI."""
    return f"data:image/{image_kind(image)};base64,{base64.b64encode(image).decode()}"


def smaller(image: np.ndarray, side: int) -> np.ndarray:
    """A uint8 (H, W, 3) image with at most `side` pixels on each side."""
    factor = min(1.0, side / max(image.shape[:2]))
    size = tuple(max(1, round(old * factor)) for old in image.shape[1::-1])
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA) if factor < 1 else image


def jpeg(image: np.ndarray, quality: int) -> bytes:
    """A uint8 (H, W, 3) RGB image as JPEG."""
    return cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def dotted(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """A resolved recipe as (dotted key, value) rows."""
    rows: list[tuple[str, str]] = []
    for key, value in tree.items():
        rows += dotted(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [(f"{prefix}{key}", str(value))]
    return rows


@cache
def _environment() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("fgr.report")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
