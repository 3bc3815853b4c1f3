"""The page of fgr evaluate: of scores, systems and maps; in a browser."""

import re

import pytest
from typer.testing import CliRunner

from fgr.cli import app
from fgr.evaluate import evaluation_page
from fgr.evaluate.comparison import evaluate_systems
from fgr.evaluate.map_benchmark import evaluate_on_map_benchmark
from fgr.people.scenes import part_of


@pytest.fixture
def scores_page(disrqad, reward, tmp_path):
    """The page of a made-up set of opinions, with three scenes' pictures, by the command."""
    path = tmp_path / "scores.html"
    command = ["evaluate", "--reward", str(reward), "--benchmark", "disrqad", "--data", str(disrqad), "--metrics", "psnr"]
    done = CliRunner().invoke(app, [*command, "--device", "cpu", "--html", str(path), "--pictures", "3"])
    assert done.exit_code == 0, done.output
    return path


def test_a_page_of_scores_in_a_browser(scores_page, opened):
    tab = opened(scores_page)
    rows = tab.locator(".sortable tbody tr")
    assert rows.count() == 16
    apart = [abs(float(rows.nth(number).locator("td.n").first.get_attribute("data-value"))) for number in range(16)]
    assert apart == sorted(apart, reverse=True)  # where reward and people disagree most comes first
    assert tab.locator("[data-part=scene] option").count() == 3
    assert tab.locator(".published").count() == 40  # 20 metrics of each family
    assert tab.get_by_role("heading", name="Family diffusion").count() == 1
    psnr = tab.locator(".figures").first.locator("tr", has_text="psnr").first
    assert psnr.locator(".best").count() >= 3
    tab.get_by_role("button", name="mos", exact=True).focus()
    tab.keyboard.press("Enter")
    opinions = [float(rows.nth(number).locator("td.n").nth(1).inner_text()) for number in range(16)]
    assert opinions == sorted(opinions, reverse=True)
    assert tab.locator("th[aria-sort=descending]").inner_text().startswith("mos")
    shows = tab.locator("button.shows").first
    shows.click()
    names = [tab.locator(f"[data-part={side}] option:checked").inner_text() for side in ("left", "right")]
    assert names == [shows.get_attribute("data-left"), shows.get_attribute("data-right")]
    assert tab.locator("[data-side=right] figcaption").inner_text().startswith(names[1])
    assert tab.evaluate("document.activeElement.className").startswith("swipe-stage")
    tab.keyboard.press("m")
    assert not tab.locator("[data-side=right] img").nth(1).is_hidden()
    tab.set_viewport_size({"width": 390, "height": 800})
    tab.emulate_media(color_scheme="dark")
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_page_of_systems_has_their_outputs_and_closures(pairs, reward, tmp_path):
    path = tmp_path / "systems.html"
    names = ["bicubic", str(pairs / "gt")]
    result, records = evaluate_systems(
        names, str(pairs), metrics=["ssim"], reward=str(reward), device="cpu", html=path, pictures=2
    )
    closed = result["closure"][names[1]]
    assert closed["closure"]["ssim"]["value"] == pytest.approx(1)  # the references themselves
    assert {row["system"] for row in records} == set(names)
    html = path.read_text()
    assert html.count('"name": "reference"') == 2
    assert "Share of the gap from bicubic to the references that is closed" in html
    assert re.search(r"Worst disagreement between score and ssim first", html)


def test_a_page_of_maps_lays_them_over_one_picture(marked, reward, tmp_path):
    path, part = tmp_path / "maps.html", part_of("0")
    settings = {"reward": str(reward), "split": part, "device": "cpu", "html": path, "pictures": 1}
    found, _ = evaluate_on_map_benchmark(str(marked / "t.csv"), **settings)
    assert found["protocol"]["images"] == [part_of(str(number)) for number in range(4)].count(part) < 4
    html = path.read_text()
    assert html.count('"name": "people"') == 1
    assert html.count("data:image/jpeg") == 2  # the image, whatever lies over it, and its reference
    assert html.count("data:image/webp") >= 8
    assert "Worst disagreement between reward and prominence first" in html


def test_pairs_and_what_has_no_pictures(disrqad, tmp_path):
    names = [f"sr_x4/{method}_x4_00000_blur_x4.png" for method in ("SeeSR", "SUPIR", "HAT")]
    (disrqad / "pairs.csv").write_text(f"left,right,choice\n{names[0]},{names[1]},left\n{names[2]},{names[1]},0.8\n")
    path = tmp_path / "pairs.html"
    command = ["evaluate", "--benchmark", str(disrqad / "pairs.csv"), "--metrics", "pyiqa:none"]
    done = CliRunner().invoke(
        app, [*command[:3], "--reward", "fgr-lite", "--device", "cpu", "--html", str(path), "--pictures", "0"]
    )
    assert done.exit_code == 0, done.output
    html = path.read_text()
    assert "Worst disagreement between margin and choice first" in html
    assert '<div class="swipe"' not in html
    assert html.count("<tr><td data-value=") == 4


def test_the_best_of_a_column_is_marked_where_larger_or_smaller_is_better():
    table = evaluation_page.marked(
        "t", ["", "srcc", "lpips ↓", "pairs"], [["a", "0.5 [0.1, 0.9]", "0.2", "9"], ["b", "–", "0.1", "1"]]
    )
    assert [[cell.best for cell in cells] for cells, _ in table[2]] == [[False] * 4, [False, False, True, False]]
