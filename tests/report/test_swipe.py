"""The swipe component in a real browser, by mouse, keyboard and on a narrow screen."""

import cv2
import numpy as np
import pytest

from fgr.report import swipe
from fgr.report.section import Section, render

STAGE, DIVIDER = ".swipe-stage", ".swipe-divider"


@pytest.fixture(scope="module")
def scenes():
    import skimage.data

    clean = skimage.data.astronaut()[:120, 100:260]
    blurred, map_ = cv2.GaussianBlur(clean, (0, 0), 2), np.zeros(clean.shape[:2], np.float32)
    map_[20:60, 20:60] = 0.9
    shown = swipe.Picture("blurred", swipe.picture_uri(blurred), swipe.map_uri(map_), "score 0.2")
    first = [swipe.Picture("reference", swipe.picture_uri(clean)), shown]
    return [swipe.Scene("</script> & one", first), swipe.Scene("two", [*first, swipe.Picture("third", first[0].image)])]


@pytest.fixture(scope="module")
def page(scenes, tmp_path_factory):
    path = tmp_path_factory.mktemp("swipe") / "page.html"
    html = f"<style>{swipe.style()}</style>{swipe.markup(scenes)}<script>{swipe.script()}</script>"
    path.write_text(render("page.html", title="Swipe", sections=[Section("Swipe", html)]), encoding="utf-8")
    return path


def seen(tab, side):
    """Name, place and whether the map is shown, of one side."""
    return tab.evaluate(
        """side => { const pane = document.querySelector(`[data-side=${side}]`), over = pane.querySelectorAll('img')[1]
        return {caption: pane.innerText.trim(), map: !over.hidden, clip: pane.style.clipPath,
                place: pane.firstElementChild.style.transform + pane.firstElementChild.style.width} }""",
        side,
    )


def test_equal_pictures_are_held_once_and_names_stay_text(scenes):
    html = swipe.markup(scenes)
    assert html.count("data:image/jpeg") == 2
    assert html.count("</script>") == 1
    with pytest.raises(ValueError, match="every scene needs a picture"):
        swipe.markup([swipe.Scene("empty")])


def test_large_pictures_are_reduced_and_maps_are_clear_where_clean():
    import base64

    def decoded(uri):
        data = np.frombuffer(base64.b64decode(uri.partition(",")[2]), np.uint8)
        return cv2.imdecode(data, cv2.IMREAD_UNCHANGED)

    assert decoded(swipe.picture_uri(np.zeros((600, 2048, 3), np.uint8))).shape == (300, 1024, 3)
    map_ = np.zeros((40, 60))
    map_[:, 30:] = 1
    found = decoded(swipe.map_uri(map_))
    assert found.shape == (40, 60, 4)
    assert found[20, 5, 3] == 0
    assert found[20, 55, 3] > 200


def test_two_pictures_move_under_one_zoom(page, opened):
    tab = opened(page)
    tab.wait_for_function("document.querySelector('.swipe-layers img').naturalWidth === 160")
    assert seen(tab, "left")["caption"] == "reference"
    assert seen(tab, "right")["caption"] == "blurred · score 0.2"
    box = tab.locator(STAGE).bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    tab.mouse.move(*middle)
    tab.mouse.down()
    tab.mouse.move(box["x"] + box["width"] / 4, middle[1])
    tab.mouse.up()
    assert tab.locator(DIVIDER).get_attribute("aria-valuenow") == "25"
    assert seen(tab, "right")["clip"] == "inset(0px 0px 0px 25%)"
    start = seen(tab, "left")["place"]
    tab.mouse.wheel(0, -400)
    tab.locator(".swipe-stage.zoomed").wait_for()
    zoomed = seen(tab, "left")["place"]
    assert zoomed == seen(tab, "right")["place"] != start
    tab.mouse.move(*middle)
    tab.mouse.down()
    tab.mouse.move(middle[0] + 40, middle[1] + 30)
    tab.mouse.up()
    assert seen(tab, "left")["place"] == seen(tab, "right")["place"] != zoomed
    assert tab.locator(DIVIDER).get_attribute("aria-valuenow") == "25"
    tab.get_by_label("Side by side").check()
    left, right = (tab.locator(f"[data-side={side}]").bounding_box() for side in ("left", "right"))
    assert left["x"] + left["width"] <= right["x"]
    assert seen(tab, "left")["place"] == seen(tab, "right")["place"]


def test_everything_is_reached_by_the_keyboard(page, opened):
    tab = opened(page, color_scheme="dark")
    tab.locator(DIVIDER).focus()
    for key in ("ArrowRight", "ArrowRight", "m", "+"):
        tab.keyboard.press(key)
    assert tab.locator(DIVIDER).get_attribute("aria-valuenow") == "54"
    assert seen(tab, "right")["map"]
    assert not seen(tab, "left")["map"]  # a reference has none
    assert tab.locator(".swipe-stage.zoomed").count() == 1
    tab.keyboard.press("x")
    assert seen(tab, "left")["caption"].startswith("blurred")
    tab.keyboard.press("PageDown")
    assert tab.locator("[data-part=scene]").input_value() == "1"
    assert seen(tab, "left")["caption"].startswith("blurred")  # what was chosen stays chosen
    tab.evaluate("document.querySelector('.swipe').show(1, 'third', 'reference')")
    assert [seen(tab, side)["caption"] for side in ("left", "right")] == ["third", "reference"]
    tab.keyboard.press("Home")
    assert seen(tab, "right")["clip"] == "inset(0px 0px 0px 0%)"


def test_a_narrow_screen_has_room(page, opened):
    tab = opened(page, 390, 800)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    tab.get_by_label("Side by side").check()
    left, right = (tab.locator(f"[data-side={side}]").bounding_box() for side in ("left", "right"))
    assert left["y"] + left["height"] <= right["y"]
