import shutil
import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pytest

from fgr.dataset import manifest, tables
from fgr.errors import UserError
from fgr.report import charts, dataset, page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def test_the_page_counts_what_the_dataset_holds(tiny, tmp_path):
    text = page.write(tiny, tmp_path / "report.html", rows=2).read_text()
    assert f"{tables.count_rows(tiny, 'samples')} samples of 5 photographs" in text
    for model in manifest.read(tiny)["models"]:
        assert model["name"] in text
        assert model["digest"][:16] in text
    for group in ("Worst first", "Subtlest first", "One of each mask"):
        assert group in text
    assert page.write(tiny, tmp_path / "again.html", rows=2).read_text() == text


def test_severities_of_the_gallery_are_in_order():
    table = [{"id": str(i), "mask_kind": "polygon" if i % 5 else "sham", "severity": (i * 7 % 11) / 11} for i in range(20)]
    chosen = dataset._chosen(table, 3)
    real = sorted(row["severity"] for row in table if row["mask_kind"] == "polygon")
    assert [row["severity"] for row in chosen["Worst first"]] == real[::-1][:3]
    assert [row["severity"] for row in chosen["Subtlest first"]] == real[:3]
    assert [row["mask_kind"] for row in chosen["One of each mask"]] == ["polygon", "sham"]


def test_texts_of_the_data_are_escaped(tiny, tmp_path):
    copy = shutil.copytree(tiny, tmp_path / "copy")
    attack = "<script>alert(1)</script>"
    for shard in tables.shards(copy, "samples"):
        tables.write_table(
            shard, "samples", [row | {"attribution": attack, "license": attack} for row in tables.read_shard(shard)]
        )
    text = page.write(copy, None, rows=1).read_text()
    assert attack not in text
    assert "&lt;script&gt;alert(1)" in text
    charted = charts.histogram({attack: [0.5]}, 0, 1) + charts.legend([attack]) + charts.lines({attack: ([0, 1], [1, 2])})
    assert attack not in charted


def test_the_overlay_shows_the_map_inside_the_mask_only():
    composite, mask = np.full((32, 32, 3), 100, np.uint8), np.zeros((32, 32), np.uint8)
    mask[8:24, 8:24] = 255
    values = np.zeros((32, 32), np.float32)
    values[12:20, 12:20] = 1
    shown = dataset.overlay(composite, mask, values)
    assert (shown[:6] == 45).all()
    assert shown[16, 16].sum() > shown[10, 10].sum()
    assert (shown[8, 16] == 255).all()


def test_histograms_draw_every_value():
    svg = ElementTree.fromstring(charts.histogram({"a": [0.1, 0.1, 0.9], "b": [5]}, 0, 1, bins=10))
    polygons = svg.findall("polygon")
    heights = [[130 - float(point.split(",")[1]) for point in polygon.get("points").split()][1:-1:2] for polygon in polygons]
    assert heights[0][1] == pytest.approx(2 * heights[0][9])
    assert heights[1][9] > 0


def test_lines_pass_over_what_is_not_finite():
    svg = ElementTree.fromstring(charts.lines({"loss": ([0, 1, 2], [1.0, float("nan"), 3.0])}, marks=[1]))
    assert [len(line.get("points").split()) for line in svg.findall("polyline")] == [2, 2]
    assert charts.lines({"loss": ([0], [float("nan")])}) == ""


def test_the_command_prints_the_page(tiny, tmp_path):
    out = tmp_path / "a page.html"
    done = subprocess.run(
        [sys.executable, "-m", "fgr", "report", str(tiny), "--out", str(out), "--rows", "1"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(out)
    assert out.stat().st_size > 10_000


def test_what_is_no_dataset_is_a_sentence(tmp_path):
    with pytest.raises(UserError, match="nothing that fgr makes"):
        page.write(tmp_path)
    with pytest.raises(UserError, match="There is no folder"):
        page.write(tmp_path / "x")
    (tmp_path / ".fgr").mkdir()
    with pytest.raises(UserError, match="not a finished FGR dataset"):
        page.write(tmp_path)


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium")
def test_a_browser_shows_the_page_offline_and_enlarges_pictures(tiny, tmp_path):
    from playwright.sync_api import sync_playwright

    out = page.write(tiny, tmp_path / "report.html", rows=2)
    with sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        )
        tab = browser.new_context(viewport={"width": 390, "height": 800}).new_page()
        said, asked = [], []
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(out.as_uri())
        widths = tab.eval_on_selector_all("img[src]", "images => images.map(image => image.naturalWidth)")
        assert len(widths) > 8
        assert min(widths) > 0
        assert tab.evaluate("document.documentElement.scrollWidth") <= 390
        tab.locator(".images button").first.click()
        assert tab.locator("dialog[open] p").inner_text().startswith("reference")
        tab.keyboard.press("ArrowRight")
        assert tab.locator("dialog[open] p").inner_text().startswith("SR output")
        tab.keyboard.press("Escape")
        assert tab.locator("dialog[open]").count() == 0
        browser.close()
    assert not said
    assert {url.partition(":")[0] for url in asked} <= {"file", "data"}
