import re

import numpy as np
import pytest
from PIL import Image

from fgr.errors import UserError
from fgr.evaluate.testset import find_pairs, open_test_set
from fgr.image_files import read_image

HIGH, LOW = np.zeros((32, 48, 3), np.uint8), np.zeros((8, 12, 3), np.uint8)


def names(found):
    return [(pair.name, pair.reference and pair.reference.name, pair.low and pair.low.name) for pair in found]


def test_realsr_as_it_comes(tmp_path, write_image):
    for camera in ("Canon", "Nikon"):
        for scale, low in ((4, LOW), (2, np.zeros((16, 24, 3), np.uint8))):
            write_image(tmp_path / camera / "Test" / str(scale) / f"{camera}_001_HR.png", HIGH)
            write_image(tmp_path / camera / "Test" / str(scale) / f"{camera}_001_LR{scale}.png", low)
            write_image(tmp_path / camera / "Train" / str(scale) / f"{camera}_009_HR.png", HIGH)
    found, layout = find_pairs(tmp_path, "auto", None)
    assert layout == "realsr"
    assert names(found) == [
        ("Canon_001", "Canon_001_HR.png", "Canon_001_LR4.png"),
        ("Nikon_001", "Nikon_001_HR.png", "Nikon_001_LR4.png"),
    ]
    assert names(find_pairs(tmp_path, "realsr", 2)[0])[0][2] == "Canon_001_LR2.png"
    assert open_test_set(str(tmp_path), scale=2).scale == 2
    assert open_test_set(str(tmp_path)).scale == 4


def test_drealsr_as_it_comes(tmp_path, write_image):
    write_image(tmp_path / "Test_x4" / "test_HR" / "DSC_1286_x1.png", HIGH)
    write_image(tmp_path / "Test_x4" / "test_LR" / "DSC_1286_x4.png", LOW)
    write_image(tmp_path / "Test_x2" / "test_HR" / "other_x1.png", HIGH)
    found, layout = find_pairs(tmp_path, "auto", None)
    assert layout == "drealsr"
    assert names(found) == [("DSC_1286", "DSC_1286_x1.png", "DSC_1286_x4.png")]
    assert "DSC_1286_x4" in found[0].aliases


@pytest.mark.parametrize(
    ("high", "low"),
    [("test_HR/Canon_004_HR.png", "test_LR/Canon_004_LR4.png"), ("gt/7.png", "lr/7.png"), ("HR/7.png", "LQ/7x4.png")],
)
def test_crops_and_plain_pairs(tmp_path, write_image, high, low):
    write_image(tmp_path / high, HIGH)
    write_image(tmp_path / low, LOW)
    (pair,), layout = find_pairs(tmp_path, "auto", None)
    assert layout == "pairs"
    assert (pair.reference, pair.low) == (tmp_path / high, tmp_path / low)
    found = open_test_set(str(tmp_path))
    assert found.scale == 4
    assert found.items[0].low().shape == (8, 12, 3)
    assert found.protocol["layout"] == "pairs"


@pytest.mark.parametrize("place", [".", "lq"])
def test_inputs_without_references(tmp_path, write_image, place):
    for name in ("b", "a"):
        write_image(tmp_path / place / f"{name}.png", LOW)
    found = open_test_set(str(tmp_path))
    assert found.protocol["layout"] == "reallq250"
    assert [item.name for item in found.items] == ["a", "b"]
    assert found.items[0].reference is None
    assert found.scale == 4
    assert open_test_set(str(tmp_path), scale=2).scale == 2


def test_references_alone(tmp_path, write_image):
    write_image(tmp_path / "a.png", HIGH)
    (item,) = open_test_set(str(tmp_path), layout="references").items
    assert item.low is None
    assert item.reference().shape == (32, 48, 3)


def test_a_limit_is_spread(pairs):
    first, second = (item.name for item in open_test_set(str(pairs), limit=2).items)
    assert first in ("img0", "img1")
    assert second in ("img2", "img3")


def test_what_does_not_fit_is_a_sentence(tmp_path, write_image):
    with pytest.raises(UserError, match=r"The dataset .* does not exist"):
        open_test_set(str(tmp_path / "absent"))
    with pytest.raises(UserError, match="not arranged in any known layout"):
        open_test_set(str(tmp_path))
    with pytest.raises(UserError, match="did you mean 'realsr'"):
        open_test_set(str(tmp_path), layout="realsrr")
    write_image(tmp_path / "gt" / "a.png", HIGH)
    write_image(tmp_path / "lr" / "b.png", LOW)
    with pytest.raises(UserError, match="2 images have no partner, for example 'a'"):
        open_test_set(str(tmp_path))
    write_image(tmp_path / "lr" / "a.png", np.zeros((9, 12, 3), np.uint8))
    (tmp_path / "lr" / "b.png").unlink()
    with pytest.raises(UserError, match="not a whole multiple"):
        open_test_set(str(tmp_path))


def test_two_images_of_one_name_are_refused(tmp_path, write_image):
    write_image(tmp_path / "a.png", LOW)
    write_image(tmp_path / "a.jpg", LOW)
    with pytest.raises(UserError, match=re.escape("two images named 'a'")):
        open_test_set(str(tmp_path))


def test_a_file_that_is_no_image_is_a_sentence(tmp_path):
    (tmp_path / "a.png").write_text("no image")
    with pytest.raises(UserError, match="cannot be read"):
        read_image(tmp_path / "a.png")


def test_equal_names_go_before_names_without_a_mark(tmp_path, write_image):
    names = ["24hr", "as", "ashr", "photo-x2", "photo-x3", "tile_3x1", "tile_3x2", "tile_3x3"]
    for name in names:
        write_image(tmp_path / "gt" / f"{name}.png", HIGH)
        write_image(tmp_path / "lr" / f"{name}.png", LOW)
    write_image(tmp_path / "gt" / "other_HR.png", HIGH)
    write_image(tmp_path / "lr" / "other_LR4.png", LOW)
    found, _ = find_pairs(tmp_path, "auto", None)
    assert [pair.name for pair in found] == sorted([*names, "other"])
    assert all(pair.reference.stem == pair.low.stem for pair in found if pair.name != "other")
    assert len(open_test_set(str(tmp_path)).items) == 9


def test_a_mark_needs_a_separator(tmp_path, write_image):
    write_image(tmp_path / "gt" / "ashr.png", HIGH)
    write_image(tmp_path / "lr" / "as.png", LOW)
    with pytest.raises(UserError, match="2 images have no partner"):
        find_pairs(tmp_path, "auto", None)


def test_names_that_collide_are_an_error_that_names_the_files(tmp_path, write_image):
    for name in ("a_HR.png", "a-GT.png"):
        write_image(tmp_path / "gt" / name, HIGH)
    write_image(tmp_path / "lr" / "a_LR4.png", LOW)
    with pytest.raises(UserError, match=r"gt/a-GT\.png and gt/a_HR\.png are both named 'a'"):
        find_pairs(tmp_path, "auto", None)


@pytest.mark.parametrize("high", ["HR", "DIV2K_valid_HR"])
def test_div2k_as_it_comes(tmp_path, write_image, high):
    low = tmp_path / high.replace("HR", "LR_bicubic")
    write_image(tmp_path / high / "0801.png", HIGH)
    write_image(low / "X4" / "0801x4.png", LOW)
    found, layout = find_pairs(tmp_path, "auto", None)
    assert layout == "pairs"
    assert names(found) == [("0801", "0801.png", "0801x4.png")]
    write_image(low / "X2" / "0801x2.png", np.zeros((16, 24, 3), np.uint8))
    with pytest.raises(UserError, match=r"holds X2, X4"):
        find_pairs(tmp_path, "auto", None)
    assert open_test_set(str(tmp_path), scale=2).scale == 2


def test_hidden_files_are_no_images_of_a_test_set(tmp_path, write_image):
    write_image(tmp_path / "gt" / "a.png", HIGH)
    write_image(tmp_path / "lr" / "a.png", LOW)
    for place in ("gt/._a.png", "lr/.b.png", "gt/Thumbs.db"):
        (tmp_path / place).write_bytes(b"no image")
    (item,) = open_test_set(str(tmp_path)).items
    assert item.name == "a"


def test_the_scale_is_of_the_first_pair_that_can_be_read(tmp_path, write_image):
    for name in ("a", "b"):
        write_image(tmp_path / "gt" / f"{name}.png", HIGH)
        write_image(tmp_path / "lr" / f"{name}.png", np.zeros((16, 24, 3), np.uint8))
    (tmp_path / "gt" / "a.png").write_bytes(b"no image")
    assert open_test_set(str(tmp_path)).scale == 2


def test_names_that_are_no_text_are_written_out(tmp_path, write_image):
    """Results hold names as JSON and in tables; the files are found all the same."""
    name = "a\udcff\nb"
    for place, image in (("gt", HIGH), ("lr", LOW)):
        Image.fromarray(image).save(write_image(tmp_path / place / "x.png", image).with_name("y.png"))
        (tmp_path / place / "x.png").rename(tmp_path / place / f"{name}.png")
    first, second = open_test_set(str(tmp_path)).items
    assert (first.name, second.name) == ("a\\udcff\\nb", "y")
    assert name in first.aliases
    assert first.low().shape == LOW.shape
