"""What a tuning run needs, opened and checked against one another; nothing is written to the disk."""

import hashlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import GradScalerKwargs

from fgr.backbone_weights import KIND, is_here
from fgr.errors import UserError, all_of, notice
from fgr.images.arrays import as_tensor
from fgr.metrics.perceptual import is_at_hand
from fgr.metrics.registry import Options, open_metric
from fgr.recipe import resolved
from fgr.recipe.algorithms import DpoSettings
from fgr.recipe.fields import DISTANCES
from fgr.recipe.rlhf import RlhfRecipe
from fgr.reward.model import FinPercepRM
from fgr.reward.pretrained import folder_of, load_judge, load_reward_model, load_stages
from fgr.rlhf import inputs
from fgr.rlhf.curriculum import StageSchedule, equal_lengths
from fgr.rlhf.held_out import Crops, HeldOutEvaluation, HeldOutMetrics, fit_naturalness, open_held_out
from fgr.rlhf.inputs import Batch, Inputs, Replayed
from fgr.rlhf.policies import open_policy
from fgr.rlhf.refresh import CompositeMaker, recipe_of
from fgr.rlhf.reward_stages import RewardStages
from fgr.rlhf.split_choice import choose_splits
from fgr.rlhf.trained_reward import stage_reward
from fgr.sr import parse_name
from fgr.training import directory
from fgr.training.accelerator import open_accelerator
from fgr.training.directory import Run

AUDITED_AT_ONCE = 16  # images on a GPU, which fewer would leave idle: nothing is kept for gradients
MAY_GROW = ("training.steps",)  # keys that extend a run


class Setup:
    """The parts of a run, by the recipe. UserError for a model, a reward model, data or a folder that does not fit.

    Where a network is `audited` and nothing is trained, a dataset needs the split that is reported on and no other: that one
    takes the place of what it lacks.
    """

    def __init__(
        self, recipe: RlhfRecipe, generator: str, reward: str, data: str, out: Path, device: str, audited: str = ""
    ) -> None:  # fmt: skip
        _refuse_earlier_version(out)
        self.recipe = recipe
        handler = GradScalerKwargs(init_scale=1024.0)
        self.accelerator = open_accelerator(recipe.training.precision, out, device, recipe.trackers, handler)
        self.device = self.accelerator.device
        if self.device.type == "cpu":  # which has a number where processes are joined, and safetensors knows none
            self.device = torch.device("cpu")
        named = recipe.algorithm.name, recipe.policy.accept_license, recipe.sampling
        opened = all_of({
            "data": lambda: inputs.expect_inputs(data),
            "models": lambda: [stage.requires_grad_(False) for stage in load_stages(reward, str(self.device))],
            "policy": lambda: open_policy(parse_name(generator), *named),
        })  # fmt: skip
        self.policy, models = opened["policy"], opened["models"]
        scale, crop = self.policy.scale, recipe.audit.crop
        splits = choose_splits(recipe, data, opened["data"] is None, bool(audited))
        self.reported_on = splits.reported
        self.inputs = inputs.open_inputs(data, splits.trained, scale, recipe.data.cache_mb, recipe.data.crop)
        self.trained_on: Inputs = (None if audited else _pairs(recipe, data, scale)) or self.inputs
        self.audited = inputs.open_inputs(data, splits.audited, scale, crop=crop)
        alike = splits.reported == splits.audited
        self.reported = self.audited if alike else inputs.open_inputs(data, self.reported_on, scale, crop=crop)
        self.schedule = stage_schedule(recipe, models, bool(audited))
        self.last_stage = models[-1]
        self.refreshes = recipe.curriculum.refresh.steps > 0 and self.schedule.kind != "none"
        _check_inputs(recipe, data, self.inputs, self.refreshes)
        self.composites = CompositeMaker(Path(data), str(self.device)) if self.refreshes else None
        self.reward_recipe = recipe_of(folder_of(reward))
        self.stages = RewardStages(models, recipe.reward, recipe.curriculum.strictness, self.device)
        self.distances = _distances(recipe, isinstance(self.audited, Replayed))
        wanted = (name for name in DISTANCES if name in recipe.anchor.perceptual or name in self.distances)
        self.control_features = _control_features(recipe, isinstance(self.audited, Replayed))
        self.perceptual = {name: open_metric(name, Options(self.device)) for name in wanted}
        held_out = [load_reward_model(name, str(self.device)) for name in recipe.audit.rewards]
        shipped = load_judge(reward, str(self.device))
        held_out += [shipped] if shipped else []
        self.held_out = self._held_out_metrics([model.requires_grad_(False) for model in held_out])
        self.facts: dict[str, Any] = {
            "generator": {"name": generator, "digest": self.policy.digest},
            "reward": [_digest(stage) for stage in models], "held_out": [_digest(model) for model in held_out],
            "data": {"train": self.trained_on.digest, "audit": self.audited.digest, "report": self.reported.digest},
            "metrics": list(self.held_out.roles), **({"audited": audited} if audited else {}),
        }  # fmt: skip
        self.run = Run(out, self.accelerator.is_main_process)
        self.run.expect("rlhf", resolved(recipe), self.facts, MAY_GROW)

    def batches(self, first: int, last: int) -> Iterator[Batch]:
        """The batches `first` … `last` − 1 of this process."""
        data, accelerator = self.recipe.data, self.accelerator
        part = (accelerator.process_index, accelerator.num_processes)
        return inputs.batches(
            self.trained_on, self.policy.scale, data.crop, data.batch, data.flips, self.recipe.seed, first, last, part
        )

    def references(self) -> tuple[list[torch.Tensor], list[Batch]]:
        """Clean images and composites, and batches of inputs, that z-units and reward weights are taken from: the same in every
        process, as many as one process with all of their images at once would take."""
        recipe, world = self.recipe, self.accelerator.num_processes
        many = world * -(-recipe.reward.reference_images // (world * recipe.data.batch))
        side = recipe.data.crop * self.policy.scale
        drawn = inputs.batches(
            self.inputs, self.policy.scale, recipe.data.crop, recipe.data.batch, False, recipe.seed + 1, 0, many
        )
        images: list[torch.Tensor] = []
        if isinstance(self.inputs, Replayed):
            for sample in islice(self.inputs.samples(), recipe.reward.reference_images):
                cut = [_middle(image, side) for image in sample.values()]
                images.append(as_tensor(cut).to(self.device))
        return images, [batch.to(self.device) for batch in drawn]

    def evaluation(self) -> HeldOutEvaluation:
        """The held-out metrics and trained rewards of the policy on the crops that are audited."""
        return self._evaluation(self.audited)

    def final_evaluation(self) -> HeldOutEvaluation | None:
        """The same on the crops of the split that is reported on; None where that is the audited one."""
        return None if self.reported is self.audited else self._evaluation(self.reported)

    def calibrate_judges(self, references: list[torch.Tensor], starts: list[torch.Tensor]) -> None:
        """Set the z-units of the independent judges' rewards, as those of the trained one are set."""
        for judge in self.held_out.judges.values():
            judge.calibrate([*references, *starts])

    def _evaluation(self, opened: Inputs) -> HeldOutEvaluation:
        audit = self.recipe.audit
        pairs = inputs.fixed(opened, self.policy.scale, audit.crop, audit.images)
        crops = Crops(pairs, inputs.photographs(opened, audit.images))
        batch = self.recipe.data.batch if self.device.type == "cpu" else max(self.recipe.data.batch, AUDITED_AT_ONCE)
        return HeldOutEvaluation(self.policy, self.held_out, self.stages.rewards, crops, batch)

    def _held_out_metrics(self, held_out: list[FinPercepRM]) -> HeldOutMetrics:
        audit = self.recipe.audit
        models: dict[str, tuple[Any, bool]] = {f"rm{number}": (model, True) for number, model in enumerate(held_out)}
        # the last stage is only shown: stages of one run share what they are blind to, even where another one is trained against
        models["last_stage"] = (self.last_stage, False)
        names = [*self.distances, *(name for name in audit.metrics if name not in DISTANCES)]
        metrics = open_held_out(names, self.device, fit_naturalness(self.inputs, audit.patch), self.perceptual)
        metrics += [open_metric(name, Options(self.device)) for name in self.control_features]
        judges = {f"judge_{number}": stage_reward(model, self.recipe.reward) for number, model in enumerate(held_out)}
        for judge, name in zip(judges.values(), [*audit.rewards, "judge, beside the reward model"], strict=False):
            judge.name = f"the independent reward model {name}"
        return HeldOutMetrics(metrics, models, isinstance(self.audited, Replayed), judges, self.control_features)


def stage_schedule(recipe: RlhfRecipe, stages: list[FinPercepRM], given: bool = False) -> StageSchedule:
    """The schedule over the reward model's stages; a network that is `given` has no curriculum, and the last one audits it.

    UserError for stages that the recipe's numbers do not fit.
    """
    chosen, number = recipe.curriculum, len(stages)
    if recipe.reward.plain:
        return StageSchedule("none", 0, 0)
    if chosen.strictness and len(chosen.strictness) != stages[-1].stage:
        raise UserError(
            f"curriculum.strictness has {len(chosen.strictness)} values, the reward model has maps in {stages[-1].stage} stages.",
            "Give one value for each stage from RM_1 on, or none.",
        )
    if chosen.schedule == "none" or given:
        stage = number - 1 if chosen.stage is None else chosen.stage
        if stage >= number:
            raise UserError(
                f"The reward model has the stages 0 … {number - 1}; there is no stage {stage}.", "Change curriculum.stage."
            )
        return StageSchedule("none", stage, stage)
    if number < 2:
        raise UserError(
            "A curriculum needs a reward model with stages, but this one has a single stage.",
            "Name the run that holds them (RUN, not RUN/stage-K), or train against this one: --schedule none.",
        )
    if chosen.steps and len(chosen.steps) != number:
        raise UserError(
            f"curriculum.steps has {len(chosen.steps)} values, the reward model {number} stages.",
            f"Give {number} values, or none.",
        )
    if not chosen.steps and recipe.training.steps < number:
        raise UserError(f"{recipe.training.steps} steps are not enough for {number} stages.", "Raise training.steps.")
    lengths = chosen.steps or equal_lengths(number, recipe.training.steps)
    return StageSchedule(chosen.schedule, 0, number - 1, lengths, chosen.blend_steps)


def _distances(recipe: RlhfRecipe, referenced: bool) -> list[str]:
    """The distances to the reference that are measured: those that the recipe names, and those whose weights are at hand."""
    audit = recipe.audit
    return [name for name in DISTANCES if name in audit.metrics or (referenced and audit.at_hand and is_at_hand(name))]


def _control_features(recipe: RlhfRecipe, referenced: bool) -> list[str]:
    """The encoders whose feature distance a comparison with a control has beside the audit's; what is left out is said."""
    audit = recipe.audit
    wanted = audit.control_features if audit.control and referenced else ()
    found = [name for name in dict.fromkeys(wanted) if is_here(name.removeprefix(KIND))]
    for name in dict.fromkeys(wanted):
        if name not in found:
            notice(f"the control is not measured by {name}, whose weights are not here: fgr models {name} --fetch brings them")
    return found


def _pairs(recipe: RlhfRecipe, data: str, scale: int) -> Inputs | None:
    """What DPO learns from, where that is not the policy's own samples."""
    settings = recipe.algorithm
    if not isinstance(settings, DpoSettings) or settings.pairs == "samples":
        return None
    return inputs.PreferencePairs(settings.pairs, data, recipe.data.split, scale)


def _check_inputs(recipe: RlhfRecipe, data: str, opened: Inputs, refreshes: bool) -> None:
    """UserError where the recipe asks for what the inputs do not have."""
    needs = recipe.anchor.needs_reference or recipe.algorithm.needs_reference or refreshes
    if not isinstance(opened, Replayed) and needs:
        raise UserError(
            f"{data} is a folder of low-resolution images without references, which anchor.reference, "
            "anchor.low_frequency_to=reference, algorithm.hinge=reference and curriculum.refresh need.",
            "Set the weights and curriculum.refresh.steps to 0 and algorithm.hinge to null, or give a dataset.",
        )
    if refreshes and not Path(data).is_dir():
        raise UserError(
            "curriculum.refresh makes composites as the dataset's own fgr.json says.",
            "Download the dataset first, or set curriculum.refresh.steps=0: the reward model stays as it is.",
        )
    if not isinstance(opened, Replayed):
        return  # its images are as large as the crops, or were left out
    side = min(opened[0][0].shape[:2])
    if max(recipe.data.crop, recipe.audit.crop) > side:
        raise UserError(
            f"The low-resolution images of {data} are {side} pixels high or wide; the crops asked for are "
            f"{recipe.data.crop} (data.crop) and {recipe.audit.crop} (audit.crop).",
            f"Set both to {side} or less.",
        )


def _refuse_earlier_version(out: Path) -> None:
    """UserError for a run begun before version 0.2: its recipe has the keys of every algorithm, or its audit
    measured other figures."""
    if not (out / "run.json").exists():
        return
    begun = directory.read(out)
    keys_of_all = {"late", "group"} <= begun["recipe"].get("algorithm", {}).keys()
    if begun["kind"] == "rlhf" and (keys_of_all or "metrics" not in begun["facts"]):
        raise UserError(
            f"The run in {out} was begun by an earlier version of fgr, and only that version can resume it.",
            "Its networks, figures and report remain readable. To start again, name another --out.",
        )


def _middle(image: np.ndarray, side: int) -> np.ndarray:
    """The middle square of `side` pixels, or the whole image where it is smaller or `side` is 0."""
    height, width = image.shape[:2]
    if not side or side > min(height, width):
        return image
    top, left = (height - side) // 2, (width - side) // 2
    return image[top : top + side, left : left + side]


def _digest(model: torch.nn.Module) -> str:
    found = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        found.update(name.encode() + value.detach().cpu().numpy().tobytes())
    return found.hexdigest()[:16]
