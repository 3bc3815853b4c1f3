import numpy as np
import pytest
from PIL import Image

from fgr.errors import UserError
from fgr.image_files import expand, images_below, images_in, read_image


def test_folders_stand_for_the_images_in_them(tmp_path):
    for name in ("b.PNG", "a.jpg", "deeper/c.webp", "text.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    assert [file.name for file in images_in(tmp_path)] == ["a.jpg", "b.PNG"]
    assert [file.name for file in images_below(tmp_path)] == ["a.jpg", "b.PNG", "c.webp"]
    assert expand([tmp_path / "text.txt", tmp_path]) == [tmp_path / "text.txt", *images_in(tmp_path)]


def test_sixteen_bits_of_grey_become_eight_of_rgb(tmp_path):
    Image.fromarray(np.array([[0, 65535]], np.uint16)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").tolist() == [[[0, 0, 0], [255, 255, 255]]]


def test_what_is_no_image_is_a_sentence(tmp_path):
    with pytest.raises(UserError, match=r"The image .* does not exist"):
        expand([tmp_path / "nothing.png"])
    with pytest.raises(UserError, match="holds no images"):
        expand([tmp_path])
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(UserError, match="it is not an image that can be read"):
        read_image(tmp_path / "text.png")
