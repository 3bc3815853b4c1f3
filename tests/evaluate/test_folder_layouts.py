import numpy as np
import pytest

from fgr.errors import UserError
from fgr.evaluate.folder_layouts import find_pairs
from fgr.evaluate.testset import open_test_set

HIGH, LOW = np.zeros((32, 48, 3), np.uint8), np.zeros((8, 12, 3), np.uint8)


def names(found):
    return [(pair.name, pair.reference and pair.reference.name, pair.low and pair.low.name) for pair in found]


def test_realsr_as_it_comes(tmp_path, write_image):
    for camera in ("Canon", "Nikon"):
        for scale, low in ((4, LOW), (2, np.zeros((16, 24, 3), np.uint8))):
            write_image(tmp_path / camera / "Test" / str(scale) / f"{camera}_001_HR.png", HIGH)
            write_image(tmp_path / camera / "Test" / str(scale) / f"{camera}_001_LR{scale}.png", low)
            write_image(tmp_path / camera / "Train" / str(scale) / f"{camera}_009_HR.png", HIGH)
    found = find_pairs(tmp_path, "auto", None)
    assert found.layout == "realsr"
    assert names(found.pairs) == [
        ("Canon_001", "Canon_001_HR.png", "Canon_001_LR4.png"),
        ("Nikon_001", "Nikon_001_HR.png", "Nikon_001_LR4.png"),
    ]
    assert names(find_pairs(tmp_path, "realsr", 2).pairs)[0][2] == "Canon_001_LR2.png"
    assert open_test_set(str(tmp_path), scale=2).scale == 2
    assert open_test_set(str(tmp_path)).scale == 4


def test_drealsr_as_it_comes(tmp_path, write_image):
    write_image(tmp_path / "Test_x4" / "test_HR" / "DSC_1286_x1.png", HIGH)
    write_image(tmp_path / "Test_x4" / "test_LR" / "DSC_1286_x4.png", LOW)
    write_image(tmp_path / "Test_x2" / "test_HR" / "other_x1.png", HIGH)
    found = find_pairs(tmp_path, "auto", None)
    assert found.layout == "drealsr"
    assert names(found.pairs) == [("DSC_1286", "DSC_1286_x1.png", "DSC_1286_x4.png")]
    assert "DSC_1286_x4" in found.pairs[0].aliases


@pytest.mark.parametrize(
    ("high", "low"),
    [("test_HR/Canon_004_HR.png", "test_LR/Canon_004_LR4.png"), ("gt/7.png", "lr/7.png"), ("HR/7.png", "LQ/7x4.png")],
)
def test_crops_and_plain_pairs(tmp_path, write_image, high, low):
    write_image(tmp_path / high, HIGH)
    write_image(tmp_path / low, LOW)
    found = find_pairs(tmp_path, "auto", None)
    (pair,) = found.pairs
    assert found.layout == "pairs"
    assert (pair.reference, pair.low) == (tmp_path / high, tmp_path / low)
    found = open_test_set(str(tmp_path))
    assert found.scale == 4
    assert found.items[0].low().shape == (8, 12, 3)
    assert found.protocol["layout"] == "pairs"


def test_equal_names_go_before_names_without_a_mark(tmp_path, write_image):
    names = ["24hr", "as", "ashr", "photo-x2", "photo-x3", "tile_3x1", "tile_3x2", "tile_3x3"]
    for name in names:
        write_image(tmp_path / "gt" / f"{name}.png", HIGH)
        write_image(tmp_path / "lr" / f"{name}.png", LOW)
    write_image(tmp_path / "gt" / "other_HR.png", HIGH)
    write_image(tmp_path / "lr" / "other_LR4.png", LOW)
    found = find_pairs(tmp_path, "auto", None).pairs
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
    found = find_pairs(tmp_path, "auto", None)
    assert found.layout == "pairs"
    assert names(found.pairs) == [("0801", "0801.png", "0801x4.png")]
    write_image(low / "X2" / "0801x2.png", np.zeros((16, 24, 3), np.uint8))
    with pytest.raises(UserError, match=r"holds X2, X4"):
        find_pairs(tmp_path, "auto", None)
    assert open_test_set(str(tmp_path), scale=2).scale == 2
