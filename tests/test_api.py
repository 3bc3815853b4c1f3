"""The Python API: `import fgr`."""

import inspect
import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fgr
from fgr.api_arguments import as_recipe
from fgr.reward import FinPercepRM, score_scale

FUNCTIONS = sorted(set(fgr.API) - {"UserError"})


def test_every_name_is_a_function_and_has_a_type():
    stub = Path(fgr.__file__).with_name("__init__.pyi").read_text()
    assert set(fgr.API) == set(re.findall(r" as (\w+)$", stub, re.MULTILINE))
    assert set(fgr.API) < set(dir(fgr))
    assert issubclass(fgr.UserError, Exception)
    for name in FUNCTIONS:
        assert callable(getattr(fgr, name))
        assert not (Path(fgr.__file__).parent / name).is_dir()  # a sub-package would take its place


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_says_what_it_takes_gives_and_raises_with_an_example(name):
    function = getattr(fgr, name)
    text = inspect.getdoc(function)
    for section in ("Args:", "Returns:", "Raises:", "Examples:"):
        assert f"\n{section}\n" in text
    for parameter in inspect.signature(function).parameters.values():
        assert f"\n    {parameter.name}: " in text
        assert parameter.annotation is not inspect.Parameter.empty
    example = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]
    assert f"fgr.{name}(" in example
    compile(textwrap.dedent(example), name, "exec")
    page = (Path(fgr.__file__).parents[1] / "docs" / "python.md").read_text()
    assert f"\n::: {function.__module__}.{name}\n" in page


def test_recipes_are_names_files_mappings_or_objects(tmp_path):
    named = as_recipe("demo", "generate", {"samples": 6, "source.limit": 3})
    (tmp_path / "mine.yaml").write_text("name: mine\nmodels: [bicubic]\n")
    assert (named.samples, named.source.limit, named.source.crop) == (6, 3, 256)
    assert as_recipe(tmp_path / "mine.yaml", "generate").name == "mine"
    assert as_recipe({"name": "mine", "models": ["bicubic"]}, "generate", {"map.alpha": 0.5}).map.alpha == 0.5
    assert as_recipe(named, "generate") is named
    assert as_recipe(named, "generate", {"source.limit": None}).source.limit is None
    assert named.source.limit == 3
    with pytest.raises(fgr.UserError, match=r"not a recipe of the kind 'reward' but of the type GenerateRecipe"):
        as_recipe(named, "reward")
    with pytest.raises(fgr.UserError, match="given as a mapping has 2 mistakes"):
        as_recipe({"name": "mine", "sample": 3}, "generate")


def test_an_image_is_scored_as_a_file_an_array_or_a_pil_image(trained, tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(array).save(tmp_path / "a.png")
    model = fgr.load_reward_model(trained)
    by_file, by_array = fgr.score(tmp_path / "a.png", trained, device="cpu"), fgr.score(array, model)
    assert by_file.score == by_array.score == fgr.score(Image.fromarray(array), model).score
    assert by_array.map.shape == (48, 64)
    assert by_array.map.mean() <= by_array.worst <= 1
    model.score_scale = score_scale.ScoreScale(by_array.score + 1, by_array.score - 1, 0, 0, 8)
    assert fgr.score(array, model).calibrated == pytest.approx(0.5)
    model.score_scale = None
    assert fgr.score(array, model).calibrated is None
    for wrong in (array[..., 0], array.astype(np.float32), "no.png", None):
        with pytest.raises(fgr.UserError):
            fgr.score(wrong, model)


def test_the_notebook_runs(tmp_path, monkeypatch, capsys):
    """Its cells in order, with smaller numbers in the one that is tagged `parameters`."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    notebook = json.loads((Path(fgr.__file__).parents[1] / "docs" / "tour.ipynb").read_text())
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert not cell["outputs"]
            exec("".join(cell["source"]), names)
            if "parameters" in cell["metadata"].get("tags", ()):
                names |= {part: {**names[part], **small} for part, small in SMALL.items()}
    assert (tmp_path / "out" / "tour" / "tuned" / "best.safetensors").is_file()
    said = capsys.readouterr().out
    assert "The image no-such-photo.png does not exist" in said or "cannot be read" in said
    assert "best step" in said


SMALL = {
    "dataset": {
        "samples": 12, "models": ["realesr-animevideov3", "bicubic"], "source.crop": 128, "source.crops_per_photo": 1,
        "map.calibration_pairs": 2, "map.features": "gradient", "severity": [0.0, 1.0], "shard_rows": 12,
    },
    "reward": {
        "base.steps": 2, "stages": [2, 2], "data.crop": 48, "data.batch": 2, "data.validation": 2, "encoder.name": "tiny",
        "training.validate_every": 2,
    },
    "tuning": {
        "training.steps": 2, "audit.every": 2, "audit.images": 2, "training.warmup": 0, "audit.crop": 32, "data.crop": 16,
        "data.batch": 2, "reward.reference_images": 2, "audit.sheet": 1, "audit.patch": 16, "curriculum.blend_steps": 1,
    },
}  # fmt: skip


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'scores'"):
        fgr.scores  # noqa: B018


def test_importing_loads_nothing_heavy():
    script = (
        "import fgr, fgr.api, fgr.reward, sys; print(dir(fgr)); "
        "print(sorted({'torch', 'datasets', 'ray', 'diffusers', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[1] == "[]"
    assert "'generate_dataset'" in done.stdout
    assert FinPercepRM.__name__ == "FinPercepRM"
