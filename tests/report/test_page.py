"""The page of `fgr report`: one file that opens offline, in a real browser too."""

import shutil
import subprocess
import sys

import pytest

from fgr.errors import UserError
from fgr.report import page


def test_the_command_prints_the_page(tiny, tmp_path):
    out = tmp_path / "a page.html"
    done = subprocess.run(
        [sys.executable, "-m", "fgr", "report", str(tiny), "--out", str(out), "--samples", "2"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(out)
    assert out.stat().st_size > 10_000


def test_what_is_no_dataset_is_a_sentence(tmp_path):
    with pytest.raises(UserError, match="neither a dataset nor a training run"):
        page.write(tmp_path)
    with pytest.raises(UserError, match="There is no folder"):
        page.write(tmp_path / "x")
    (tmp_path / ".fgr").mkdir()
    with pytest.raises(UserError, match="is not finished"):
        page.write(tmp_path)


def test_a_run_that_keeps_mined_rounds_in_a_hidden_folder_is_a_run(trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    (run / ".fgr").mkdir()
    assert page.write(run).read_text() == page.write(trained, tmp_path / "same.html").read_text()


def test_a_browser_shows_the_page_offline_and_enlarges_pictures(trained, tmp_path, opened):
    tab = opened(page.write(trained, tmp_path / "report.html", rows=2), 390, 800)
    widths = tab.eval_on_selector_all("img[src]", "images => images.map(image => image.naturalWidth)")
    assert len(widths) > 4
    assert min(widths) > 0
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    tab.locator(".images button").first.click()
    assert tab.locator("dialog[open] p").inner_text().startswith("reference")
    tab.keyboard.press("ArrowRight")
    assert tab.locator("dialog[open] p").inner_text().startswith("composite")
    tab.keyboard.press("Escape")
    assert tab.locator("dialog[open]").count() == 0
