import numpy as np
import pytest
from PIL import Image

from fgr import recipe as recipes
from fgr.dataset import manifest, tables
from fgr.dataset.verify import verify
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


@pytest.fixture
def outputs(tmp_path):
    """Five photographs, and a folder with outputs for them: two good ones, one of another size, a text, and none for the last."""
    import skimage.data

    whole = skimage.data.astronaut()
    for number in range(5):
        photo = whole[64 * number : 64 * number + 128, 128:256]
        made = {2: photo[:100], 4: None}.get(number, photo[::-1])
        save(tmp_path / "photos" / f"{number}.png", photo)
        if made is not None:
            save(tmp_path / "sr" / f"{number}.png", made)
    (tmp_path / "sr" / "3.png").write_text("no image")
    return tmp_path


def save(path, image):
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(image).save(path)


def of_folder(outputs, overrides):
    more = [
        "splits={train: 1, validation: 0, test: 0}", "source.min_texture=0", "source.min_sharpness=0", "source.duplicate_bits=0",
        f"source.path={outputs / 'photos'}", "map.calibration_pairs=5",
    ]  # fmt: skip
    options = {"models": ["bicubic", f"folder:{outputs / 'sr'}"], "samples": 10, "severity": [0, 1]}
    return recipes.load("demo", "generate", [*overrides, *more], options)


def test_outputs_that_do_not_serve_cost_their_samples_alone(outputs, tiny_overrides, capsys):
    assert run.generate(of_folder(outputs, tiny_overrides), outputs / "out", workers=1, device="cpu")
    name = f"folder:{outputs / 'sr'}"
    reasons = ("missing_output", "wrong_size_output", "unreadable_output")
    assert manifest.read(outputs / "out")["drops"] == {f"{reason}:{name}": 1 for reason in reasons}
    assert [row["model"] for row in tables.read_rows(outputs / "out", "samples", ["model"])].count(name) == 2
    said = capsys.readouterr().err
    assert "2.png has 128×100 pixels, its photograph 128×128" in said
    assert "3.png cannot be read" in said
    assert f"{outputs / 'sr'} has no output for the photograph '4'" in said
    assert list(verify(outputs / "out")) == []


def test_a_folder_without_an_output_for_any_photograph_stops_the_run(outputs, tiny_overrides):
    for file in (outputs / "sr").iterdir():
        file.rename(file.with_name(f"other-{file.name}"))
    with pytest.raises(UserError, match=r"has no output for the photograph '.'"):
        run.generate(of_folder(outputs, tiny_overrides), outputs / "out", workers=1, device="cpu")
    for file in (outputs / "sr").iterdir():
        file.rename(file.with_name(file.name.removeprefix("other-")))
        (outputs / "sr" / file.name.removeprefix("other-")).write_text("no image")
    recipe = of_folder(outputs, tiny_overrides).model_copy(update={"models": (f"folder:{outputs / 'sr'}",)})
    with pytest.raises(UserError, match=r"None of the first 5 restored images can be used; dropped: missing.* 1, unr.* 4"):
        run.generate(recipe, outputs / "out", workers=1, device="cpu")
    assert not (outputs / "out").exists()
