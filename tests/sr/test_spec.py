"""Names of SR models: what they stand for, and what is wrong with those that stand for nothing."""

import re
from dataclasses import replace

import pytest

from fgr import recipe as recipes
from fgr.errors import UserError
from fgr.licenses import expect_accepted
from fgr.sr import ModelSpec, known_names, license_of, parse_name
from fgr.sr.zoo import ZOO


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("realesgran", "did you mean 'realesrgan'"),
        ("realesr-animevideo", "did you mean 'realesr-animevideov3'"),
        ("bicubik", "did you mean 'bicubic'"),
        ("foldr:out", "did you mean 'folder'"),
        ("realesrgan:out", "There is no SR model 'realesrgan:out'"),
        ("spandrel:", "does not name a file"),
        ("folder", "does not name a folder"),
        ("", "There is no SR model ''"),
    ],
)
def test_names_that_do_not_exist(name, says):
    with pytest.raises(UserError, match=re.escape(says)):
        parse_name(name)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("hat", ModelSpec("hat", "network", "hat")),
        ("hat@tile=64@precision=bf16", ModelSpec("", "network", "hat", settings={"tile": 64, "precision": "bf16"})),
        ("realesr-general@denoise=0.25@passes=2",
         ModelSpec("", "network", "realesr-general", settings={"denoise": 0.25, "passes": 2})),
        ("bicubic@passes=2", ModelSpec("", "bicubic", "bicubic", settings={"passes": 2})),
        ("folder:out/a@b", ModelSpec("", "folder", "folder:out/a@b", "out/a@b")),
        ("spandrel:a@home/x.pth@overlap=8",
         ModelSpec("", "spandrel", "spandrel:a@home/x.pth", "a@home/x.pth", settings={"overlap": 8})),
        ("sd-x4-upscaler@steps=4@guidance=1.5@tile=64",
         ModelSpec("", "diffusion", "sd-x4-upscaler", settings={"steps": 4, "guidance": 1.5, "tile": 64})),
        ("ldm-sr+lora:a/b.safetensors@steps=4",
         ModelSpec("", "diffusion", "ldm-sr", lora="a/b.safetensors", settings={"steps": 4})),
    ],
)  # fmt: skip
def test_names_are_parsed(name, expected):
    spec = parse_name(name)
    assert spec == replace(expected, text=name)
    assert list(spec.settings) == list(expected.settings)


def test_what_a_spec_says_of_its_model(tmp_path, monkeypatch):
    spec = parse_name("ldm-sr+lora:a.safetensors@tile=64@steps=4")
    assert (spec.model, spec.scale, spec.sampling) == ("ldm-sr+lora:a.safetensors", 4, {"steps": 4})
    assert spec.release is ZOO["ldm-sr"]
    assert parse_name("realesrgan-x2@tile=64").scale == 2
    assert parse_name("bicubic").scale is parse_name("spandrel:a.pth").scale is parse_name("folder:a").scale is None
    assert [part.text for part in parse_name("realesr-general@denoise=0.25").parts()] == [
        "realesr-general",
        "realesr-general-wdn",
    ]
    assert len(parse_name("realesr-general").parts()) == 2
    assert len(parse_name("realesr-general@denoise=1").parts()) == 1
    assert [part.text for part in parse_name("ldm-sr+lora:a@steps=4").parts()] == ["ldm-sr"]
    monkeypatch.chdir(tmp_path)
    assert parse_name("spandrel:org/net/a.pth").on_hub == ("org/net", "a.pth")
    (tmp_path / "org" / "net").mkdir(parents=True)
    (tmp_path / "org" / "net" / "a.pth").write_bytes(b"")
    assert parse_name("spandrel:org/net/a.pth").on_hub is None, "a file on the disk goes first"
    assert license_of("hat@tile=64") == license_of("hat")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("hat@tiles=64", "unknown setting 'tiles' – did you mean 'tile'"),
        ("hat@tile=big", "sets tile to 'big'.\nIt must be a valid integer"),
        ("hat@tile=-1", "sets tile to '-1'"),
        ("hat@precision=fp8", "It must be 'auto', 'fp32', 'tf32', 'bf16' or 'fp16'"),
        ("hat@passes=0", "It must be greater than or equal to 1"),
        ("hat@tile=1@tile=2", "sets tile twice"),
        ("realesr-general@denoise=2", "It must be less than or equal to 1"),
        ("realesr-general@denoise=nan", "It must be "),
        ("hat@denoise=0.5", "'hat' has no setting denoise"),
        ("hat@steps=4", "'hat' has no setting steps.\nOnly diffusion models have: "),
        ("ldm-sr@steps=0", "It must be greater than or equal to 1"),
        ("folder:out@passes=2", "Outputs made elsewhere have no settings"),
        ("realesrgan+lora:best.safetensors", "does not name a diffusion model with low-rank changes"),
        ("ldm-sr+lora:", "does not name a diffusion model with low-rank changes"),
        ("hatt@passes=2", "There is no SR model 'hatt' – did you mean 'hat'"),
    ],
)
def test_wrong_settings_are_sentences(name, says):
    with pytest.raises(UserError, match=re.escape(says)):
        parse_name(name)


def test_the_main_recipe_names_models_that_exist_and_are_free():
    models = recipes.load("fgr30k", "generate").models
    for name in models:
        parse_name(name)
    expect_accepted({name: license_of(name) for name in models}, [])


def test_known_names():
    assert {"realesrgan", "realesr-animevideov3", "swinir", "hat", "dat", "bsrgan", "esrgan", "bicubic"} <= set(known_names())
