"""What licences allow, and that a model whose licence limits the samples is refused until the recipe accepts it."""

from dataclasses import replace

import pytest

from fgr import recipe as recipes
from fgr.dataset import card, manifest
from fgr.errors import UserError
from fgr.generate import run
from fgr.licenses import LICENSES, expect_accepted, hub_license, is_noncommercial, terms_of
from fgr.sr import license_of
from fgr.sr.zoo import ZOO


def test_every_model_of_the_table_is_described_whole():
    for name, release in ZOO.items():
        assert set(release.license.split(" AND ")) <= set(LICENSES), name
        assert license_of(name) == release.license
        assert release.files or release.ncnn, name
        for file in (*release.files, *((release.ncnn.param, release.ncnn.tensors) if release.ncnn else ())):
            assert file.sha256 or not file.in_packages, name
            assert file.sources or file.page.startswith("https://"), name
            assert all(source.startswith(("https://", "hf:", "pypi:")) for source in file.sources), name
            assert file.sha256 is None or (len(file.sha256) == 64 and set(file.sha256) <= set("0123456789abcdef")), name
    files = {file for release in ZOO.values() for file in release.files}  # some models share one
    assert len({file.name for file in files}) == len(files)
    networks = [file.sha256 for release in ZOO.values() if release.architecture for file in release.files]
    assert len({*networks}) == len(networks)
    assert None not in networks


def test_the_strictest_of_several_licences_holds():
    assert (terms_of("Apache-2.0").train_on_outputs, terms_of("Apache-2.0").redistribute) == (True, True)
    assert terms_of("Apache-2.0 AND S-Lab-1.0").redistribute is False
    assert terms_of("Apache-2.0 AND unknown").redistribute is None
    assert terms_of("S-Lab-1.0 AND unknown").train_on_outputs is False
    assert terms_of("a licence of their own").train_on_outputs is None


def test_limited_models_are_refused_by_name_until_accepted():
    licenses = {"realesrgan": "BSD-3-Clause", "resshift": "S-Lab-1.0", "mine": "unknown", "stablesr": "S-Lab-1.0"}
    with pytest.raises(UserError) as raised:
        expect_accepted(licenses, ["stablesr"])
    assert "'resshift' is under S-Lab-1.0, which allows non-commercial use only" in str(raised.value)
    assert "accept_license: [resshift]" in str(raised.value)
    assert "stablesr" not in str(raised.value)
    expect_accepted(licenses, ["stablesr", "resshift"])


def test_a_limited_model_runs_when_accepted_and_the_dataset_says_so(tmp_path, monkeypatch, tiny_overrides):
    name = "realesr-animevideov3"
    monkeypatch.setitem(ZOO, name, replace(ZOO[name], license="S-Lab-1.0"))
    changes = {"models": [name, "bicubic"], "samples": 4, "source.crop": 64, "source.crops_per_photo": 1}
    recipe = recipes.load("demo", "generate", tiny_overrides, changes)
    with pytest.raises(UserError, match="'realesr-animevideov3' is under S-Lab"):
        run.generate(recipe, tmp_path / "out", workers=1, device="cpu")
    assert not (tmp_path / "out").exists()
    accepted = recipes.load("demo", "generate", tiny_overrides, changes | {"accept_license": [name]})
    assert run.generate(accepted, tmp_path / "out", workers=1, device="cpu")
    by_name = {model["name"]: model for model in manifest.read(tmp_path / "out")["models"]}
    assert (by_name[name]["license"], by_name[name]["redistribute"]) == ("S-Lab-1.0", False)
    assert by_name[name]["train_on_outputs"] is False
    assert by_name["bicubic"]["redistribute"] is True
    text = (tmp_path / "out" / "README.md").read_text()
    assert "| S-Lab-1.0 | no | no |" in text
    assert "| none | yes | yes |" in text
    assert "\nlicense: other\n" in text
    assert card.ALLOWED[None] == "not stated"


@pytest.mark.parametrize(
    ("license", "is_so"),
    [("cc-by-nc-4.0", True), ("S-Lab-1.0", True), ("PolyForm-Noncommercial-1.0.0", True), ("mit", False), ("ncsa", False)],
)
def test_non_commercial(license, is_so):
    assert is_noncommercial(license) is is_so


@pytest.mark.parametrize(
    ("license", "hub"),
    [
        ("Apache-2.0", "apache-2.0"),
        ("cc-by-sa-4.0", "cc-by-sa-4.0"),
        ("public domain", "other"),
        ("MIT AND BSD-3-Clause", "other"),
    ],
)
def test_what_the_hub_calls_a_licence(license, hub):
    assert hub_license(license) == hub
