"""`fgr rlhf`: from an SR network and a reward model to a tuned network; running it again resumes.

RUN/best.safetensors   the tuned network with the best held-out metrics, as spandrel opens it; RUN/last.safetensors the last one
RUN/sheets, examples   pictures at each audit, and of the best network beside the untuned one
RUN/reward/stage-K     stages of the reward model that were refreshed on the policy's own outputs
RUN/summary.json       the start against the end, figure by figure
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fgr import atomic
from fgr.errors import UserError
from fgr.recipe import resolved
from fgr.recipe.rlhf import RlhfRecipe
from fgr.reward.pretrained import load_reward_model, save_reward_model
from fgr.rlhf import audit, pictures
from fgr.rlhf.algorithms import open_algorithm
from fgr.rlhf.algorithms.interface import Algorithm
from fgr.rlhf.held_out import HeldOutEvaluation
from fgr.rlhf.inputs import Replayed
from fgr.rlhf.policy import Weights
from fgr.rlhf.refresh import refreshed
from fgr.rlhf.setup import Setup
from fgr.rlhf.tuning_loop import TuningLoop
from fgr.training.accelerator import begin_trackers

SHOWN = 6  # images of the report's gallery


def tune(recipe: RlhfRecipe, generator: str, reward: str, data: str, out: Path, device: str = "auto") -> dict[str, Any]:
    """Tune `generator` against `reward` on the inputs of `data`; what RUN/summary.json then holds.

    UserError for a model, a reward model or data that do not fit together, for another recipe's folder, for a run that no step
    can be taken in, and for memory that does not suffice; KeyboardInterrupt after saving.
    """
    setup = Setup(recipe, generator, reward, data, out, device)
    try:
        with setup.run.alone():
            return _run(setup)
    except (MemoryError, RuntimeError) as error:
        from fgr.sr.memory import is_out_of_memory

        if not is_out_of_memory(error):
            raise
        raise UserError(
            f"{setup.device} does not have enough memory for batches of {recipe.data.batch} crops of "
            f"{recipe.data.crop} low-resolution pixels.",
            "Lower data.batch (training.accumulate makes up for it), data.crop or audit.crop, or set "
            "policy.checkpoint_blocks=true, policy.train=lora or training.precision=bf16.",
        ) from None


def _run(setup: Setup) -> dict[str, Any]:
    """Tune, or finish tuning, and write what comes of it."""
    setup.run.start("rlhf", resolved(setup.recipe), setup.facts)
    setup.accelerator.wait_for_everyone()
    summary = setup.run.directory / "summary.json"
    if summary.is_file():
        return json.loads(summary.read_text(encoding="utf-8"))
    loop = open_loop(setup)
    begin_trackers(setup.accelerator, "fgr-rlhf", setup.recipe.trackers)
    loop.fit()
    found = write_results(loop, setup.facts["generator"])
    setup.accelerator.end_training()
    return found


def open_loop(setup: Setup) -> TuningLoop:
    """The loop at step 0 with its rewards scaled, or at the step of the run's checkpoint."""
    recipe, policy, run = setup.recipe, setup.policy, setup.run
    torch.manual_seed(recipe.seed)  # low-rank changes begin at random
    policy.learn(recipe.policy)
    policy.to(setup.device)
    perceptual = {name: metric.measure for name, metric in setup.perceptual.items()}
    algorithm = open_algorithm(policy, recipe, setup.stages, setup.accelerator.autocast, perceptual)
    evaluation = setup.evaluation()

    def refresh(stage: int, ema: Weights) -> dict[str, np.ndarray]:
        return refresh_stage(setup, algorithm, evaluation, stage, ema)

    loop = TuningLoop(
        policy, algorithm, evaluation, setup.schedule, recipe, run, setup.accelerator, setup.batches,
        refresh if recipe.curriculum.refresh.steps else None, setup.last_stage,
    )  # fmt: skip
    saved = run.load()
    if saved:
        state = saved["state"]
        reopen_refreshed(setup, max(state["curriculum"]["stage"], *(point["stage"] for point in state["points"])))
        loop.restore(saved)
        run.keep(lambda line: line["step"] <= loop.state.step)
    else:
        run.keep(lambda line: False)
        scale_rewards(setup, algorithm, range(len(setup.stages.rewards)))
    return loop


def scale_rewards(setup: Setup, algorithm: Algorithm, stages: Iterable[int]) -> None:
    """Set z-units and weights of the rewards of `stages`, by references and by the untuned network's outputs."""
    references, batches = setup.references()
    starts = [setup.policy.start(batch.low) for batch in batches]
    setup.stages.scale(references, starts, algorithm.anchor_norm(batches[0], starts[0]), stages)


def refresh_stage(
    setup: Setup, algorithm: Algorithm, evaluation: HeldOutEvaluation, stage: int, ema: Weights
) -> dict[str, np.ndarray]:
    """Train a stage of the reward model on composites of the policy with the weights `ema`, write it to RUN/reward, and let it
    take the old one's place; the untuned network's held-out values of its reward."""
    recipe, opened = setup.recipe, setup.inputs
    settings, data = recipe.curriculum.refresh, recipe.data
    assert isinstance(opened, Replayed)
    assert setup.composites
    with setup.policy.holding(ema):
        rows = setup.composites.rows(setup.policy, opened, settings.composites, recipe.seed, setup.device)
    crop = data.crop * setup.policy.scale or opened.side
    model = refreshed(
        setup.stages.models[stage],
        rows,
        opened.rows,
        settings,
        crop=crop,
        batch=data.batch,
        seed=recipe.seed,
        device=setup.device,
    )
    if setup.run.main:
        save_reward_model(model, _refreshed_folder(setup, stage))
    setup.stages.replace(stage, model)
    scale_rewards(setup, algorithm, [stage])
    return evaluation.start_rewards(setup.device, [stage])


def reopen_refreshed(setup: Setup, reached: int) -> None:
    """Let stages up to `reached` that were refreshed before the run was interrupted take their places.

    A checkpoint holds their scales. A later stage's folder is of steps that are taken again.
    """
    for stage in range(min(reached + 1, len(setup.stages.models))):
        folder = _refreshed_folder(setup, stage)
        if folder.is_dir():
            setup.stages.replace(stage, load_reward_model(folder, str(setup.device)).requires_grad_(False))


def write_results(loop: TuningLoop, generator: dict[str, str]) -> dict[str, Any]:
    """Write RUN/best.safetensors, last.safetensors, examples and summary.json; what that holds. `generator`: name and digest."""
    state, out, policy, evaluation, last = loop.state, loop.run.directory, loop.policy, loop.evaluation, loop.schedule.last
    loop.write(out / "best.safetensors", state.best["weights"], state.best["step"])
    loop.write(out / "last.safetensors", state.ema, state.step)
    measured = loop.measure(state.best["weights"], [last], SHOWN)
    name = f"reward_{last}"
    metrics = {name: audit.MetricRole("trained reward", 1, False)} | evaluation.metrics.roles
    verdict = audit.assess(state.start, measured.values, metrics, (state.start[name], measured.values[name]))
    found = {
        "steps": state.step, "ended": state.ended, "best_step": state.best["step"], "alarms": state.alarms,
        "skipped": state.skipped, "rollbacks": state.curriculum.rollbacks, "images": len(evaluation.pairs),
        "reward": verdict.reward, "held_out": verdict.held_out, "hacking_index": verdict.hacking_index,
        "metrics": audit.compared(state.start, measured.values, metrics),
        "generator": generator, "license": policy.license, "scale": policy.scale,
    }  # fmt: skip
    if loop.run.main:
        start = evaluation.start_outputs(evaluation.pairs[:SHOWN], loop.accelerator.device)
        found["examples"] = pictures.write_examples(out / "examples", loop.maps, evaluation.pairs, start, measured.outputs)
        atomic.write_json(out / "summary.json", found)
    return found


def _refreshed_folder(setup: Setup, stage: int) -> Path:
    return setup.run.directory / "reward" / f"stage-{stage}"
