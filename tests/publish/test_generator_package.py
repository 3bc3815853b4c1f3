"""A tuned network goes to the Hub with its card, and works from there."""

import json
import os
import re
import shutil
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch
import yaml
from hub_double import serving
from safetensors.torch import load_file, save_file

from fgr import recipe as recipes
from fgr.errors import UserError
from fgr.publish import run as publisher
from fgr.publish.package import Consent
from fgr.rlhf.run import tune
from fgr.sr import Job, open_upscaler
from fgr.sr.tuned_run import model_of

SMALL = (
    "data={crop: 16, batch: 2}",
    "audit={every: 2, images: 2, crop: 16, patch: 32, sheet: 0, at_hand: false, planted: 0}",
    "reward.reference_images=4",
    "training={steps: 3, lr: 1.0e-4, warmup: 1, ema: 0.9, checkpoint_every: 3}", "curriculum.blend_steps=1",
)  # fmt: skip


@pytest.fixture(scope="module")
def tuned(network_files, reward_run, tiny, tmp_path_factory):
    """A finished run: read only."""
    out = tmp_path_factory.mktemp("tuned") / "run"
    tune(recipes.load("demo", "rlhf", SMALL), network_files["compact"], str(reward_run), str(tiny), out, "cpu")
    return out


@pytest.fixture
def copy(tuned, tmp_path):
    return shutil.copytree(tuned, tmp_path / "run")


def card(folder):
    _, front, body = (folder / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(front), body


def test_it_goes_up_with_its_card_and_restores_from_there(copy, tmp_path):
    with serving() as hub:
        keys = {
            "HF_ENDPOINT": hub.url,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_OFFLINE": "0",
            "HF_TOKEN": "hf_x",
            "HF_HOME": str(tmp_path),
        }
        command = [sys.executable, "-m", "fgr", "publish", str(copy), "acme/tuned"]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | keys, check=False)
        assert done.returncode == 0, done.stderr
        assert "does not say whether networks tuned from it may be passed on" in done.stderr
        assert "paths of this machine: spandrel:/" in done.stderr
        tree = hub.repositories["acme/tuned"].at("main")[1]
        expected = {
            "README.md",
            "best.safetensors",
            "summary.json",
            "run.json",
            *(f"examples/{n}-{v}.webp" for n in (0, 1) for v in ("before", "after", "difference")),
        }
        assert set(tree) - {".gitattributes"} == expected
        script = (
            "import torch; from huggingface_hub import hf_hub_download; from spandrel import ModelLoader\n"
            "network = ModelLoader().load_from_file(hf_hub_download('acme/tuned', 'best.safetensors')).eval()\n"
            "print(float(network(torch.full((1, 3, 16, 16), 0.5)).mean()))"
        )
        there = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=os.environ | keys, check=False)
    low = np.full((16, 16, 3), 127.5 / 255, np.float32)
    here = open_upscaler(model_of(copy), scale=4).upscale([Job((low * 255).astype(np.uint8), "x", (16, 16), (0, 0, 16))])[0]
    assert float(there.stdout) == pytest.approx(here.mean() / 255, abs=0.01), there.stderr


def test_the_card_tells_what_the_summary_holds(copy):
    package = publisher.pack(copy, "acme/tuned", Consent(), write=True)
    front, body = card(copy)
    summary = json.loads((copy / "summary.json").read_text())
    assert front["library_name"] == "spandrel"
    assert front["license"] == "other"
    assert front["license_name"] == "unknown"
    for row in summary["metrics"]:
        assert re.search(rf"\| {row['metric']} [↑↓]", body)
    assert f"On {summary['images']} held-out images" in body
    assert "training:\n  steps: 3" in body
    assert all(f"(examples/{file})" in body for file in ("0-before.webp", "1-after.webp"))
    assert "{{" not in body + str(front)
    lines = body.splitlines()
    for above, line in pairwise(lines):  # Markdown takes what follows a table's row for another row
        if above.startswith("|"):
            assert not line or line.startswith("|"), line
    assert set(package.sizes()) == set(package.files)


def test_a_dry_run_changes_nothing(copy):
    before = sorted(copy.rglob("*"))
    assert "acme/tuned" in publisher.pack(copy, "acme/tuned", Consent(), write=False).card
    assert sorted(copy.rglob("*")) == before


def changed(folder, **entries):
    summary = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps(summary | entries))


def test_the_licence_of_what_was_tuned_is_heeded(copy):
    with pytest.raises(UserError, match="does not say whether networks tuned from it may be passed on"):
        publisher.pack(copy, "acme/tuned", Consent(public=True), write=True)
    changed(copy, license="S-Lab-1.0")
    with pytest.raises(UserError, match="non-commercial use only"):
        publisher.pack(copy, "acme/tuned", Consent(), write=True)
    publisher.pack(copy, "acme/tuned", Consent(non_commercial=True), write=True)
    assert card(copy)[0]["license_name"] == "s-lab-1.0"
    changed(copy, license="Apache-2.0")
    package = publisher.pack(copy, "acme/tuned", Consent(public=True), write=True)
    assert card(copy)[0]["license"] == "apache-2.0"
    assert len(package.warnings) == 1  # the path of the file that was tuned


def test_a_network_that_produces_no_image_is_refused(copy):
    state = load_file(copy / "best.safetensors")
    save_file({name: torch.full_like(value, float("nan")) for name, value in state.items()}, copy / "best.safetensors")
    with pytest.raises(UserError, match="does not produce an image"):
        publisher.pack(copy, "acme/tuned", Consent(), write=True)


def test_an_unfinished_or_damaged_run_is_refused(copy):
    (copy / "summary.json").write_text("{")
    with pytest.raises(UserError, match=r"summary\.json is damaged"):
        publisher.pack(copy, "acme/tuned", Consent(), write=True)
    (copy / "summary.json").unlink()
    with pytest.raises(UserError, match="not a finished run"):
        publisher.pack(copy, "acme/tuned", Consent(), write=True)


def test_low_rank_changes_of_a_diffusion_model(copy):
    save_file({"unet.a.lora_A.weight": torch.zeros(2, 4), "unet.a.lora_B.weight": torch.zeros(4, 2)}, copy / "best.safetensors")
    changed(copy, generator={"name": "ldm-sr", "digest": "0"}, license="Apache-2.0")
    assert model_of(copy) == f"ldm-sr+lora:{copy / 'best.safetensors'}"
    publisher.pack(copy, "acme/tuned", Consent(), write=True)
    front, body = card(copy)
    assert front["library_name"] == "diffusers"
    assert "lora" in front["tags"]
    assert "--models ldm-sr+lora:tuned/best.safetensors" in body
    save_file({"unet.a.lora_A.weight": torch.full((2, 4), float("inf"))}, copy / "best.safetensors")
    with pytest.raises(UserError, match="contains NaN or infinite values"):
        publisher.pack(copy, "acme/tuned", Consent(), write=True)
