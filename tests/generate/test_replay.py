import contextlib
import json
import shutil

import pytest
import torch
from typer.testing import CliRunner

from fgr import devices
from fgr.cli import app
from fgr.dataset import tables
from fgr.dataset.verify import Problem
from fgr.errors import UserError
from fgr.generate import factory, run
from fgr.generate import replay as replaying
from fgr.generate.replay import replay
from fgr.sr import memory, open_upscaler


def test_replay_gives_back_sr_and_map_exactly(tiny):
    assert list(replay(tiny, 100, "cpu")) == [None] * tables.count_rows(tiny, "samples")


def test_replay_makes_maps_of_whole_images_anew_where_there_are_any(tiny, older, tmp_path):
    assert list(replay(older, 3, "cpu")) == [None] * 3
    copy = shutil.copytree(tiny, tmp_path / "copy")
    shard = tables.shards(copy, "samples", "train")[0]
    rows = list(tables.read_shard(shard))
    other = next(row for row in rows if row["sr"] != rows[0]["sr"])
    tables.write_table(shard, "samples", [rows[0] | {"sr_map": other["sr_map"]}])
    assert any(problem and "sr_map differs on replay" in problem.text for problem in replay(copy, 100, "cpu"))


def test_replay_finds_an_altered_degradation_and_refuses_other_weights(tiny, tmp_path):
    copy = shutil.copytree(tiny, tmp_path / "copy")
    shard = tables.shards(copy, "samples", "train")[0]
    rows = list(tables.read_shard(shard))
    record = json.loads(rows[1]["degradation"])
    tables.write_table(shard, "samples", [row | {"degradation": rows[-1]["degradation"]} for row in rows[:1]])
    assert record["preset"] == "light"
    assert any(problem and "sr differs on replay" in problem.text for problem in replay(copy, 100, "cpu"))
    tables.write_table(shard, "samples", [rows[0] | {"model_digest": "0" * 64}])
    with pytest.raises(UserError, match="are not those of the dataset"):
        list(replay(copy, 100, "cpu"))


class CompanyCounts:
    """A small network of ×4 whose output depends on the size of its batch and on the place in it, as kernels' rounding does."""

    def __init__(self, upscaler):
        self.sizes = []
        upscaler.descriptor.model.register_forward_hook(self._disturb)

    def _disturb(self, module, inputs, output):
        self.sizes.append(len(output))
        return output + (len(output) * torch.arange(1, len(output) + 1) / 4 / 255).view(-1, 1, 1, 1)


@pytest.fixture(scope="module")
def made_in_batches(tiny_recipe, tmp_path_factory):
    """A dataset of two shards by such a network, made in batches of up to 4 as on a GPU, and its recorded hardware."""
    out = tmp_path_factory.mktemp("batches")
    changes = {"models": ["realesr-animevideov3"], "samples": 11, "shard_rows": 7, "inference": {"batch": 4}}
    recipe = tiny_recipe.model_validate(tiny_recipe.model_dump() | changes | {"severity": (0, 1)})
    with as_on_a_gpu({"gpu": "A", "torch": "1"}):
        run.generate(recipe, out, workers=1, device="cpu")
    return out


@contextlib.contextmanager
def as_on_a_gpu(found):
    opened = []

    def open_disturbed(name, **how):
        upscaler = open_upscaler(name, **how)
        opened.append(CompanyCounts(upscaler))
        return upscaler

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(devices, "one_by_one", lambda _: False)
        patch.setattr(devices, "hardware", lambda _: found)
        for module in (factory, replaying):
            patch.setattr(module, "open_upscaler", open_disturbed)
        yield opened


def test_a_row_comes_out_the_same_whatever_batch_it_was_made_in(made_in_batches):
    rows = [row for file in tables.shards(made_in_batches, "samples") for row in tables.read_shard(file)]
    ran = [json.loads(row["inference"]) for row in rows]
    assert {(one["batch"], one["place"]) for one in ran} > {(4, 0), (4, 3)}
    assert min(one["batch"] for one in ran) < 4  # the rest of a shard
    with as_on_a_gpu({"gpu": "A", "torch": "1"}) as opened:
        assert list(replay(made_in_batches, 100, "cpu")) == [None] * len(rows)
    assert {size for one in opened for size in one.sizes} == {one["batch"] for one in ran}


@pytest.mark.parametrize("here", [{"gpu": "B", "torch": "1"}, {}])
def test_what_another_gpu_rounds_otherwise_is_no_broken_promise(made_in_batches, here):
    with as_on_a_gpu(here), pytest.MonkeyPatch.context() as patch:
        patch.setattr(CompanyCounts, "_disturb", lambda *_: None)
        found = list(replay(made_in_batches, 3, "cpu"))
        said = CliRunner().invoke(app, ["verify", str(made_in_batches), "--replay", "2"])
    assert said.exit_code == 0
    assert "every promise holds; 0 rows replayed exactly, 2 as nearly as this machine can" in said.stdout
    assert {type(one) for one in found} == {replaying.Inexact}
    assert "dB apart: it was made on A (torch 1), this is " + ("B (torch 1)" if here else "a processor") in str(found[0])


def test_another_input_is_a_broken_promise_on_any_gpu(made_in_batches, tmp_path):
    copy = shutil.copytree(made_in_batches, tmp_path / "copy")
    shard = tables.shards(copy, "samples")[0]
    rows = list(tables.read_shard(shard))
    other = next(row["degradation"] for row in rows if row["source_id"] != rows[0]["source_id"])
    tables.write_table(shard, "samples", [rows[0] | {"degradation": other}])
    with as_on_a_gpu({"gpu": "B", "torch": "1"}):
        found = list(replay(copy, 100, "cpu"))
    assert any(isinstance(one, Problem) and "sr differs" in one.text for one in found)


def test_less_memory_than_a_row_was_made_with_is_said(made_in_batches):
    hardware = {"gpu": "A", "torch": "1"}
    with as_on_a_gpu(hardware), pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory.MemoryFit, "_first", lambda self, size: (1, 0))
        found = list(replay(made_in_batches, 100, "cpu"))
    assert any("memory allows batch 1 instead of 4" in str(one) for one in found if one)
