"""`planted:KIND`: defects in the place of SR outputs, in datasets made of them alone."""

import numpy as np
import pytest
from skimage import data as photographs

from fgr import recipe
from fgr.dataset import card, cells, manifest, tables
from fgr.dataset.verify import verify
from fgr.errors import UserError
from fgr.generate.replay import replay
from fgr.generate.run import generate
from fgr.images.defects import structure_or_tint
from fgr.records import PLANTED_KINDS
from fgr.rlhf.policies import open_policy
from fgr.sr import Job, license_of, open_upscaler, parse_name
from fgr.sr.catalogue import catalogue

PHOTO = np.ascontiguousarray(photographs.astronaut()[:128, 130:258])


def job(reference=PHOTO):
    return Job(PHOTO[::4, ::4].copy(), "photo", (128, 128), (0, 0, 128), reference)


@pytest.mark.parametrize("kind", ["grain", "dots", "blur", "colour-cast"])
def test_a_defect_follows_from_the_job_and_is_to_be_seen(kind):
    opened = open_upscaler(f"planted:{kind}", scale=4)
    one, again = (opened.upscale([job()])[0] for _ in range(2))
    assert np.array_equal(one, again)
    assert one.shape == PHOTO.shape
    assert 0.03 < structure_or_tint(PHOTO, one).mean() < 0.6
    other = open_upscaler(f"planted:{kind}", scale=4).upscale([job(np.ascontiguousarray(PHOTO[:, ::-1]))])[0]
    assert not np.array_equal(other[:, ::-1], one)


def test_what_it_is_is_on_record():
    names = [f"planted:{kind}" for kind in PLANTED_KINDS]
    assert len({open_upscaler(name, scale=4).digest for name in names}) == len(names)
    assert {row["state"] for row in catalogue(names)} == {"here"}
    assert license_of("planted:grain") == "none"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("planted:grid", "There is no defect 'planted:grid'"),
        ("planted:dot", "did you mean 'dots'"),
        ("planted:grain@tile=64", "Planted defects have no settings"),
    ],
)
def test_odd_names_are_sentences(name, says):
    with pytest.raises(UserError, match=says):
        parse_name(name)


def test_it_restores_nothing_and_is_not_tuned():
    with pytest.raises(UserError, match="restores nothing"):
        open_upscaler("planted:grain", scale=4).upscale([job(None)])
    with pytest.raises(UserError, match="names no kind of defect"):
        open_upscaler("planted:KIND", scale=4)
    with pytest.raises(UserError, match="there is nothing to tune"):
        open_policy(parse_name("planted:grain"), "direct", (), None)


@pytest.fixture(scope="module")
def planted(tiny_overrides, tmp_path_factory):
    """A dataset of planted rows alone."""
    out = tmp_path_factory.mktemp("planted") / "data"
    models = {"models": ["planted:grain", "planted:dots"], "samples": 20}
    assert generate(recipe.load("demo", "generate", tiny_overrides, models), out, workers=1, device="cpu")
    return out


def test_a_dataset_of_planted_rows_alone_is_verified_replayed_and_says_so(planted):
    assert list(verify(planted)) == []
    assert list(replay(planted, 3, "cpu")) == [None] * 3
    rows = [row for file in tables.shards(planted, "samples") for row in tables.read_shard(file)]
    assert {row["model"] for row in rows} == {"planted:grain", "planted:dots"}
    assert len({row["mask_kind"] for row in rows}) > 2
    assert all(cells.pixels(row, "sr_map").any() for row in rows)
    assert [model["weights"] for model in manifest.read(planted)["models"]] == [
        "no weights: a defect drawn into the reference"
    ] * 2
    assert "planted:grain, planted:dots hold no SR output" in (planted / "README.md").read_text()
    card.write(planted)


def test_it_can_be_trained_on(planted, tmp_path):
    from fgr.reward.run import train_reward_model

    keys = ("data.crop=64", "data.batch=2", "data.validation=2", "base.steps=1", "stages=[1,1]", "planted.share=0.5")
    assert train_reward_model(recipe.load("tiny", "reward", keys), str(planted), tmp_path / "rm", "cpu").name == "stage-1"


def test_sr_models_alone_set_the_scale_of_the_maps(tiny_recipe, tiny, tmp_path):
    both = tiny_recipe.model_copy(update={"models": (*tiny_recipe.models, "planted:banding"), "samples": 12})
    assert generate(both, tmp_path / "both", workers=1, device="cpu")
    scales = [manifest.read(folder)["calibration"]["scale"] for folder in (tiny, tmp_path / "both")]
    assert scales[0] == scales[1]
