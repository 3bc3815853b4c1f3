"""Co-evolution: a stage of the reward model learns from the policy's outputs before it takes over."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fgr import recipe as recipes
from fgr.dataset import manifest
from fgr.errors import UserError
from fgr.generate import samples
from fgr.generate.segments import Segments, open_segments
from fgr.images import codec, difference
from fgr.images.arrays import as_images
from fgr.metrics.features import FeatureDifference, reopen_features
from fgr.progress import Progress
from fgr.recipe.reward import Loss, RewardRecipe
from fgr.recipe.rlhf import Refresh
from fgr.reward import splits
from fgr.reward.criterion import Criterion
from fgr.reward.data import Draws, Samples, loader
from fgr.reward.model import FinPercepRM
from fgr.reward.phase import parameter_groups
from fgr.reward.planting import Planter, scale_of
from fgr.rlhf.inputs import Replayed, stacked
from fgr.rlhf.policy import Policy
from fgr.training import directory
from fgr.training.optimization import Optimization

Row = dict[str, Any]
# Of models whose own recipe is not known; L1 would pull uncertain pixels to 0, their median.
UNKNOWN = RewardRecipe(name="unknown", loss=Loss(map_kind="bce"))
SCALE_SAMPLES = 64  # crops from which the scale of planted defects is taken


class CompositeMaker:
    """Makes composites of a policy's outputs as `fgr generate` made the dataset's: masks, segments, map, calibration, pooling.

    UserError if the dataset directory has no manifest (a dataset on the Hub has to be downloaded), or if the weights of its
    features or segments are absent.
    """

    def __init__(self, data: Path, device: str) -> None:
        content = manifest.read(data)
        self._recipe = recipes.stored(content["recipe"], "generate", f"of {data}")
        self._map_scale = content["calibration"]["scale"]
        self._features: FeatureDifference = reopen_features(
            self._recipe.map.features, device, content["calibration"], self._recipe.map.weights
        )
        self._segments: Segments = open_segments(self._recipe.masks.segments, device)

    def whole_map(self, reference: np.ndarray, sr: np.ndarray) -> np.ndarray:
        """The degradation map of a whole restored image, uint8 (H, W, 3), by the dataset's own difference: float32 (H, W)."""
        return difference.whole_map(self._pair(reference, sr).combined, self._map_scale)

    def _pair(self, reference: np.ndarray, sr: np.ndarray) -> samples.Pair:
        map_ = self._recipe.map
        feature = self._features.difference(reference, sr)
        return samples.make_pair(reference, sr, feature, map_.pixel, map_.alpha, map_.smooth)

    def rows(self, policy: Policy, inputs: Replayed, count: int, seed: int, device: torch.device) -> list[Row]:
        """`count` rows, or fewer where no mask gives a severity in range, as the reward model's training takes them."""
        order = np.random.default_rng(seed).permutation(len(inputs))
        rows = (self._row(policy, inputs, int(order[number % len(order)]), seed + number, device) for number in range(count))
        return [row for row in rows if row is not None]

    def _row(self, policy: Policy, inputs: Replayed, index: int, seed: int, device: torch.device) -> Row | None:
        pair = inputs[index]
        reference = pair[1]
        with torch.no_grad():
            sr = as_images(policy(stacked([pair]).low.to(device)))[0]
        pair_of_images = self._pair(reference, sr)
        semantic = samples.mask_kind(seed, self._recipe.masks.kinds) == "semantic"
        segments = self._segments.segments(reference) if semantic else None
        sample = samples.make_sample(pair_of_images, seed, self._recipe, self._map_scale, segments)
        if sample is None:
            return None
        images = {
            "reference": codec.encode_rgb(reference),
            "sr": codec.encode_rgb(sr),
            "composite": codec.encode_rgb(sample.composite),
        }
        images |= {"mask": codec.encode_mask(sample.mask), "degradation_map": codec.encode_map(sample.degradation_map)}
        images["sr_map"] = codec.encode_map(difference.whole_map(pair_of_images.combined, self._map_scale))
        return {name: {"bytes": data} for name, data in images.items()} | {"id": f"policy-{seed}", "mask_kind": sample.mask_kind}


def recipe_of(folder: Path) -> RewardRecipe:
    """The recipe that a reward model was trained by, without people's labels; `UNKNOWN` where its run.json is not there."""
    for run in (folder, folder.parent):
        if (run / "run.json").is_file() and (begun := directory.read(run))["kind"] == "reward":
            found: RewardRecipe = recipes.stored(begun["recipe"], "reward", f"of {run}")
            loss = found.loss.model_copy(update={"human_score": 0.0, "human_map": 0.0, "preference": 0.0})
            return found.model_copy(update={"loss": loss})
    return UNKNOWN


def refreshed(
    model: FinPercepRM, rows: Sequence[Row], dataset: Any, settings: Refresh, *, crop: int, batch: int, seed: int,
    device: torch.device, recipe: RewardRecipe = UNKNOWN,
) -> FinPercepRM:  # fmt: skip
    """A copy of `model` trained on batches of which `settings.share` are the policy's `rows` and the rest the dataset's.

    `recipe`, the reward model's own, says by which losses, what of the encoder learns and how fast, which defects are planted
    into both, and whether images are shown as randomised copies. The scores of clean images are held to what `model` itself
    gives (L_align), so that its scale stays. UserError: no rows.
    """
    if not rows:
        raise UserError(
            "None of the policy's outputs made a composite: no mask gave a severity in the dataset's range.",
            "Set curriculum.refresh.steps=0: the policy hardly differs from the references.",
        )
    base, learner = (_copied(model, device) for _ in range(2))
    base.eval().requires_grad_(False)
    learner.choose_trained(recipe.encoder.train)
    criterion = Criterion(recipe.loss, lambda image: base(image)[0], planted=recipe.planted, randomize=recipe.training.randomize)
    training = recipe.training.model_copy(update={"lr": settings.lr})
    optimizer = torch.optim.AdamW(parameter_groups(learner, training), weight_decay=training.weight_decay)
    optimization = Optimization(learner, optimizer, training.clip)
    fresh = min(batch - 1, max(1, round(settings.share * batch)))
    planter = _planter(recipe, dataset, crop, seed)
    batches = _mixed(rows, dataset, fresh, batch - fresh, crop, seed, settings.steps, planter)
    scale, cell = float(model.score_std), model.cell if model.stage else 0

    def forward(mixed: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        parts = criterion(learner, {name: value.to(device) for name, value in mixed.items()}, scale, cell)
        optimization.backward(parts["total"])
        return {}

    with Progress(f"refresh RM_{model.stage}", settings.steps, "steps") as progress:
        for _ in range(settings.steps):
            optimization.accumulate(batches, forward)
            optimization.clip_gradients()
            optimization.step()
            progress.advance()
    return learner.eval().requires_grad_(False)


def _copied(model: FinPercepRM, device: torch.device) -> FinPercepRM:
    copy = FinPercepRM(**model.settings).to(device)
    copy.load_state_dict(model.state_dict())
    return copy


def _planter(recipe: RewardRecipe, dataset: Any, crop: int, seed: int) -> Planter | None:
    """Plants the recipe's share of defects, scaled to the dataset's maps; None where that is 0."""
    if not recipe.planted.share:
        return None
    batch = min(8, SCALE_SAMPLES)
    crops = loader(Samples(dataset, crop), Draws(len(dataset), batch, seed, SCALE_SAMPLES // batch), 0)
    return Planter(recipe.planted, scale_of(crops), splits.has_sr_map(dataset))


def _mixed(
    rows: Sequence[Row], dataset: Any, fresh: int, known: int, crop: int, seed: int, steps: int, planter: Planter | None
) -> Iterator[dict[str, torch.Tensor]]:
    parts = [(Samples(part, crop, True, planter=planter), count) for part, count in ((rows, fresh), (dataset, known))]
    loaders = [loader(part, Draws(len(part), count, seed + place, steps), 0) for place, (part, count) in enumerate(parts)]
    for first, second in zip(*loaders, strict=True):
        shared = first.keys() & second.keys()  # a dataset of an earlier version has no sr_target
        yield {name: torch.cat([first[name], second[name]]) for name in shared}
