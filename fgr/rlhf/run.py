"""`fgr rlhf`: from an SR network and a reward model to a tuned network; running it again resumes.

The same command with more training.steps extends a finished run; the last stage goes on.

RUN/best.safetensors   the tuned network with the best held-out metrics, as spandrel opens it; RUN/last.safetensors the last one
RUN/sheets, examples   pictures at each audit, and of the best network beside the untuned one
RUN/reward/stage-K     stages of the reward model that were refreshed on the policy's own outputs
RUN/summary.json       the start against the end, figure by figure
"""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from fgr import atomic
from fgr.errors import UserError, notice
from fgr.progress import Progress
from fgr.recipe import resolved
from fgr.recipe.rlhf import RlhfRecipe
from fgr.reward.pretrained import load_reward_model, save_reward_model
from fgr.rlhf import inputs, pictures, usefulness
from fgr.rlhf.algorithms import Surroundings, open_algorithm
from fgr.rlhf.algorithms.interface import Algorithm
from fgr.rlhf.auditor import Auditor, Baseline
from fgr.rlhf.inputs import Replayed
from fgr.rlhf.policy import Weights
from fgr.rlhf.refresh import refreshed
from fgr.rlhf.setup import MAY_GROW, Setup
from fgr.rlhf.tuning_loop import TuningLoop
from fgr.rlhf.usefulness import control_recipe
from fgr.training.accelerator import begin_trackers

SHOWN = 6  # images of the report's gallery


def tune(recipe: RlhfRecipe, generator: str, reward: str, data: str, out: Path, device: str = "auto") -> dict[str, Any]:
    """Tune `generator` against `reward` on the inputs of `data`; what RUN/summary.json then holds.

    UserError for a model, a reward model or data that do not fit together, for another recipe's folder, for a run that no step
    can be taken in, and for memory that does not suffice; KeyboardInterrupt after saving.
    """
    notice(f"opening {generator}, the reward model {reward} and the data {data}")
    setup = Setup(recipe, generator, reward, data, out, device)
    try:
        with setup.run.alone():
            found = _run(setup, lambda: _control(recipe, generator, reward, data, out, device))
        setup.accelerator.end_training()  # at the end of all: joined processes part
        return found
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


def _control(recipe: RlhfRecipe, generator: str, reward: str, data: str, out: Path, device: str) -> Weights | None:
    """The averaged weights of a run with the anchor alone, in OUT/control; None where the recipe does not ask for one."""
    if not recipe.audit.control:
        return None
    setup = Setup(control_recipe(recipe), generator, reward, data, out / "control", device)
    with setup.run.alone():
        _run(setup, lambda: None)
    saved = setup.run.load()
    assert saved is not None
    weights: Weights = saved["state"]["ema"]
    return weights


def _run(setup: Setup, control: Callable[[], Weights | None]) -> dict[str, Any]:
    """Tune, or finish tuning, and write what comes of it; `control` trains what it is compared with."""
    setup.run.start("rlhf", resolved(setup.recipe), setup.facts, MAY_GROW, ("summary.json", "examples"))
    setup.accelerator.wait_for_everyone()
    summary = setup.run.directory / "summary.json"
    if summary.is_file():
        return json.loads(summary.read_text(encoding="utf-8"))
    loop = open_loop(setup)
    begin_trackers(setup.accelerator, "fgr-rlhf", setup.recipe.trackers)
    loop.fit()
    return write_results(loop, setup, control())


def open_loop(setup: Setup) -> TuningLoop:
    """The loop at step 0 with its rewards scaled, or at the step of the run's checkpoint."""
    recipe, policy, run = setup.recipe, setup.policy, setup.run
    torch.manual_seed(recipe.seed)  # low-rank changes begin at random
    policy.learn(recipe.policy)
    policy.to(setup.device)
    with setup.accelerator.autocast():
        policy.expect_gradients()
    perceptual = {name: metric.measure for name, metric in setup.perceptual.items()}
    around = Surroundings(setup.accelerator.autocast, perceptual, setup.accelerator.gather)
    algorithm = open_algorithm(policy, recipe, setup.stages, around)
    evaluation = setup.evaluation()

    def refresh(stage: int, ema: Weights, baseline: Baseline) -> None:
        refresh_stage(setup, algorithm, stage, ema)
        baseline.start |= evaluation.start_rewards(setup.device, [stage])
        baseline.reference |= evaluation.reference_rewards(setup.device, [stage])

    loop = TuningLoop(
        policy, algorithm, evaluation, setup.schedule, recipe, run, setup.accelerator, setup.batches,
        refresh if setup.refreshes else None, setup.last_stage,
    )  # fmt: skip
    saved = run.load()
    if saved:
        state = saved["state"]
        reopen_refreshed(setup, max(state["curriculum"]["stage"], *(point["stage"] for point in state["points"])))
        loop.restore(saved)
        scale_rewards(setup, algorithm, [])  # the judges', which no checkpoint holds
        run.keep(lambda line: line["step"] <= loop.state.step)
    else:
        run.keep(lambda line: False)
        scale_rewards(setup, algorithm, range(len(setup.stages.rewards)))
    return loop


def scale_rewards(setup: Setup, algorithm: Algorithm, stages: Iterable[int]) -> None:
    """Set z-units and weights of the rewards of `stages`, by references and by the untuned network's outputs."""
    notice("scaling the rewards on references and on what the untuned model makes of as many inputs")
    references, batches = setup.references()
    starts = []
    with Progress("untuned model", len(batches), "batches") as progress:
        for batch in batches:
            starts.append(setup.policy.start(batch.low))
            progress.advance()
    setup.calibrate_judges(references, starts)
    first = setup.accelerator.num_processes  # together they are the batch of a step, if images are of one size
    first = first if len({start.shape[1:] for start in starts[:first]}) == 1 else 1
    anchor_norm = algorithm.anchor_norm(inputs.joined(batches[:first]), torch.cat(starts[:first]))
    setup.stages.scale(references, starts, anchor_norm, stages, first)


def refresh_stage(setup: Setup, algorithm: Algorithm, stage: int, ema: Weights) -> None:
    """Train a stage of the reward model on composites of the policy with the weights `ema`, write it to RUN/reward, and let it
    take the old one's place."""
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
        batch=max(2, data.batch),  # some of it new, some the dataset's
        seed=recipe.seed,
        device=setup.device,
        recipe=setup.reward_recipe,
    )
    if setup.run.main:
        save_reward_model(model, _refreshed_folder(setup, stage))
    setup.stages.replace(stage, model)
    scale_rewards(setup, algorithm, [stage])


def reopen_refreshed(setup: Setup, reached: int) -> None:
    """Let stages up to `reached` that were refreshed before the run was interrupted take their places.

    A checkpoint holds their scales. A later stage's folder is of steps that are taken again.
    """
    for stage in range(min(reached + 1, len(setup.stages.models))):
        folder = _refreshed_folder(setup, stage)
        if folder.is_dir():
            setup.stages.replace(stage, load_reward_model(folder, str(setup.device)).requires_grad_(False))


def write_results(loop: TuningLoop, setup: Setup, control: Weights | None = None) -> dict[str, Any]:
    """Write RUN/best.safetensors, last.safetensors, examples and summary.json; what that holds.

    The figures are of the split that chose nothing, where there is one; with the weights of a `control` the best network is
    compared with that.
    """
    state, out, last, baseline = loop.state, loop.run.directory, loop.schedule.last, loop.state.baseline
    assert baseline is not None
    loop.write(out / "best.safetensors", state.best["weights"], state.best["step"])
    loop.write(out / "last.safetensors", state.ema, state.step)
    evaluation, auditor = loop.evaluation, loop.auditor
    if (final := setup.final_evaluation()) is not None:
        evaluation, auditor = final, Auditor(final, setup.recipe.audit, setup.device)
        baseline = auditor.baseline(final.measure(setup.policy.start, setup.device, [last]).values, [last], baseline)
    measured = loop.measure(state.best["weights"], [last], SHOWN, evaluation)
    found = {
        "steps": state.step, "ended": state.ended, "best_step": state.best["step"], "alarms": state.alarms,
        "skipped": state.skipped, "rollbacks": state.curriculum.rollbacks, "split": setup.reported_on,
        "selected_on": setup.recipe.audit.split, **auditor.summary(baseline, measured.values, last),
        "generator": setup.facts["generator"], "license": setup.policy.license, "scale": setup.policy.scale,
    }  # fmt: skip
    if control is not None:
        weights = [loop.placed(one) for one in (state.best["weights"], control)]
        found["control"] = usefulness.compared(setup.policy, auditor, baseline, *weights)
    found = atomic.finite(found)
    if loop.run.main:
        start = evaluation.start_outputs(evaluation.pairs[:SHOWN], setup.device)
        found["examples"] = pictures.write_examples(out / "examples", loop.maps, evaluation.pairs, start, measured.outputs)
        atomic.write_json(out / "summary.json", found)
    return found


def _refreshed_folder(setup: Setup, stage: int) -> Path:
    return setup.run.directory / "reward" / f"stage-{stage}"
