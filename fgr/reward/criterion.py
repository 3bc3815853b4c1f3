"""The criterion of a batch: outputs on clean, composite and restored images against the labels."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from fgr.metrics.registry import Score
from fgr.recipe.reward import Loss, People
from fgr.recipe.training_defects import Planted
from fgr.reward import loss
from fgr.reward.randomize import Copy, randomized, seed_of

TRIPLET = ("reference", "composite", "sr")
RANK_WHILE_DISTILLING = 0.25  # the weight of L_rank, as a share of the recipe's, in the first phase
NEAR = 9  # pixels over which differences are averaged
VISIBLE = 0.002  # mean of the target map over a crop from which a composite must score below its reference
MAP_MARGIN = 0.5  # share of its label by which a map lies above that of the reference
OUTSIDE = 0.05  # share of the crop outside the mask from which the restored image must score below the composite
PAIRED = ("score_pairs", "map_pairs", "steady")  # parts whose weights are the recipe's `planted`, not its `loss`
Parts = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Criterion:
    """The loss of a phase, as the recipe's `loss` says. `base` gives S_base; None in the first phase, which distils `target`."""

    settings: Loss
    base: Score | None
    target: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None
    planted: Planted | None = None  # weights and margins of its pairs, wanted where a batch has planted images
    randomize: bool = False  # judge randomised copies; never while distilling
    labelled: People | None = None  # weights of people's labels, wanted where a batch has images that they labelled

    def __call__(self, model: Any, batch: Mapping[str, torch.Tensor], scale: float, cell: int) -> Parts:
        """The parts of the loss and their weighted `total`.

        `batch` is as from `data.loader` on the model's device; `scale` is the standard deviation that margins and score
        errors are measured in, `cell` the side in pixels of what the stage's map can tell apart (0 = it has no map).
        """
        if self.base is None:
            return self._distil(model, batch, scale)
        images = {name: batch[name].float() / 255 for name in TRIPLET}
        scores, maps, *places = self._answers(model, images, "planted" in batch)
        reference, composite, sr = scores.float().chunk(3)
        with torch.no_grad():
            base = self.base(images["reference"]).float()
        parts = {"align": loss.align_loss(reference, base) / scale}
        order = orders(batch)
        if self.settings.rank_of == "place":
            parts["rank"] = self._place_rank(places[0].float() / scale, images, batch)
        else:
            parts["rank"] = loss.rank_loss(
                sr / scale, composite / scale, reference / scale, self._margins(batch), *order, self.settings.rank_kind
            )
        if cell:
            parts |= self._maps(maps.float(), batch, cell)
        if cell and self.settings.map_rank:
            parts["map_rank"] = _map_rank(maps, images)
        if "planted" in batch:
            parts |= self._planted_pairs(places[0].float() / scale, maps, batch, cell)
        if self.settings.human_score:
            rated = batch["human_score"].float(), batch["human_weight"].float()
            parts["human_score"] = loss.human_loss(composite / scale, *rated)
        return parts | {"total": self._total(parts)}

    def preference(self, model: Any, left: torch.Tensor, right: torch.Tensor, choice: torch.Tensor, scale: float) -> torch.Tensor:
        """The weighted Bradley–Terry loss of pairs of uint8 images (B, 3, H, W)."""
        scores, _ = model(torch.cat([left, right]).float() / 255)
        first, second = (scores / scale).chunk(2)
        return self.settings.preference * loss.preference_loss(first, second, choice)

    def people(self, model: Any, batch: Mapping[str, torch.Tensor], scale: float, cell: int) -> Parts:
        """The parts of the loss of images that people labelled (see `people_labels.PeopleCrops`), and their weighted `total`."""
        assert self.labelled is not None
        scores, maps = self._answers(model, {"people": batch["people_image"].float() / 255})[:2]
        scores, rated = scores.float() / scale, batch["people_rated"].float()
        short = (scores - batch["people_target"].float() / scale).abs()
        of_sets = [
            loss.human_loss(scores, batch["people_opinion"].float(), rated * (batch["people_source"] == source))
            for source in batch["people_source"].unique()
        ]
        parts = {"people_score": loss.weighted_mean(short, rated), "people_order": torch.stack(of_sets).mean()}
        if cell:
            target, known = loss.pooled_target(batch["people_map"], batch["people_known"], cell)
            parts["people_map"] = loss.map_loss(maps.float(), target, known, self.settings.map_kind)
        weighted = [getattr(self.labelled, name.removeprefix("people_")) * part for name, part in parts.items()]
        return parts | {"total": torch.stack(weighted).sum()}

    def _margins(self, batch: Mapping[str, torch.Tensor]) -> tuple[loss.Margin, loss.Margin]:
        first, second = self.settings.margins
        if self.settings.margins_of == "image":
            return first, second
        if self.settings.margins_of == "map":
            target, known = labels(batch)
            _, composite, sr = (target * known).mean((1, 2, 3)).chunk(3)
            return first * (sr - composite).clamp_min(0), second * composite
        area = batch["mask"].mean((1, 2, 3))
        return first * (1 - area), second * area

    def _place_rank(self, local: torch.Tensor, images: Parts, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """S_SR < S_GT and, where it is visible, S_syn < S_GT, place by place of the deepest feature.

        Each place counts by how much the images differ there: outside the mask, composite and reference do not. With margins of
        the map it counts by its label, each image alike, and a place's margin is in proportion to its label.
        """
        reference, composite, sr = local.chunk(3)
        if self.settings.margins_of == "map":
            target, known = labels(batch)
            _, *wanted = functional.adaptive_avg_pool2d(target * known, (local.shape[-2], local.shape[-1])).squeeze(1).chunk(3)
            return sum(  # type: ignore[return-value]
                loss.image_mean(self._short(reference - worse, self.settings.margins[1] * at_places), at_places, VISIBLE)
                for worse, at_places in zip((composite, sr), wanted, strict=True)
            )
        visible = orders(batch)[1]
        height, width = local.shape[-2:]
        total = torch.zeros((), device=local.device)
        for image, worse, counts in (("composite", composite, visible), ("sr", sr, torch.ones_like(visible))):
            differs = (images["reference"] - images[image]).abs().mean(1)
            weight = functional.adaptive_avg_pool2d(differs, (height, width)) * counts.view(-1, 1, 1)
            total = total + loss.pair_loss(reference, worse, self.settings.margins[1], weight, self.settings.rank_kind)
        return total

    def _short(self, difference: torch.Tensor, margin: torch.Tensor) -> torch.Tensor:
        return loss.PAIR_LOSSES[self.settings.rank_kind](margin - difference)

    def _maps(self, maps: torch.Tensor, batch: Mapping[str, torch.Tensor], cell: int) -> Parts:
        target, known = labels(batch)
        target, known = loss.pooled_target(target, known, cell)
        parts = {"map": loss.map_loss(maps, target, known, self.settings.map_kind)}
        if self.settings.map_margin:
            parts["map_margin"] = _map_margin(maps, target, known)
        if self.settings.human_map:
            weight = batch["human_map_weight"].view(-1, 1, 1, 1)
            seen = weight.expand_as(batch["human_map"]).float()
            human, seen = loss.pooled_target(batch["human_map"], seen, cell)
            composite = maps.chunk(3)[1]
            error = loss.MAP_LOSSES[self.settings.map_kind](composite, human)
            parts["human_map"] = loss.weighted_mean(error, seen)
        return parts

    def _planted_pairs(self, local: torch.Tensor, maps: torch.Tensor, batch: Mapping[str, torch.Tensor], cell: int) -> Parts:
        """Planted images against the same without the defect: lower scores, higher maps. Where `steady` says that the change of
        the map is known, those of score and map are held to it: to none of what is not seen."""
        assert self.planted is not None
        on_sr = batch["planted_on_sr"].view(-1, 1, 1, 1) > 0
        reference, composite, sr = local.unsqueeze(1).chunk(3)
        plain = torch.where(on_sr, sr, reference)
        defect, steady = batch["planted_map"], batch["steady"].view(-1, 1, 1, 1)
        known = torch.where(on_sr, batch["sr_target"], 0) if "sr_target" in batch else torch.zeros_like(defect)
        change = batch["target"] - known  # 0 of what is not seen
        score_margin, *map_margins = self.planted.margins
        at_places, due = (functional.adaptive_avg_pool2d(map_, (local.shape[-2], local.shape[-1])) for map_ in (defect, change))
        parts = {
            "score_pairs": loss.image_mean(self._short(plain - composite, score_margin * at_places), at_places, VISIBLE),
            "steady": loss.image_mean((plain - composite - score_margin * due).abs(), steady.expand_as(plain)),
        }
        if not cell:
            return parts
        clean, worse, restored = maps.float().chunk(3)
        plain_map = torch.where(on_sr, restored, clean)
        everywhere = torch.ones_like(defect)
        defect, known, change = (loss.pooled_target(map_, everywhere, cell)[0] for map_ in (defect, known, change))
        parts["map_pairs"] = loss.map_pair_loss(plain_map, worse, defect, 1 - known, (map_margins[0], map_margins[1]))
        parts["steady"] = parts["steady"] + loss.image_mean((worse - plain_map - change).abs(), steady.expand_as(plain_map))
        return parts

    def _distil(self, model: Any, batch: Mapping[str, torch.Tensor], scale: float) -> Parts:
        assert self.target is not None
        images = {name: batch[name].float() / 255 for name in (*TRIPLET, "distorted") if name in batch}
        stacked, count = torch.cat(list(images.values())), len(images["reference"])
        with torch.no_grad():
            target = self.target(stacked, images["reference"].repeat(len(images), 1, 1, 1)).float() / scale
        answers = self._answers(model, images)
        scores = answers[0].float() / scale
        # the falls from the clean image too: there the photograph's content cancels out, and what harms it remains
        falls = [values[:count].repeat(len(images) - 1) - values[count:] for values in (scores, target)]
        error = functional.smooth_l1_loss(scores, target) + functional.smooth_l1_loss(falls[0], falls[1])
        if len(answers) == 2:
            return {"distil": error, "total": error}
        rank = self._place_rank(answers[2][: 3 * count].float() / scale, images, batch)
        return {"distil": error, "rank": rank, "total": error + RANK_WHILE_DISTILLING * self.settings.rank * rank}

    def _answers(self, model: Any, images: Parts, paired: bool = False) -> tuple[torch.Tensor, ...]:
        """Scores, maps and, if places are ranked or images `paired`, local scores."""
        stacked = torch.cat(list(images.values()))
        copy = randomized(stacked, seed_of(stacked)) if self.randomize else Copy(stacked, (0, 0))
        places = paired or self.settings.rank_of == "place"
        scores, maps, *local = model(copy.images, places=True) if places else model(copy.images)
        return scores, copy.back(maps), *local

    def _total(self, parts: Parts) -> torch.Tensor:
        weighted = [getattr(self.planted if name in PAIRED else self.settings, name) * part for name, part in parts.items()]
        return torch.stack(weighted).sum()


def _map_rank(maps: torch.Tensor, images: Parts) -> torch.Tensor:
    """Of restored images against their references: what masks leave out, and labels therefore do not know."""
    reference, _, sr = maps.chunk(3)
    differs = (images["sr"] - images["reference"]).abs().mean(1, keepdim=True)
    return loss.map_rank_loss(reference, sr, functional.avg_pool2d(differs, NEAR, 1, NEAR // 2))


def _map_margin(maps: torch.Tensor, target: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Composites and restored images against their references, by a share of what is known of their maps."""
    reference, *worse = maps.float().chunk(3)
    _, *wanted = (target * known).chunk(3)
    parts = [loss.map_margin_loss(reference, map_, MAP_MARGIN * label, label) for map_, label in zip(worse, wanted, strict=True)]
    return torch.stack(parts).mean()


def labels(batch: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Target maps (3B, 1, H, W) of reference, composite and SR image, and where they are known (0 or 1).

    A clean image's map is 0. A restored image's is `sr_target`, known everywhere, where the dataset has `sr_map`. In datasets of
    earlier versions it is that of its composite where the mask is full, since both are one image there; outside it nothing is
    known of it, whatever features made the map.
    """
    target, mask = batch["target"], batch["mask"]
    everywhere = torch.ones_like(mask)
    if "sr_target" in batch:
        return torch.cat([torch.zeros_like(target), target, batch["sr_target"]]), everywhere.repeat(3, 1, 1, 1)
    sham = (target.amax((1, 2, 3), keepdim=True) > 0).to(
        mask.dtype
    )  # a sham row pastes the reference: it says nothing of the SR image
    full = (mask >= 1).to(mask.dtype) * sham * (1 - _planted(batch)).view(-1, 1, 1, 1)
    return torch.cat([torch.zeros_like(target), target, target]), torch.cat([everywhere, everywhere, full])


def orders(batch: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Where S_SR < S_syn and where S_syn < S_GT must hold, each (B,) of 0 and 1: not between images that are alike.

    Nor is an SR output below an image with a planted defect, which may be worse than it.
    """
    outside, visible = 1 - batch["mask"].mean((1, 2, 3)), batch["target"].mean((1, 2, 3))
    return (outside > OUTSIDE).float() * (1 - _planted(batch)), (visible > VISIBLE).float()


def _planted(batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    return batch["planted"] if "planted" in batch else torch.zeros_like(batch["mask"][:, 0, 0, 0])
