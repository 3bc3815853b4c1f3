"""The table of defaults in docs/diffusion.md is that of the code."""

import re
from pathlib import Path

import pytest

from fgr.sr.zoo import DIFFUSION

pytest.importorskip("diffusers")
PAGE = (Path(__file__).parents[2] / "docs" / "diffusion.md").read_text()
SECTIONS = {name.strip(): text for name, _, text in (one.partition("\n") for one in re.split(r"^## ", PAGE, flags=re.M)[1:])}
TEXTS = ("prompt", "negative_prompt")  # told in words where they are long


def rows(text):
    """The cells of a table's rows, without its head."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


def defaults(name):
    import importlib

    from fgr.sr.diffusion.opening import MODELS

    module, kind = MODELS[name]
    return getattr(importlib.import_module(f"fgr.sr.diffusion.{module}"), kind).defaults


@pytest.mark.parametrize("name", [name for name in DIFFUSION if name in SECTIONS])
def test_every_default_has_a_row_and_every_row_the_codes_value(name):
    told = {cells[0].strip("`"): cells for cells in rows(SECTIONS[name]) if cells[0].startswith("`")}
    assert told.keys() == defaults(name).keys()
    for key, value in defaults(name).items():
        if key not in TEXTS:
            assert told[key][2] == f"`{value}`", key
    assert all(len(cells) == 4 for cells in rows(SECTIONS[name]))


def test_the_table_of_costs_is_the_codes():
    from fgr.sr.costs import DIFFUSION_COSTS

    text = (Path(__file__).parents[2] / "docs" / "verbs" / "models.md").read_text().partition("## Diffusion models")[2]
    told = {}
    for cells in rows(text.partition("What there is to fetch")[0]):
        told |= dict.fromkeys(re.findall(r"`([^`]+)`", cells[0]), cells[1:7])
    assert told == {
        name: [
            f"{own.megabytes / 1000:.1f}", f"{own.million:,.0f}", f"{own.gigabytes:.1f}", str(own.steps),
            str(own.steps * (1 + own.guided)), f"{own.teraflop:,.1f}",
        ]
        for name, own in DIFFUSION_COSTS.items()
    }  # fmt: skip
