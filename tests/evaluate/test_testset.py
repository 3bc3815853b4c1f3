import re

import numpy as np
import pytest
from PIL import Image

from fgr.errors import UserError
from fgr.evaluate.testset import open_test_set
from fgr.image_files import read_image

HIGH, LOW = np.zeros((32, 48, 3), np.uint8), np.zeros((8, 12, 3), np.uint8)


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


def test_files_that_are_no_images_are_left_out_and_counted(tmp_path, write_image, capsys):
    write_image(tmp_path / "gt" / "a.png", HIGH)
    write_image(tmp_path / "lr" / "a.png", LOW)
    for place in ("gt/._a.png", "lr/.b.png", "gt/Thumbs.db"):
        (tmp_path / place).write_bytes(b"no image")
    found = open_test_set(str(tmp_path))
    assert [item.name for item in found.items] == ["a"]
    assert found.protocol["files_left_out"] == {"hidden": 2, "other_suffix": 1}
    said = capsys.readouterr().err.splitlines()
    gt, lr = tmp_path / "gt", tmp_path / "lr"
    assert said == [
        f"fgr: {gt}: left out 1 hidden, or in a hidden or system folder; 1 without an image's suffix; for example "
        f"{gt / '._a.png'}, {gt / 'Thumbs.db'}.",
        f"fgr: {lr}: left out 1 hidden, or in a hidden or system folder; for example {lr / '.b.png'}.",
    ]


def test_a_folder_of_other_files_says_what_it_holds(tmp_path):
    (tmp_path / "a.tga").touch()
    with pytest.raises(UserError, match=r"1 without an image's suffix; for example .*a\.tga"):
        open_test_set(str(tmp_path))


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
