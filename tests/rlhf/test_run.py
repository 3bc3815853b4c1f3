"""Runs, end to end on a small network, a small reward model and the tiny dataset."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from small_rlhf import interrupted_after, logged, opened, small
from torchvision_double import put_weights, without_network

from fgr import recipe as recipes
from fgr.errors import UserError
from fgr.rlhf import run as runner
from fgr.rlhf.run import tune
from fgr.rlhf.trained_reward import Reward
from fgr.training import optimization

TIMINGS = ("step_s", "wait_s")


@pytest.fixture(scope="module")
def finished(sources, tmp_path_factory):
    """An undisturbed run of SMALL and its folder."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    return tune(small(), *sources, out, "cpu"), out


def test_a_run_leaves_the_tuned_network_pictures_and_figures(finished):
    found, out = finished
    assert {"run.json", "metrics.jsonl", "summary.json", "best.safetensors", "last.safetensors"} <= {
        p.name for p in out.iterdir()
    }
    assert sorted(path.name for path in (out / "sheets").iterdir()) == [f"step-{step:06d}.webp" for step in (0, 4, 8)]
    with Image.open(out / "sheets" / "step-000008.webp") as sheet:
        assert sheet.size == (7 * 68, 2 * 68)  # seven pictures of two images
    names = {row["metric"]: row for row in found["metrics"]}
    assert {
        "reward_2",
        "psnr",
        "ssim",
        "ms_ssim",
        "consistency",
        "niqe",
        "last_stage_score",
        "last_stage_severity",
        "distance",
    } == names.keys()
    assert names["distance"]["start"] == 0 < logged(out, "audit")[-1]["distance"]
    assert found["steps"] == 8
    assert len(found["examples"]) == 3
    assert (out / "examples" / f"0-{found['examples'][0][-1]}.webp").is_file()
    assert json.loads((out / "summary.json").read_text()) == found


def test_the_stages_take_turns_and_every_switch_is_logged(finished):
    steps = logged(finished[1], "train")
    assert [line["stage"] for line in steps] == [0, 0, 1, 1, 1, 2, 2, 2]
    assert [line["share"] for line in steps] == [1, 1, 0.5, 1, 1, 0.5, 1, 1]
    switches = [(line["step"], line["stage"]) for line in logged(finished[1], "event")]
    assert switches == [(2, 1), (5, 2)]


def test_the_log_holds_reward_held_out_metrics_and_index_beside_the_stage(finished):
    audits = logged(finished[1], "audit")
    assert [line["step"] for line in audits] == [0, 4, 8]
    first, last = audits[0], audits[-1]
    assert first["reward"] == first["held_out"] == 0
    assert {"closure", "closure_full_reference", "hacking_index", "ceiling"} <= last.keys()
    assert last["closure_full_reference"] != 0 == first["closure_full_reference"]
    groups = [last[f"held_out_{name}"] for name in ("fidelity", "consistency", "naturalness")]
    assert last["held_out"] == pytest.approx(np.mean(groups))


def test_a_tracker_gets_the_figures_too(sources, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tune(small("trackers=[tensorboard]", "training.steps=3", "audit.every=3"), *sources, tmp_path / "run", "cpu")
    events = EventAccumulator(str(tmp_path / "run" / "logs" / "fgr-rlhf")).Reload()
    told = {event.step: event.value for event in events.Scalars("train/reward")}
    assert told == pytest.approx({line["step"]: line["reward"] for line in logged(tmp_path / "run", "train")})
    assert len(told) == 3


def test_the_rewards_weight_makes_its_gradient_the_asked_share_of_the_anchors(sources, tmp_path):
    setup, loop = opened(small("reward.ratio=0.25"), sources, tmp_path / "run")
    _, (batch, *_) = setup.references()
    start = setup.policy.start(batch.low)
    anchor_norm = loop.algorithm.anchor_norm(batch, start)
    for reward in loop.algorithm.rewards:
        gradient = reward.weight * reward.gradient(start)[2]
        assert float(gradient.norm()) == pytest.approx(0.25 * anchor_norm, rel=1e-4)


def test_resuming_gives_the_numbers_of_an_undisturbed_run(sources, finished, tmp_path, monkeypatch):
    out, whole = tmp_path / "run", finished[1]
    with interrupted_after(monkeypatch, 5), pytest.raises(KeyboardInterrupt):
        tune(small(), *sources, out, "cpu")
    tune(small(), *sources, out, "cpu")
    for split in ("train", "audit", "event"):
        first, second = (
            [{name: value for name, value in line.items() if name not in TIMINGS} for line in logged(one, split)]
            for one in (whole, out)
        )
        assert first == second
    for name in ("best.safetensors", "last.safetensors"):
        assert (whole / name).read_bytes() == (out / name).read_bytes()


def test_a_finished_run_is_not_run_again_and_another_recipe_is_refused(sources, finished):
    found, out = finished
    before = (out / "metrics.jsonl").read_bytes()
    assert tune(small(), *sources, out, "cpu") == found
    assert (out / "metrics.jsonl").read_bytes() == before
    with pytest.raises(UserError, match=r"training.lr: 0.0001 there, 0.001 here"):
        tune(small("training.lr=1.0e-3"), *sources, out, "cpu")


def test_more_steps_extend_a_finished_run(sources, tmp_path):
    """From the last step on: with one stage, to the weights of a run that was as long from the first."""
    settings = ("curriculum.schedule=none", "audit.sheet=0")
    out, whole = tmp_path / "run", tmp_path / "whole"
    assert tune(small(*settings, "training.steps=4"), *sources, out, "cpu")["steps"] == 4
    found = tune(small(*settings, "training.steps=8"), *sources, out, "cpu")
    assert found["steps"] == 8
    assert [line["step"] for line in logged(out, "train")] == list(range(1, 9))
    tune(small(*settings, "training.steps=8"), *sources, whole, "cpu")
    assert (out / "last.safetensors").read_bytes() == (whole / "last.safetensors").read_bytes()
    with pytest.raises(UserError, match=r"training.steps: 8 there, 4 here"):
        tune(small(*settings, "training.steps=4"), *sources, out, "cpu")
    for name in ("checkpoint.pt", "checkpoint-before.pt"):
        (out / name).unlink(missing_ok=True)
    with pytest.raises(UserError, match=r"cannot be extended \(training.steps\): its checkpoint.pt is gone"):
        tune(small(*settings, "training.steps=12"), *sources, out, "cpu")


@pytest.mark.parametrize(("factor", "reason"), [(float("nan"), "is not a number"), (1e12, "exploded")])
def test_a_gradient_out_of_all_bounds_is_skipped_counted_and_ends_the_run_when_it_stays(
    sources, tmp_path, monkeypatch, factor, reason
):
    gradient, calls = Reward.gradient, []

    def broken(self, image):
        terms, value, found = gradient(self, image)
        calls.append(1)
        return terms, value, found * (factor if len(calls) > limit else 1)

    limit = 8  # calibration takes one each of three rewards
    monkeypatch.setattr(Reward, "gradient", broken)
    monkeypatch.setattr(optimization, "STEADY", 2)
    with pytest.raises(UserError, match=r"There was no usable gradient in 3 steps in a row.*\n.*best.safetensors"):
        tune(small("training.bad_steps=3"), *sources, tmp_path / "run", "cpu")
    skipped = [line for line in logged(tmp_path / "run", "event") if line["event"] == "skipped"]
    assert len(skipped) == 3
    assert reason in skipped[0]["reason"]
    assert (skipped[0]["norm"] is None) == math.isnan(factor)
    start = load_file(sources[0].partition(":")[2])
    assert load_file(tmp_path / "run" / "best.safetensors").keys() == start.keys()


def test_out_of_memory_names_the_keys_to_lower(sources, tmp_path, monkeypatch):
    def full(setup):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(runner, "open_loop", full)
    with pytest.raises(UserError, match=r"batches of 2 crops of 16 low-resolution pixels.\nLower data.batch"):
        tune(small(), *sources, tmp_path / "run", "cpu")


def test_generate_uses_the_tuned_network_at_once(finished, tiny_overrides, tmp_path):
    from fgr.dataset import tables
    from fgr.generate.run import generate

    name = f"spandrel:{finished[1] / 'best.safetensors'}"
    recipe = recipes.load("demo", "generate", tiny_overrides, {"models": [name], "samples": 4})
    assert generate(recipe, tmp_path / "data", workers=1, device="cpu")
    rows = [row for file in tables.shards(tmp_path / "data", "samples") for row in tables.read_shard(file)]
    assert {row["model"] for row in rows} == {name}


def test_lora_and_accumulation_and_recomputed_blocks_run_too(network_files, reward_run, tiny, tmp_path):
    recipe = small("policy={train: lora, lora_rank: 2, checkpoint_blocks: true}", "training.accumulate=2", "training.steps=3")
    found = tune(recipe, network_files["swinir"], str(reward_run), str(tiny), tmp_path / "run", "cpu")
    assert found["steps"] == 3
    assert load_file(tmp_path / "run" / "last.safetensors").keys() == load_file(network_files["swinir"].partition(":")[2]).keys()


@pytest.fixture
def precision():
    """A process has one precision: forgets it before and after."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.usefixtures("precision")
def test_what_is_held_out_counts_and_perceptual_distances_anchor_in_bfloat16(sources, reward_run, tmp_path, monkeypatch):
    """AlexNet's weights are random."""
    put_weights(monkeypatch, without_network(monkeypatch, tmp_path), "alexnet")
    overrides = (
        f"audit.rewards=['{reward_run / 'stage-1'}']",
        "audit.metrics=[lpips, lite0-distance]",
        "anchor.lpips=0.5",
        "anchor.lite0_distance=0.5",
        "training.precision=bf16",
    )
    found = tune(small(*overrides, "training.steps=3"), *sources, tmp_path / "run", "cpu")
    counting = {row["metric"] for row in found["metrics"] if row["counts"]}
    assert counting == {
        "psnr", "ssim", "ms_ssim", "lpips", "lite0_distance", "consistency", "niqe", "rm0_score", "rm0_severity",
    }  # fmt: skip
    last_step = logged(tmp_path / "run", "train")[-1]
    assert last_step["anchor_lpips"] > 0
    assert last_step["anchor_lite0_distance"] > 0
    last = load_file(tmp_path / "run" / "last.safetensors")
    assert all(torch.isfinite(value).all() and value.dtype == torch.float32 for value in last.values())


def test_weights_of_lpips_that_cannot_be_had_are_told(sources, tmp_path, monkeypatch):
    without_network(monkeypatch, tmp_path)
    with pytest.raises(UserError, match=r"which LPIPS needs, are not available: no network"):
        tune(small("audit.metrics=[lpips]"), *sources, tmp_path / "run", "cpu")


def test_a_folder_of_low_resolution_images_will_do(sources, tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "low").mkdir()
    for number in range(6):
        pixels = 40 * number + rng.integers(0, 4 + 9 * number, (20, 24, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "low" / f"{number}.png")
    found = tune(small("training.steps=3"), sources[0], sources[1], str(tmp_path / "low"), tmp_path / "run", "cpu")
    assert {row["metric"] for row in found["metrics"] if row["counts"]} == {"consistency"}
    with pytest.raises(UserError, match="without references"):
        tune(small("anchor.reference=1"), sources[0], sources[1], str(tmp_path / "low"), tmp_path / "other", "cpu")
    assert not (tmp_path / "other").exists()


def test_raw_units_leave_the_terms_alone_and_give_every_stage_the_last_ones_weight(sources, tmp_path):
    rewards = opened(small("reward.units=raw"), sources, tmp_path / "raw")[1].algorithm.rewards
    assert all(reward.mean.tolist() == [0.0] * len(reward.terms) for reward in rewards)
    assert all(reward.sd.tolist() == [1.0] * len(reward.terms) for reward in rewards)
    assert len({reward.weight for reward in rewards}) == 1
    assert rewards[-1].weight > 0
