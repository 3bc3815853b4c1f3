import json

import pytest

from fgr.dataset import manifest
from fgr.errors import UserError

WHOLE = {"recipe": {}, "models": [], "calibration": {}, "shards": []}
ROW = {
    "source_id": "s", "photo_id": "p", "model": "m", "model_digest": "d", "scale": 4, "mask_kind": "full", "degradation": "{}",
    "inference": "{}", "seed": 7,
}  # fmt: skip


def test_what_was_written_is_read(tmp_path):
    manifest.write(tmp_path, WHOLE)
    assert manifest.read(tmp_path) == WHOLE


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "is not an FGR dataset.*Make a dataset with"),
        ("{", "is damaged: it is not valid JSON"),
        (json.dumps({"recipe": {}}), "is not the manifest of an FGR dataset"),
    ],
)
def test_what_is_not_a_manifest_is_a_sentence(tmp_path, content, says):
    if content is not None:
        (tmp_path / manifest.NAME).write_text(content)
    with pytest.raises(UserError, match=f"(?s){says}"):
        manifest.read(tmp_path)


def test_an_unfinished_dataset_is_told_from_no_dataset(tmp_path):
    (tmp_path / ".fgr").mkdir()
    with pytest.raises(UserError, match="Run its fgr generate command again"):
        manifest.read(tmp_path)


@pytest.mark.parametrize("key", ROW)
def test_an_id_depends_on_all_that_determines_the_row(key):
    same = manifest.row_id(ROW | {"score": 0.5}, {"map": {}})
    assert same == manifest.row_id(ROW, {"map": {}})
    assert len(same) == 32
    assert same != manifest.row_id(ROW | {key: "other"}, {"map": {}})
    assert same != manifest.row_id(ROW, {"map": {"alpha": 1}})


def test_where_the_features_weights_were_changes_no_id():
    from fgr import recipe as recipes

    recipe = recipes.resolved(recipes.load("demo", "generate"))
    named = recipe | {"map": recipe["map"] | {"weights": "somewhere.pth"}}
    assert manifest.determinants_of(recipe, {}) == manifest.determinants_of(named, {})
    assert "weights" not in manifest.determinants_of(recipe, {})["map"]
