"""The demo recipe of `fgr annotate` for a dozen samples, and people's work on it."""

import numpy as np

from fgr import recipe

OVERRIDES = ("select.samples=12", "select.bins=2", "gold.share=0", "prediction.floor=0.02")


def load(project, *more):
    """The recipe under the name `project`."""
    return recipe.load("demo", "annotate", [*OVERRIDES, *more], {"name": project})


def score(value, **more):
    """The result of an annotation that gives that score alone."""
    return [{"from_name": "score", "to_name": "composite", "type": "number", "value": {"number": value}, **more}]


def work_on_all(studio, project, value):
    """One person's score for every task."""
    found = [task for page in studio.tasks(studio.project(project)["id"], "id,data") for task in page]
    for task in found:
        studio.json("POST", f"/api/tasks/{task['id']}/annotations/", json={"result": score(value), "lead_time": 9.0})
    return found


def expect_once_each(studio, campaign):
    """Every entry of the campaign has one task."""
    found = studio.keys(studio.project(campaign.name)["id"])
    assert found.keys() == {entry.key for entry in campaign.entries}
    assert {len(ids) for ids in found.values()} == {1}, "no sample has two tasks"


def left_half(image):
    """A reward model that sees defects in the left half of every image."""
    values = np.zeros(image.shape[:2], np.float32)
    values[:, : image.shape[1] // 2] = 0.9
    return values, 0.5
