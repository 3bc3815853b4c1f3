"""The documentation as a site: in a browser, from the disk and from a server, on a phone and on large screens."""

import functools
import subprocess
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

pytest.importorskip("mkdocs", reason="the extra docs is not installed")
ROOT = Path(__file__).parents[2]
PAGES = ("index", "claims", "method", "python", "recipes", "reward", "verbs/evaluate", "verbs/models")  # wide tables, commands
CUT_OFF = """() => [...document.querySelectorAll('.md-content :is(table, pre, pre > code, .md-typeset__scrollwrap, .flow ol)')]
    .filter(one => one.clientWidth)
    .filter(one => one.getBoundingClientRect().right > innerWidth + 1 || one.scrollWidth > one.clientWidth + 1)
    .map(one => one.textContent.trim().slice(0, 60))"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def searched(tab):
    """The titles of the pages that a search finds."""
    tab.wait_for_load_state("load")
    tab.keyboard.press("/")
    tab.locator(".md-search__input").press_sequentially("learning rate")
    tab.locator(".md-search-result__item h1").first.wait_for(state="attached")
    return tab.locator(".md-search-result__item h1").all_inner_texts()


def test_search_works_from_the_disk(site, opened):
    assert "Recipes" in searched(opened(site / "verbs" / "score.html"))


def test_search_works_from_a_server(site, chromium):
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        tab = chromium.new_page()
        tab.goto(f"http://127.0.0.1:{server.server_port}/index.html")
        assert "Recipes" in searched(tab)
        tab.close()
        server.shutdown()


@pytest.mark.parametrize("width", [390, 1366, 2560])
def test_nothing_is_cut_off(site, opened, width):
    tab = opened(site / "index.html", width)
    for page in PAGES:
        tab.goto((site / f"{page}.html").as_uri(), wait_until="domcontentloaded")
        assert tab.evaluate(CUT_OFF) == [], page
        assert tab.evaluate("document.documentElement.scrollWidth") <= width, page


def test_a_phone_shows_each_cell_under_its_heading(site, opened):
    tab = opened(site / "verbs" / "report.html", 390)
    cell = tab.locator("td").filter(has_text="Samples of a dataset to filter")
    assert cell.get_attribute("data-label") == "meaning"
    assert cell.evaluate("cell => getComputedStyle(cell, '::before').content") == '"meaning: "'
