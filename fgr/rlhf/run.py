"""`fgr rlhf`: from an SR network and a reward model to a tuned network; running it again resumes.

RUN/best.safetensors   the tuned network with the best held-out metrics, as spandrel opens it; RUN/last.safetensors the last one
RUN/sheets, examples   pictures at each audit, and of the best network beside the untuned one
RUN/reward/stage-K     stages of the reward model that were refreshed on the policy's own outputs
RUN/summary.json       the start against the end, figure by figure
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import GradScalerKwargs

from fgr.errors import UserError
from fgr.images.arrays import as_tensor
from fgr.metrics.registry import Metric, Options, open_metric
from fgr.recipe import resolved
from fgr.recipe.rlhf import RlhfRecipe
from fgr.reward.model import FinPercepRM
from fgr.reward.pretrained import load_reward_model, load_stages
from fgr.reward.run import save_folder
from fgr.rlhf import algorithms, inputs
from fgr.rlhf.climb import Algorithm, set_units
from fgr.rlhf.curriculum import Plan, equal_lengths
from fgr.rlhf.finish import finish
from fgr.rlhf.held_out import HeldOutEvaluation, HeldOutMetrics, fit_naturalness, open_held_out
from fgr.rlhf.inputs import Batch, Replayed
from fgr.rlhf.loop import Loop
from fgr.rlhf.objective import Anchor
from fgr.rlhf.pairs import Ranked
from fgr.rlhf.refresh import CompositeMaker, refreshed
from fgr.rlhf.reward import MAXIMA, Reward, plain_reward, stage_reward
from fgr.rlhf.state import Knobs
from fgr.training.accelerator import begin_trackers, open_accelerator
from fgr.training.directory import Run


def tune(recipe: RlhfRecipe, generator: str, reward: str, data: str, out: Path, device: str = "auto") -> dict[str, Any]:
    """Tune `generator` against `reward` on the inputs of `data`; what RUN/summary.json then holds.

    UserError for a model, a reward model or data that do not fit together, for another recipe's folder, for a run that no step
    can be taken in, and for memory that does not suffice; KeyboardInterrupt after saving.
    """
    tuner = Tuner(recipe, generator, reward, data, out, device)
    try:
        return tuner.run()
    except (MemoryError, RuntimeError) as error:
        from fgr.sr.network import is_out_of_memory

        if not is_out_of_memory(error):
            raise
        raise UserError(
            f"The memory of {tuner.accelerator.device} does not suffice for batches of {recipe.data.batch} crops of "
            f"{recipe.data.crop} low-resolution pixels.",
            "Lower data.batch (training.accumulate makes up for it), data.crop or audit.crop, or set "
            "policy.checkpoint_blocks=true, policy.train=lora or training.precision=bf16.",
        ) from None


class Tuner:
    """Opens and checks everything a run needs, before anything is written."""

    def __init__(self, recipe: RlhfRecipe, generator: str, reward: str, data: str, out: Path, device: str) -> None:
        self.recipe, self.data, self.out = recipe, data, out
        handler = GradScalerKwargs(init_scale=1024.0)
        self.accelerator = open_accelerator(recipe.training.precision, out, device, recipe.trackers, handler)
        self.device = self.accelerator.device
        self.policy = algorithms.open_tuned(generator, recipe.algorithm.name, recipe.policy.accept_license, recipe.sampling)
        self.stages = [stage.requires_grad_(False) for stage in load_stages(reward, str(self.device))]
        self.inputs = inputs.open_inputs(data, recipe.data.split, self.policy.scale, recipe.data.cache_mb)
        self.trained_on = self._pairs_to_learn() or self.inputs
        self.audited = inputs.open_inputs(data, recipe.audit.split, self.policy.scale)
        self.anchor = Anchor(**recipe.anchor.model_dump())
        self.plan = plan_of(recipe, self.stages)
        self._check_data()
        self.rewards = self._rewards()
        self.naturalness = fit_naturalness(self.inputs, recipe.audit.patch)
        self.held_out = {
            f"rm{number}": load_reward_model(name, str(self.device)) for number, name in enumerate(recipe.audit.rewards)
        }
        self._facts: dict[str, Any] = {
            "generator": {"name": generator, "digest": self.policy.digest},
            "reward": [_digest(stage) for stage in self.stages],
            "held_out": [_digest(model) for model in self.held_out.values()],
            "data": {"train": self.trained_on.digest, "audit": self.audited.digest},
        }  # fmt: skip

    def run(self) -> dict[str, Any]:
        """Tune, or finish tuning, and write what comes of it."""
        summary = self.out / "summary.json"
        self.run_folder = Run(self.out, self.accelerator.is_main_process)
        self.run_folder.start("rlhf", resolved(self.recipe), self._facts)
        self.accelerator.wait_for_everyone()
        if summary.is_file():
            return json.loads(summary.read_text(encoding="utf-8"))
        loop = self._loop()
        loop.fit()
        found = finish(loop, self._facts["generator"])
        self.accelerator.end_training()
        return found

    def _loop(self) -> Loop:
        recipe, policy = self.recipe, self.policy
        torch.manual_seed(recipe.seed)  # low-rank changes begin at random
        algorithms.prepare(policy, **recipe.policy.model_dump(exclude={"accept_license"}))
        policy.to(self.device)
        lpips = open_metric("lpips", Options(self.device)) if self.anchor.lpips or "lpips" in recipe.audit.metrics else None
        climb = algorithms.open_algorithm(
            policy, self.rewards, recipe.algorithm.model_dump(), recipe.seed, self.anchor, lpips.measure if lpips else None,
            self.accelerator.autocast, self.stages,
        )  # fmt: skip
        held_out = HeldOutEvaluation(policy, self._held_out_metrics(lpips), self.rewards, self._pairs(), recipe.data.batch)
        loop = Loop(
            policy, climb, held_out, self.plan, knobs_of(recipe), self.run_folder, self.accelerator, self._batches,
            partial(self._refresh, climb, held_out) if recipe.curriculum.refresh.steps else None, self.stages[-1],
        )  # fmt: skip
        saved = self.run_folder.load()
        if saved:
            self._reopen_refreshed()
            loop.restore(saved)
            self.run_folder.keep(lambda line: line["step"] <= loop.state.step)
        else:
            self.run_folder.keep(lambda line: False)
            self._set_units(climb, range(len(self.rewards)))
        self.loop = loop
        begin_trackers(self.accelerator, "fgr-rlhf", recipe.trackers)
        return loop

    def _rewards(self) -> list[Reward]:
        recipe = self.recipe.reward
        if recipe.plain:
            return [plain_reward(recipe.plain, self.stages, self.device, recipe.bound, recipe.smooth)]
        return [self._stage_reward(number) for number in range(len(self.stages))]

    def _stage_reward(self, number: int) -> Reward:
        recipe, model = self.recipe.reward, self.stages[number]
        strictness = self.recipe.curriculum.strictness
        q = strictness[model.stage - 1] if strictness and model.stage else recipe.q
        maximum = MAXIMA[recipe.maximum](q, recipe.p)
        return stage_reward(model, model.stage, recipe.score, recipe.map, maximum, recipe.bound, recipe.smooth)

    def _held_out_metrics(self, lpips: Metric | None) -> HeldOutMetrics:
        metrics = open_held_out(self.recipe.audit.metrics, self.device, self.naturalness, lpips)
        models: dict[str, tuple[Any, bool]] = {name: (model, True) for name, model in self.held_out.items()}
        # the last stage is only shown: stages of one run share what they are blind to, even where another one is climbed
        models["last_stage"] = (self.stages[-1], False)
        return HeldOutMetrics(metrics, models, isinstance(self.audited, Replayed))

    def _pairs_to_learn(self) -> Ranked | None:
        """What DPO learns from, where that is not the policy's own samples."""
        chosen = self.recipe.algorithm
        if chosen.name != "dpo" or chosen.pairs == "samples":
            return None
        return Ranked(chosen.pairs, self.data, self.recipe.data.split, self.policy.scale)

    def _pairs(self) -> list[inputs.Pair]:
        return inputs.fixed(self.audited, self.policy.scale, self.recipe.audit.crop, self.recipe.audit.images)

    def _batches(self, first: int, last: int) -> Iterator[Batch]:
        data = self.recipe.data
        part = (self.accelerator.process_index, self.accelerator.num_processes)
        return inputs.batches(
            self.trained_on, self.policy.scale, data.crop, data.batch, data.flips, self.recipe.seed, first, last, part
        )

    def _reference_set(self) -> tuple[list[torch.Tensor], list[Batch]]:
        """Clean images and composites, and batches of inputs, that z-units and reward weights are taken from, once."""
        recipe, many = self.recipe, -(-self.recipe.reward.reference_images // self.recipe.data.batch)
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

    def _set_units(self, climb: Algorithm, numbers: Iterable[int]) -> None:
        references, batches = self._reference_set()
        starts = [self.policy.start(batch.low) for batch in batches]
        held, raw = climb.held(batches[0], starts[0]), self.recipe.reward.units == "raw"
        for number in numbers:
            set_units(climb.rewards[number], references, starts, held, self.recipe.reward.ratio, standardise=not raw)
        if raw:
            for reward in climb.rewards:
                reward.weight = climb.rewards[-1].weight

    def _refresh(self, climb: Algorithm, held_out: HeldOutEvaluation, number: int) -> None:
        refresh, data, stage = self.recipe.curriculum.refresh, self.recipe.data, self.stages[number]
        assert isinstance(self.inputs, Replayed)
        assert self.maker
        with self.policy.holding(self.loop.state.ema):
            rows = self.maker.rows(self.policy, self.inputs, refresh.composites, self.recipe.seed, self.device)
        model = refreshed(
            stage, rows, self.inputs.rows, refresh, crop=data.crop * self.policy.scale or self.inputs.side, batch=data.batch,
            seed=self.recipe.seed, device=self.device,
        )  # fmt: skip
        if self.run_folder.main:
            save_folder(model, self.out / "reward" / f"stage-{number}")
        self._take_stage(number, model)
        self._set_units(climb, [number])
        self.loop.state.start |= held_out.start_rewards(self.device, [number])
        self.loop.save()

    def _take_stage(self, number: int, model: FinPercepRM) -> None:
        self.stages[number] = model
        self.rewards[number] = self._stage_reward(number)

    def _reopen_refreshed(self) -> None:
        for number in range(len(self.stages)):
            folder = self.out / "reward" / f"stage-{number}"
            if folder.is_dir():
                self._take_stage(number, load_reward_model(folder, str(self.device)).requires_grad_(False))

    def _check_data(self) -> None:
        recipe, replayed = self.recipe, isinstance(self.inputs, Replayed)
        if not replayed and (self.anchor.needs_reference or recipe.curriculum.refresh.steps):
            raise UserError(
                f"{self.data} is a folder of low-resolution images without references, which anchor.reference, "
                "anchor.low_frequency_to=reference and curriculum.refresh need.",
                "Set them to 0, or give a dataset.",
            )
        if recipe.curriculum.refresh.steps and not Path(self.data).is_dir():
            raise UserError(
                "curriculum.refresh makes composites as the dataset's own fgr.json says.", "Download the dataset first."
            )
        self.maker = CompositeMaker(Path(self.data), str(self.device)) if recipe.curriculum.refresh.steps else None
        pair = self.inputs[0]
        side = min(pair[0].shape[:2])
        if max(recipe.data.crop, recipe.audit.crop) > side:
            raise UserError(
                f"The low-resolution images of {self.data} are {side} pixels high or wide; the crops asked for are "
                f"{recipe.data.crop} (data.crop) and {recipe.audit.crop} (audit.crop).",
                f"Set both to {side} or less.",
            )


def plan_of(recipe: RlhfRecipe, stages: list[FinPercepRM]) -> Plan:
    """The schedule over the reward model's stages. UserError for stages that the recipe's numbers do not fit."""
    chosen, number = recipe.curriculum, len(stages)
    adaptive = chosen.adaptive.model_dump()
    if recipe.reward.plain:
        return Plan("none", 0, 0, **adaptive)
    if chosen.strictness and len(chosen.strictness) != stages[-1].stage:
        raise UserError(
            f"curriculum.strictness has {len(chosen.strictness)} values, the reward model has maps in {stages[-1].stage} stages.",
            "Give one a stage from RM_1 on, or none.",
        )
    if chosen.schedule == "none":
        stage = number - 1 if chosen.stage is None else chosen.stage
        if stage >= number:
            raise UserError(f"The reward model has the stages 0 … {number - 1}, no stage {stage}.", "Change curriculum.stage.")
        return Plan("none", stage, stage, **adaptive)
    if number < 2:
        raise UserError(
            "A curriculum needs a reward model with stages, and this is a single one.",
            "Name the run that holds them (RUN, not RUN/stage-K), or train against this one: --schedule none.",
        )
    if chosen.steps and len(chosen.steps) != number:
        raise UserError(
            f"curriculum.steps has {len(chosen.steps)} values, the reward model {number} stages.",
            f"Give {number} values, or none.",
        )
    if not chosen.steps and recipe.training.steps < number:
        raise UserError(f"{recipe.training.steps} steps do not suffice for {number} stages.", "Raise training.steps.")
    lengths = chosen.steps or equal_lengths(number, recipe.training.steps)
    return Plan(chosen.schedule, 0, number - 1, lengths, chosen.blend_steps, **adaptive)


def knobs_of(recipe: RlhfRecipe) -> Knobs:
    """The loop's knobs."""
    audited = {name: getattr(recipe.audit, name) for name in ("every", "rise", "fall", "outrun", "on_hacking", "sheet")}
    return Knobs(**recipe.training.model_dump(), **audited)


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
