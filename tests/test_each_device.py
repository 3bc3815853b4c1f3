"""What must hold on every device: on the CPU always, on CUDA (marked `gpu`) where there is a GPU."""

import json

import numpy as np
import pytest
import torch
from skimage import data as pictures
from small_hed import small_hed
from small_rlhf import interrupted_after, logged, small
from small_sam import sam, sam2

from fgr import recipe
from fgr.dataset import tables
from fgr.devices import numerics
from fgr.generate import edges, run, segments
from fgr.generate.replay import replay
from fgr.metrics.features import open_features
from fgr.reward.pretrained import load_reward_model
from fgr.reward.run import train_reward_model
from fgr.rlhf.run import tune
from fgr.sr import Job, memory, open_upscaler
from fgr.training import directory as runs
from fgr.training.optimization import Optimization

NO_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
PHOTO = np.ascontiguousarray(pictures.astronaut()[:64, 60:124])


def restored(name, device, **how):
    upscaler = open_upscaler(name, scale=4, device=device, **how)
    [image] = upscaler.upscale([Job(PHOTO, "", (64, 64), (0, 0, 64))])
    return image, upscaler


@pytest.mark.parametrize("precision", ["tf32", "bf16", "fp16"])
@pytest.mark.parametrize("family", ["rrdbnet", "compact", "swinir", "span"])
def test_every_family_of_networks_is_near_fp32_in_every_precision_or_says_that_it_does_not_run(
    network_files, device, family, precision
):
    exact, opened = restored(network_files[family], device)
    if precision == "fp16" and not opened.descriptor.supports_half:
        return
    near, upscaler = restored(network_files[family], device, precision=precision)
    error = np.square(near.astype(float) - exact).mean()
    assert 10 * np.log10(255**2 / max(error, 1e-9)) > 30
    assert upscaler.settings()["precision"] == precision


def test_the_reward_model_and_its_gradient_under_autocast(reward_run, device):
    model = load_reward_model(reward_run, device).requires_grad_(False)
    found = {}
    for precision in (torch.float32, torch.bfloat16):
        image = torch.from_numpy(PHOTO).to(device).permute(2, 0, 1)[None].float().div(255).requires_grad_()
        with torch.autocast(device, precision, enabled=precision != torch.float32):
            score, map_ = model(image)
        (gradient,) = torch.autograd.grad(score.float().sum() + map_.float().mean(), image)
        found[precision] = score.float().item(), map_.float(), gradient.flatten()
    (score, map_, gradient), (low_score, low_map, low_gradient) = found.values()
    assert low_score == pytest.approx(score, abs=0.05)
    assert (low_map - map_).abs().max() < 0.1
    assert torch.cosine_similarity(gradient, low_gradient, dim=0) > 0.95


def test_a_run_in_mixed_precision_that_is_interrupted_goes_on_to_the_same_losses(data, overrides, device, tmp_path, monkeypatch):
    chosen = recipe.load("tiny", "reward", [*overrides, "training.precision=bf16", "training.checkpoint_every=1", "stages=[2]"])

    def losses(out):
        return [(line["phase"], line["step"], line["total"]) for line in runs.metrics(out) if line["split"] == "train"]

    train_reward_model(chosen, str(data), tmp_path / "whole", device)
    step, taken = Optimization.step, []

    def interrupted(self):
        if len(taken) == 3:
            taken.append("interrupted")
            raise KeyboardInterrupt
        taken.append(1)
        step(self)

    monkeypatch.setattr(Optimization, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_reward_model(chosen, str(data), tmp_path / "resumed", device)
    train_reward_model(chosen, str(data), tmp_path / "resumed", device)
    assert losses(tmp_path / "resumed") == losses(tmp_path / "whole")


def test_features_are_the_same_function(device):
    features = open_features("timm:tf_efficientnet_lite0", device)
    other = np.ascontiguousarray(PHOTO[:, ::-1])
    on_cpu = open_features("timm:tf_efficientnet_lite0", "cpu").difference(PHOTO, other)
    found = features.difference(PHOTO, other)
    assert np.abs(found - on_cpu).max() < (1e-3 if device == "cuda" else 1e-9)
    assert np.array_equal(features.difference(PHOTO, other), found)


def test_a_dataset_replays_where_it_was_made(tiny, tiny_recipe, device, tmp_path):
    out = tiny
    if device == "cuda":
        out = tmp_path / "made"
        changes = {"inference": {"batch": 4}, "samples": 12, "shard_rows": 6}
        run.generate(tiny_recipe.model_validate(tiny_recipe.model_dump() | changes), out, workers=1, device=device)
    rows = [row for file in tables.shards(out, "samples") for row in tables.read_shard(file)]
    assert ("hardware" in json.loads(rows[0]["inference"])) == (device == "cuda")
    assert list(replay(out, 6, "auto")) == [None] * 6


@pytest.mark.parametrize("kind", [sam, sam2])
def test_objects_are_the_same_on_every_device(kind, device, tmp_path, monkeypatch):
    monkeypatch.setattr(segments, "POINTS", 4)
    kind(tmp_path)
    labels, on_cpu = (segments.open_segments(f"sam:{tmp_path}", one).segments(PHOTO) for one in (device, "cpu"))
    assert len(np.unique(labels)) > 1
    assert (labels == on_cpu).mean() > (0.97 if device == "cuda" else 0.999)


def test_regions_between_edges_are_the_same_on_every_device(device, tmp_path):
    layers = edges.read_layers(small_hed(tmp_path / "hed.h5"))
    found, on_cpu = (edges.Hed(layers, one).edges(PHOTO).astype(float) for one in (device, "cpu"))
    assert np.abs(found - on_cpu).max() <= (0.01 * np.abs(on_cpu).max() if device == "cuda" else 0)


def test_a_batch_that_memory_has_no_room_for_is_halved_and_the_outputs_stay(network_files, device, monkeypatch):
    jobs = [Job(np.roll(PHOTO, turn, 0), "", (64, 64), (0, 0, 64)) for turn in range(4)]
    upscaler = open_upscaler(network_files["rrdbnet"], scale=4, device=device, precision="fp32")
    alone = [upscaler.upscale([job])[0] for job in jobs]
    upscaler, sizes = open_upscaler(network_files["rrdbnet"], scale=4, device=device, precision="fp32"), []
    upscaler.fit.batch = 4  # on the CPU too

    def full(module, inputs):
        sizes.append(len(inputs[0]))
        if len(inputs[0]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(memory, "cuda_room", lambda *_: 10**12)
    upscaler.descriptor.model.register_forward_pre_hook(full)
    found = upscaler.upscale(jobs)
    assert sizes[-3:] == [4, 2, 2]
    assert max(np.abs(a.astype(int) - b).max() for a, b in zip(found, alone, strict=True)) <= 1
    assert upscaler.settings(3).items() >= {"tile": 0, "batch": 2, "place": 1}.items()


def test_tuning_in_mixed_precision_that_is_interrupted_goes_on_to_the_same_losses(sources, device, tmp_path, monkeypatch):
    changes = ("precision=bf16", "steps=3", "checkpoint_every=1")
    short = ("audit.every=3", "audit.images=2", "audit.sheet=0", "curriculum.schedule=none")
    recipe = small(*(f"training.{change}" for change in changes), *short)

    def losses(out):
        return [(line["step"], line["reward"], line["norm"]) for line in logged(out, "train")]

    tune(recipe, *sources, tmp_path / "whole", device)
    with interrupted_after(monkeypatch, 2), pytest.raises(KeyboardInterrupt):
        tune(recipe, *sources, tmp_path / "resumed", device)
    tune(recipe, *sources, tmp_path / "resumed", device)
    assert losses(tmp_path / "resumed") == losses(tmp_path / "whole")


@pytest.mark.gpu
@NO_CUDA
def test_a_gpu_without_room_is_found_before_anything_fails(network_files):
    total = torch.cuda.mem_get_info()[1]
    image = np.tile(PHOTO, (16, 16, 1))
    torch.cuda.set_per_process_memory_fraction(min(1.0, 600e6 / total))
    try:
        upscaler = open_upscaler(network_files["rrdbnet"], scale=4, device="cuda", batch=8)
        [found] = upscaler.upscale([Job(image, "", image.shape[:2], (0, 0, 1024))])
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert found.shape == (4096, 4096, 3)
    assert 0 < upscaler.settings()["tile"] < 1024


@pytest.mark.gpu
@NO_CUDA
def test_the_probe_measures_what_a_network_takes(network_files):
    upscaler = open_upscaler(network_files["rrdbnet"], scale=4, device="cuda")
    small = memory.cuda_room(torch.device("cuda"), lambda: upscaler.upscale([Job(PHOTO, "", (64, 64), (0, 0, 64))]), 64 * 64)
    assert 10**5 < small < 10**10
    with numerics(torch.device("cuda"), "fp32"):
        assert torch.get_float32_matmul_precision() == "highest"
