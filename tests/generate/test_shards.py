import numpy as np
import pytest

from fgr import recipe as recipes
from fgr.dataset import manifest, tables
from fgr.errors import UserError
from fgr.generate import run
from fgr.generate.shards import NotFiniteLimit, not_finite, plan_shards
from fgr.recipe.generate import GenerateRecipe
from fgr.sr import NonFiniteOutput
from fgr.sr.upscalers import Bicubic


def test_shards_hold_every_candidate_once_and_their_names_say_how_many_there_are():
    recipe = GenerateRecipe(name="test", models=("m", "n"), masks={"composites": 2}, samples=23, shard_rows=4)
    shards = plan_shards({"train": ["a", "b", "c"], "test": ["d"]}, recipe)
    held = [one for shard in shards for one in shard.candidates]
    assert len(held) == len(set(held)) == 23
    names = [shard.name for shard in shards if shard.split == "train"]
    assert names == [f"train-{i:05d}-of-{len(names):05d}.parquet" for i in range(len(names))]
    assert all(len(shard.candidates) <= 4 for shard in shards)


def test_the_limit_is_a_share_of_all_samples():
    counted = []
    limit = NotFiniteLimit(lambda count, drops: counted.append((count, drops)), 100, 0.02)
    limit(1, {not_finite("a"): 1})
    limit(50, {"severity": 40})
    limit(1, {not_finite("b"): 1})
    with pytest.raises(UserError, match=r"by SR model: a 1, b 2\.\n.*inference\.precision=fp32"):
        limit(1, {not_finite("b"): 1})
    assert counted == [(1, {"not_finite:a": 1}), (50, {"severity": 40}), (1, {"not_finite:b": 1}), (1, {"not_finite:b": 1})]


@pytest.fixture
def faulty(monkeypatch):
    """Bicubic gives NaN for references whose low-resolution input is darker than a level, as a network in fp16 might."""

    def arm(below):
        real = Bicubic.upscale

        def upscale(self, jobs):
            if any(job.image.mean() < below for job in jobs):
                raise NonFiniteOutput("NaN")
            return real(self, jobs)

        monkeypatch.setattr(Bicubic, "upscale", upscale)

    return arm


def load(overrides, **changes):
    options = {"models": ["bicubic"], "samples": 6, "source.crop": 64, "source.crops_per_photo": 3}
    return recipes.load("demo", "generate", [*overrides, "severity=[0, 1]", "map.calibration_pairs=6"], options | changes)


def test_samples_that_are_not_finite_are_dropped_and_counted(faulty, tiny_overrides, tmp_path):
    assert run.generate(load(tiny_overrides), tmp_path / "whole", workers=1, device="cpu")
    faulty(60)
    assert run.generate(load(tiny_overrides, not_finite=1.0), tmp_path / "out", workers=1, device="cpu")
    made = manifest.read(tmp_path / "out")
    dropped = made["drops"]["not_finite:bicubic"]
    assert 1 <= dropped <= 5
    assert tables.count_rows(tmp_path / "out", "samples") == 6 - dropped
    for row in tables.read_rows(tmp_path / "out", "samples", ["sr"]):
        assert np.frombuffer(row["sr"], np.uint8).size


def test_too_many_stop_the_run_at_the_calibration(faulty, tiny_overrides, tmp_path):
    faulty(256)
    with pytest.raises(UserError, match=r"values that are not finite \(NaN or infinity\), by SR model: bicubic 1\."):
        run.generate(load(tiny_overrides), tmp_path / "out", workers=1, device="cpu")
    assert not (tmp_path / "out").exists()
