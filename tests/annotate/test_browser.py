"""The labelling pages in a real browser: what a person paints, scores and chooses is what arrives in the dataset."""

import io
import shutil
from contextlib import contextmanager, suppress

import numpy as np
import pytest
from PIL import Image

from fgr import recipe
from fgr.annotate import run, tasks
from fgr.dataset import tables
from fgr.images import codec

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
DRAWN = """images => {  // all have been there for two seconds: at first the page draws some of them anew
    const stages = [...document.querySelectorAll('.konvajs-content')]
    const drawn = stages.length === images && stages.every(one => one.clientWidth > 50 && one.clientHeight > 50)
    window.drawnSince = drawn ? window.drawnSince || Date.now() : 0
    return drawn && Date.now() - window.drawnSince > 2000
}"""
OPACITY = """() => Math.max(...[...document.querySelectorAll('.konvajs-content canvas')]
    .filter(one => !['', '1'].includes(one.style.opacity)).map(one => Number(getComputedStyle(one).opacity)))"""
SCREENS = ({"width": 1366, "height": 768}, {"width": 1600, "height": 1000})
COMMENT = "<script>alert(1)</script> halo & more"

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium")


@pytest.fixture(scope="module")
def context(server):
    """A browser context in which the owner of the server is logged in."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        made = browser.new_context(viewport={"width": 1600, "height": 1000})
        made.set_default_timeout(90_000)  # a busy machine
        page = made.new_page()
        page.goto(f"{server.url}/user/login/")
        page.fill("input[name=email]", server.login.email)
        page.fill("input[name=password]", server.login.password)
        page.click("button[type=submit]")
        page.wait_for_url(lambda url: "/user/login" not in url)
        yield made
        browser.close()


@contextmanager
def opened(context, server, project, task, images):
    """The labelling page of a task, once all its images have their places; it must not ask other addresses than the server's."""
    page = context.new_page()
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{server.url}/projects/{project}/data?task={task}", wait_until="domcontentloaded")
    page.get_by_test_id("bottombar-submit-button").wait_for(state="visible")
    page.wait_for_function(DRAWN, arg=images)
    yield page
    page.close()
    assert [url for url in asked if not url.startswith((server.url, "data:", "blob:"))] == []


def shown(stage):
    """What a stage shows on the screen as float32 (H, W, 3)."""
    return np.asarray(Image.open(io.BytesIO(stage.screenshot())).convert("RGB"), np.float32)


def shows(page, stage, truth):
    """Whether a stage comes to show an image: the picture comes after its frame."""
    for _ in range(60):
        small = resized(shown(stage).astype(np.uint8), *truth.shape[:2]).astype(float)
        if np.median(np.abs(small - truth)) < 4:
            return True
        page.wait_for_timeout(500)
    return False


def resized(values, height, width):
    return np.asarray(Image.fromarray(values).resize((width, height), Image.Resampling.BOX))


def stroke(page, points):
    """One stroke through the points; the region is selected, and its stars are asked for."""
    from playwright.sync_api import TimeoutError

    page.mouse.move(*points[0])
    page.mouse.down()
    for x, y in points[1:]:
        page.mouse.move(x, y, steps=8)
    page.mouse.up()
    page.locator(".lsf-outliner-item__title").first.wait_for(state="visible")
    for _ in range(10):  # a new region is selected by itself, at once or after a while; where it is not, a click does
        try:
            page.locator("ul.ant-rate").first.wait_for(state="visible", timeout=5_000)
            return
        except TimeoutError:
            page.locator(".lsf-outliner-item__title").first.click()


def rate(page, stars):
    """Give the selected region that many stars."""
    page.locator("ul.ant-rate li").nth(stars - 1).locator(".ant-rate-star-second").click(position={"x": 20, "y": 12})
    page.keyboard.press("Escape")  # unselect the region


def close_dialog(page):
    """Press OK until the dialog is gone: a press while it still grows out of the button can miss."""
    from playwright.sync_api import TimeoutError

    dialog = page.locator(".ant-modal-wrap:visible").first
    for _ in range(20):
        with suppress(TimeoutError):  # it went meanwhile
            page.get_by_role("button", name="OK").last.click(timeout=5_000)
        try:
            dialog.wait_for(state="hidden", timeout=5_000)
            return
        except TimeoutError:
            continue
    raise AssertionError("the dialog stays open, however often OK is pressed")


def expect_stars_to_be_asked_for(page):
    """They are in view, and a page without them is not accepted: it selects the region in question."""
    stars = page.locator("ul.ant-rate").first
    assert stars.bounding_box()["y"] < page.locator(".konvajs-content").first.bounding_box()["y"]
    page.keyboard.press("Escape")
    page.get_by_test_id("bottombar-submit-button").click()
    page.get_by_text("Give the selected region 1 to 5 stars").wait_for()
    close_dialog(page)
    stars.wait_for(state="visible")


def expect_in_view(page, *selectors):
    """On small and on middling screens each is seen whole, without scrolling, above the bar with the button."""
    for size in SCREENS:
        page.set_viewport_size(size)
        page.wait_for_function(DRAWN, arg=page.locator(".konvajs-content").count())
        bottom = page.get_by_test_id("bottombar-submit-button").bounding_box()["y"]
        for selector in selectors:
            box = page.locator(selector).first.bounding_box()
            assert 0 <= box["y"] <= bottom - box["height"], f"{selector} on {size}"


def submit(page):
    with page.expect_response(lambda one: "/annotations" in one.url and one.request.method == "POST") as answer:
        page.get_by_test_id("bottombar-submit-button").click()
    assert answer.value.status == 201


def first_task(studio, project):
    return next(studio.tasks(studio.project(project)["id"], "id,data"))[0]


def test_what_is_painted_in_the_page_arrives_where_it_was_painted(server, studio, context, dataset):
    chosen = recipe.load("demo", "annotate", ["select.samples=1", "gold.share=0", "prediction.source=none"], {"name": "browser"})
    run.push(chosen, dataset, server.url, server.login.token)
    task = first_task(studio, "browser")
    sample = next(row for row in tables.read_rows(dataset, "samples") if row["id"] == task["data"][tasks.KEY])
    with opened(context, server, studio.project("browser")["id"], task["id"], images=2) as page:
        stages = page.locator(".konvajs-content")
        for stage, column in zip(stages.all(), ("composite", "reference"), strict=True):
            assert shows(page, stage, codec.decode_rgb(sample[column])), f"the page shows the {column}"
        expect_in_view(page, "input[name=score]", ".lsf-label__text", ".konvajs-content")
        page.locator(".lsf-label__text", has_text="ringing").first.click()  # choosing a kind takes the brush
        box = stages.first.bounding_box()
        at = [(0.2, 0.35), (0.45, 0.5), (0.6, 0.4), (0.55, 0.75)]
        points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in at]
        aside = (box["x"] + box["width"] / 2, box["y"] + box["height"] + 300)
        page.mouse.move(*aside)
        before = shown(stages.first)
        stroke(page, points)
        page.locator("input[name=score]").fill("63")
        expect_stars_to_be_asked_for(page)
        rate(page, stars=4)
        page.mouse.move(*aside)
        assert page.evaluate(OPACITY) <= 0.35, "what lies under the paint is seen"
        after = shown(stages.first)
        page.locator("textarea").first.fill(COMMENT)
        submit(page)
    tally = run.pull(dataset, "browser", server.login.token)
    assert (tally.rows, tally.left_out, tally.unrated) == (1, {}, 0)
    (row,) = tables.read_rows(dataset, "annotations")
    arrived = codec.decode_mask(row["degradation_map"])
    painted = (np.abs(after - before).max(2) > 8).astype(np.uint8) * 255
    drawn = resized(painted, *arrived.shape) >= 128
    union, both = (arrived > 0) | drawn, (arrived > 0) & drawn
    assert both.sum() / union.sum() > 0.9
    height, width = arrived.shape
    assert all(arrived[int(y * height), int(x * width)] == round(255 * 4 / 5) for x, y in at), "four of five stars"
    assert row["score"] == 63
    assert [(one["kind"], one["severity"]) for one in row["defects"]] == [("ringing", 4)]
    assert row["defects"][0]["area"] == pytest.approx((arrived > 0).mean())
    assert row["comment"] == COMMENT
    assert row["lead_time_s"] > 0


def test_a_preference_chosen_in_the_page_arrives(server, studio, context, dataset):
    chosen = recipe.load("preference", "annotate", ["select.samples=1"], {"name": "browser pairs"})
    run.push(chosen, dataset, server.url, server.login.token)
    task = first_task(studio, "browser pairs")
    with opened(context, server, studio.project("browser pairs")["id"], task["id"], images=3) as page:
        expect_in_view(page, ".lsf-choices")
        page.locator(".lsf-choices label", has_text="right").first.click()
        submit(page)
    run.pull(dataset, "browser pairs", server.login.token)
    (row,) = tables.read_rows(dataset, "preferences")
    left, right = task["data"][tasks.KEY].split(tasks.PAIR)
    assert (row["left_id"], row["right_id"], row["choice"]) == (left, right, "right")
