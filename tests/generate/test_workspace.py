import json

import pytest

from fgr.errors import UserError
from fgr.generate.workspace import Workspace


def test_a_run_of_another_recipe_that_is_not_finished_is_refused(tiny_recipe, tmp_path):
    workspace = Workspace(tmp_path / "out")
    workspace.claim(tiny_recipe)
    workspace.claim(tiny_recipe)
    with pytest.raises(UserError, match=r"(?s)already holds a run of another recipe:\n.*seed: 0 there, 7 here"):
        workspace.claim(tiny_recipe.model_copy(update={"seed": 7}))


def test_a_run_of_version_0_1_is_not_gone_on_with(tiny_recipe, tmp_path):
    """Its shards lack a column; nor does its recipe name the pixel difference."""
    chosen = tiny_recipe.model_copy(update={"map": tiny_recipe.map.model_copy(update={"pixel": "l1"})})
    workspace = Workspace(tmp_path / "out")
    workspace.claim(chosen)
    written = json.loads(workspace.recipe.read_text())
    del written["map"]["pixel"]
    workspace.recipe.write_text(json.dumps(written))
    with pytest.raises(UserError, match=r"(?s)already holds a run of another recipe:\n  map.pixel: None there, 'l1' here"):
        workspace.claim(chosen)


def test_a_mistake_takes_the_folder_away_until_a_shard_is_done(tiny_recipe, tmp_path):
    workspace = Workspace(tmp_path / "out")
    for shards in (False, True):
        workspace.claim(tiny_recipe)
        if shards:
            (workspace.folder / "shards").mkdir()
        with pytest.raises(UserError, match="a mistake"), workspace.abandoned_on_mistakes():
            raise UserError("a mistake")
        assert workspace.out.exists() == shards
