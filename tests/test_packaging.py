"""What people install: the wheel, built and used away from the sources."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import fgr
from fgr import recipe

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder into which the built wheel was installed, without its dependencies."""
    work = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(work), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    target = work / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(target)]
    subprocess.run([*pip, *map(str, work.glob("*.whl"))], check=True, capture_output=True)
    return target


def run(installed, *arguments):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"PYTHONPATH": str(installed)}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env=environment, cwd=installed, check=False
    )


def test_the_wheel_runs_and_carries_recipes_cards_and_types(installed):
    assert run(installed, "-m", "fgr", "--version").stdout.strip() == fgr.__version__
    script = (
        "import fgr; from fgr import recipe; from fgr.dataset import card; from fgr.report import page;"
        "from fgr.shipped import shipped;"
        "print(fgr.__file__, recipe.load('demo', 'generate').samples, bool(card.template()[1]), shipped('annotation').is_dir())"
    )
    done = run(installed, "-c", script)
    assert done.stdout.split() == [
        str(installed / "fgr" / "__init__.py"),
        str(recipe.load("demo", "generate").samples),
        "True",
        "True",
    ], done.stderr
    carried = ("publish/templates/reward.md", "report/templates/swipe.js", "reward/fgr_lite/model.safetensors")
    for file in ("py.typed", "people/published.json", *carried):
        assert (installed / "fgr" / file).is_file()
    assert not (installed / "tests").exists()


def test_base_dependencies_suffice(installed, tmp_path):
    """Without any package that only extras bring, all modules import, a dataset is made and used, and errors name the extra."""
    import skimage.data
    from PIL import Image

    (tmp_path / "photos").mkdir()
    for name in ("astronaut", "coffee", "chelsea"):
        Image.fromarray(getattr(skimage.data, name)()[:192, :192]).save(tmp_path / "photos" / f"{name}.png")
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    environment = os.environ | {
        "PYTHONPATH": str(installed),
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(tmp_path),
        "FGR_WEIGHTS": str(tmp_path),
    }
    command = [sys.executable, str(ROOT / "tests" / "base_only.py"), *declared]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def test_its_metadata_promise_what_is_there(installed):
    metadata = next(installed.glob("fgr-*.dist-info/METADATA")).read_text()
    required = re.findall(r"^Requires-Dist: ([\w.-]+)", metadata, re.MULTILINE)
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert len(declared["dependencies"]) + sum(map(len, declared["optional-dependencies"].values())) == len(required)
    assert "Requires-Python: <3.13,>=3.11" in metadata


def test_the_version_is_the_same_everywhere():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"]
    assert declared == cited == fgr.__version__
    assert f"## {declared}" in (ROOT / "CHANGELOG.md").read_text()
    assert re.fullmatch(r"\d+\.\d+\.\d+", declared)


def test_the_workflow_calls_what_a_contributor_calls():
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "check.yml").read_text())["jobs"]
    assert any("make check test" in step.get("run", "") for step in jobs["check"]["steps"])


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_can_complete(shell):
    script = "import sys; sys.argv = ['fgr']; from fgr.cli import main; main()"
    environment = os.environ | {"_FGR_COMPLETE": f"source_{shell}"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False)
    assert "_FGR_COMPLETE" in done.stdout
