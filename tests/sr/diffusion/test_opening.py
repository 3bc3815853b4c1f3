"""Opening diffusion models by name: their settings, and the extra that they need."""

import numpy as np
import pytest
from small_diffusion import image, restored

from fgr.errors import UserError
from fgr.recipe.sampling import Sampling
from fgr.sr import open_upscaler
from fgr.sr.diffusion.opening import settings_of

MODELS = ("ldm-sr",)


def test_a_models_settings_are_those_that_it_has_defaults_for():
    given = Sampling(cfw=0.3, steps=7)
    assert settings_of(given, {"steps": 75, "prompt": ""}) == {"steps": 7, "prompt": "", "seed": 0}
    assert settings_of(Sampling(), {"guidance": 9.0}) == {"guidance": 9.0, "seed": 0}


def test_without_the_extra_the_install_command_is_named(folder, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"'ldm-sr' needs the package diffusers.*\n.*fgr\[diffusion\]"):
        open_upscaler("ldm-sr", scale=4)


def test_steps_of_a_name_are_a_model_of_their_own(folder):
    named = open_upscaler("ldm-sr@steps=3", scale=4, diffusion={"steps": 2, "seed": 5})
    assert named.name == "ldm-sr@steps=3"
    assert named.settings()["diffusion"].items() >= {"steps": 3, "seed": 5}.items()
    found = restored("ldm-sr@steps=3", image(0), {"steps": 2, "seed": 5})
    assert np.array_equal(found, restored("ldm-sr", image(0), {"steps": 3, "seed": 5}))
    with pytest.raises(UserError, match="'ldm-sr' has no setting cfw"):
        open_upscaler("ldm-sr@cfw=0.5", scale=4)
