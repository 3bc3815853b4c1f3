"""The page in a real browser, with a real reward model of random weights."""

import io
import shutil
import time

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("gradio", reason="the extra app is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ("--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--no-first-run", "--disable-background-networking")
browser_test = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    import skimage.data

    folder = tmp_path_factory.mktemp("photos")
    Image.fromarray(skimage.data.coffee()[100:164, 200:280]).save(folder / "coffee.png")
    Image.fromarray(skimage.data.chelsea()[100:164, 100:180]).save(folder / "cat.png")
    cutout = np.dstack([skimage.data.chelsea()[100:164, 100:180], np.tile(np.linspace(0, 255, 80).astype(np.uint8), (64, 1))])
    Image.fromarray(cutout).save(folder / "cutout.png")
    Image.open(folder / "coffee.png").resize((40, 32)).resize((80, 64)).save(folder / "soft.png")
    (folder / "text.png").write_text("no image")
    return folder


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        opened = play.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield opened
        opened.close()


@pytest.fixture
def page(served, browser):
    """The page, loaded; nothing may be asked of any other place."""
    made = browser.new_page(viewport={"width": 1200, "height": 900})
    made.set_default_timeout(90_000)  # a busy machine
    asked = []
    made.on("request", lambda request: asked.append(request.url))
    made.goto(served)
    made.locator("input[type=file]").first.wait_for(state="attached")
    yield made
    made.close()
    assert [url for url in asked if not url.startswith((served, "data:", "blob:"))] == []


def said(page, name, part):
    page.wait_for_function(f"document.querySelector('#{name}')?.innerText.includes({part!r})")
    return page.locator(f"#{name}").inner_text()


def without_map(page, picture, expected):
    """Moves the slider to 0 and waits until the picture that is shown, as an array, is as `expected` says."""
    page.locator("input[type=range]").filter(visible=True).first.focus()
    for _ in range(20):
        page.keyboard.press("ArrowLeft")
    end = time.monotonic() + 90  # a busy machine
    while not expected(np.asarray(Image.open(io.BytesIO(page.request.get(picture.get_attribute("src")).body())))):
        assert time.monotonic() < end
        page.wait_for_timeout(200)


def tab(page, name):
    page.get_by_role("tab", name=name).click()
    return page.get_by_role("tabpanel").filter(visible=True)


@browser_test
def test_an_image_is_scored_and_the_slider_moves_by_keys(page, photos, reward):
    from fgr.app.scored_image import ScoredImage, described
    from fgr.image_files import read_image
    from fgr.reward.pretrained import load_reward_model
    from fgr.reward.score import score

    page.locator("input[type=file]").first.set_input_files(photos / "coffee.png")
    image = read_image(photos / "coffee.png")
    expected = described(ScoredImage(image, *score(load_reward_model(reward), image))).replace("**", "")
    assert said(page, "score-text", "worst").split() == expected.split()
    without_map(page, page.locator("#score-image img"), lambda shown: np.array_equal(shown[:, :, :3], image))


def compare(page, left, right):
    files = tab(page, "Compare").locator("input[type=file]")
    files.nth(0).set_input_files(left)
    said(page, "compare-text", "the other picture")
    files.last.set_input_files(right)


@browser_test
def test_two_outputs_are_compared_under_one_zoom_with_the_verdict_beside(page, photos):
    page.set_viewport_size({"width": 1366, "height": 768})
    compare(page, photos / "coffee.png", photos / "soft.png")
    assert "Cleaner where it is worst" in said(page, "compare-text", "Better by score")
    stage = page.locator(".swipe-stage")
    stage.wait_for(state="visible")
    assert stage.locator("figcaption").all_inner_texts()[0].startswith("Left · ")
    verdict, shown = page.locator("#compare-text").bounding_box(), stage.bounding_box()
    assert verdict["x"] >= shown["x"] + shown["width"]
    assert abs(verdict["y"] - shown["y"]) < 100
    before = places(page)
    page.locator("[data-zoom=in]").click()
    left, right = places(page)
    assert left == right != before[0]


def places(page):
    return page.locator(".swipe-layers").evaluate_all("all => all.map(one => one.style.transform + one.style.width)")


@browser_test
def test_unlike_pictures_are_not_compared(page, photos):
    compare(page, photos / "coffee.png", photos / "cat.png")
    said(page, "compare-text", "they do not show the same")
    assert page.locator(".swipe").filter(visible=True).count() == 0


@browser_test
def test_examples_are_a_click_away(page):
    page.get_by_role("tabpanel").filter(visible=True).locator("button.gallery-item, .gallery-item").first.click()
    assert "256×256 pixels" in said(page, "score-text", "worst")


@browser_test
def test_an_image_is_upscaled_by_keyboard_alone_with_its_transparency(page, photos):
    panel = tab(page, "Upscale")
    panel.locator("input[type=file]").first.set_input_files(photos / "cutout.png")
    panel.locator("img").first.wait_for()
    panel.get_by_role("button", name="Upscale").focus()
    page.keyboard.press("Enter")
    assert "320×256 pixels" in said(page, "upscale-text", "bicubic")
    without_map(
        page,
        panel.locator("#upscale-image img"),
        lambda shown: shown.shape == (256, 320, 4) and (shown[0, 0, 3], shown[0, -1, 3]) == (0, 255),
    )


@browser_test
def test_what_is_no_image_is_a_sentence_on_the_page(page, photos):
    page.locator("input[type=file]").first.set_input_files(photos / "text.png")
    page.locator(".toast-wrap, [data-testid=toast-body]").first.wait_for()
    told = page.locator(".toast-wrap, [data-testid=toast-body]").first.inner_text()
    assert "text.png cannot be read: it is not an image" in told
    assert "/" not in told


@browser_test
@pytest.mark.parametrize("name", ["Score", "Compare", "Upscale"])
def test_it_is_centred_at_any_width_without_scrolling_aside(page, name):
    tab(page, name)
    for width in (360, 1366, 2560):
        page.set_viewport_size({"width": width, "height": 800})
        page.wait_for_timeout(200)
        needed, room, left, right = page.evaluate("""() => {
            const box = document.querySelector('.gradio-container').getBoundingClientRect(), page = document.documentElement
            return [page.scrollWidth, innerWidth, box.left, page.clientWidth - box.right]
        }""")
        assert needed <= room
        assert abs(left - right) < 2
