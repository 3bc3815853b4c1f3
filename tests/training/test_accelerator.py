import pytest
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
