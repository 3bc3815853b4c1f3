"""Label Studio tasks: what is sent for a sample, and what a person's work on it says. Pure."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fgr.annotate import brush
from fgr.annotate.kinds import kinds_of
from fgr.annotate.labelling import KINDS, SEVERITIES
from fgr.records import CHOICES

KEY = "fgr_id"  # our own key in a task's data: identity never depends on Label Studio's ids
PAINTED = 128  # strokes are anti-aliased: alpha from here on counts as painted
UNRATED = 3  # severity of a region that was left without stars
PAIR = "|"
STEP = np.uint8(255 // SEVERITIES)  # of a map in 8 bits, a star


class WorkError(ValueError):
    """A piece of work that cannot be taken over; the message is a counted reason."""


class Typed(BaseModel):
    """What is read of something that others wrote; other keys are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


Model = TypeVar("Model", bound=Typed)
Number = Annotated[float, Field(strict=True)]


class Item(Typed):
    """One item of an annotation's result: what a control holds, by the control's name."""

    id: int | str | None = None
    from_name: str | None = None
    original_width: int | None = None
    original_height: int | None = None
    value: dict[str, Any]


class Brush(Typed):
    """The value of the control `defect`; the code is checked when it is decoded."""

    rle: list[Any] | None = None
    brushlabels: list[str] | None = None


class Stars(Typed):
    """The value of the control `severity`."""

    rating: Number | None = None


class Quality(Typed):
    """The value of the control `score`."""

    number: Any = None


class Comment(Typed):
    """The value of the control `comment`."""

    text: list[str] | str | None = None


class Choice(Typed):
    """The value of the control `preference`."""

    choices: list[str] | None = None


def parsed(model: type[Model], content: Any, what: str) -> Model:
    """`content` as a `model`. WorkError that names `what` does not fit, and where."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        names = [part for part in error.errors(include_url=False, include_input=False)[0]["loc"][:1] if isinstance(part, str)]
        raise WorkError(f"{what} of an unknown form" + "".join(f" ({name})" for name in names)) from None


@dataclass(frozen=True, slots=True)
class Work:
    """One person's work on one sample: `score` 0…100, `severity` uint8 (H, W) in stars (0 = not painted)."""

    score: float
    severity: np.ndarray
    defects: list[dict[str, Any]]
    comment: str
    unrated: int

    @property
    def map8(self) -> np.ndarray:
        """The painted severity as uint8 (H, W), 0…255."""
        return self.severity * STEP


def defect_task(
    sample: str, composite: str, reference: str | None, regions: list[dict[str, Any]], version: str
) -> dict[str, Any]:
    """The task for one sample: image addresses, our key, and pre-painted regions (none: no prediction at all)."""
    data = {"composite": composite, KEY: sample} | ({"reference": reference} if reference else {})
    predictions = [{"model_version": version, "result": regions}] if regions else []
    return {"data": data, "predictions": predictions} if predictions else {"data": data}


def preference_task(left: str, right: str, addresses: tuple[str, str], reference: str | None) -> dict[str, Any]:
    """The task for a pair of samples."""
    data = {"left": addresses[0], "right": addresses[1], KEY: f"{left}{PAIR}{right}"}
    return {"data": data | ({"reference": reference} if reference else {})}


def levels(values: np.ndarray, smooth: float, floor: float, min_area: float) -> np.ndarray:
    """A float32 (H, W) map in [0, 1] as uint8 stars (H, W), 0…5: smoothed, below `floor` nothing, specks and holes removed.

    `smooth` is a sigma in pixels, `min_area` a share of the image. Brushes grow slow with many ragged regions.
    """
    soft = cv2.GaussianBlur(values.astype(np.float32), (0, 0), smooth) if smooth else values
    stars = np.ceil(np.clip(soft, 0, 1) * SEVERITIES).astype(np.uint8)
    stars[soft < floor] = 0
    out = np.zeros_like(stars)
    for star in range(1, SEVERITIES + 1):
        out[_without_specks(stars >= star, min_area * stars.size)] = star
    return out


def _without_specks(mask: np.ndarray, pixels: float) -> np.ndarray:
    """A boolean (H, W) mask without connected parts, painted or not, smaller than `pixels`."""
    for painted in (True, False):
        count, labels, stats, _ = cv2.connectedComponentsWithStats((mask == painted).astype(np.uint8), connectivity=4)
        small = stats[:, cv2.CC_STAT_AREA] < pixels
        small[0] = False
        if count > 1 and small.any():
            mask = np.where(small[labels], not painted, mask)
    return mask


def regions(stars: np.ndarray, kinds: np.ndarray | int) -> list[dict[str, Any]]:
    """Brush and rating results for uint8 stars (H, W): a disjoint region for each severity and kind, ids that follow from it.

    `kinds` are indices into `KINDS`, one for each pixel (H, W) or one for all.
    """
    height, width = stars.shape
    found: list[dict[str, Any]] = []
    pairs = np.where(stars > 0, stars.astype(np.int64) * len(KINDS) + kinds, 0)
    for pair in np.unique(pairs[pairs > 0]).tolist():
        star, kind = divmod(pair, len(KINDS))
        code = brush.encode(np.where(pairs == pair, 255, 0).astype(np.uint8))
        item = {
            "id": hashlib.sha256(bytes(code) + bytes([star])).hexdigest()[:10],
            "to_name": "composite",
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "origin": "prediction",
        }
        found.append(item | _brush("defect", "brushlabels", code, [KINDS[kind]]))
        found.append(item | _brush("severity", "rating", code, star))
    return found


def suggested(
    values: np.ndarray, image: np.ndarray, reference: np.ndarray, smooth: float, floor: float, min_area: float
) -> list[dict[str, Any]]:
    """What is painted beforehand for a float32 (H, W) map of an image: its `levels`, each part with the kind that fits best."""
    stars = levels(values, smooth, floor, min_area)
    return regions(stars, kinds_of(image, reference, stars > 0))


def _brush(control: str, kind: str, code: list[int], value: Any) -> dict[str, Any]:
    return {"from_name": control, "type": kind, "value": {"format": "rle", "rle": code, kind: value}}


def read_defects(result: Sequence[Any], height: int, width: int) -> Work:
    """The work in an annotation's result for an image of that size. WorkError with the reason when it cannot be read."""
    by_control: dict[str, list[Item]] = {}
    for content in result:
        item = parsed(Item, content, "a result")
        by_control.setdefault(str(item.from_name), []).append(item)
    stars = {item.id: parsed(Stars, item.value, "a result").rating for item in by_control.get("severity", [])}
    severity = np.zeros((height, width), np.uint8)
    defects: list[dict[str, Any]] = []
    for item in by_control.get("defect", []):
        defect, mask = _region(item, stars.get(item.id), height, width)
        if defect["area"]:
            np.maximum(severity, defect["severity"], out=severity, where=mask)
            defects.append(defect)
    rated = {identity for identity, star in stars.items() if star}
    unrated = sum(item.id not in rated for item in by_control.get("defect", []))
    return Work(_score(by_control.get("score", [])), severity, defects, _comment(by_control.get("comment", [])), unrated)


def read_preference(result: Sequence[Any]) -> str:
    """The choice in an annotation's result: left, right or tie. WorkError when there is none."""
    for item in (parsed(Item, content, "a result") for content in result):
        if item.from_name == "preference":
            chosen = parsed(Choice, item.value, "a result").choices or [""]
            if chosen[0] in CHOICES:
                return chosen[0]
    raise WorkError("no choice")


def _region(item: Item, rating: float | None, height: int, width: int) -> tuple[dict[str, Any], np.ndarray]:
    if (item.original_height, item.original_width) != (height, width):
        raise WorkError("painted on an image of another size")
    value = parsed(Brush, item.value, "a result")
    kind = (value.brushlabels or ["other"])[0]
    if kind not in KINDS:
        raise WorkError("a kind of defect that the interface does not have")
    if rating is not None and rating not in range(1, SEVERITIES + 1):
        raise WorkError("a severity that is not 1 to 5")
    try:
        mask = brush.decode(value.rle or [], height, width) >= PAINTED
    except brush.BrushError:
        raise WorkError("a broken brush stroke") from None
    return {"kind": kind, "severity": int(rating or UNRATED), "area": np.count_nonzero(mask) / mask.size}, mask


def _score(items: list[Item]) -> float:
    number = parsed(Quality, items[-1].value, "a result").number if items else None
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        raise WorkError("no score")
    if not 0 <= number <= 100:
        raise WorkError("a score outside 0 to 100")
    return float(number)


def _comment(items: list[Item]) -> str:
    """A comment as text; halves of surrogate pairs, which no file can hold, become question marks."""
    text = (parsed(Comment, items[-1].value, "a result").text or "") if items else ""
    return ("\n".join(text) if isinstance(text, list) else text).encode(errors="replace").decode()
