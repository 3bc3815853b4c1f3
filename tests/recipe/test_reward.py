"""Recipes of `fgr train-rm`: what those that ship ask for."""

import json

from fgr import recipe


def test_the_shipped_recipes_hold_together():
    main = recipe.load(None, "reward")
    assert main.encoder.name == "resnet50_clip.openai"
    assert main.model.gate == "concat"
    assert main.planted.share > 0
    assert main.training.randomize
    paper = recipe.load("finpercep", "reward")
    assert (paper.model.gate, paper.loss.map_kind, paper.loss.rank_of, paper.loss.margins_of) == ("paper", "l1", "image", "image")
    assert (paper.planted.share, paper.training.randomize, paper.loss.map_rank, paper.loss.map_margin) == (0, False, 0, 0)
    assert recipe.load("hardened", "reward").planted.share > 0
    assert all(not recipe.load(name, "reward").planted.share for name in ("demo", "tiny"))
    assert len(recipe.load("tiny", "reward").stages) == 4
    assert json.dumps(recipe.resolved(main))
