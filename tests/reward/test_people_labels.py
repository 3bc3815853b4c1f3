"""People's opinions and marked regions as labels: the link, crops, the loss by hand, a training."""

import numpy as np
import pytest
import torch
from PIL import Image

from fgr import recipe
from fgr.errors import UserError
from fgr.people.map_layouts import Marked
from fgr.people.scenes import part_of
from fgr.recipe.reward import Loss, People
from fgr.reward.beginning import open_begun
from fgr.reward.criterion import Criterion
from fgr.reward.people_labels import PeopleCrops, PeopleLabels, learned_note, marked_map
from fgr.reward.run import train_reward_model
from fgr.training import directory as runs

SCENES = [name for name in (f"s{number}" for number in range(40)) if part_of(name) == "train"][:4]


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Four grey images with opinions 1 … 4 in a table, three of them with a mask in another; one scene is of another part."""
    folder = tmp_path_factory.mktemp("people")
    elsewhere = next(name for name in (f"t{number}" for number in range(40)) if part_of(name) == "test")
    mask = np.zeros((64, 64), np.uint8)
    mask[16:48, 16:48] = 255
    scores, masks = ["image,mos,group"], ["image,mask,prominence,group"]
    for number, scene in enumerate([*SCENES, elsewhere]):
        rng = np.random.default_rng(number)
        image = np.clip(128 + rng.normal(0, 40 - 8 * number, (64, 64, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(image).save(folder / f"{scene}.png")
        Image.fromarray(mask).save(folder / f"{scene}-mask.png")
        scores.append(f"{scene}.png,{number + 1},{scene}")
        masks += [f"{scene}.png,{scene}-mask.png,0.8,{scene}"] if number else []
    (folder / "mos.csv").write_text("\n".join(scores) + "\n")
    (folder / "masks.csv").write_text("\n".join(masks) + "\n")
    return folder


@pytest.fixture(scope="module")
def labels(sets):
    return PeopleLabels(People(scores=(str(sets / "mos.csv"),), masks=(str(sets / "masks.csv"),), crop=32))


def test_only_the_training_part_of_the_scenes_is_learned_from(labels, sets):
    assert [row.image.stem for row in labels.rows] == [*SCENES, *SCENES[1:]]
    assert [row.opinion for row in labels.rows] == [1, 2, 3, 4, None, None, None]
    assert labels.facts["images"] == 7
    (sets / "votes.csv").write_text((sets / "mos.csv").read_text().replace("mos", "votes", 1))
    everything = PeopleLabels(People(scores=(str(sets / "votes.csv"),), score_columns=("mos=votes",), part="all"))
    assert len(everything.rows) == 5
    assert everything.facts["digest"] != labels.facts["digest"]


def test_the_link_is_the_isotonic_regression_by_hand(labels):
    said = iter([0.1, 0.3, 0.2, 0.5])  # of the opinions 1, 2, 3, 4: the middle two are pooled
    links = labels.linked(lambda image: torch.full((len(image),), next(said)), "cpu")
    assert np.interp([1, 2, 3, 4, 9], *links[0]) == pytest.approx([0.1, 0.25, 0.25, 0.5, 0.5])
    assert set(links) == {0}  # a set of masks has no opinions


def test_crops_carry_what_is_known(labels):
    crops = PeopleCrops(labels, {0: (np.array([1.0, 4.0]), np.array([0.0, 3.0]))}, 32)
    rated, marked = crops[(2, 5)], crops[(4, 5)]
    assert rated["people_image"].shape == (3, 32, 32)
    assert (rated["people_target"], rated["people_rated"], rated["people_known"].max()) == (2, 1, 0)
    assert rated["people_opinion"] == pytest.approx(3 / np.std([1, 2, 3, 4]))
    assert (marked["people_rated"], marked["people_known"].max(), marked["people_source"]) == (0, 1, 1)
    assert marked["people_map"][marked["people_known"] == 1].min() == np.float32(0.8)
    assert marked["people_map"][marked["people_known"] == 0].max(initial=0) == 0
    with pytest.raises(UserError, match="has 96 pixels a side"):
        PeopleCrops(labels, {}, 96)[(0, 0)]


def test_overlapping_regions_keep_the_most_prominent(sets):
    regions = [Marked(sets / "a.png", sets / f"{SCENES[0]}-mask.png", share) for share in (0.2, 0.7)]
    map_, known = marked_map(regions, (32, 32))  # the masks are scaled to the image
    assert (map_[16, 16], known.sum()) == (np.float32(0.7), 16 * 16)


def test_the_loss_by_hand():
    """Scores 1 and 3 where 2 and 2 are wanted, in units of 2: 0.5 on the mean; the order of opinions is kept."""
    batch = {
        "people_image": torch.zeros(2, 3, 4, 4, dtype=torch.uint8), "people_target": torch.tensor([2.0, 2.0]),
        "people_opinion": torch.tensor([0.0, 1.0]), "people_rated": torch.ones(2), "people_source": torch.zeros(2),
        "people_map": torch.full((2, 1, 4, 4), 0.8), "people_known": torch.ones(2, 1, 4, 4),
    }  # fmt: skip
    weights = People(score=2.0, order=1.0, map=10.0)
    criterion = Criterion(Loss(), lambda image: image.mean((1, 2, 3)), labelled=weights)
    parts = criterion.people(lambda image: (torch.tensor([1.0, 3.0]), torch.full((2, 1, 4, 4), 0.5)), batch, 2.0, 1)
    assert parts["people_score"] == pytest.approx(0.5)
    assert parts["people_order"] == pytest.approx(np.log1p(np.exp(-1)))
    assert parts["people_map"] == pytest.approx(0.3)
    assert parts["total"] == pytest.approx(2 * 0.5 + np.log1p(np.exp(-1)) + 10 * 0.3)
    unknown = batch | {"people_rated": torch.zeros(2), "people_known": torch.zeros(2, 1, 4, 4)}
    nothing = criterion.people(lambda image: (torch.ones(2), torch.full((2, 1, 4, 4), 0.5)), unknown, 2.0, 1)
    assert nothing["total"] == 0


def test_a_training_learns_from_both_and_says_what_it_learned_from(sets, trained, data, overrides, tmp_path):
    out = tmp_path / "rm"
    chosen = recipe.load("tiny", "reward", [*overrides, "stages=[1,2]", f"begin={trained}", "people.batch=3", "people.crop=32"],
                         {"people.scores": [str(sets / "mos.csv")], "people.masks": [str(sets / "masks.csv")]})  # fmt: skip
    train_reward_model(chosen, str(data), out, device="cpu")
    lines = [line for line in runs.metrics(out) if line["split"] == "train"]
    assert len(lines) == 2
    assert all({"people_score", "people_order", "people_map"} <= line.keys() for line in lines)
    assert runs.read(out)["facts"]["people"]["images"] == 7
    assert (out / "people.json").is_file()
    assert "--split test" in learned_note(str(out), str(sets / "mos.csv"), None)[0]
    assert learned_note(str(out), str(sets / "mos.csv"), "test") == learned_note(str(trained), "mos.csv", None) == []
    chosen = chosen.model_copy(update={"people": chosen.people.model_copy(update={"masks": ()})})
    with pytest.raises(UserError, match="people"):
        train_reward_model(chosen, str(data), out, device="cpu")


def test_ranks_pairs_and_parts_without_scenes_are_sentences(sets, tmp_path):
    image = sets / f"{SCENES[0]}.png"
    (tmp_path / "ranks.csv").write_text(f"image,rank,group\n{image},1,g\n")
    with pytest.raises(UserError, match="holds ranks, not opinions"):
        PeopleLabels(People(scores=(str(tmp_path / "ranks.csv"),)))
    elsewhere = next(name for name in (f"t{number}" for number in range(40)) if part_of(name) == "test")
    (tmp_path / "mos.csv").write_text(f"image,mos,group\n{image},1,{elsewhere}\n")
    with pytest.raises(UserError, match=r"no scene of .* is in the training part"):
        PeopleLabels(People(scores=(str(tmp_path / "mos.csv"),)))


def test_columns_are_named_in_pairs():
    with pytest.raises(UserError, match="1 mistake") as raised:
        recipe.load("people", "reward", ["people.mask_columns=[prominence]"])
    assert "OURS=THEIRS, not prominence" in raised.value.lines[0]


def test_the_recipe_goes_on_from_the_model_that_ships():
    chosen = recipe.load("people", "reward")
    settings = {"encoder": chosen.encoder.name, "stages": len(chosen.stages) - 1} | chosen.model.model_dump()
    open_begun(chosen.begin, settings)
