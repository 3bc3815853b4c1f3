"""Small charts as inline SVG. Pure.

Numbers in, markup out; all texts are escaped.
"""

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

WIDTH, HEIGHT, FOOT, LEFT = 320, 150, 20, 4
COLOURS = ("var(--c1)", "var(--c2)", "var(--c3)", "var(--c4)", "var(--c5)", "var(--c6)")


def histogram(values: Mapping[str, Sequence[float]], low: float, high: float, bins: int = 24, log: bool = False) -> str:
    """Overlaid outline histograms of `values` by name over [low, high]; `log` spaces the bins logarithmically (low > 0).

    Values outside the range count in the outermost bins.
    """
    edges = np.geomspace(low, high, bins + 1) if log else np.linspace(low, high, bins + 1)
    counts = {name: np.histogram(np.clip(list(series), low, high), edges)[0] for name, series in values.items()}
    top = max((int(count.max()) for count in counts.values()), default=0) or 1
    shapes = [_steps(count, top, COLOURS[i % len(COLOURS)], name) for i, (name, count) in enumerate(counts.items())]
    middle = float(np.sqrt(low * high)) if log else (low + high) / 2
    ticks = "".join(
        f'<text x="{x}" y="{HEIGHT - 4}" text-anchor="{anchor}">{value:.3g}</text>'
        for x, value, anchor in ((LEFT, low, "start"), (WIDTH / 2, middle, "middle"), (WIDTH - LEFT, high, "end"))
    )
    axis = f'<line x1="{LEFT}" x2="{WIDTH - LEFT}" y1="{HEIGHT - FOOT}" y2="{HEIGHT - FOOT}" class="axis"/>'
    label = escape(", ".join(f"{name}: {len(values[name])} values" for name in values), quote=True)
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="Histogram. {label}">{"".join(shapes)}{axis}{ticks}</svg>'


def lines(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]], marks: Mapping[float, str] | Sequence[float] = (),
    alarms: Sequence[float] = (),
) -> str:  # fmt: skip
    """Line chart of named (x, y) series with a common scale; `marks` are x positions of vertical lines, with names or without,
    `alarms` those of red ones."""
    points = [(x, y) for xs, ys in series.values() for x, y in zip(xs, ys, strict=True) if np.isfinite(y)]
    if not points:
        return ""
    (x0, y0), (x1, y1) = np.min(points, axis=0), np.max(points, axis=0)

    def place(x: float, y: float) -> str:
        across = LEFT + (x - x0) / ((x1 - x0) or 1) * (WIDTH - 2 * LEFT)
        return f"{across:.1f},{(HEIGHT - FOOT) - (y - y0) / ((y1 - y0) or 1) * (HEIGHT - FOOT - 14):.1f}"

    drawn = "".join(
        f'<polyline fill="none" stroke="{COLOURS[i % len(COLOURS)]}" stroke-width="1.5" points="'
        + " ".join(place(x, y) for x, y in zip(xs, ys, strict=True) if np.isfinite(y))
        + f'"><title>{escape(name)}</title></polyline>'
        for i, (name, (xs, ys)) in enumerate(series.items())
    )
    drawn_at = [("mark", x) for x in marks] + [("alarm", x) for x in alarms]
    vertical = "".join(f'<polyline class="{kind}" points="{place(x, y0)} {place(x, y1)}"/>' for kind, x in drawn_at)
    if isinstance(marks, Mapping):
        corners = {x: place(x, y1).split(",")[0] for x in marks}
        vertical += "".join(
            f'<text x="{float(at) + 2:.1f}" y="{HEIGHT - 4}">{escape(marks[x])}</text>' for x, at in corners.items()
        )
    named = isinstance(marks, Mapping) and any(x - x0 < 0.08 * (x1 - x0) for x in marks)  # a name stands where the number would
    texts = "" if named else f'<text x="{LEFT}" y="{HEIGHT - 4}">{x0:g}</text>'
    texts += f'<text x="{WIDTH - LEFT}" y="{HEIGHT - 4}" text-anchor="end">{x1:g}</text>'
    texts += f'<text x="{LEFT}" y="10">{y1:.3g}</text><text x="{LEFT}" y="{HEIGHT - FOOT - 3}">{y0:.3g}</text>'
    label = escape(", ".join(series), quote=True)
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="Curves of {label}">{vertical}{drawn}{texts}</svg>'


def dots(rows: Sequence[tuple[str, float, float, float, Sequence[float]]], marks: Mapping[float, str]) -> str:
    """Rows of (name, value, low, high, single values) on one axis: a dot with its interval, the single values small; `marks` are
    x positions of dashed lines with names. Rows without a value say so; what lies beyond the axis stands at its end."""
    finite = [x for _, value, low, high, _ in rows for x in (value, low, high) if np.isfinite(x)]
    first = max(-1.0, min([-0.25, *marks, *finite]))
    last = min(2.0, max([*marks, *finite]) + 0.1)
    wide, left, step = 640, 170, 22

    def place(x: float) -> float:
        return left + (min(max(x, first), last) - first) / (last - first) * (wide - left - 12)

    high_ = 18 + step * len(rows)
    drawn = [f'<polyline class="mark" points="{place(x):.1f},14 {place(x):.1f},{high_}"/>' for x in marks]
    drawn += [f'<text x="{place(x):.1f}" y="10" text-anchor="middle">{escape(name)}</text>' for x, name in marks.items()]
    for number, (name, value, low, high, singles) in enumerate(rows):
        y, colour = 18 + step * number + step / 2, COLOURS[1 if number == 0 else 0]
        drawn.append(f'<text x="{left - 8}" y="{y + 3:.1f}" text-anchor="end">{escape(name)}</text>')
        if not np.isfinite(value):
            drawn.append(f'<text x="{place(0) + 6:.1f}" y="{y + 3:.1f}">no gap</text>')
            continue
        drawn += [f'<circle cx="{place(x):.1f}" cy="{y:.1f}" r="2" fill="{colour}" fill-opacity=".35"/>' for x in singles]
        if np.isfinite(low):
            drawn.append(f'<line x1="{place(low):.1f}" x2="{place(high):.1f}" y1="{y:.1f}" y2="{y:.1f}" stroke="{colour}"/>')
        ends = f" [{low:.2f}, {high:.2f}]" if np.isfinite(low) else ""
        title = f"<title>{escape(name)}: {value:.2f}{ends}</title>"
        drawn.append(f'<circle cx="{place(value):.1f}" cy="{y:.1f}" r="4.5" fill="{colour}">{title}</circle>')
    label = escape(", ".join(name for name, *_ in rows), quote=True)
    return f'<svg viewBox="0 0 {wide} {high_ + 4}" style="max-width:820px" role="img" aria-label="{label}">{"".join(drawn)}</svg>'


def legend(names: Sequence[str]) -> str:
    """The colours of `names`, in the order in which the charts use them."""
    keys = (
        f'<span class="key"><i style="background:{COLOURS[i % len(COLOURS)]}"></i>{escape(one)}</span>'
        for i, one in enumerate(names)
    )
    return f'<p class="legend">{"".join(keys)}</p>'


def _steps(count: np.ndarray, top: int, colour: str, name: str) -> str:
    step = (WIDTH - 2 * LEFT) / len(count)
    heights = (HEIGHT - FOOT) - count / top * (HEIGHT - FOOT - 6)
    corners = [f"{LEFT + (i + side) * step:.1f},{height:.1f}" for i, height in enumerate(heights) for side in (0, 1)]
    foot = f"{LEFT},{HEIGHT - FOOT}"
    end = f"{WIDTH - LEFT},{HEIGHT - FOOT}"
    style = f'fill="{colour}" fill-opacity=".18" stroke="{colour}"'
    return f'<polygon points="{foot} {" ".join(corners)} {end}" {style}><title>{escape(name)}</title></polygon>'
