"""The tuning loop: policy updates, audits, switches of stage, rollbacks, checkpoints, when to stop."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list

from fgr.errors import UserError, notice
from fgr.progress import Progress
from fgr.recipe.rlhf import RlhfRecipe
from fgr.rlhf import audit, changes, curriculum, pictures
from fgr.rlhf.algorithms.interface import Algorithm, TrainingStep
from fgr.rlhf.auditor import Auditor, Baseline, Finding
from fgr.rlhf.curriculum import AuditPoint, CurriculumState, StageSchedule
from fgr.rlhf.held_out import HeldOutEvaluation, Measured
from fgr.rlhf.inputs import Batch
from fgr.rlhf.policy import Policy, Weights
from fgr.rlhf.tuning_state import State
from fgr.training.directory import Run
from fgr.training.loop import AHEAD, Feed, take_steps
from fgr.training.optimization import Optimization, divergence, running_mean, update_ema, warmup

Refresh = Callable[[int, Weights, Baseline], None]  # of a stage, by averaged weights; the baseline gets its new values


class TuningLoop:
    """Tunes `policy` by `algorithm`, audited by `evaluation` and drawn with the maps of `maps`.

    `batches(first, last)` gives the batches of these numbers; `refresh` renews a stage before it takes over.
    """

    def __init__(
        self, policy: Policy, algorithm: Algorithm, evaluation: HeldOutEvaluation, schedule: StageSchedule,
        recipe: RlhfRecipe, run: Run, accelerator: Any, batches: Callable[[int, int], Iterator[Batch]],
        refresh: Refresh | None, maps: Any,
    ) -> None:  # fmt: skip
        self.policy, self.algorithm, self.evaluation, self.schedule, self.run = policy, algorithm, evaluation, schedule, run
        self.recipe, self.training, self.audited = recipe, recipe.training, recipe.audit
        self.auditor = Auditor(evaluation, recipe.audit, accelerator.device)
        self.accelerator, self.batches, self.refresh, self.maps = accelerator, batches, refresh, maps
        self.optimizer = accelerator.prepare(self._new_optimizer())
        self.optimization = Optimization(
            policy, self.optimizer, self.training.clip, self.training.accumulate, accelerator, policy.learned().values()
        )
        self.state = State(CurriculumState(schedule.first), ema=_copies(policy.learned()))
        self.start_outputs: torch.Tensor | None = None  # of the untuned network, for the sheets

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on from a checkpoint's state."""
        self.policy.put(self.placed(saved["learned"]))
        self.optimization.load(saved)
        self.state = State.of(saved["state"], self.placed)
        for reward, values in zip(self.algorithm.rewards, saved["rewards"], strict=True):
            reward.load(values)

    def save(self) -> None:
        """Write the checkpoint."""
        self.run.save({
            "learned": _copies(self.policy.learned()), "state": self.state.plain(),
            "rewards": [reward.state() for reward in self.algorithm.rewards], **self.optimization.state(),
        })  # fmt: skip
        self.accelerator.wait_for_everyone()

    def fit(self) -> None:
        """Take the steps that are left. KeyboardInterrupt, after saving, when asked to stop; UserError: no step can be taken."""
        state, training = self.state, self.training
        if state.baseline is None:
            with Progress("first audit", 1, "audits") as progress:
                self._audit()
                progress.advance()
            self.save()
        if state.ended:
            return
        batches, device = (
            self.batches(state.step * training.accumulate, training.steps * training.accumulate),
            self.accelerator.device,
        )
        source = Feed(batches, lambda batch: batch.to(device), AHEAD if device.type == "cuda" else 0)
        every = training.checkpoint_every
        take_steps(lambda: self._step(source), "rlhf", state.step, training.steps, self.save, every, self.accelerator, source)

    def measure(self, weights: Weights, stages: Any, keep: int = 0, evaluation: HeldOutEvaluation | None = None) -> Measured:
        """The held-out metrics of the policy with these learned weights, on the audited crops or those of another `evaluation`;
        `keep` outputs are returned."""
        with self.policy.holding(self.placed(weights)):
            measured = (evaluation or self.evaluation).measure(self.policy, self.accelerator.device, stages, keep)
        values = broadcast_object_list([measured.values])[0]  # every process decides by the same numbers
        return replace(measured, values=values)

    def write(self, path: Path, weights: Weights, step: int) -> None:
        """Write the tuned network of these learned weights."""
        if self.run.main:
            with self.policy.holding(self.placed(weights)):
                self.policy.save(path, step=str(step))

    def _step(self, source: Feed[Batch, Batch]) -> bool:
        """A training step, with the switch before it and the audit after it, where they are due; whether the run goes on."""
        state = self.state
        if curriculum.is_due(self.schedule, state.curriculum, state.step):
            self._switch("its steps are done", {})
        self._train(source)
        due = state.step % self.audited.every == 0 and state.step >= self.audited.first
        if due or state.step == self.training.steps:
            self._audit()
        return not state.ended

    def _train(self, source: Feed[Batch, Batch]) -> None:
        began, state, training = time.perf_counter(), self.state, self.training
        place, step = state.curriculum, state.step
        share = curriculum.blend_share(self.schedule, place, step)
        factor = curriculum.lr_factor(self.schedule, place, step) * warmup(step, training.warmup)
        self.optimization.set_rate(factor)
        at = TrainingStep(self.policy, place.stage, share, self.optimization.backward, self._update)
        figures = self._everywhere(self.optimization.accumulate(source, lambda batch: self.algorithm.step(batch, at)))
        state.step += 1
        norm = self._update()
        figures |= {
            "norm": norm, "clipped": float(norm > training.clip), "lr": factor * training.lr,
            "step_s": time.perf_counter() - began, "wait_s": source.waited(),
        }  # fmt: skip
        self._log("train", stage=place.stage, share=share, **figures)
        if state.bad >= training.bad_steps:
            raise self._broken(norm)

    def _everywhere(self, figures: dict[str, Any]) -> dict[str, Any]:
        """Means of figures over the processes."""
        if self.accelerator.num_processes == 1:
            return figures
        values = torch.tensor(list(figures.values()), dtype=torch.float64, device=self.accelerator.device)
        return dict(zip(figures, self.accelerator.reduce(values, "mean").tolist(), strict=True))

    def _update(self) -> float:
        """An optimizer step and its part in the averaged weights, if the gradient can be used; its norm before clipping."""
        state, learned = self.state, self.policy.learned()
        if self.accelerator.num_processes > 1:  # by hand: diffusion models are called in parts, and not every tensor has a part
            gradients = [value.grad for value in learned.values() if value.grad is not None]
            whole = self.accelerator.reduce(torch.cat([one.flatten() for one in gradients]), "mean")
            for one, mean in zip(gradients, whole.split([one.numel() for one in gradients]), strict=True):
                one.copy_(mean.view_as(one))
        norm = self.optimization.clip_gradients()
        wrong = divergence(norm, state.gradient, self.training.explosion_factor, state.step)
        if wrong:
            self.optimization.skip()
            state.bad, state.skipped = state.bad + 1, state.skipped + 1
            self._event("skipped", f"the gradient {wrong}", norm=norm)
        else:
            state.gradient, state.bad = running_mean(state.gradient, norm), 0
            self.optimization.step()
            update_ema(state.ema, learned, self.training.ema, state.step)
        return norm

    def _broken(self, norm: float) -> UserError:
        best, path = self.state.best, self.run.directory / "best.safetensors"
        self.write(path, best["weights"], best["step"])
        return UserError(
            f"There was no usable gradient in {self.state.bad} steps in a row (step {self.state.step}, last norm {norm:.3g}).",
            f"The weights of step {best['step']} are the last good ones: {path}. Begin again "
            "with a lower training.lr, reward.ratio or training.clip, or with training.precision=no.",
        )

    def _audit(self) -> None:
        state, stage, last = self.state, self.state.curriculum.stage, self.schedule.last
        first = state.baseline is None
        stages = range(self.schedule.first, last + 1) if first else sorted({stage, last})
        measured = self.measure(state.ema, stages, self.audited.sheet)
        if state.baseline is None:
            state.baseline = self.auditor.baseline(measured.values, stages)
        found = self.auditor.assess(state.baseline, measured.values, stage)
        self._log_audit(found, measured.values, state.baseline.start)
        if first:
            self._warn(state.baseline)
        state.points.append(AuditPoint(state.step, stage, found.changes.reward, found.changes.held_out.value))
        self._draw(measured)
        if (not found.alarms and audit.is_better(found.score, state.best.get("score"))) or not state.best:
            state.best = {
                "step": state.step, "stage": stage, "held_out": found.changes.held_out.value, "score": found.score,
                "weights": _copies(state.ema),
            }  # fmt: skip
        if found.alarms:
            self._alarm(found)
        elif self.schedule.kind == "adaptive":
            self._adapt()

    def _log_audit(self, found: Finding, values: Mapping[str, Any], start: Mapping[str, Any]) -> None:
        """A line of the audit: changes in sd, of independent judges too, gap closures, and each figure's mean."""
        last, moved = f"reward_{self.schedule.last}", found.changes
        figures = {f"held_out_{name}": gain for name, gain in moved.groups.items()}
        judges = self.auditor.evaluation.metrics.judges
        rises = {name: float(changes.change(start[name], values[name]).mean()) for name in (last, *judges)}
        figures |= {f"held_out_{name}": rises[name] for name in judges}
        figures |= {name: float(one.mean()) for name, one in values.items()}
        figures |= found.verdict.figures() if found.verdict else {}
        self._log(
            "audit", stage=self.state.curriculum.stage, reward=moved.reward, held_out=moved.held_out.value,
            last_reward=rises[last], alarm=bool(found.alarms), **figures,
        )  # fmt: skip

    def _warn(self, baseline: Baseline) -> None:
        """Say at the start which figures have no vote, and what the trained reward takes known defects for."""
        if baseline.without_vote:
            names = ", ".join(baseline.without_vote)
            self._event("vote", f"no vote in this run, since they prefer known defects to their absence: {names}")
        trained = f"reward_{self.schedule.last}"
        kinds = dict.fromkeys(str(row["kind"]) for row in baseline.planted if row["figure"] == trained and row["says"] == "wrong")
        if kinds:
            self._event("planted", f"the trained reward prefers these defects to their absence: {', '.join(kinds)}")

    def _alarm(self, found: Finding) -> None:
        state, hacked = self.state, "; ".join(found.alarms)
        state.alarms.append(state.step)
        self._event("alarm", f"reward hacking: {hacked}", **found.changes.groups)
        if self.audited.on_hacking == "stop":
            state.ended = f"reward hacking in step {state.step}"
        elif self.audited.on_hacking == "rollback":
            self._roll_back(hacked)

    def _adapt(self) -> None:
        """What the adaptive schedule decides after an audit."""
        state, settings = self.state, self.recipe.curriculum.adaptive
        decision = curriculum.next_action(state.curriculum, state.points, self.schedule.last, **settings.model_dump())
        if decision.action == "advance":
            self._switch(decision.reason, decision.evidence)
        elif decision.action == "slow":
            state.curriculum = curriculum.slow_down(state.curriculum, state.step)
            self._event("slow", decision.reason, **decision.evidence)
        elif decision.action in ("rollback", "stop"):
            self._roll_back(decision.reason, **decision.evidence)

    def _roll_back(self, reason: str, **evidence: float) -> None:
        """Back to the best checkpoint's weights, exactly; ends the run when that was done often enough."""
        state = self.state
        if state.curriculum.rollbacks >= self.recipe.curriculum.adaptive.rollbacks:
            state.ended = f"{reason}, after {state.curriculum.rollbacks} rollbacks"
            self._event("stop", state.ended, **evidence)
            return
        stage = state.best["stage"] if self.schedule.kind == "adaptive" else state.curriculum.stage  # else steps say the stage
        state.curriculum = curriculum.roll_back(state.curriculum, state.step, stage)
        self.policy.put(state.best["weights"])
        state.ema = self.placed(_copies(state.best["weights"]))
        self.optimizer.load_state_dict(self._new_optimizer().state_dict())  # moments of another place are of no use
        self._event("rollback", reason, to=state.best["step"], **evidence)
        state.points = [*state.points, replace(state.points[-1], held_out=state.best["held_out"], stage=stage)]

    def _switch(self, reason: str, evidence: dict[str, float]) -> None:
        state = self.state
        state.curriculum = curriculum.advance(state.curriculum, state.step)
        self._event("stage", reason, stage=state.curriculum.stage, **evidence)
        if self.refresh:
            assert state.baseline is not None
            self.refresh(state.curriculum.stage, state.ema, state.baseline)
            self.save()

    def _new_optimizer(self) -> torch.optim.Optimizer:
        learned = list(self.policy.learned().values())
        return torch.optim.AdamW(learned, lr=self.training.lr, weight_decay=self.training.weight_decay)

    def _draw(self, measured: Measured) -> None:
        if not self.audited.sheet or not self.run.main:
            return
        if self.start_outputs is None:
            shown = self.evaluation.pairs[: self.audited.sheet]
            self.start_outputs = self.evaluation.start_outputs(shown, self.accelerator.device)
        path = self.run.directory / "sheets" / f"step-{self.state.step:06d}.webp"
        pictures.write_sheet(path, self.maps, self.evaluation.pairs, self.start_outputs, measured.outputs)

    def _event(self, event: str, reason: str, **figures: Any) -> None:
        self._log("event", event=event, reason=reason, **figures)
        if self.run.main:
            notice(f"step {self.state.step}: {event} – {reason}")

    def _log(self, split: str, **figures: Any) -> None:
        self.run.log(step=self.state.step, split=split, **figures)
        if self.accelerator.trackers:
            numbers = {f"{split}/{name}": value for name, value in figures.items() if isinstance(value, int | float)}
            self.accelerator.log(numbers, step=self.state.step)

    def placed(self, weights: Weights) -> Weights:
        """These weights on the run's device."""
        return {name: value.to(self.accelerator.device) for name, value in weights.items()}


def _copies(weights: Weights) -> Weights:
    return {name: value.detach().clone() for name, value in weights.items()}
