"""Two joined processes have the losses of one with twice the batch, whatever is trained."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import two_processes
from small_rlhf import logged

REWARD = (
    "data.validation=2", "base.steps=2", "stages=[1]", "training.validate_every=2", "training.checkpoint_every=2",
    "model.width=16", "data.crop=48",
)  # fmt: skip
TUNING = (
    "data.crop=16", "reward.reference_images=4", "curriculum={schedule: none}",
    "audit={every: 2, images: 2, crop: 16, patch: 32, sheet: 0, metrics: [], at_hand: false, planted: 0}",
    "training={steps: 2, lr: 1.0e-3, warmup: 1, checkpoint_every: 2}",
)  # fmt: skip
DIFFUSION = (*TUNING, "policy={train: lora, lora_rank: 2}", "sampling.steps=2")
CASES = {  # generator, what is changed in the demo recipe
    "direct": ("span", [*TUNING, "reward.map=0.5", "audit.control=true"]),
    "refl": ("ldm-sr", [*DIFFUSION, "algorithm={name: refl, hinge: null, anchor: 0.1, low_frequency: 0.1}"]),
}
LOSSES = {
    "reward": ("total",), "direct": ("reward", "anchor_start", "anchor_consistency", "norm"),
    "refl": ("reward", "anchor", "low_frequency", "norm"),
}  # fmt: skip


@pytest.fixture(scope="module")
def losses(data, sources, network_files, weights_of, tmp_path_factory):
    """What one process logs, and what two do with half its batch each: lines of `train` by case."""
    folder = tmp_path_factory.mktemp("processes")

    def jobs(processes):
        found = [("reward", "tiny", REWARD, [str(data)], "reward")]
        found += [
            ("rlhf", "demo", changes, [network_files.get(name, name), *sources[1:]], case)
            for case, (name, changes) in CASES.items()
        ]
        batch = f"data.batch={4 // processes}"
        outs = (str(folder / case / str(processes)) for *_, case in found)
        return [
            {"kind": kind, "recipe": recipe, "overrides": [*changes, batch], "sources": given, "out": out}
            for (kind, recipe, changes, given, _), out in zip(found, outs, strict=True)
        ]

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FGR_WEIGHTS", str(weights_of("ldm-sr")))
        program = [sys.executable, str(Path(two_processes.__file__)), json.dumps(jobs(2))]
        with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as two:
            for job in jobs(1):
                two_processes.work(job)
            said = two.communicate()[1]
    assert two.returncode == 0, said[-2000:]
    return {case: [logged(folder / case / name, "train") for name in ("1", "2")] for case in LOSSES}


@pytest.mark.parametrize("case", LOSSES)
def test_two_processes_have_the_losses_of_one_with_twice_the_batch(losses, case):
    one, two = losses[case]
    assert len(one) == len(two) > 1
    ranked = case == "reward"  # ranks are means over the pairs of a process, which weighs gradients otherwise
    for name in LOSSES[case]:
        assert two[0][name] == pytest.approx(one[0][name], rel=1e-4), name
        assert [line[name] for line in two] == pytest.approx([line[name] for line in one], rel=0.02 if ranked else 2e-3), name
