"""The training loop of one phase: steps, averaged weights, validation, checkpoints, and the reasons to stop."""

import copy
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from fgr.errors import UserError
from fgr.progress import Progress
from fgr.training.directory import Run
from fgr.training.loop import Interrupts

Weights = dict[str, torch.Tensor]
Batch = Mapping[str, Any]


@dataclass(frozen=True)
class Knobs:
    """The optimiser and its bookkeeping; see the recipe's `training`."""

    lr: float
    encoder_lr: float
    weight_decay: float
    warmup: float
    clip: float
    ema: float
    accumulate: int
    validate_every: int
    patience: int
    checkpoint_every: int
    explode: float


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


class Phase:
    """Trains `model` for `steps` steps; the model to keep is in `result()` afterwards.

    `before` is the number of steps of the phases before, from which trackers count on: some drop steps that go back.
    """

    def __init__(
        self,
        name: str,
        steps: int,
        model: torch.nn.Module,
        accelerator: Any,
        knobs: Knobs,
        run: Run,
        state: Mapping[str, Any] | None,
        before: int = 0,
    ) -> None:
        self.name, self.steps, self.knobs, self.run, self.accelerator = name, steps, knobs, run, accelerator
        self.before = before
        self.plain = model
        self.state = State(name)
        optimizer = torch.optim.AdamW(_groups(model, knobs), weight_decay=knobs.weight_decay)
        self.model, self.optimizer = accelerator.prepare(model, optimizer)
        if state is None:
            self.state.ema = {key: value.detach().clone() for key, value in model.state_dict().items()}
        else:
            model.load_state_dict(state["model"])
            optimizer.load_state_dict(state["optimizer"])
            self.state = State(**state["phase_state"])
            self.state.ema = {key: value.to(accelerator.device) for key, value in self.state.ema.items()}

    def fit(
        self,
        batches: Iterable[Batch],
        loss: Callable[[Any, Batch], dict[str, torch.Tensor]],
        validate: Callable[[Any], dict[str, float]],
    ) -> None:
        """Take the steps that are left. KeyboardInterrupt, after saving, when asked to stop; UserError when the loss breaks."""
        self.model.train()
        source = iter(batches)
        with Interrupts() as interrupts, Progress(self.name, self.steps, "steps") as progress:
            progress.advance(self.state.step)
            while self.state.step < self.steps and not self._stopped():
                stop = self._step(source, loss, interrupts)
                progress.advance()
                last = self.state.step == self.steps
                if last or self.state.step % self.knobs.validate_every == 0:
                    self._validate(validate)
                if stop or last or self.state.step % self.knobs.checkpoint_every == 0:
                    self.save()
                if stop:
                    raise KeyboardInterrupt

    def result(self) -> torch.nn.Module:
        """The averaged model of the best validation, on the CPU."""
        model = copy.deepcopy(self.plain).cpu()
        model.load_state_dict(self.state.best_weights or self.state.ema)
        return model.eval()

    def save(self) -> None:
        """Write the checkpoint."""
        state = {"model": self.plain.state_dict(), "optimizer": self.optimizer.state_dict(), "phase_state": vars(self.state)}
        self.run.save(state)
        self.accelerator.wait_for_everyone()

    def _step(self, source: Iterator[Batch], loss: Callable[..., dict[str, torch.Tensor]], interrupts: Interrupts) -> bool:
        started, waited = time.perf_counter(), 0.0
        rate = rate_at(self.state.step, self.steps, self.knobs.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["top"]
        sums: Any = 0
        names: list[str] = []
        for number in range(self.knobs.accumulate):
            began = time.perf_counter()
            batch = {name: value.to(self.accelerator.device, non_blocking=True) for name, value in next(source).items()}
            waited += time.perf_counter() - began
            final = number == self.knobs.accumulate - 1
            with self.accelerator.accumulate() if final else self.accelerator.no_sync(self.model):
                parts = loss(self.model, batch)
                self.accelerator.backward(parts["total"] / self.knobs.accumulate)
            names = list(parts)
            sums = sums + torch.stack([part.detach().float() for part in parts.values()]) / self.knobs.accumulate
        norm = self.accelerator.clip_grad_norm_(self.model.parameters(), self.knobs.clip)
        *values, asked = self.accelerator.reduce(torch.cat([sums, sums.new_tensor([float(interrupts.asked)])]), "mean").tolist()
        figures = dict(zip(names, values, strict=True))
        self._guard(figures["total"], float(norm))
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.state.step += 1
        self._average()
        took = time.perf_counter() - started
        self._log(figures, {"lr": rate * self.knobs.lr, "norm": float(norm), "step_s": took, "wait_s": waited})
        return asked > 0

    def _guard(self, total: float, norm: float) -> None:
        state = self.state
        exploded = state.step > 20 and total > self.knobs.explode * state.mean
        if not math.isfinite(total) or not math.isfinite(norm) or exploded:
            what = "exploded" if exploded else "is not a number"
            raise UserError(
                f"The loss {what} in step {state.step + 1} of {self.name} (loss {total:.3g}, gradient norm {norm:.3g}, "
                f"mean loss so far {state.mean:.3g}).",
                "The last checkpoint and the finished stages are good. Begin again with a lower training.lr or training.clip"
                ", or precision=no.",
            )
        state.mean = total if state.step == 0 else 0.95 * state.mean + 0.05 * total

    def _average(self) -> None:
        decay = min(self.knobs.ema, (1 + self.state.step) / (10 + self.state.step))
        with torch.no_grad():
            for key, value in self.plain.state_dict().items():
                average = self.state.ema[key]
                if average.is_floating_point():
                    average.lerp_(value.to(average.dtype), 1 - decay)
                else:
                    average.copy_(value)

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

    def _stopped(self) -> bool:
        return bool(self.knobs.patience) and self.state.stale >= self.knobs.patience

    def _log(self, figures: Mapping[str, float], extra: Mapping[str, float], split: str = "train") -> None:
        self.run.log(phase=self.name, step=self.state.step, split=split, **figures, **extra)
        if self.accelerator.trackers:
            named = {f"{self.name}/{split}/{key}": value for key, value in figures.items()}
            self.accelerator.log(named, step=self.before + self.state.step)


def rate_at(step: int, steps: int, warmup: float) -> float:
    """The learning rate of a step (from 0) as a share of the highest: a linear rise, then a cosine down to 0."""
    rising = max(1, round(warmup * steps))
    if step < rising:
        return (step + 1) / rising
    return (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising))) / 2


def _groups(model: torch.nn.Module, knobs: Knobs) -> list[dict[str, Any]]:
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    encoder = [parameter for name, parameter in named if name.startswith("encoder.")]
    others = [parameter for name, parameter in named if not name.startswith("encoder.")]
    groups = [(encoder, knobs.lr * knobs.encoder_lr), (others, knobs.lr)]
    return [{"params": parameters, "lr": lr, "top": lr} for parameters, lr in groups if parameters]
