import json
import subprocess
import sys
from pathlib import Path

import pytest
import small_rlhf
import two_processes
from accelerate.utils import LoggerType

from fgr.errors import UserError
from fgr.training.accelerator import begin_trackers, open_accelerator


def test_a_run_on_the_cpu_in_its_precision(tmp_path):
    accelerator = open_accelerator("no", tmp_path / "run", "cpu", ())
    assert accelerator.device.type == "cpu"
    begin_trackers(accelerator, "test", ())
    assert not (tmp_path / "run").exists()


def test_a_tracker_that_is_not_installed_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("accelerate.tracking.get_available_trackers", lambda: [LoggerType.WANDB])
    with pytest.raises(UserError, match=r"(?s)tracker tensorboard is not installed.*pip install tensorboardX"):
        open_accelerator("no", tmp_path / "run", "cpu", ["tensorboard"])


def test_a_device_that_is_absent_is_a_sentence(tmp_path):
    with pytest.raises(UserError, match="is not available"):
        open_accelerator("no", tmp_path / "run", "tpu", ())


def test_a_process_trains_in_one_precision_after_another(tmp_path):
    for precision in ("no", "bf16", "no"):
        assert open_accelerator(precision, tmp_path / "run", "cpu", ()).mixed_precision == precision


REWARD = (
    "data.validation=2", "base.steps=2", "stages=[1]", "training.validate_every=2", "training.checkpoint_every=2",
    "model.width=16", "data.crop=48",
)  # fmt: skip


def test_two_processes_have_the_losses_of_one_with_twice_the_batch(data, tmp_path):
    def job(processes):
        overrides, out = [*REWARD, f"data.batch={4 // processes}"], tmp_path / str(processes)
        return {"kind": "reward", "overrides": overrides, "sources": [str(data)], "out": str(out)}

    program = [sys.executable, str(Path(two_processes.__file__)), json.dumps([job(2)])]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    two_processes.work(job(1))
    one, two = ([line["total"] for line in small_rlhf.logged(tmp_path / name, "train")] for name in ("1", "2"))
    assert two[0] == pytest.approx(one[0], rel=1e-6)
    assert two == pytest.approx(one, rel=0.02)  # ranks are means over the pairs of a process, which weighs gradients otherwise
