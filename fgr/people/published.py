"""Figures that others published of public benchmarks, with their sources: published.json."""

import json
from importlib import resources
from typing import NamedTuple


class Published(NamedTuple):
    """`figures`: by family (empty: the whole benchmark) and metric, figures by name; `source` says where they stand."""

    source: str
    figures: dict[str, dict[str, dict[str, float]]]


def published(benchmark: str) -> Published:
    """What is published of a benchmark that is named so; empty where nothing is."""
    known = json.loads((resources.files("fgr.people") / "published.json").read_text(encoding="utf-8"))
    found = known.get(benchmark.lower(), {})
    return Published(found.get("source", ""), found.get("figures", {}))
