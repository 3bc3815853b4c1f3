"""An evaluation's summary as tables for people."""

from collections.abc import Iterator, Mapping
from typing import Any

Table = tuple[str, list[str], list[list[str]]]


def tables(summary: Mapping[str, Any]) -> Iterator[Table]:
    """Title, header and rows of each table."""
    columns = ("ap", "cc", "auc", "sim", "kld", "nss", "mse", "iou@0.1", "f1@0.1")
    yield _named("Map of the composite, rows with defects", summary["maps"], columns)
    yield _named("Map by swapped area", summary["maps_by_area"], ("rows", "ap", "cc", "auc"))
    yield _named("Map by mask kind", summary["maps_by_kind"], ("rows", "ap", "cc", "auc"))
    yield _named("Score against the dataset's score", summary["score"], ("srcc", "plcc", "plcc_logistic", "krcc"))
    yield _named("Triplets in order, S_SR < S_syn < S_GT", _without_oracle(summary["triplets"]), ("accuracy", "low", "high", "n"))
    yield "By SR model", ["SR model", "", "ap", "cc", "triplets"], list(_sr_models(summary))
    pairs = {label: _without_oracle(names)["model"] for label, names in summary["pairs_by_area"].items()}
    yield _named("Pairs in order by swapped area, S_syn < S_GT", pairs, ("accuracy", "low", "high", "n"))
    empty = summary["empty"]
    yield _named("Maps that should be empty", {"sham swaps": empty["sham"], "clean photographs": empty["clean"]}, ("mean", "mse"))
    names = ("images", "mean", "std", "base_std", "corr_base", "align")
    yield _named("Scores of clean photographs", {"model": summary["clean"]}, names)


def _sr_models(summary: Mapping[str, Any]) -> Iterator[list[str]]:
    for name, group in summary["by_sr_model"].items():
        label = f"{name} (held out)" if name in summary["held_out"] else name
        for rival, figures in group["maps"].items():
            accuracy = group["triplets"].get(rival, {}).get("accuracy", float("nan"))
            triplets = _number(accuracy) if rival == "model" or rival in ("gradient energy",) else ""
            yield [label, rival, _number(figures["ap"]), _number(figures["cc"]), triplets]
            label = ""


def _without_oracle(figures: Mapping[str, Any]) -> dict[str, Any]:
    """The mask's area puts every triplet in order by construction: no rival."""
    return {name: value for name, value in figures.items() if "oracle" not in name}


def _named(title: str, figures: Mapping[str, Mapping[str, float]], columns: tuple[str, ...]) -> Table:
    rows = [[name, *(_number(one.get(column, float("nan"))) for column in columns)] for name, one in figures.items()]
    return title, ["", *columns], rows


def _number(value: float | int | None) -> str:
    if value is None or value != value:
        return "–"
    return str(value) if isinstance(value, int) else f"{value:.3f}"
