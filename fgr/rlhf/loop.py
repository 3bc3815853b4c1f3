"""The tuning loop: steps up the reward, audits, switches of stage, rollbacks, checkpoints, and the reasons to stop."""

import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import broadcast_object_list

from fgr.errors import UserError
from fgr.progress import Progress
from fgr.records import current_figures
from fgr.rlhf import audit, curriculum, pictures
from fgr.rlhf.climb import Algorithm
from fgr.rlhf.curriculum import Plan, Point, Standing
from fgr.rlhf.diffusion_policy import DiffusionPolicy
from fgr.rlhf.held_out import HeldOutEvaluation, Measured
from fgr.rlhf.inputs import Batch
from fgr.rlhf.policy import Policy, Weights
from fgr.rlhf.state import Knobs, State
from fgr.training.directory import Run
from fgr.training.loop import Interrupts

STEADY = 20  # steps after which a gradient can be told to have exploded


class Loop:
    """Tunes `policy`; `batches(first, last)` gives the batches of steps, `refresh(stage)` renews a stage before it is climbed."""

    def __init__(
        self, policy: Policy | DiffusionPolicy, climb: Algorithm, held_out: HeldOutEvaluation, plan: Plan, knobs: Knobs, run: Run,
        accelerator: Any, batches: Callable[[int, int], Iterator[Batch]], refresh: Callable[[int], None] | None, maps: Any,
    ) -> None:  # fmt: skip
        self.policy, self.climb, self.held_out, self.plan, self.knobs, self.run = policy, climb, held_out, plan, knobs, run
        self.accelerator, self.batches, self.refresh, self.maps = accelerator, batches, refresh, maps
        self.state = State(curriculum.begin(plan))
        self.optimizer_of: Callable[[], Any] = lambda: torch.optim.AdamW(
            list(policy.learned().values()), lr=knobs.lr, weight_decay=knobs.weight_decay
        )
        self.wrapped = isinstance(policy, Policy)  # others are called in parts
        self.optimizer = accelerator.prepare(self.optimizer_of())
        self.network = accelerator.prepare(policy) if self.wrapped else policy
        self.state.ema = _copies(policy.learned())
        self.started: torch.Tensor | None = None  # outputs of the untuned network for the sheets

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on from a checkpoint's state."""
        self.policy.put(self._placed(saved["learned"]))
        self.optimizer.load_state_dict(saved["optimizer"])
        state = current_figures(saved["state"])
        self.state = State(
            **state | {
                "standing": Standing(**state["standing"]),
                "points": [Point(**current_figures(point)) for point in state["points"]],
                "start": {name: value.numpy() for name, value in current_figures(state["start"]).items()},
                "best": current_figures(state["best"]), "ema": self._placed(state["ema"]),
            }
        )  # fmt: skip
        for reward, values in zip(self.climb.rewards, saved["rewards"], strict=True):
            reward.load(values)

    def save(self) -> None:
        """Write the checkpoint."""
        state = self.state
        plain = vars(state) | {
            "standing": curriculum.plain(state.standing), "points": [asdict(point) for point in state.points],
            "start": {name: torch.from_numpy(value) for name, value in state.start.items()},
        }  # fmt: skip
        self.run.save({
            "learned": _copies(self.policy.learned()), "optimizer": self.optimizer.state_dict(), "state": plain,
            "rewards": [reward.state() for reward in self.climb.rewards],
        })  # fmt: skip
        self.accelerator.wait_for_everyone()

    def fit(self) -> None:
        """Take the steps that are left. KeyboardInterrupt, after saving, when asked to stop; UserError: no step can be taken."""
        if not self.state.start:
            self._audit()
            self.save()
        with Interrupts() as interrupts, Progress("rlhf", self.knobs.steps, "steps") as progress:
            progress.advance(self.state.step)
            source = self._source()
            while self.state.step < self.knobs.steps and not self.state.ended:
                if curriculum.due(self.plan, self.state.standing, self.state.step):
                    self._switch("its steps are done", {})
                self._step(source)
                progress.advance()
                last = self.state.step == self.knobs.steps
                if last or self.state.step % self.knobs.every == 0:
                    self._audit()
                stop = bool(self.accelerator.reduce(torch.tensor(float(interrupts.asked), device=self.accelerator.device)))
                if stop or last or self.state.ended or self.state.step % self.knobs.checkpoint_every == 0:
                    self.save()
                if stop:
                    raise KeyboardInterrupt

    def _source(self) -> Iterator[Batch]:
        many = self.knobs.accumulate
        return self.batches(self.state.step * many, self.knobs.steps * many)

    def _step(self, source: Iterator[Batch]) -> None:
        began, state, knobs = time.perf_counter(), self.state, self.knobs
        faded = curriculum.share(self.plan, state.standing, state.step)
        rate = knobs.lr * curriculum.rate(self.plan, state.standing, state.step) * min(1, (state.step + 1) / max(1, knobs.warmup))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        figures: dict[str, float] = {}
        for number in range(knobs.accumulate):
            batch = next(source).to(self.accelerator.device)
            final = number == knobs.accumulate - 1
            with self.accelerator.accumulate() if final else self.accelerator.no_sync(self.network):
                found = self.climb.step(self.network, batch, state.standing.stage, faded, self._backward, self._update)
            for name, value in found.items():
                figures[name] = figures.get(name, 0.0) + value / knobs.accumulate
        state.step += 1
        norm = self._update()
        figures |= {"norm": norm, "clipped": float(norm > knobs.clip), "lr": rate, "step_s": time.perf_counter() - began}
        self._log("train", stage=state.standing.stage, share=faded, **figures)
        if state.bad >= knobs.bad_steps:
            raise self._broken(norm)

    def _backward(self, loss: torch.Tensor) -> None:
        self.accelerator.backward(loss / self.knobs.accumulate)

    def _update(self) -> float:
        """An optimiser step, if the gradient can be used; its norm before clipping."""
        if not self.wrapped and self.accelerator.num_processes > 1:
            for value in self.policy.learned().values():
                value.grad = self.accelerator.reduce(value.grad, "mean")
        norm = float(self.accelerator.clip_grad_norm_(self.policy.learned().values(), self.knobs.clip))
        if self._usable(norm):
            self.optimizer.step()
            self._average()
        elif self.knobs.precision == "fp16":
            self.optimizer.step()  # the scaler leaves the weights alone and lowers its scale
        self.optimizer.zero_grad()
        return norm

    def _usable(self, norm: float) -> bool:
        state = self.state
        good = math.isfinite(norm) and not (state.step > STEADY and norm > self.knobs.explode * max(state.gradient, 1e-12))
        if good:
            state.gradient = norm if state.step == 1 else 0.95 * state.gradient + 0.05 * norm
            state.bad = 0
        else:
            state.bad, state.skipped = state.bad + 1, state.skipped + 1
            self._event("skipped", "the gradient is no number" if not math.isfinite(norm) else "the gradient exploded", norm=norm)
        return good

    def _broken(self, norm: float) -> UserError:
        best = self.state.best
        self.write(self.run.directory / "best.safetensors", best["weights"], best["step"])
        return UserError(
            f"No usable gradient in {self.state.bad} steps in a row (step {self.state.step}, last norm {norm:.3g}).",
            f"The weights of step {best['step']} are the last good ones: {self.run.directory / 'best.safetensors'}. Begin again "
            "with a lower training.lr, reward.ratio or training.clip, or with training.precision=no.",
        )

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(self.knobs.ema, (1 + self.state.step) / (10 + self.state.step))
        for name, value in self.policy.learned().items():
            self.state.ema[name].lerp_(value, 1 - decay)

    def _audit(self) -> None:
        state, stage = self.state, self.state.standing.stage
        first = not state.start
        stages = range(self.plan.first, self.plan.last + 1) if first else sorted({stage, self.plan.last})
        measured = self.measure(state.ema, stages)
        if first:
            state.start = measured.values
        metrics = self.held_out.metrics.roles
        verdict = audit.assess(state.start, measured.values, metrics, self._pair(measured, stage))
        hacked = audit.is_hacked(verdict, self.knobs.rise, self.knobs.fall, self.knobs.outrun)
        means = {name: float(values.mean()) for name, values in measured.values.items()}
        gains = {f"held_out_{name}": gain for name, gain in verdict.groups.items()}
        self._log(
            "audit", stage=stage, reward=verdict.reward, held_out=verdict.held_out, hacking_index=verdict.hacking_index,
            last_reward=float(audit.change(*self._pair(measured, self.plan.last)).mean()), alarm=bool(hacked), **gains, **means,
        )  # fmt: skip
        state.points.append(Point(state.step, stage, verdict.reward, verdict.held_out))
        self._draw(measured)
        if not hacked and audit.is_better(verdict, state.best.get("held_out")):
            state.best = {"step": state.step, "stage": stage, "held_out": verdict.held_out, "weights": _copies(state.ema)}
        self._answer(hacked, verdict)

    def _answer(self, hacked: str, verdict: audit.Verdict) -> None:
        state, knobs = self.state, self.knobs
        if hacked:
            state.alarms.append(state.step)
            self._event("alarm", f"reward hacking: {hacked}", **verdict.groups)
            if knobs.on_hacking == "stop":
                state.ended = f"reward hacking in step {state.step}"
            elif knobs.on_hacking == "rollback":
                self._retreat(hacked)
            return
        decision = curriculum.judge(self.plan, state.standing, state.points)
        if decision.action == "advance":
            self._switch(decision.reason, decision.evidence)
        elif decision.action == "slow":
            state.standing = curriculum.slow(state.standing, state.step)
            self._event("slow", decision.reason, **decision.evidence)
        elif decision.action in ("rollback", "stop"):
            self._retreat(decision.reason, **decision.evidence)

    def _retreat(self, reason: str, **evidence: float) -> None:
        """Back to the best checkpoint's weights, exactly; ends the run when that was done often enough."""
        state = self.state
        if state.standing.rollbacks >= self.plan.rollbacks:
            state.ended = f"{reason}, after {state.standing.rollbacks} rollbacks"
            self._event("stop", state.ended, **evidence)
            return
        stage = state.best["stage"] if self.plan.schedule == "adaptive" else state.standing.stage  # else steps say the stage
        state.standing = curriculum.retreat(state.standing, state.step, stage)
        self.policy.put(state.best["weights"])
        state.ema = self._placed(_copies(state.best["weights"]))
        self.optimizer.load_state_dict(self.optimizer_of().state_dict())  # moments of another place are of no use
        self._event("rollback", reason, to=state.best["step"], **evidence)
        state.points = [*state.points, replace(state.points[-1], held_out=state.best["held_out"], stage=stage)]

    def _switch(self, reason: str, evidence: dict[str, float]) -> None:
        state = self.state
        state.standing = curriculum.advance(state.standing, state.step)
        self._event("stage", reason, stage=state.standing.stage, **evidence)
        if self.refresh:
            self.refresh(state.standing.stage)

    def measure(self, weights: Weights, stages: Any) -> Measured:
        """The held-out figures of the policy with these learned weights."""
        with self.policy.holding(weights):
            measured = self.held_out.measure(self.policy, self.accelerator.device, stages, self.knobs.sheet)
        values = broadcast_object_list([measured.values])[0]  # every process decides by the same numbers
        return replace(measured, values=values)

    def write(self, path: Path, weights: Weights, step: int) -> None:
        """Write the tuned network of these learned weights."""
        if self.run.main:
            with self.policy.holding(self._placed(weights)):
                self.policy.save(path, step=str(step))

    def _pair(self, measured: Measured, stage: int) -> tuple[np.ndarray, np.ndarray]:
        return self.state.start[f"reward_{stage}"], measured.values[f"reward_{stage}"]

    def _draw(self, measured: Measured) -> None:
        if not self.knobs.sheet or not self.run.main:
            return
        if self.started is None:
            shown = self.held_out.pairs[: self.knobs.sheet]
            self.started = self.held_out.start_outputs(shown, self.accelerator.device)
        path = self.run.directory / "sheets" / f"step-{self.state.step:06d}.webp"
        pictures.write_sheet(path, self.maps, self.held_out.pairs, self.started, measured.outputs)

    def _event(self, event: str, reason: str, **figures: Any) -> None:
        self._log("event", event=event, reason=reason, **figures)
        if self.run.main:
            print(f"step {self.state.step}: {event} – {reason}", file=sys.stderr, flush=True)

    def _log(self, split: str, **figures: Any) -> None:
        self.run.log(step=self.state.step, split=split, **figures)
        if self.accelerator.trackers:
            numbers = {f"{split}/{name}": value for name, value in figures.items() if isinstance(value, int | float)}
            self.accelerator.log(numbers, step=self.state.step)

    def _placed(self, weights: Weights) -> Weights:
        return {name: value.to(self.accelerator.device) for name, value in weights.items()}


def _copies(weights: Weights) -> Weights:
    return {name: value.detach().clone() for name, value in weights.items()}
