"""The name under which the best network of a run is opened."""

import json

import pytest

from fgr.errors import UserError
from fgr.sr.tuned_run import model_of, summary_of


@pytest.fixture
def run(tmp_path):
    (tmp_path / "best.safetensors").write_bytes(b"")
    return tmp_path


def summarise(run, name):
    (run / "summary.json").write_text(json.dumps({"generator": {"name": name}, "metrics": []}))


@pytest.mark.parametrize(
    ("name", "begins"),
    [
        ("realesrgan", "spandrel:"), ("spandrel:x.pth", "spandrel:"), ("ldm-sr", "ldm-sr+lora:"),
        ("ldm-sr+lora:before.safetensors", "ldm-sr+lora:"),
    ],
)  # fmt: skip
def test_networks_are_files_and_diffusion_models_low_rank_changes(run, name, begins):
    summarise(run, name)
    assert model_of(run) == f"{begins}{run / 'best.safetensors'}"


def test_runs_that_are_not_finished_or_damaged(run):
    with pytest.raises(UserError, match=r"is not a finished run of fgr rlhf: it has no summary\.json"):
        summary_of(run)
    for text in ("{", "[]", '{"generator": {}}'):
        (run / "summary.json").write_text(text)
        with pytest.raises(UserError, match="is damaged"):
            summary_of(run)
    summarise(run, "realesrgan")
    (run / "best.safetensors").unlink()
    with pytest.raises(UserError, match=r"it has no best\.safetensors"):
        model_of(run)
