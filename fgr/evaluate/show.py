"""Tables of evaluations for the terminal: title, header and rows of each."""

from collections.abc import Iterator, Mapping
from typing import Any

Table = tuple[str, list[str], list[list[str]]]
OPINIONS = (
    "srcc", "srcc_low", "srcc_high", "plcc", "plcc_logistic", "krcc", "srcc_within", "accuracy", "low", "high", "pairs", "ties",
)  # fmt: skip


def systems(summary: Mapping[str, Any]) -> Iterator[Table]:
    """Means with intervals, then each comparison with the first system."""
    lower = summary["lower_is_better"]
    names = [*next(iter(summary["systems"].values()))]
    header = ["", *(f"{name} {'↓' if name in lower else '↑'}" for name in names)]
    rows = [[system, *(_interval(figures[name]) for name in names)] for system, figures in summary["systems"].items()]
    yield "Means and 95 % intervals", header, rows
    for system, figures in summary["compared"].items():
        rows = [[name, _difference(one), _share(one), str(one["ties"]), str(one["n"])] for name, one in figures.items()]
        yield f"{system} against {summary['against']}", ["", "difference", "win rate", "ties", "images"], rows


def opinions(summary: Mapping[str, Any]) -> Iterator[Table]:
    """Agreement with people by scorer."""
    columns = [name for name in OPINIONS if any(name in figures for figures in summary["figures"].values())]
    rows = [[name, *(_number(figures.get(column)) for column in columns)] for name, figures in summary["figures"].items()]
    yield "Agreement with people", ["", *columns], rows


def reward_model(summary: Mapping[str, Any]) -> Iterator[Table]:
    """A reward model on a dataset, beside its baselines: maps, scores, triplets, by area, mask kind and SR model."""
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
            triplets = _short(accuracy) if rival == "model" or rival in ("gradient energy",) else ""
            yield [label, rival, _short(figures["ap"]), _short(figures["cc"]), triplets]
            label = ""


def _without_oracle(figures: Mapping[str, Any]) -> dict[str, Any]:
    """The mask's area puts every triplet in order by construction: no rival."""
    return {name: value for name, value in figures.items() if "oracle" not in name}


def _named(title: str, figures: Mapping[str, Mapping[str, float]], columns: tuple[str, ...]) -> Table:
    rows = [[name, *(_short(one.get(column, float("nan"))) for column in columns)] for name, one in figures.items()]
    return title, ["", *columns], rows


def _interval(figure: Mapping[str, float]) -> str:
    dropped = f" ({figure['left_out']} left out)" if figure["left_out"] else ""
    return f"{_number(figure['mean'])} [{_number(figure['low'])}, {_number(figure['high'])}]{dropped}"


def _difference(one: Mapping[str, float]) -> str:
    return f"{one['difference']:+.4f} [{_number(one['low'])}, {_number(one['high'])}]"


def _share(one: Mapping[str, float]) -> str:
    rate, *ends = (f"{100 * one[key]:.0f}" if one[key] == one[key] else "–" for key in ("win_rate", "win_low", "win_high"))
    return f"{rate} % [{', '.join(ends)}]"


def _number(value: float | int | None) -> str:
    if value is None or value != value:
        return "–"
    return str(value) if isinstance(value, int) else f"{value:.4g}" if abs(value) >= 10 else f"{value:.4f}"


def _short(value: float | int | None) -> str:
    if value is None or value != value:
        return "–"
    return str(value) if isinstance(value, int) else f"{value:.3f}"
