"""Planted defects in training: which crops carry one, where, how strong, and what their labels are."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import cv2
import numpy as np

from fgr.images import defects, masks, patterns, swap
from fgr.images.defects import structure_or_tint
from fgr.images.structural import tolerant_ssim_difference
from fgr.recipe.training_defects import Planted

SIGMA = 4.0  # of the Gaussian that makes areas of differences, in pixels, as the shipped datasets' maps have
MASKS = ("polygon", "ellipse", "stroke")
FIRST_STRENGTH, SLOPE, TRIES, LARGEST_STEP = 0.25, 1.5, 2, 8.0  # of the search: differences grow about as strength ** SLOPE
PROBE = 128  # side of the middle of an image in which the search compares
IN_PHOTOGRAPHS = frozenset(("grain", "sharpening", "smoothing", "blur", "texture-swap", "warp", "colour-cast"))
UNNATURAL = 0.25  # share of the floor that kinds have which photographs never show: lattices are seen where grain is not
CAN_IMPROVE = frozenset(("sharpening",))  # what can make an SR output better; blur brings some nearer, which distances forgive
RESTORED = (0.05, 0.6)  # shares of the way to the reference that SR outputs are moved
UNSEEN_LATTICE = (0.022, 0.026)  # strengths at which a lattice's amplitude is a step of 8 bits
WORDS = 65535  # a map's value 1 as it is stored


class Planting(NamedTuple):
    """A planted crop in the place of the composite, with its labels; maps are uint16 (H, W), value · 65535.

    `planted` is 1, `on_sr` says whether it is the SR output that carries the defect (else the reference), and `steady` whether
    score and map must change by no more and no less than the labels do: not at all where the change is below what is seen. Of a
    row without a defect all are 0. Where the SR output has been restored, it stands in the place of the composite, as the worse
    one, and the restored one in its own.
    """

    arrays: dict[str, np.ndarray]
    planted: float = 0.0
    on_sr: float = 0.0
    steady: float = 0.0


class Planter:
    """Plants defects into a share of the crops, as the recipe's `planted` says.

    `scale` puts differences on the scale of the dataset's maps (see `scale_of`). Without maps of whole SR outputs (`on_sr`
    false), which datasets of version 0.1 lack, references alone carry defects: what else an SR output has is not known.
    """

    def __init__(self, settings: Planted, scale: float, on_sr: bool) -> None:
        self.settings, self.scale, self.on_sr = settings, scale, on_sr
        self.kinds = [kind for kind in (*defects.KINDS, *settings.more_often) if kind not in settings.held_out]
        self.periods = [period for period in patterns.PERIODS if period not in settings.held_out_periods]

    def __call__(self, crop: Mapping[str, np.ndarray], rng: np.random.Generator) -> Planting:
        """What a crop's `composite`, `mask` and `target` become, and `planted_map`: where it is worse than before planting."""
        shape = crop["mask"].shape
        nothing = np.zeros(shape, np.uint16)
        if rng.random() >= self.settings.share:
            return Planting({"planted_map": nothing})
        reference, sr = (np.ascontiguousarray(crop[name]) for name in ("reference", "sr"))
        on_sr = self.on_sr and rng.random() < 0.5
        if on_sr and self.settings.restored and rng.random() < self.settings.restored:
            return Planting(self._restored(reference, sr, crop["sr_target"], rng), 1.0, 1.0, 1.0)
        plain, known = (sr, crop["sr_target"]) if on_sr else (reference, nothing)
        whole = np.full(shape, 255, np.uint8)
        if rng.random() < self.settings.unseen:
            arrays = {"composite": self._unseen(plain, rng), "mask": whole, "target": known, "planted_map": nothing}
            return Planting(arrays, 1.0, float(on_sr), 1.0)
        mask, kind = self._mask(rng, *shape), self.kinds[rng.integers(len(self.kinds))]
        planted = swap.composite(self._planted(plain, kind, rng), plain, mask)
        worse = self.map(plain, planted, kind)
        if on_sr and kind in CAN_IMPROVE:
            before, after = (smoothed(structure_or_tint(reference, image)) for image in (plain, planted))
            worse = worse * (after > before)
        worse = np.rint(worse * (mask > 0) * WORDS).astype(np.uint16)
        arrays = {
            "composite": planted,
            "mask": whole if on_sr else mask,
            "target": np.maximum(known, worse),
            "planted_map": worse,
        }
        return Planting(arrays, 1.0, float(on_sr))

    def map(self, plain: np.ndarray, planted: np.ndarray, kind: str) -> np.ndarray:
        """The map of `planted` against `plain`, float32 (H, W) in [0, 1]: 0 where nobody sees the defect."""
        floor = self.settings.floor * (1 if kind in IN_PHOTOGRAPHS else UNNATURAL)
        return np.minimum(visible(smoothed(structure_or_tint(plain, planted)), floor) * np.float32(self.scale), 1)

    def _mask(self, rng: np.random.Generator, height: int, width: int) -> np.ndarray:
        settings = self.settings
        if rng.random() < settings.full:
            return np.full((height, width), 255, np.uint8)
        return masks.draw_mask(MASKS[rng.integers(len(MASKS))], rng, height, width, settings.area, settings.feather)

    def _planted(self, plain: np.ndarray, kind: str, rng: np.random.Generator) -> np.ndarray:
        """A defect all over the image, its mean map about log-uniform in the recipe's range."""
        probe = tuple(slice(max(0, (side - PROBE) // 2), (side + PROBE) // 2) for side in plain.shape[:2])
        apply = defects.draw(kind, rng, (plain.shape[0], plain.shape[1]), self.periods)
        low, high = self.settings.severity
        wanted, strength = math.exp(rng.uniform(math.log(low), math.log(high))), FIRST_STRENGTH
        for _ in range(TRIES):
            changed = defects.at_strength(plain, apply, strength)
            found = self.scale * float(structure_or_tint(plain[probe], changed[probe]).mean())
            step = (wanted / max(found, 1e-4)) ** (1 / SLOPE)
            strength = float(np.clip(strength * np.clip(step, 1 / LARGEST_STEP, LARGEST_STEP), 0.005, 1))
        return defects.at_strength(plain, apply, strength)

    def _restored(
        self, reference: np.ndarray, sr: np.ndarray, known: np.ndarray, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """The SR output and the same moved a part of the way to its reference, all over or under a mask.

        1 − SSIM falls with the square of what is left of an error, and the map with it.
        """
        mask = self._mask(rng, *known.shape)
        share = rng.uniform(*RESTORED) * (mask.astype(np.float32) / 255)
        moved = sr + share[..., None] * (reference.astype(np.float32) - sr)
        better = np.rint(known * (1 - share) ** 2).astype(np.uint16)
        return {
            "sr": np.rint(moved).astype(np.uint8), "sr_target": better, "composite": sr, "target": known,
            "mask": np.full(known.shape, 255, np.uint8), "planted_map": known - better,
        }  # fmt: skip

    def _unseen(self, plain: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Noise of one or two steps of 8 bits, or as faint a lattice: nothing that people or maps see, much for a network."""
        lattices = [kind for kind in patterns.LATTICES if kind in self.kinds]
        if lattices and rng.random() < 0.5:
            apply = defects.draw(lattices[rng.integers(len(lattices))], rng, (plain.shape[0], plain.shape[1]), self.periods)
            return defects.at_strength(plain, apply, float(rng.uniform(*UNSEEN_LATTICE)))
        size = int(rng.integers(1, 3))
        noise = rng.integers(-size, size + 1, plain.shape, np.int16)
        return np.clip(plain + noise, 0, 255).astype(np.uint8)


def smoothed(difference: np.ndarray) -> np.ndarray:
    """Differences, float32 (H, W), as areas."""
    return cv2.GaussianBlur(difference, (0, 0), SIGMA, borderType=cv2.BORDER_REFLECT)


def visible(difference: np.ndarray, floor: float) -> np.ndarray:
    """`difference` where it is seen: 0 up to `floor`, all of it from twice that, in between a share that grows evenly.

    Grain of two steps of 8 bits on flat ground has 0.06: photographs are full of it, and a map that marks it marks them.
    """
    return difference * np.clip(difference / np.float32(floor) - 1, 0, 1) if floor else difference


def scale_of(batches: Iterable[Mapping[str, Any]]) -> float:
    """The factor from smoothed tolerant 1 − SSIM to the dataset's maps, by their sums over composites in `batches`.

    So planted defects are as bad as those of the dataset that look like them, whatever its maps are made of. 1 if no composite of
    the batches has a defect.
    """
    maps = differences = 0.0
    for batch in batches:
        for reference, sr, mask, target in zip(
            *(batch[name].numpy() for name in ("reference", "sr", "mask", "target")), strict=True
        ):
            if target.any():  # not a sham
                images = (np.ascontiguousarray(image.transpose(1, 2, 0)) for image in (reference, sr))
                maps += float(target.sum())
                differences += float((smoothed(tolerant_ssim_difference(*images)) * mask[0]).sum())
    return float(np.clip(maps / differences, 0.1, 10)) if differences > 0 else 1.0
