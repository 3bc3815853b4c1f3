"""Small charts as inline SVG, their axes labelled. Pure.

Numbers in, markup out; all texts are escaped.
"""

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

WIDTH, HEIGHT, LEFT, RIGHT, FOOT, HEAD = 320, 176, 44, 8, 34, 10  # of a chart and, inside it, around its axes
COLOURS = ("var(--c1)", "var(--c2)", "var(--c3)", "var(--c4)", "var(--c5)", "var(--c6)")
Range = tuple[float, float]


def histogram(
    values: Mapping[str, Sequence[float]], low: float, high: float, bins: int = 24, log: bool = False, *, x: str,
    y: str = "samples",
) -> str:  # fmt: skip
    """Overlaid outline histograms of `values` by name over [low, high]; `log` spaces the bins logarithmically (low > 0).

    Values outside the range count in the outermost bins. `x` and `y` name the axes.
    """
    edges = np.geomspace(low, high, bins + 1) if log else np.linspace(low, high, bins + 1)
    counts = {name: np.histogram(np.clip(list(series), low, high), edges)[0] for name, series in values.items()}
    top = max((int(count.max()) for count in counts.values()), default=0) or 1
    shapes = [_steps(count, top, COLOURS[i % len(COLOURS)], name) for i, (name, count) in enumerate(counts.items())]
    middle = float(np.sqrt(low * high)) if log else (low + high) / 2
    axes = _axes((LEFT, low), ((LEFT + WIDTH - RIGHT) / 2, middle), (WIDTH - RIGHT, high)) + _ticks(0, top) + _names(x, y)
    label = escape(", ".join(f"{name}: {len(values[name])} values" for name in values), quote=True)
    return _svg(f"Histogram. {label}", "".join(shapes) + axes)


def lines(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]], marks: Mapping[float, str] | Sequence[float] = (),
    alarms: Sequence[float] = (), *, x: str = "step", y: str = "",
) -> str:  # fmt: skip
    """Line chart of named (x, y) series with a common scale; `marks` are x positions of vertical lines, with names or without,
    `alarms` those of red ones. `x` and `y` name the axes."""
    points = [point for xs, ys in series.values() for point in zip(xs, ys, strict=True) if np.isfinite(point[1])]
    if not points:
        return ""
    places, heights = zip(*points, strict=True)
    at_all = (*places, *marks, *alarms)
    across, up = (float(min(at_all)), float(max(at_all))), (float(min(heights)), float(max(heights)))
    drawn = "".join(
        f'<polyline fill="none" stroke="{COLOURS[i % len(COLOURS)]}" stroke-width="1.5" points="'
        + " ".join(_place(at, value, across, up) for at, value in zip(xs, ys, strict=True) if np.isfinite(value))
        + f'"><title>{escape(name)}</title></polyline>'
        for i, (name, (xs, ys)) in enumerate(series.items())
    )
    drawn_at = [("mark", at) for at in marks] + [("alarm", at) for at in alarms]
    vertical = "".join(
        f'<polyline class="{kind}" points="{_place(at, up[0], across, up)} {_place(at, up[1], across, up)}"/>'
        for kind, at in drawn_at
    )
    if isinstance(marks, Mapping):
        corners = {at: _place(at, up[1], across, up).split(",")[0] for at in marks}
        vertical += "".join(
            f'<text x="{float(corner) + 2:.1f}" y="{HEAD + 8}">{escape(marks[at])}</text>' for at, corner in corners.items()
        )
    axes = _axes((LEFT, across[0]), (WIDTH - RIGHT, across[1])) + _ticks(*up) + _names(x, y)
    return _svg(f"Curves of {escape(', '.join(series), quote=True)}", vertical + drawn + axes)


def scatter(groups: Mapping[str, Sequence[tuple[float, float]]], *, x: str, y: str) -> str:
    """Points of named groups, each axis over its own range; `x` and `y` name the axes."""
    points = [point for group in groups.values() for point in group]
    across, up = ((float(min(axis)), float(max(axis))) for axis in zip(*points, strict=True))
    drawn = []
    for number, (name, group) in enumerate(groups.items()):
        for point in group:
            left, top = _place(*point, across, up).split(",")
            title = f"<title>{escape(name)}: {point[0]:.3g}, {point[1]:.3g}</title>"
            drawn.append(f'<circle cx="{left}" cy="{top}" r="2.5" fill="{COLOURS[number % len(COLOURS)]}">{title}</circle>')
    axes = _axes((LEFT, across[0]), (WIDTH - RIGHT, across[1])) + _ticks(*up) + _names(x, y)
    return _svg(f"Scatter plot of {len(points)} points", "".join(drawn) + axes)


def dots(rows: Sequence[tuple[str, float, float, float, Sequence[float]]], marks: Mapping[float, str]) -> str:
    """Rows of (name, value, low, high, single values) on one axis, each below its name: a dot with its interval, the single
    values small; `marks` are x positions of dashed lines with names. Rows without a value say so; what lies beyond the axis
    stands at its end."""
    finite = [x for _, value, low, high, _ in rows for x in (value, low, high) if np.isfinite(x)]
    first = max(-1.0, min([-0.25, *marks, *finite]))
    last = min(2.0, max([*marks, *finite]) + 0.1)
    step, end = 30, 16 + 30 * len(rows)

    def place(x: float) -> float:
        return RIGHT + (min(max(x, first), last) - first) / (last - first) * (WIDTH - 2 * RIGHT)

    drawn = [f'<polyline class="mark" points="{place(x):.1f},14 {place(x):.1f},{end}"/>' for x in marks]
    drawn += [
        f'<text x="{place(x):.1f}" y="10" text-anchor="{_anchor(place(x))}">{escape(name)}</text>' for x, name in marks.items()
    ]
    for number, (name, value, low, high, singles) in enumerate(rows):
        top, colour = 16 + step * number, COLOURS[1 if number == 0 else 0]
        y = top + 20
        ends = f" [{low:.2f}, {high:.2f}]" if np.isfinite(low) else ""
        said = f"{escape(name)}: {value:.2f}{ends}" if np.isfinite(value) else f"{escape(name)}: no gap"
        drawn.append(f'<text x="{RIGHT}" y="{top + 10}">{said}</text>')
        if np.isfinite(value):
            drawn += [f'<circle cx="{place(x):.1f}" cy="{y}" r="2" fill="{colour}" fill-opacity=".35"/>' for x in singles]
            if np.isfinite(low):
                drawn.append(f'<line x1="{place(low):.1f}" x2="{place(high):.1f}" y1="{y}" y2="{y}" stroke="{colour}"/>')
            drawn.append(f'<circle cx="{place(value):.1f}" cy="{y}" r="4" fill="{colour}"><title>{said}</title></circle>')
    label = escape(", ".join(name for name, *_ in rows), quote=True)
    return f'<svg viewBox="0 0 {WIDTH} {end + 4}" role="img" aria-label="{label}">{"".join(drawn)}</svg>'


def _anchor(left: float) -> str:
    """Where a word at `left` is held, so that it does not run out of the picture: in the middle but near the edges."""
    return "start" if left < WIDTH / 8 else "end" if left > WIDTH * 7 / 8 else "middle"


def legend(names: Sequence[str]) -> str:
    """The colours of `names`, in the order in which the charts use them."""
    keys = (
        f'<span class="key"><i style="background:{COLOURS[i % len(COLOURS)]}"></i>{escape(one)}</span>'
        for i, one in enumerate(names)
    )
    return f'<p class="legend">{"".join(keys)}</p>'


def _svg(label: str, content: str) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{content}</svg>'


def _place(x: float, y: float, across: Range, up: Range) -> str:
    """Where a point of the ranges is drawn: "left,top"."""
    left = LEFT + (x - across[0]) / ((across[1] - across[0]) or 1) * (WIDTH - LEFT - RIGHT)
    top = (HEIGHT - FOOT) - (y - up[0]) / ((up[1] - up[0]) or 1) * (HEIGHT - FOOT - HEAD)
    return f"{left:.1f},{top:.1f}"


def _axes(*ticks: tuple[float, float]) -> str:
    """Both axes, and numbers (left, value) below the horizontal one: the first and the last at its ends."""
    foot = HEIGHT - FOOT
    drawn = f'<polyline class="axis" fill="none" points="{LEFT},{HEAD} {LEFT},{foot} {WIDTH - RIGHT},{foot}"/>'
    anchors = ["start", *["middle"] * (len(ticks) - 2), "end"]
    return drawn + "".join(
        f'<text x="{left:g}" y="{foot + 12}" text-anchor="{anchor}">{_number(value)}</text>'
        for (left, value), anchor in zip(ticks, anchors, strict=True)
    )


def _ticks(low: float, high: float) -> str:
    """The numbers at both ends of the vertical axis."""
    ends = ((low, HEIGHT - FOOT), (high, HEAD + 8))
    return "".join(f'<text x="{LEFT - 4}" y="{top}" text-anchor="end">{_number(value)}</text>' for value, top in ends)


def _number(value: float) -> str:
    return f"{value:.0f}" if value == round(value) else f"{value:.3g}" if abs(value) >= 0.01 else f"{value:.2g}"


def _names(x: str, y: str) -> str:
    """What the axes show."""
    left, top = (LEFT + WIDTH - RIGHT) / 2, (HEAD + HEIGHT - FOOT) / 2
    below = f'<text x="{left:g}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x)}</text>'
    beside = f'<text transform="translate(12 {top:g}) rotate(-90)" text-anchor="middle">{escape(y)}</text>' if y else ""
    return below + beside


def _steps(count: np.ndarray, top: int, colour: str, name: str) -> str:
    foot, step = HEIGHT - FOOT, (WIDTH - LEFT - RIGHT) / len(count)
    heights = foot - count / top * (foot - HEAD)
    corners = [f"{LEFT + (i + side) * step:.1f},{height:.1f}" for i, height in enumerate(heights) for side in (0, 1)]
    style = f'fill="{colour}" fill-opacity=".18" stroke="{colour}"'
    return (
        f'<polygon points="{LEFT},{foot} {" ".join(corners)} {WIDTH - RIGHT},{foot}" {style}>'
        f"<title>{escape(name)}</title></polygon>"
    )
