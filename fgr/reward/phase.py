"""Training one phase of the reward model: steps, EMA, validation, checkpoints, when to stop."""

import copy
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch

from fgr.dataset.tables import evenly_drawn
from fgr.errors import UserError
from fgr.metrics import maps as metrics
from fgr.recipe.reward import RewardRecipe, Training
from fgr.reward.criterion import VISIBLE, Criterion
from fgr.reward.data import Samples
from fgr.reward.planting import Planter
from fgr.training.directory import Run
from fgr.training.loop import AHEAD, Feed, take_steps
from fgr.training.optimization import Optimization, Weights, divergence, running_mean, update_ema, warmup_cosine

Batch = Mapping[str, Any]


@dataclass
class State:
    """All that a phase needs to go on: part of the checkpoint."""

    phase: str
    step: int = 0
    ema: Weights = field(default_factory=dict)
    best: float = math.inf
    best_weights: Weights | None = None
    stale: int = 0
    mean: float = 0.0


class PhaseSpec(NamedTuple):
    """A phase: the name of its folder, its steps, and the stage of the curriculum that it trains."""

    name: str
    steps: int
    stage: int


def phases_of(recipe: RewardRecipe) -> list[PhaseSpec]:
    """The phases of a recipe: S_base's student, where there is one, then the stages."""
    first = [PhaseSpec("base", recipe.base.steps, 0)] if recipe.base.steps else []
    return first + [PhaseSpec(f"stage-{stage}", steps, stage) for stage, steps in enumerate(recipe.stages)]


class Phase:
    """Trains `model` for `steps` steps; the model to keep is in `result()` afterwards.

    `checkpoint` is what to go on from, or None. `before` is the number of steps of the phases before, from which trackers count
    on: some drop steps that go back.
    """

    def __init__(
        self, name: str, steps: int, model: torch.nn.Module, accelerator: Any, settings: Training, run: Run,
        checkpoint: Mapping[str, Any] | None, before: int = 0,
    ) -> None:  # fmt: skip
        self.name, self.steps, self.settings, self.run, self.accelerator = name, steps, settings, run, accelerator
        self.before, self.plain, self.state = before, model, State(name)
        optimizer = torch.optim.AdamW(parameter_groups(model, settings), weight_decay=settings.weight_decay)
        self.model, self.optimizer = accelerator.prepare(model, optimizer)
        self.optimization = Optimization(self.model, self.optimizer, settings.clip, settings.accumulate, accelerator)
        if checkpoint is None:
            self.state.ema = {key: value.detach().clone() for key, value in model.state_dict().items()}
        else:
            model.load_state_dict(checkpoint["model"])
            self.optimization.load(checkpoint)
            self.state = State(**checkpoint["phase_state"])
            self.state.ema = {key: value.to(accelerator.device) for key, value in self.state.ema.items()}

    def fit(
        self,
        batches: Iterable[Batch],
        loss: Callable[[Any, Batch], dict[str, torch.Tensor]],
        validate: Callable[[Any], dict[str, float]],
    ) -> None:
        """Take the steps that are left. KeyboardInterrupt, after saving, when asked to stop; UserError when the loss diverges."""
        self.model.train()
        device = self.accelerator.device

        def placed(batch: Batch) -> Batch:
            return {name: value.to(device, non_blocking=True) for name, value in batch.items()}

        source = Feed(batches, placed, AHEAD if device.type == "cuda" else 0)

        def step() -> bool:
            self._step(source, loss)
            if self.state.step == self.steps or self.state.step % self.settings.validate_every == 0:
                self._validate(validate)
            return not self._converged()

        if not self._converged():
            every = self.settings.checkpoint_every
            take_steps(step, self.name, self.state.step, self.steps, self.save, every, self.accelerator, source)

    def result(self) -> Any:
        """The averaged model of the best validation, on the CPU."""
        model = copy.deepcopy(self.plain).cpu()
        model.load_state_dict(self.state.best_weights or self.state.ema)
        return model.eval()

    def save(self) -> None:
        """Write the checkpoint."""
        self.run.save({"model": self.plain.state_dict(), "phase_state": vars(self.state), **self.optimization.state()})
        self.accelerator.wait_for_everyone()

    def _step(self, source: Feed[Batch, Batch], loss: Callable[[Any, Batch], dict[str, torch.Tensor]]) -> None:
        started = time.perf_counter()
        rate = warmup_cosine(self.state.step, self.steps, self.settings.warmup)
        self.optimization.set_rate(rate)

        def forward(batch: Batch) -> dict[str, torch.Tensor]:
            parts = loss(self.model, batch)
            self.optimization.backward(parts["total"])
            return {name: part.detach().float() for name, part in parts.items()}

        means = self.optimization.accumulate(source, forward)
        norm = self.optimization.clip_gradients()
        values = self.accelerator.reduce(torch.stack(list(means.values())), "mean").tolist()
        figures = dict(zip(means, values, strict=True))
        self._expect_sound(figures["total"], norm)
        self.optimization.step()
        self.state.step += 1
        update_ema(self.state.ema, self.plain.state_dict(), self.settings.ema, self.state.step)
        took = time.perf_counter() - started
        self._log(figures, {"lr": rate * self.settings.lr, "norm": norm, "step_s": took, "wait_s": source.waited()})

    def _expect_sound(self, total: float, norm: float) -> None:
        state, limit = self.state, self.settings.explosion_factor
        trouble = divergence(total, state.mean, limit, state.step + 1) or divergence(norm, math.inf, limit, state.step + 1)
        if trouble:
            raise UserError(
                f"The loss {trouble} in step {state.step + 1} of {self.name} (loss {total:.3g}, gradient norm {norm:.3g}, "
                f"mean loss so far {state.mean:.3g}).",
                "The last checkpoint and the finished stages are intact. Start again with a lower training.lr or training.clip"
                ", or precision=no.",
            )
        state.mean = running_mean(state.mean, total)

    def _validate(self, validate: Callable[[Any], dict[str, float]]) -> None:
        current = {key: value.clone() for key, value in self.plain.state_dict().items()}
        self.plain.load_state_dict(self.state.ema)
        self.plain.eval()
        with torch.no_grad():
            figures = validate(self.plain)
        self.plain.load_state_dict(current)
        self.plain.train()
        self._log(figures, {}, "validation")
        if figures["total"] < self.state.best:
            self.state.best, self.state.stale = figures["total"], 0
            self.state.best_weights = {key: value.detach().cpu().clone() for key, value in self.state.ema.items()}
        else:
            self.state.stale += 1

    def _converged(self) -> bool:
        return bool(self.settings.patience) and self.state.stale >= self.settings.patience

    def _log(self, figures: Mapping[str, float], extra: Mapping[str, float], split: str = "train") -> None:
        self.run.log(phase=self.name, step=self.state.step, split=split, **figures, **extra)
        if self.accelerator.trackers:
            named = {f"{self.name}/{split}/{key}": value for key, value in figures.items()}
            self.accelerator.log(named, step=self.before + self.state.step)


class Validation:
    """At most `limit` rows, spread over the split, whole; the mean loss, and how well map and score do on them."""

    def __init__(self, rows: Any, limit: int, device: torch.device | str) -> None:
        self.samples = Samples(rows, crop=0, cache_bytes=1 << 30)
        self.chosen, self.device = evenly_drawn(len(rows), limit), device

    def __call__(
        self, model: Any, criterion: Criterion, scale: float, cell: int, planter: Planter | None = None
    ) -> dict[str, float]:
        """Means over the rows of the parts of the loss and, after the first phase, of `ap`, `cc`, `sham` and `triplets`.

        With a `planter` every row also takes part with a defect, always the same one: the loss has its share of that, and
        `planted` says how often score and map went the right way.
        """
        values: dict[str, list[float]] = {}
        for index in self.chosen:
            for figures in self._of_row(int(index), model, criterion, scale, cell, planter):
                for name, value in figures.items():
                    if np.isfinite(value):
                        values.setdefault(name, []).append(value)
        return {name: float(np.mean(several)) for name, several in values.items()}

    def _of_row(
        self, index: int, model: Any, criterion: Criterion, scale: float, cell: int, planter: Planter | None
    ) -> Iterator[dict[str, float]]:
        self.samples.planter = None
        batch = self._batch(index)
        yield _floats(criterion(model, batch, scale, cell)) | (_figures(model, batch, cell) if criterion.base else {})
        if planter is not None:
            self.samples.planter = planter
            batch = self._batch(index)
            yield _floats(criterion(model, batch, scale, cell)) | _planted_figures(model, batch, cell)

    def _batch(self, index: int) -> dict[str, torch.Tensor]:
        return {name: torch.as_tensor(value)[None].to(self.device) for name, value in self.samples[(index, index)].items()}


def _floats(parts: Mapping[str, torch.Tensor]) -> dict[str, float]:
    return {name: float(part) for name, part in parts.items()}


def _planted_figures(model: Any, batch: dict[str, torch.Tensor], cell: int) -> dict[str, float]:
    """Whether the defect lowers the score and raises the map where it is; nothing of one that is not seen."""
    defect = batch["planted_map"]
    if float(defect.mean()) <= VISIBLE:
        return {}
    plain = batch["sr" if batch["planted_on_sr"].item() else "reference"]
    scores, maps = model(torch.cat([plain, batch["composite"]]).float() / 255)
    before, after = (float((map_ * defect[0]).sum()) for map_ in maps)
    return {"planted": float(scores[1] < scores[0] and (after > before or not cell))}


def _figures(model: Any, batch: dict[str, torch.Tensor], cell: int) -> dict[str, float]:
    images = torch.cat([batch[name] for name in ("sr", "composite", "reference")]).float() / 255
    scores, maps = model(images)
    sr, composite, reference = scores.tolist()
    target = batch["target"][0, 0].cpu().numpy()
    figures: dict[str, float] = {}
    if target.any():
        if float(batch["mask"].mean()) < 1:
            figures["triplets"] = float(sr < composite < reference)
    elif cell:
        figures["sham"] = float(maps[1].mean())
    if cell:
        map_ = maps[1, 0].float().cpu().numpy()
        figures |= {"ap": metrics.average_precision(map_, target), "cc": metrics.correlation(map_, target)}
    return figures


def parameter_groups(model: torch.nn.Module, settings: Training) -> list[dict[str, Any]]:
    """What learns, for an optimizer: the encoder at its share of the learning rate, decoder and head at the whole."""
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    encoder = [parameter for name, parameter in named if name.startswith("encoder.")]
    others = [parameter for name, parameter in named if not name.startswith("encoder.")]
    groups = [(encoder, settings.lr * settings.encoder_lr), (others, settings.lr)]
    return [{"params": parameters, "lr": lr} for parameters, lr in groups if parameters]
