import pytest

from fgr.errors import UserError
from fgr.generate.workspace import Workspace


def test_a_run_of_another_recipe_that_is_not_finished_is_refused(tiny_recipe, tmp_path):
    workspace = Workspace(tmp_path / "out")
    workspace.claim(tiny_recipe)
    workspace.claim(tiny_recipe)
    with pytest.raises(UserError, match=r"(?s)already holds a run of another recipe:\n.*seed: 0 there, 7 here"):
        workspace.claim(tiny_recipe.model_copy(update={"seed": 7}))


def test_a_mistake_takes_the_folder_away_until_a_shard_is_done(tiny_recipe, tmp_path):
    workspace = Workspace(tmp_path / "out")
    for shards in (False, True):
        workspace.claim(tiny_recipe)
        if shards:
            (workspace.folder / "shards").mkdir()
        with pytest.raises(UserError, match="a mistake"), workspace.abandoned_on_mistakes():
            raise UserError("a mistake")
        assert workspace.out.exists() == shards
