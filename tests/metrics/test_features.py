import hashlib
import http.server
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from skimage import data

from fgr.errors import UserError
from fgr.images import difference
from fgr.metrics import features

SMALL = {"depth": 3, "embed_dim": 48, "num_heads": 2}
NETWORKS = {  # what timm calls them, made small; random weights, saved as timm saves them
    "dinov3": ("vit_small_patch16_dinov3", SMALL),
    "dinov2": ("vit_small_patch14_dinov2", SMALL),
    "vit": ("test_vit", {"num_classes": 7}),
    "convnext": ("test_convnext", {}),
    "resnet": ("test_resnet", {}),
    "beit": ("beit_base_patch16_224", SMALL),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A function from a short name to a folder in timm's format."""
    root = tmp_path_factory.mktemp("timm")

    def save(short):
        folder = root / short
        if not folder.exists():
            name, options = NETWORKS[short]
            torch.manual_seed(0)
            timm.models.save_for_hf(timm.create_model(name, pretrained=False, **options), folder, safe_serialization=True)
        return folder

    return save


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """The Hub's client with an empty cache and no network; returns the cache's folder."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def pair(height=160, width=160, top=64, left=96, side=16):
    """A photograph and a copy with one square of noise."""
    reference = np.ascontiguousarray(data.astronaut()[100 : 100 + height, 150 : 150 + width])
    damaged = reference.copy()
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    damaged[top : top + side, left : left + side] = noise
    return reference, damaged


def test_gradient_is_the_pure_function():
    opened = features.open_features("gradient", "cpu")
    assert opened.name == "gradient"
    assert np.array_equal(opened.difference(*pair()), difference.gradient_difference(*pair()))


@pytest.mark.parametrize("short", ["dinov3", "dinov2", "vit", "convnext", "resnet"])
def test_networks_give_maps_of_any_image_size(saved, short):
    opened = features.open_features(f"timm:{saved(short)}", "cpu")
    for shape in ((160, 160), (101, 75), (20, 33)):
        a, b = pair(*shape, top=2, left=2)
        made = opened.difference(a, b)
        assert (made.shape, made.dtype) == (shape, np.float32)
        assert 0 <= made.min() <= made.max() <= 1
        assert made.max() > 0
        assert not opened.difference(a, a).any()
        assert np.array_equal(made, opened.difference(b, a))


@pytest.mark.parametrize(("short", "cell"), [("dinov3", 16), ("dinov2", 14)])
def test_a_defect_is_where_the_map_says(saved, short, cell):
    opened = features.open_features(f"timm:{saved(short)}", "cpu")
    row, column = 3, 7
    made = opened.difference(*pair(150, 170, row * cell, column * cell, cell))
    found = np.unravel_index(made.argmax(), made.shape)
    assert abs(found[0] - (row + 0.5) * cell) <= 1
    assert abs(found[1] - (column + 0.5) * cell) <= 1


def test_dinov3_is_the_cosine_distance_of_its_last_patch_tokens(saved):
    folder = saved("dinov3")
    a, b = pair()
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    tokens = []
    for image in (a, b):
        with torch.inference_mode():
            batch = ((torch.from_numpy(image) / 255 - mean) / std).permute(2, 0, 1)[None]
            tokens.append(model.forward_features(batch)[0, model.num_prefix_tokens :].T.reshape(48, 10, 10).numpy())
    expected = difference.cosine_difference(*tokens, 160, 160)
    assert features.open_features(f"timm:{folder}", "cpu").difference(a, b) == pytest.approx(expected, abs=1e-4)


def test_a_pyramid_averages_its_two_deepest_levels(saved):
    folder = saved("convnext")
    a, b = pair(96, 128)
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    mean, std = torch.tensor(model.pretrained_cfg["mean"]), torch.tensor(model.pretrained_cfg["std"])
    with torch.inference_mode():
        levels = [
            model.forward_intermediates(((torch.from_numpy(image) / 255 - mean) / std).permute(2, 0, 1)[None], norm=True)[1]
            for image in (a, b)
        ]
    maps = [difference.cosine_difference(one[0].numpy(), other[0].numpy(), 96, 128) for one, other in zip(*levels, strict=True)]
    expected = (maps[-1] + maps[-2]) / 2
    assert features.open_features(f"timm:{folder}", "cpu").difference(a, b) == pytest.approx(expected, abs=1e-4)


def test_references_are_remembered_without_changing_results(saved):
    opened = features.open_features(f"timm:{saved('dinov3')}", "cpu")
    passes = []
    opened._model.patch_embed.register_forward_hook(lambda *_: passes.append(1))
    reference, first = pair()
    second = cv2.flip(first, 1)
    alone = [features.open_features(f"timm:{saved('dinov3')}", "cpu").difference(reference, sr) for sr in (first, second)]
    together = [opened.difference(reference, sr) for sr in (first, second)]
    assert len(passes) == 3
    assert all(np.array_equal(one, other) for one, other in zip(alone, together, strict=True))
    for shade in range(features.KEPT_REFERENCES):
        opened.difference(np.full_like(reference, shade), first)
    passes.clear()
    opened.difference(reference, first)
    assert len(passes) == 2, "forgotten after others"
    passes.clear()
    opened.difference(np.full_like(reference, features.KEPT_REFERENCES - 1), first)
    assert len(passes) == 1


def test_two_sizes_are_refused(saved):
    opened = features.open_features(f"timm:{saved('vit')}", "cpu")
    with pytest.raises(ValueError, match=r"differ in size: \(160, 160, 3\) and \(100, 160, 3\)"):
        opened.difference(pair()[0], pair()[0][:100])


def test_the_digest_is_that_of_the_weights(saved, tmp_path):
    folder = saved("vit")
    opened = features.open_features(f"timm:{folder}", "cpu")
    assert opened.name == f"timm:{folder}"
    assert opened.digest == hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def test_weights_in_the_hub_s_cache_need_no_network(saved, offline):
    name = "test_vit.r160_in1k"
    model = timm.create_model(name, pretrained=False)
    repository = offline / f"models--timm--{name}"
    snapshot = repository / "snapshots" / "abc"
    timm.models.save_for_hf(model, snapshot, safe_serialization=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    local, cached = (features.open_features(text, "cpu") for text in (f"timm:{snapshot}", f"timm:{name}"))
    assert local.digest == cached.digest
    assert np.array_equal(local.difference(*pair()), cached.difference(*pair()))


def test_absent_weights_offline_say_what_to_accept_and_what_to_name_instead(offline):
    with pytest.raises(UserError) as caught:
        features.open_features("timm:vit_small_patch16_dinov3.lvd1689m", "cpu")
    assert "'vit_small_patch16_dinov3.lvd1689m' are not on this machine" in caught.value.message
    for words in (
        "https://huggingface.co/timm/vit_small_patch16_dinov3.lvd1689m", "hf auth login", "map.features=gradient",
        "map.features=timm:vit_small_patch14_dinov2.lvd142m (Apache-2.0)",
    ):  # fmt: skip
        assert words in caught.value.hint


def test_gated_weights_say_that_a_licence_is_to_be_accepted(monkeypatch, tmp_path):
    class Gate(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(403)
            self.send_header("X-Error-Code", "GatedRepo")
            self.end_headers()

        do_GET = do_HEAD

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Gate)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        endpoint = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
        monkeypatch.setattr(
            "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        )
        with pytest.raises(UserError, match=r"(?s)licence has to be accepted first.*hf auth login"):
            features.open_features("timm:vit_small_patch16_dinov3.lvd1689m", "cpu")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("gradiant", "no feature difference 'gradiant' – did you mean 'gradient'"),
        ("dino", "no feature difference 'dino'"),
        ("timm:", "no feature difference 'timm:'"),
        ("timm:vit_small_patch16_dinov33", "no network 'vit_small_patch16_dinov33' – did you mean 'vit_small_patch16_dinov3'"),
        ("timm:vit_small_patch16_dinov3.lvd1689", "did you mean 'vit_small_patch16_dinov3.lvd1689m'"),
        ("timm:./nowhere", r"nowhere holds no config\.json and no model\.safetensors"),
    ],
)
def test_names_that_mean_nothing_are_sentences(name, sentence, offline):
    with pytest.raises(UserError, match=sentence):
        features.open_features(name, "cpu")


def copied(folder, target):
    target.mkdir()
    for name in ("config.json", "model.safetensors"):
        (target / name).write_bytes((folder / name).read_bytes())
    return target


def test_truncated_weights_are_refused(saved, tmp_path):
    folder = copied(saved("vit"), tmp_path / "cut")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(UserError, match=r"could not be loaded into the network"):
        features.open_features(f"timm:{folder}", "cpu")


def test_no_weight_stays_random(saved, tmp_path):
    folder = copied(saved("dinov3"), tmp_path / "partial")
    state = load_file(folder / "model.safetensors")
    missing = next(name for name in state if "blocks.1" in name)
    save_file({name: value for name, value in state.items() if name != missing}, folder / "model.safetensors")
    with pytest.raises(UserError, match=r"could not be loaded into the network"):
        features.open_features(f"timm:{folder}", "cpu")


def test_pickled_weights_are_not_taken(saved, tmp_path):
    folder = copied(saved("vit"), tmp_path / "pickle")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"holds no model\.safetensors"):
        features.open_features(f"timm:{folder}", "cpu")


def test_a_network_of_one_image_size_is_refused(saved):
    with pytest.raises(UserError, match=r"does not take images of any size \(Input height"):
        features.open_features(f"timm:{saved('beit')}", "cpu")


def test_a_dataset_s_maps_are_never_made_again_with_other_weights(saved):
    name = f"timm:{saved('resnet')}"
    digest = features.open_features(name).digest
    assert features.reopen_features(name, "cpu", {"features_digest": digest}).digest == digest
    with pytest.raises(UserError, match=rf"not those of the dataset .*sha256 {digest[:16]}… instead of 0000"):
        features.reopen_features(name, "cpu", {"features_digest": "0" * 64})


def test_weights_may_be_in_a_file_that_the_recipe_names(saved, tmp_path):
    folder = Path(saved("resnet"))
    named = features.open_features("timm:test_resnet", "cpu", str(folder / "model.safetensors"))
    whole = features.open_features(f"timm:{folder}", "cpu")
    assert named.digest == whole.digest
    assert np.array_equal(named.difference(*pair()), whole.difference(*pair()))
    again = features.reopen_features(
        "timm:test_resnet", "cpu", {"features_digest": named.digest}, str(folder / "model.safetensors")
    )
    assert again.digest == named.digest
    with pytest.raises(UserError, match=r"There is no file or folder .*gone with weights"):
        features.open_features("timm:test_resnet", "cpu", str(tmp_path / "gone"))
