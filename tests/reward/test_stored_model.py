"""Reward folders of every shape: a model, or a sentence before a network is built."""

import contextlib
import json
import shutil
import time

import pytest
import torch
from fuzz_budget import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from fgr.cli import app
from fgr.errors import UserError
from fgr.reward import FinPercepRM, load_reward_model, stored_model


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("sound") / "rm"
    FinPercepRM().save_pretrained(folder)
    return folder


@pytest.fixture
def folder(sound, tmp_path):
    return shutil.copytree(sound, tmp_path / "rm")


def configured(folder, **settings):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))
    return folder


@pytest.fixture
def unbuilt(monkeypatch):
    """No weights may be filled in."""

    def refuse(*_, **__):
        raise AssertionError("a network was built")

    monkeypatch.setattr(FinPercepRM, "from_pretrained", refuse)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"gate": ["concat"]}, "no usable value in gate"),
        (
            {"stage": True, "width": -8, "hidden": 10**30},
            r"no usable value in (hidden|stage|width), (hidden|stage|width), (hidden|stage|width)",
        ),
        ({"gain": float("nan")}, "no usable value in gain"),
        ({"encoder": {"name": "tiny"}}, "no usable value in encoder"),
        ({"encoder": "tinny"}, "Unknown encoder 'tinny' – did you mean 'tiny'"),
        ({"stage": 4}, "No reward model is as config.json says: stage 4 is not within 0 … 3"),
        ({"stage": 2}, r"does not hold the tensors of its config.json \(.*decoder"),
        ({"width": 4096}, "does not hold the tensors of its config.json"),
        ({"colour": 3}, "no usable value in colour"),
    ],
)
def test_configurations_that_fit_no_weights(folder, unbuilt, settings, says):
    with pytest.raises(UserError, match=says):
        load_reward_model(configured(folder, **settings))


@pytest.mark.parametrize("text", ["[]", "3", "null", "[" * 100_000, "{", "\xff", '{"a": ' + "9" * 5000 + "}", " " * 200_000])
def test_a_configuration_of_any_shape(folder, unbuilt, text):
    (folder / "config.json").write_text(text, encoding="latin-1")
    with pytest.raises(UserError, match=r"config.json (cannot be read|is not that of a FinPercep-RM)"):
        load_reward_model(folder)


def test_an_encoder_of_billions_of_parameters_takes_no_memory(folder, unbuilt):
    began = time.monotonic()
    with pytest.raises(UserError, match=r"0\.\d million numbers for 8\d\d\.\d"):
        load_reward_model(configured(folder, encoder="convnext_xxlarge"))
    assert time.monotonic() - began < 60


def test_weights_that_are_not_finite(folder, unbuilt):
    state = load_file(folder / "model.safetensors")
    state["head.0.bias"][0] = float("nan")
    save_file(state, folder / "model.safetensors")
    with pytest.raises(UserError, match=r"hold values that are not finite: head\.0\.bias"):
        load_reward_model(folder)


def test_backbones_and_low_rank_changes_are_outlined_as_they_are_built(tmp_path):
    for number, chosen in enumerate(({"encoder": "resnet18"}, {"lora_rank": 2})):
        FinPercepRM(**chosen).save_pretrained(tmp_path / str(number))
        stored_model.expect_sound(tmp_path / str(number))


def test_folders_that_only_look_like_stages_are_passed_over(sound, tmp_path):
    for name in ("stage-0", "stage-x", "stage-"):
        shutil.copytree(sound, tmp_path / name)
    assert load_reward_model(tmp_path).stage == 3


def test_scores_that_are_not_finite_are_null_in_json(sound, tmp_path, monkeypatch):
    import numpy as np
    from PIL import Image

    from fgr.reward import score

    Image.new("RGB", (32, 32)).save(tmp_path / "x.png")
    monkeypatch.setattr(score, "score", lambda *_: (float("nan"), np.full((32, 32), np.inf, np.float32)))
    done = CliRunner().invoke(app, ["score", str(tmp_path / "x.png"), "--reward", str(sound), "--json", "--device", "cpu"])
    assert json.loads(done.stdout, parse_constant=pytest.fail)["score"] is None


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.lists(st.integers(), max_size=2)


@pytest.mark.fuzz
@given(data=st.data())
@settings(max_examples=examples(12), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_mutated_folder_is_a_model_or_a_sentence(sound, tmp_path, data):
    shutil.copytree(sound, tmp_path / "rm", dirs_exist_ok=True)
    names = sorted(json.loads((sound / "config.json").read_text()))
    if data.draw(st.booleans()):
        configured(
            tmp_path / "rm", **data.draw(st.dictionaries(st.sampled_from(names) | st.text(max_size=5), VALUES, max_size=3))
        )
    else:
        file = tmp_path / "rm" / data.draw(st.sampled_from(["config.json", "model.safetensors"]))
        content = bytearray(file.read_bytes())
        for _ in range(data.draw(st.integers(1, 8))):
            content[data.draw(st.integers(0, min(len(content), 20_000) - 1))] = data.draw(st.integers(0, 255))
        file.write_bytes(content[: data.draw(st.integers(1, len(content)) | st.just(len(content)))])
    with contextlib.suppress(UserError):
        load_reward_model(tmp_path / "rm")
