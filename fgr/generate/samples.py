"""Which samples a dataset has, and how one is made of a reference and its restored image. Pure."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, islice

import numpy as np

from fgr.images import codec, difference, masks, swap
from fgr.recipe.generate import GenerateRecipe, Kinds
from fgr.records import MASK_KINDS


@dataclass(frozen=True, slots=True)
class Candidate:
    """A sample to be made: the `composite`-th of what `model` makes of the `round`-th degradation of a reference."""

    source_id: str
    round: int
    model: str
    composite: int


@dataclass(frozen=True, slots=True)
class Pair:
    """A reference and its restored image, uint8 (H, W, 3), with their differences, float32 (H, W)."""

    reference: np.ndarray
    sr: np.ndarray
    pixel: np.ndarray
    feature: np.ndarray
    combined: np.ndarray


@dataclass(frozen=True, slots=True)
class Sample:
    """A finished composite: arrays as in the table `samples`, the map as float32 (H, W) in [0, 1]."""

    composite: np.ndarray
    mask: np.ndarray
    degradation_map: np.ndarray
    mask_kind: str
    score: float
    pixel_difference: float
    feature_difference: float


def seed_of(*parts: object) -> int:
    """A seed in [0, 2**63) that depends on the parts' texts alone."""
    text = "\x1f".join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def allot(total: int, references: Mapping[str, int]) -> dict[str, int]:
    """Samples for each split in proportion to its references: they add up to `total`, and no split with references goes empty."""
    have = {split: number for split, number in references.items() if number}
    if total < len(have):
        have = dict(sorted(have.items(), key=lambda item: -item[1])[:total])
    everything = sum(have.values())
    shares = {split: max(1, total * number // everything) for split, number in have.items()}
    by_remainder = sorted(have, key=lambda split: (-(total * have[split] % everything), split))
    largest = max(have, key=lambda split: have[split])
    left = total - sum(shares.values())
    for split in islice((name for _ in count() for name in by_remainder), max(left, 0)):
        shares[split] += 1
    shares[largest] += min(left, 0)
    return shares


def candidates(source_ids: Sequence[str], models: Sequence[str], composites: int, total: int) -> list[Candidate]:
    """The first `total` candidates: every reference with every model, then again with another degradation."""
    return list(islice(_endless(source_ids, models, composites), total))


def _endless(source_ids: Sequence[str], models: Sequence[str], composites: int) -> Iterator[Candidate]:
    for turn in count():
        for source_id in source_ids:
            for model in models:
                for composite in range(composites):
                    yield Candidate(source_id, turn, model, composite)


def make_pair(reference: np.ndarray, sr: np.ndarray, feature: np.ndarray, pixel: str, alpha: float, smooth: float) -> Pair:
    """The differences of a restored image, uint8 (H, W, 3), to its reference.

    `feature` is their feature difference (H, W), `pixel` names the pixel difference.
    """
    by_pixel = difference.PIXEL_DIFFERENCES[pixel](reference, sr)
    return Pair(reference, sr, by_pixel, feature, difference.combined(by_pixel, feature, alpha, smooth))


def make_sample(
    pair: Pair, seed: int, recipe: GenerateRecipe, map_scale: float, segments: np.ndarray | None = None
) -> Sample | None:
    """Draw a mask, paste, and label as `recipe` says; None if no attempt gave a severity in range.

    `map_scale` is the calibration's scale of degradation maps; `segments` is the int32 (H, W) label image that semantic masks
    need.
    """
    rng = np.random.default_rng(seed)
    kind = mask_kind(seed, recipe.masks.kinds)
    height, width = pair.reference.shape[:2]
    area, feather = recipe.masks.area, recipe.masks.feather
    for _ in range(1 if kind in ("full", "sham") else recipe.attempts):
        mask = masks.draw_mask(kind, rng, height, width, area=area, feather=feather, segments=segments)
        sample = _label(pair, kind, mask, recipe, map_scale)
        low, high = recipe.severity
        if kind == "sham" or low <= difference.severity(sample.degradation_map, mask) <= high:
            return sample
    return None


def mask_kind(seed: int, kinds: Kinds) -> str:
    """The mask kind that `seed` draws, with the recipe's weights."""
    names = sorted(MASK_KINDS)
    weights = np.array([getattr(kinds, name) for name in names], np.float64)
    return names[int(np.random.default_rng([seed, 1]).choice(len(names), p=weights / weights.sum()))]


def _label(pair: Pair, kind: str, mask: np.ndarray, recipe: GenerateRecipe, map_scale: float) -> Sample:
    source = swap.sham_source(pair.reference, recipe.masks.sham_shift) if kind == "sham" else pair.sr
    combined = np.zeros_like(pair.combined) if kind == "sham" else pair.combined
    degradation_map = codec.quantised(difference.degradation_map(combined, mask, map_scale))
    inside = mask > 0
    pixel, feature = (0.0, 0.0) if kind == "sham" else (float(pair.pixel[inside].mean()), float(pair.feature[inside].mean()))
    pooling = recipe.map.pooling
    return Sample(
        composite=swap.composite(source, pair.reference, mask), mask=mask, degradation_map=degradation_map, mask_kind=kind,
        score=1 - difference.pooled(degradation_map, pooling.kind, pooling.q, pooling.p),
        pixel_difference=pixel, feature_difference=feature,
    )  # fmt: skip
