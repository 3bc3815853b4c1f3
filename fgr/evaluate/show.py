"""Tables of evaluations for the terminal."""

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
