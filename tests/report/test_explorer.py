"""Looking through a dataset's samples: which are shown, where their pictures lie, and the page in a browser."""

import json
import re
from html import unescape

import numpy as np
import pytest

from fgr.dataset import cells, tables
from fgr.images import codec, degrade
from fgr.report import dataset_sections, explorer, page


@pytest.fixture
def beside(monkeypatch):
    monkeypatch.setattr(explorer, "EMBEDDED", 0)


def keys(text):
    """Where each sample's pictures are, in the page's order."""
    return [json.loads(unescape(found)) for found in re.findall(r'data-pictures="(.*?)"', text)]


def test_the_lowest_scores_are_shown_and_the_others_spread_evenly():
    table = [{"id": str(i), "score": (i * 37 % 100) / 100} for i in range(100)]
    found = [row["score"] for row in explorer.chosen(table, 20)]
    assert found[:4] == [0, 0.01, 0.02, 0.03]
    assert found == sorted(found)
    assert len(found) == 20
    assert max(np.diff(found[4:])) < 0.13
    assert found[-1] > 0.9
    assert len(explorer.chosen(table, 200)) == 100


def test_pictures_are_the_datasets_own_bytes_and_the_input_is_replayed(tiny, tmp_path):
    text = page.write(tiny, tmp_path / "page.html", samples=6).read_text()
    assert not (tmp_path / "page-images").exists()
    store = json.loads(re.search(r'id="pictures">(.*?)</script>', text, re.DOTALL)[1])
    worst = explorer.chosen(dataset_sections.scalars(tiny), 6)[0]["id"]
    row = next(row for row in tables.read_rows(tiny, "samples") if row["id"] == worst)
    low, *others, _ = keys(text)[0]
    assert [store[key] for key in others] == [
        explorer.data_uri(cells.encoded(row, name)) for name in ("reference", "sr", "composite")
    ]
    replayed = degrade.apply(cells.pixels(row, "reference"), json.loads(row["degradation"]))
    assert store[low] == explorer.data_uri(codec.encode_rgb(replayed))


def test_many_pictures_lie_beside_the_page_once_and_old_ones_go(tiny, tmp_path, beside):
    folder = tmp_path / "page-images"
    folder.mkdir()
    (folder / f"{'0' * 32}.webp").write_bytes(b"of an earlier page")
    (folder / "notes.txt").write_text("somebody's own")
    text = page.write(tiny, tmp_path / "page.html", samples=12).read_text()
    named = {key for pictures in keys(text) for key in pictures}
    assert {file.name for file in folder.iterdir()} == named | {"notes.txt"}
    assert len(named) < 12 * 5, "samples of one crop share its reference"
    assert len(text) < 200_000


def test_outputs_made_elsewhere_have_no_input():
    for record in ('{"preset": "external"}', "no JSON", '{"preset": "light"}', "[]"):
        reference = codec.encode_rgb(np.zeros((16, 16, 3), np.uint8))
        assert explorer.replayed_input({"id": "a", "reference": reference, "degradation": record}) is None


def test_a_browser_filters_sorts_and_opens_samples_by_mouse_and_by_keyboard(tiny, tmp_path, beside, opened):
    tab = opened(page.write(tiny, tmp_path / "a page.html", samples=12), 390, 800)
    cards = tab.locator(".sample:not([hidden])")

    def values(name):
        return [float(value) for value in cards.evaluate_all(f"cards => cards.map(card => card.dataset.{name})")]

    assert values("score") == sorted(values("score"))
    tab.get_by_label("order").select_option("-severity")
    assert values("severity") == sorted(values("severity"), reverse=True)
    model = cards.first.get_attribute("data-model")
    tab.get_by_label("SR model").select_option(model)
    assert set(cards.evaluate_all("cards => cards.map(card => card.dataset.model)")) == {model}
    tab.get_by_label("score to").fill("0")
    assert tab.locator("output").inner_text() == "0 of 12 samples"
    tab.get_by_role("button", name="reset").click()
    tab.get_by_text("12 samples", exact=True).wait_for()  # the form is reset first

    cards.first.focus()
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("Enter")
    detail = tab.locator("dialog.detail[open]")
    assert detail.locator("b").inner_text().startswith("2 of 12")
    widths = detail.locator("img").evaluate_all("images => Promise.all(images.map(i => i.decode().then(() => i.naturalWidth)))")
    assert widths == [32, 128, 128, 128, 128]
    tab.keyboard.press("ArrowRight")
    assert detail.locator("b").inner_text().startswith("3 of 12")
    detail.locator(".images button").first.click()
    assert tab.locator("dialog.zoom[open] p").inner_text().startswith("low-resolution input")
    tab.keyboard.press("ArrowRight")
    assert tab.locator("dialog.zoom[open] p").inner_text().startswith("reference")
    tab.keyboard.press("Escape")
    tab.keyboard.press("Escape")
    assert tab.locator("dialog[open]").count() == 0
    assert tab.evaluate("document.activeElement.className") == "sample"
