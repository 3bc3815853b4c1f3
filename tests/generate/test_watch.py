"""NaN from an SR model: single samples are dropped and counted, too many stop the run."""

import numpy as np
import pytest

from fgr import recipe as recipes
from fgr.dataset import manifest, tables
from fgr.errors import UserError
from fgr.generate import run
from fgr.generate.watch import Watch, not_finite
from fgr.sr import NonFiniteOutput
from fgr.sr.upscalers import Bicubic


def test_the_limit_is_a_share_of_all_samples():
    counted = []
    watch = Watch(lambda count, drops: counted.append((count, drops)), 100, 0.02)
    watch(1, {not_finite("a"): 1})
    watch(50, {"severity": 40})
    watch(1, {not_finite("b"): 1})
    with pytest.raises(UserError, match=r"by SR model: a 1, b 2\.\n.*inference\.precision=fp32"):
        watch(1, {not_finite("b"): 1})
    assert counted == [(1, {"not_finite:a": 1}), (50, {"severity": 40}), (1, {"not_finite:b": 1}), (1, {"not_finite:b": 1})]


@pytest.fixture
def faulty(monkeypatch):
    """Bicubic gives NaN for references whose low-resolution input is darker than a level, as a network in fp16 might."""

    def arm(below):
        real = Bicubic._one

        def one(self, image):
            if image.mean() < below:
                raise NonFiniteOutput("NaN")
            return real(self, image)

        monkeypatch.setattr(Bicubic, "_one", one)

    return arm


def load(overrides, **knobs):
    options = {"models": ["bicubic"], "samples": 6, "source.crop": 64, "source.crops_per_photo": 3}
    return recipes.load("demo", "generate", [*overrides, "severity=[0, 1]", "map.calibration_pairs=6"], options | knobs)


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
