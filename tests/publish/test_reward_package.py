import json
import os
import shutil
import subprocess
import sys

import pytest
from hub_double import serving
from typer.testing import CliRunner

from fgr.cli import app
from fgr.errors import UserError
from fgr.publish import run
from fgr.publish.package import Consent


def test_a_run_goes_up_with_its_card_and_scores_from_there(trained, data, tmp_path):
    folder = shutil.copytree(trained, tmp_path / "rm")
    image = tmp_path / "photo.png"
    import skimage.data
    from PIL import Image

    Image.fromarray(skimage.data.astronaut()[:96, :96]).save(image)
    judged = CliRunner().invoke(
        app, ["evaluate", "--reward", str(folder), "--data", str(data), "--out", str(folder / "evaluation.json")]
    )
    assert judged.exit_code == 0, judged.output
    here = CliRunner().invoke(app, ["score", str(image), "--json", "--reward", str(folder)])
    with serving() as hub:
        keys = {
            "HF_ENDPOINT": hub.url,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_OFFLINE": "0",
            "HF_TOKEN": "hf_x",
            "HF_HOME": str(tmp_path),
        }

        def fgr(*arguments):
            command = [sys.executable, "-m", "fgr", *map(str, arguments)]
            return subprocess.run(command, capture_output=True, text=True, env=os.environ | keys, check=False)

        done = fgr("publish", folder, "acme/rm")
        assert done.returncode == 0, done.stderr
        tree = hub.repositories["acme/rm"].at("main")[1]
        stages = {f"stage-{number}/{file}" for number in (0, 1) for file in ("config.json", "model.safetensors")}
        assert set(tree) == {".gitattributes", "README.md", "config.json", "model.safetensors"} | stages
        assert hub.repositories["acme/rm"].kind == "model"
        there = fgr("score", image, "--json", "--reward", "acme/rm")
        assert json.loads(there.stdout) == json.loads(here.stdout), there.stderr
        script = "from fgr.reward.pretrained import load_stages; print([stage.stage for stage in load_stages('acme/rm')])"
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=os.environ | keys, check=False)
        assert done.stdout.strip() == "[0, 1]", done.stderr  # for fgr rlhf to optimise against
        commits = len(hub.repositories["acme/rm"].commits)
        assert fgr("publish", folder, "acme/rm").returncode == 0
        assert len(hub.repositories["acme/rm"].commits) == commits  # nothing is sent twice
    card = (folder / "stage-1" / "README.md").read_text()
    for part in (
        'from_pretrained("acme/rm")',
        "| encoder | tiny |",
        "Stage 1 of 1",
        "| triplets in order | ",
        "stages:",
        "12 rows",
    ):
        assert part in card
    assert "6 rows of 6 photographs" in card
    assert "{{" not in card


def test_a_stage_alone_is_enough(trained, tmp_path):
    stage = shutil.copytree(trained / "stage-1", tmp_path / "stage")
    package = run.pack(stage, "acme/rm", Consent(), write=True)
    assert package.kind == "model"
    assert package.beside is None
    assert "## Training" not in (stage / "README.md").read_text()


def test_a_dry_run_lists_what_would_go_before_there_is_a_card(trained, tmp_path):
    folder = shutil.copytree(trained, tmp_path / "rm", ignore=shutil.ignore_patterns("README.md"))
    done = CliRunner().invoke(app, ["publish", str(folder), "acme/rm", "--dry-run"])
    assert done.exit_code == 0, done.exception
    files, _, card = done.stdout.partition("\n\n")
    listed = dict(line.split()[::-1] for line in files.splitlines())
    assert listed["README.md"] == str(len(card.removesuffix("\n").encode()))
    assert "acme/rm" in card
    assert int(listed["stage-0/model.safetensors"]) > 10_000
    assert not list(folder.rglob("README.md"))


def test_an_unfinished_run_is_told_so(trained, tmp_path):
    (tmp_path / "rm").mkdir()
    shutil.copy(trained / "run.json", tmp_path / "rm")
    with pytest.raises(UserError, match="nor a finished stage"):
        run.pack(tmp_path / "rm", "acme/rm", Consent(), write=True)
