"""`fgr rlhf --audit`: a network that was tuned elsewhere, audited; nothing is trained.

RUN/summary.json, RUN/examples   what a finished tuning run has of them; `fgr report RUN` shows it
"""

import json
from pathlib import Path
from typing import Any

import torch

from fgr import atomic
from fgr.errors import UserError
from fgr.images.arrays import as_images, as_tensor
from fgr.recipe import resolved
from fgr.recipe.rlhf import RlhfRecipe
from fgr.rlhf import pictures
from fgr.rlhf.auditor import Auditor
from fgr.rlhf.setup import Setup
from fgr.sr import Job, NonFiniteOutput, Upscaler, open_upscaler
from fgr.sr.tuned_run import model_of

SHOWN = 6  # images of the report's gallery


def audit_network(
    recipe: RlhfRecipe, generator: str, network: str, reward: str, data: str, out: Path, device: str = "auto"
) -> dict[str, Any]:
    """Audit `network` (an SR model's name, or a run of `fgr rlhf`) as if it had been tuned from `generator` against the reward
    model `reward`; what OUT/summary.json then holds. UserError as of `fgr.rlhf.run.tune`."""
    setup = Setup(recipe, generator, reward, data, out, device, network)
    name = model_of(Path(network)) if (Path(network) / "run.json").is_file() else network
    opened = open_upscaler(name, scale=setup.policy.scale, device=str(setup.device))
    with setup.run.alone():
        setup.run.start("rlhf", resolved(recipe), setup.facts)
        summary = out / "summary.json"
        if summary.is_file():
            return dict(json.loads(summary.read_text(encoding="utf-8")))
        return _audited(setup, opened)


def _audited(setup: Setup, opened: Upscaler) -> dict[str, Any]:
    policy, stage, out = setup.policy.to(setup.device), setup.schedule.last, setup.run.directory
    references, batches = setup.references()
    starts = [policy.start(batch.low) for batch in batches]
    setup.calibrate_judges(references, starts)
    if setup.recipe.reward.units == "z":
        setup.stages.rewards[stage].calibrate([*references, *starts])
    evaluation = setup.final_evaluation() or setup.evaluation()
    auditor = Auditor(evaluation, setup.recipe.audit, setup.device)
    baseline = auditor.baseline(evaluation.measure(policy.start, setup.device, [stage]).values, [stage])
    measured = evaluation.measure(lambda low: _restored(opened, low), setup.device, [stage], SHOWN)
    part = auditor.summary(baseline, measured.values, stage)
    found = atomic.finite({
        "steps": 0, "ended": "", "best_step": 0, "alarms": [0] if part["final_alarms"] else [], "skipped": 0, "rollbacks": 0,
        "split": setup.reported_on, "selected_on": "", **part, "generator": setup.facts["generator"],
        "audited": {"name": opened.name, "digest": opened.digest}, "license": opened.license, "scale": policy.scale,
    })  # fmt: skip
    before = evaluation.start_outputs(evaluation.pairs[:SHOWN], setup.device)
    found["examples"] = pictures.write_examples(
        out / "examples", setup.last_stage, evaluation.pairs, before, measured.outputs
    )  # fmt: skip
    atomic.write_json(out / "summary.json", found)
    return dict(found)


def _restored(opened: Upscaler, low: torch.Tensor) -> torch.Tensor:
    """The network's outputs for inputs (B, 3, h, w) in [0, 1]."""
    images = as_images(low)
    jobs = [Job(image, str(number), image.shape[:2], (0, 0, image.shape[0])) for number, image in enumerate(images)]
    try:
        return torch.as_tensor(as_tensor(opened.upscale(jobs), low.device))
    except NonFiniteOutput as error:
        raise UserError(f"Of a held-out crop {error}.", f"Check the weights of {opened.name}.") from None
