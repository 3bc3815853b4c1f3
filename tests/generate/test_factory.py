import json
import pickle
import shutil

import pytest

from fgr.errors import UserError
from fgr.generate import factory as factories
from fgr.generate import plan
from fgr.generate.calibration import calibrate


@pytest.fixture
def prepared(tiny_recipe, tmp_path):
    """A factory whose run has a plan, a calibration and models on record, as all workers find them."""
    factory = factories.MakerFactory(tiny_recipe, tmp_path / "out")
    plan.build(factory.workspace.plan, tiny_recipe.source, tiny_recipe.splits, workers=1)
    factory.workspace.models.write_text(json.dumps(factories.describe(factory.models("cpu"))))
    calibrate(factory, "cpu")
    return factory


def test_a_factory_arrives_elsewhere_without_its_networks_and_makes_the_same_maker(prepared):
    content = pickle.dumps(prepared)
    assert len(content) < 5000
    here, there = prepared("cpu"), pickle.loads(content)("cpu")
    assert there.models.upscalers["bicubic"] is not here.models.upscalers["bicubic"]
    assert (there.recipe, there.map_scale, there.determinants) == (here.recipe, here.map_scale, here.determinants)


def test_a_machine_that_does_not_see_the_folder_or_has_other_weights_is_refused(prepared, tiny_recipe, tmp_path):
    with pytest.raises(UserError, match=r"(?s)elsewhere is not the run's folder on every machine.*share"):
        factories.MakerFactory(tiny_recipe, tmp_path / "elsewhere")("cpu")
    copied = shutil.copytree(tmp_path / "out", tmp_path / "copied")
    described = json.loads((copied / ".fgr/models.json").read_text())
    described["models"][0]["digest"] = "0" * 64
    (copied / ".fgr/models.json").write_text(json.dumps(described))
    with pytest.raises(UserError, match=r"(?s)different weights from those that the run began with:.*models: .*0000"):
        factories.MakerFactory(tiny_recipe, copied)("cpu")


def test_models_are_opened_once(prepared):
    assert prepared.models("cpu") is prepared.models("cpu")


def test_everything_that_is_missing_is_said_at_once(tiny_recipe, tmp_path, monkeypatch):
    monkeypatch.setenv("FGR_WEIGHTS", str(tmp_path))
    models = ("hat", "bicubic", "swinir@passes=2")
    map_ = tiny_recipe.map.model_copy(update={"features": "gradiant"})
    with pytest.raises(UserError) as raised:
        factories.MakerFactory(tiny_recipe.model_copy(update={"models": models, "map": map_}), tmp_path / "out").models("cpu")
    for said in (
        "'hat' has no weights here",
        "'swinir' has no weights here",
        "fgr models hat --fetch",
        "fgr models swinir --fetch",
    ):
        assert said in str(raised.value)
    assert "no feature difference 'gradiant' – did you mean 'gradient'" in str(raised.value)
