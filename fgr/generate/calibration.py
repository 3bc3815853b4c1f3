"""Calibration: the one scale of a dataset's degradation maps, from the first restored images."""

import json
from collections import Counter

import numpy as np

from fgr import atomic
from fgr.errors import UserError
from fgr.generate import plan, samples
from fgr.generate.factory import MakerFactory
from fgr.generate.shards import NotFiniteLimit
from fgr.progress import Progress
from fgr.sr import parse_name
from fgr.sr.folder import Folder

BINS = 1 << 16


class DifferenceHistogram:
    """A histogram over [0, 1] of combined differences: memory does not grow with the number of maps."""

    def __init__(self) -> None:
        self.counts = np.zeros(BINS, np.int64)

    def add(self, combined: np.ndarray) -> None:
        """Count a float (H, W) map of combined differences in [0, 1]."""
        self.counts += np.bincount(np.minimum(combined.ravel() * BINS, BINS - 1).astype(np.int64), minlength=BINS)

    def scale(self, percentile: float) -> float:
        """1 / the `percentile`-th percentile (upper edge of its bin), so that this difference becomes 1 in a map.

        ValueError if nothing was counted or the percentile is zero: the restored images equal their references.
        """
        total = int(self.counts.sum())
        if not total:
            raise ValueError("no difference was counted")
        position = int(np.searchsorted(np.cumsum(self.counts), np.ceil(total * percentile / 100)))
        if position == 0:
            raise ValueError("the restored images equal their references")
        return BINS / (position + 1)


def calibrate(factory: MakerFactory, device: str) -> None:
    """Write the run's calibration, from its first references. UserError if nothing differs, or NaN comes too often."""
    recipe, references = factory.recipe, plan.load(factory.workspace.plan)
    maker = factory.maker(device, references, map_scale=1.0, calibration={})
    by_split = references.source_ids()
    source_ids = by_split.get("train") or next(ids for ids in by_split.values() if ids)
    models = [name for name in recipe.models if parse_name(name).kind != "planted"] or recipe.models  # the scale is SR models'
    number = min(recipe.map.calibration_pairs, len(source_ids) * len(models))
    for upscaler in maker.models.upscalers.values():
        if isinstance(upscaler, Folder):
            upscaler.expect_some(dict.fromkeys(one.photo for one in references.references.values()))
    histogram, pairs, dropped = DifferenceHistogram(), 0, Counter[str]()
    with Progress("calibration", number, "images") as progress:
        count = NotFiniteLimit(progress.advance, number, recipe.not_finite)
        for pair in maker.pairs(samples.candidates(source_ids, models, 1, number)):
            if isinstance(pair, samples.Pair):
                histogram.add(pair.combined)
                pairs += 1
            else:
                dropped[pair] += 1
            count(1, {pair: 1} if isinstance(pair, str) else {})
    if not pairs:
        reasons = ", ".join(f"{reason} {times}" for reason, times in sorted(dropped.items()))
        raise UserError(
            f"None of the first {number} restored images can be used; dropped: {reasons}.",
            "Put right what is named above, or raise map.calibration_pairs.",
        )
    try:
        scale = histogram.scale(recipe.map.percentile)
    except ValueError as error:
        raise UserError(
            f"The degradation maps cannot be scaled: {error}.", "Choose SR models or a degradation that change the photographs."
        ) from None
    content = {
        "scale": scale, "percentile": recipe.map.percentile, "pairs": pairs,
        "features": maker.models.features.name, "features_digest": maker.models.features.digest,
        "segments": maker.models.segments.name, "segments_digest": maker.models.segments.digest,
    }  # fmt: skip
    atomic.write_once(factory.workspace.calibration, json.dumps(content, sort_keys=True).encode())
