"""Small charts as SVG."""

import re
from xml.etree import ElementTree

import pytest

from fgr.report import charts


def test_histograms_draw_every_value():
    svg = ElementTree.fromstring(charts.histogram({"a": [0.1, 0.1, 0.9], "b": [5]}, 0, 1, bins=10, x="<x>"))
    polygons = svg.findall("polygon")
    foot = charts.HEIGHT - charts.FOOT
    heights = [[foot - float(point.split(",")[1]) for point in polygon.get("points").split()][1:-1:2] for polygon in polygons]
    assert heights[0][1] == pytest.approx(2 * heights[0][9])
    assert heights[1][9] > 0
    assert [text.text for text in svg.findall("text")] == ["0", "0.5", "1", "0", "2", "<x>", "samples"]


def test_lines_pass_over_what_is_not_finite():
    svg = ElementTree.fromstring(charts.lines({"loss": ([0, 1, 2], [1.0, float("nan"), 3.0])}, marks=[1]))
    assert [len(line.get("points").split()) for line in svg.findall("polyline")] == [2, 2, 3]  # mark, curve, axes
    assert charts.lines({"loss": ([0], [float("nan")])}) == ""


def test_a_mark_stands_where_its_step_is():
    drawn = charts.lines({"a": ([0, 10], [0, 1])}, {5: "RM_1"}, [10])
    middle, end = (charts.LEFT + charts.WIDTH - charts.RIGHT) / 2, charts.WIDTH - charts.RIGHT
    assert f'class="mark" points="{middle:.1f},' in drawn
    assert f'class="alarm" points="{end:.1f},' in drawn
    assert f'<text x="{middle + 2:.1f}"' in drawn
    early = charts.lines({"a": ([5, 10], [0, 1])}, [0])
    assert f'class="mark" points="{charts.LEFT:.1f},' in early, "a mark before the first point stands inside the axes"


def test_points_of_a_scatter_plot_lie_between_its_axes():
    drawn = charts.scatter({"<a>": [(0.2, 5), (0.4, 7)], "b": [(0.3, 6)]}, x="label", y="prediction")
    assert re.findall(r'cx="([\d.]+)"', drawn) == ["44.0", "312.0", "178.0"]
    assert "&lt;a&gt;: 0.2, 5" in drawn
    assert ">label<" in drawn
    assert ">prediction<" in drawn


def test_dots_stand_on_one_axis_with_intervals_and_what_has_no_value_says_so():
    rows = [
        ("reward", 0.7, 0.5, 0.9, [0.6, 5.0]),
        ("<ssim>", 0.02, float("nan"), float("nan"), []),
        ("niqe", *[float("nan")] * 3, []),
    ]
    drawn = charts.dots(rows, {0.0: "start", 1.0: "references"})
    assert "reward: 0.70 [0.50, 0.90]" in drawn
    assert "&lt;ssim&gt;: 0.02</title>" in drawn
    assert "no gap" in drawn
    assert "<ssim>" not in drawn
    places = [float(x) for x in re.findall(r'cx="([\d.]+)"', drawn)]
    assert max(places) <= charts.WIDTH
    assert places[0] < places[1]  # 5 stands at the axis' end
    assert drawn.count("<line") == 1
    held = dict(re.findall(r'y="10" text-anchor="(\w+)">(\w+)<', drawn))
    assert held == {"middle": "start", "end": "references"}  # at the right edge half the word would be cut off
