"""A test for each promise of SECURITY.md, by its number."""

import ast
import io
import logging
import os
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision_double import put_weights, without_network

from fgr import recipe
from fgr.annotate import ml_backend, serve
from fgr.annotate.studio import Studio
from fgr.dataset import card, tables
from fgr.errors import UserError
from fgr.evaluate.comparison import folder_name
from fgr.evaluate.testset import open_test_set
from fgr.image_files import read_image
from fgr.images.photos import PhotoError, decode_photo
from fgr.metrics.registry import open_metrics
from fgr.recipe.annotate import Prediction
from fgr.report import page
from fgr.reward.model import FinPercepRM
from fgr.reward.pretrained import load_reward_model
from fgr.rlhf.held_out import open_held_out
from fgr.tensors import read_tensors
from fgr.training import directory as runs

ROOT = Path(__file__).parents[1]
SECRET = "hf_ThisIsASecretThatNobodySees"
ATTACK = "<script>alert(1)</script>"


class Evil:
    """Unpickling it makes a file."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return (open, (str(self.trace), "w"))


def calls():
    """Every call in fgr: file, name as written, keywords."""
    for file in sorted((ROOT / "fgr").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call):
                yield file.name, ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}


def test_every_promise_has_a_test():
    promises = re.findall(r"^(\d)\. \*\*", (ROOT / "SECURITY.md").read_text(), re.MULTILINE)
    tested = set(re.findall(r"^def test_(\d)_", Path(__file__).read_text(), re.MULTILINE))
    assert promises
    assert set(promises) == tested


def test_every_test_that_a_promise_names_is_there():
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", (ROOT / "SECURITY.md").read_text())
    assert len(named) > 7
    for file, test in named:
        assert f"def {test}(" in (ROOT / file).read_text(), test


@pytest.mark.parametrize("name", ["x.pth", "x.pt", "x.ckpt"])
def test_1_weights_run_no_code(tmp_path, name):
    torch.save({"weight": Evil(tmp_path / "ran")}, tmp_path / name)
    with pytest.raises(UserError, match="refused"):
        read_tensors(tmp_path / name)
    assert not (tmp_path / "ran").exists()


def test_1_checkpoints_run_no_code(tmp_path):
    run = runs.Run(tmp_path)
    torch.save({"step": Evil(tmp_path / "ran")}, run.checkpoint)
    with pytest.raises(UserError, match="damaged"):
        run.load()
    assert not (tmp_path / "ran").exists()


def test_1_reward_models_are_safetensors_alone(tmp_path):
    (tmp_path / "config.json").write_text('{"encoder": "tiny", "gate": "concat", "stage": 0, "stages": 3}')
    torch.save({"weight": Evil(tmp_path / "ran")}, tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError):
        load_reward_model(tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("verb", ["evaluate", "rlhf"])
def test_1_weights_of_metrics_run_no_code(tmp_path, monkeypatch, verb):
    """A hostile AlexNet in torch's cache, named by its own digest, on the ways of both commands that open LPIPS."""
    checkpoints = without_network(monkeypatch, tmp_path)
    put_weights(monkeypatch, checkpoints, "alexnet", {"features.0.weight": Evil(tmp_path / "ran")})
    opened = {
        "evaluate": lambda: open_metrics(["psnr", "lpips"]),
        "rlhf": lambda: open_held_out(["lpips"], "cpu"),
    }
    with pytest.raises(UserError, match="refused"):
        opened[verb]()
    assert not (tmp_path / "ran").exists()


def test_1_networks_of_torchvision_are_opened_in_one_place():
    """torchvision and torchmetrics unpickle what lies in torch's cache, unless it was checked before."""
    unsafe = re.compile(r"torchvision\.models|torchmetrics\.image\b|functional\.image\.(lpips|dists)")
    found = {file.name for file in (ROOT / "fgr").rglob("*.py") if unsafe.search(file.read_text())}
    assert found == {"perceptual.py"}


def test_1_no_file_is_unpickled_and_2_nothing_is_evaluated():
    for file, name, words in calls():
        where = f"{file}: {name}"
        assert name not in ("eval", "exec", "os.system", "pickle.load", "pickle.loads", "joblib.load", "yaml.load"), where
        if name in ("torch.load", "torch.hub.load_state_dict_from_url"):
            assert words.get("weights_only") == "True", where
        if name in ("np.load", "numpy.load"):
            assert words.get("allow_pickle", "False") == "False", where
        assert "trust_remote_code" not in words, where
        assert words.get("shell", "False") == "False", where


def test_2_data_runs_no_code(tiny, tmp_path):
    """A loading script beside the tables, named as `datasets` used to want it, is refused."""
    import shutil

    copy = shutil.copytree(tiny, tmp_path / "tiny")
    (copy / "tiny.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(UserError, match="scripts are no longer supported"):
        open_test_set(str(copy))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("text", ["!!python/object/apply:os.mkdir [{0}]", "!!python/name:os.system"])
def test_3_recipes_run_no_code(tmp_path, text):
    trace = tmp_path / "ran"
    (tmp_path / "r.yaml").write_text(f"name: {text.format(trace)}\n")
    with pytest.raises(UserError, match="not valid YAML"):
        recipe.load(tmp_path / "r.yaml", "generate")
    with pytest.raises(UserError, match="mistake"):
        recipe.load("demo", "generate", [f"samples={text.format(trace)}"])
    with pytest.raises(UserError, match="unknown key"):
        recipe.load("demo", "generate", ["source.module=os.system"])
    assert not trace.exists()


def test_4_tokens_stay_secret_on_the_command_line(tmp_path):
    environment = os.environ | {
        "HF_TOKEN": SECRET, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path),
        "HF_HUB_VERBOSITY": "debug", "FGR_DEBUG": "1",
    }  # fmt: skip
    command = [sys.executable, "-m", "fgr", "score", str(tmp_path / "x.png"), "--reward", "acme/absent"]
    (tmp_path / "x.png").write_bytes(b"")
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 1
    assert "acme/absent" in done.stderr
    assert SECRET not in done.stdout + done.stderr


def test_4_tokens_stay_secret_in_annotation(caplog):
    caplog.set_level(logging.DEBUG)
    with Studio("http://127.0.0.1:9", SECRET, attempts=1) as studio, pytest.raises(UserError) as caught:
        studio.me()
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(caught.value.__dict__)
    assert SECRET not in caplog.text
    assert SECRET not in repr(studio)


def test_4_tokens_stay_secret_in_runs_cards_and_reports(tiny, tmp_path, monkeypatch):
    import shutil

    for name in ("HF_TOKEN", "LABEL_STUDIO_API_KEY"):
        monkeypatch.setenv(name, SECRET)
    copy = shutil.copytree(tiny, tmp_path / "tiny")
    card.write(copy)
    page.write(copy, tmp_path / "report.html", 2, 2)
    runs.Run(tmp_path / "run").start("reward", recipe.resolved(recipe.load("tiny", "reward")), {"data": "x"})
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"README.md", "fgr.json", "report.html", "run.json"} <= {path.name for path in written}
    assert not [path for path in written if SECRET.encode() in path.read_bytes()]


def test_5_pages_show_text_as_text():
    text = page.render("page.html", title=ATTACK, sections=[page.Section(ATTACK, "<p>trusted</p>")])
    assert ATTACK not in text
    assert "&lt;script&gt;" in text
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert policy
    assert "default-src 'none'" in policy[1]
    assert "http" not in policy[1]
    for template in (ROOT / "fgr" / "report" / "templates").glob("*.html"):
        unsafe = re.findall(r"\{\{([^}]*)\|\s*safe", template.read_text())
        ours = r"html|svg|chart|legend|curve|histogram|style|script"
        assert all(re.search(ours, one) for one in unsafe), f"{template.name}: {unsafe}"


def bomb(width, height):
    """A PNG whose header announces more pixels than it has."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def test_6_pictures_have_a_limit(tmp_path):
    with pytest.raises(PhotoError, match="pixels are more than"):
        decode_photo(bomb(1001, 1000), 1_000_000)
    for side in (15_000, 60_000):
        (tmp_path / "bomb.png").write_bytes(bomb(side, side))
        with pytest.raises(UserError, match="cannot be read"):
            read_image(tmp_path / "bomb.png")


def test_7_names_from_data_stay_in_their_folder(tiny, tmp_path):
    import shutil

    copy = shutil.copytree(tiny, tmp_path / "tiny")
    for shard in tables.shards(copy, "samples", "test"):
        rows = [row | {"source_id": f"../../../{row['source_id']}", "id": "../x"} for row in tables.read_shard(shard)]
        tables.write_table(shard, "samples", rows)
    tests = open_test_set(str(copy))
    assert all(re.fullmatch(r"[\w-]+", item.name) for item in tests.items)
    assert "/" not in folder_name("../../etc")
    assert not folder_name("../../etc").startswith(".")


def test_8_servers_listen_on_this_machine_only(tiny):
    assert serve.HOST == "127.0.0.1"
    with ml_backend.listening(tiny, lambda image: (np.zeros(image.shape[:2], np.float32), 0.0), Prediction(), 0) as (server, _):
        assert server.server_address[0] == "127.0.0.1"
    listening = [words for _, name, words in calls() if name.endswith((".launch", "HTTPServer"))]
    assert all("0.0.0.0" not in str(words) for words in listening)


def test_9_a_reward_model_that_claims_other_tensors_is_not_built(tmp_path, monkeypatch):
    FinPercepRM().save_pretrained(tmp_path)
    monkeypatch.setattr(FinPercepRM, "from_pretrained", lambda *_, **__: pytest.fail("it was built"))
    for old, new in (('"width": 48', '"width": 4096'), ('"stage": 3', '"stage": [3]')):
        text = (tmp_path / "config.json").read_text()
        (tmp_path / "config.json").write_text(text.replace(old, new))
        with pytest.raises(UserError, match=r"damaged or of another version"):
            load_reward_model(tmp_path)
        (tmp_path / "config.json").write_text(text)


def test_a_bomb_is_a_png():
    from PIL import Image

    assert Image.open(io.BytesIO(bomb(64, 32))).size == (64, 32)
