import pytest

from fgr import recipe
from fgr.errors import UserError
from fgr.recipe import renamed

SHIPPED = {kind: dict(table) for kind, table in renamed.RENAMED.items()}
OLD = {"map.weight": "map.alpha", "crop_size": "source.crop", "masks.soft": "masks are always feathered: see masks.feather"}


@pytest.fixture(autouse=True)
def _renamed_keys(monkeypatch):
    monkeypatch.setitem(renamed.RENAMED, "generate", OLD)


def test_an_old_key_names_the_new_one_among_all_other_mistakes(tmp_path):
    path = tmp_path / "old.yaml"
    path.write_text("name: old\nmodels: [bicubic]\ncrop_size: 64\nmasks: {soft: true}\n")
    with pytest.raises(UserError) as error:
        recipe.load(path, "generate", ["map.weight=0.5", "seed=-1"])
    text = str(error.value)
    assert "4 mistakes" in text
    for line in (
        "crop_size – renamed to 'source.crop' – 64",
        "map.weight – renamed to 'map.alpha' – 0.5",
        "masks.soft – masks are always feathered: see masks.feather – True",
        "seed –",
    ):
        assert line in text


def test_the_value_of_an_old_key_is_checked_as_the_new_one(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nmodels: [bicubic]\n")
    with pytest.raises(UserError, match=r"2 mistakes[^$]*map\.alpha –"):
        recipe.load(path, "generate", ["map.weight=7"])


def test_what_an_earlier_version_wrote_is_read_under_the_new_names():
    old = recipe.resolved(recipe.load("demo", "generate", ["map.alpha=0.25"]))
    old["map"]["weight"] = old["map"].pop("alpha")
    old["masks"]["soft"] = True
    assert recipe.stored(old, "generate", "of a test").map.alpha == 0.25
    assert "weight" in old["map"], "the caller's tree stays as it was"


def test_every_new_name_is_a_key_of_its_kind_and_no_old_one_is(kind, fields):
    keys, table = {key for key, _ in fields}, SHIPPED[kind]
    assert {new for new in table.values() if " " not in new} <= keys
    assert not set(table) & keys
