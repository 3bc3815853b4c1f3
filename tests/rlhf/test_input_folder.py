import numpy as np
import pytest
from PIL import Image

from fgr.errors import UserError
from fgr.rlhf import inputs


def test_a_folder_of_low_resolution_images_holds_every_fifth_out(tmp_path):
    for number in range(6):
        Image.fromarray(np.full((20, 24, 3), number, np.uint8)).save(tmp_path / f"{number}.png")
    train, audit = (inputs.open_inputs(str(tmp_path), split, 4) for split in ("train", "validation"))
    assert [int(train[index][0][0, 0, 0]) for index in range(len(train))] == [1, 2, 3, 4]
    assert [int(audit[index][0][0, 0, 0]) for index in range(len(audit))] == [0, 5]
    batch = next(inputs.batches(train, 4, 16, 2, True, 0, 0, 1))
    assert batch.reference is None
    assert batch.low.shape == (2, 3, 16, 16)


def test_a_folder_with_one_image_is_refused(tmp_path):
    Image.fromarray(np.zeros((20, 24, 3), np.uint8)).save(tmp_path / "one.png")
    with pytest.raises(UserError, match="at least two are needed"):
        inputs.open_inputs(str(tmp_path), "train", 4)


def test_images_that_cannot_be_used_are_left_out_and_named_before_the_run(tmp_path, capsys):
    for number in range(6):
        Image.fromarray(np.full((20, 24, 3), number, np.uint8)).save(tmp_path / f"{number}.png")
    (tmp_path / "1.png").write_bytes(b"no image")
    Image.fromarray(np.zeros((15, 24, 3), np.uint8)).save(tmp_path / "3.png")
    (tmp_path / "notes.txt").touch()
    train, audit = (inputs.open_inputs(str(tmp_path), split, 4, crop=16) for split in ("train", "validation"))
    assert [train.photograph(index) for index in range(len(train))] == ["2.png", "4.png"]
    assert [audit.photograph(index) for index in range(len(audit))] == ["0.png", "5.png"]
    said = capsys.readouterr().err
    assert said.count("notes.txt") == 1
    assert f"left out: {tmp_path / '1.png'} cannot be read: it is not an image" in said
    assert f"left out: {tmp_path / '3.png'} has 24×15 pixels, less than a crop of 16." in said
    with pytest.raises(UserError, match=r"None of 4 images of the folder .* can be used: .*1\.png cannot be read"):
        inputs.open_inputs(str(tmp_path), "train", 4, crop=32)
