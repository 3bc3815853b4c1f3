import shutil

import numpy as np
import pytest
from PIL import Image
from skimage import data

from fgr.dataset import screen
from fgr.errors import UserError
from fgr.generate import plan
from fgr.images import codec
from fgr.recipe.generate import Source, Splits

SPLITS = {"train": 0.6, "validation": 0.2, "test": 0.2}
SOURCE = {"license": "mine", "attribution": "me", "crop": 64, "crops_per_photo": 3, "max_pixels": 10**6}


def build(folder, path, workers=1, limit=None):
    return plan.build(folder, Source(path=str(path), **SOURCE), Splits(**SPLITS), workers, limit)


@pytest.fixture
def photos(tmp_path):
    """A folder with good photographs under awkward names, and one of every kind that cannot be used."""
    folder = tmp_path / "my photos"
    (folder / "täglich").mkdir(parents=True)
    for i, image in enumerate((data.astronaut(), data.coffee(), data.chelsea())):
        Image.fromarray(image).save(folder / "täglich" / f"photo nr {i} ü.PNG")
    Image.fromarray(data.coffee()).save(folder / "same.tiff")
    Image.fromarray(data.astronaut()).save(folder / "alike.jpg", quality=90)
    Image.fromarray(np.zeros((30, 30, 3), np.uint8)).save(folder / "small.png")
    Image.fromarray(np.full((128, 128, 3), 90, np.uint8)).save(folder / "flat.png")
    Image.fromarray(np.zeros((1100, 1000, 3), np.uint8)).save(folder / "large.png")
    Image.fromarray(data.coffee()).save(folder / "gif.webp", save_all=True, append_images=[Image.fromarray(data.coffee()[::-1])])
    (folder / "empty.jpg").touch()
    (folder / "text.png").write_text("hello")
    (folder / "cut.png").write_bytes((folder / "same.tiff").read_bytes()[:5000])
    (folder / "notes.txt").write_text("ignored")
    return folder


def test_good_photographs_are_taken_and_the_others_counted(photos, tmp_path, capsys):
    made = build(tmp_path / "plan", photos)
    assert made.drops == {
        "animated": 1, "blurred_crop": 2, "duplicate": 1, "empty": 1, "flat_crop": 24, "near_duplicate": 1, "other_suffix": 1,
        "too_large": 1, "too_small": 1, "truncated": 1, "unreadable": 1,
    }  # fmt: skip
    assert made.source["seen"] == 13
    assert made.source["used"] == 3
    assert made.source["left_out"].pop("no_usable_crop") == 1
    assert sum(made.source["left_out"].values()) == 9
    names = {reference.photo for reference in made.references.values()}
    assert names - {"alike", "täglich/photo nr 0 ü"} == {"same", "täglich/photo nr 2 ü"}
    assert len(names) == 3
    said = capsys.readouterr().err
    for name in ("empty.jpg", "text.png", "cut.png", "gif.webp", "large.png"):
        assert f"/{name} is left out" in said
    assert "1 without an image's suffix" in said
    assert sum(made.photographs.values()) == 3


def test_references_are_the_photographs_pixels(photos, tmp_path):
    made = build(tmp_path / "plan", photos)
    by_digest, _ = screen.splits_of(sorted({reference.photo_id for reference in made.references.values()}), SPLITS)
    for reference in made.references.values():
        pixels = codec.decode_rgb(made.read(reference))
        assert screen.pixel_digest(pixels) == reference.source_id
        assert reference.split == by_digest[reference.photo_id]
        assert (reference.license, reference.attribution) == ("mine", "me")
        if reference.photo == "täglich/photo nr 2 ü":
            photo = data.chelsea()
            assert np.array_equal(pixels, photo[reference.top : reference.top + 64, reference.left : reference.left + 64])
            assert (reference.photo_height, reference.photo_width) == photo.shape[:2]


def test_splits_are_disjoint_by_photograph_and_stable_when_photographs_are_added(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(12):
        Image.fromarray(rng.integers(0, 256, (128, 128, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    before = build(tmp_path / "a", folder)
    Image.fromarray(rng.integers(0, 256, (128, 128, 3), dtype=np.uint8)).save(folder / "0a.png")
    after = build(tmp_path / "b", folder)
    assert len(after.references) > len(before.references)
    assert all(after.references[one].split == reference.split for one, reference in before.references.items())
    splits = {}
    for reference in after.references.values():
        assert splits.setdefault(reference.photo_id, reference.split) == reference.split
    assert len(set(splits.values())) == 3


def test_workers_names_and_interruptions_do_not_change_the_plan(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "BLOCK", 3)
    whole = build(tmp_path / "whole", photos)
    two = build(tmp_path / "two", photos, workers=2)
    assert two.references == whole.references
    cut = tmp_path / "cut"
    shutil.copytree(tmp_path / "whole", cut)
    (cut / plan.INDEX).unlink()
    for part in ("part-00001.json", "part-00002.json", "part-00002.parquet"):
        (cut / part).unlink(missing_ok=True)
    kept = (cut / "part-00000.parquet").stat().st_mtime_ns
    assert build(cut, photos).references == whole.references
    assert (cut / "part-00000.parquet").stat().st_mtime_ns == kept
    assert (cut / plan.INDEX).read_bytes() == (tmp_path / "whole" / plan.INDEX).read_bytes()


def test_nothing_usable_is_a_sentence_with_counts(tmp_path):
    folder = tmp_path / "flat"
    folder.mkdir()
    Image.fromarray(np.full((128, 128, 3), 90, np.uint8)).save(folder / "a.png")
    with pytest.raises(UserError, match=r"No photograph of .* is usable; dropped: flat_crop 4"):
        build(tmp_path / "plan", folder)


@pytest.fixture
def noise(tmp_path):
    """A folder of twelve photographs of noise."""
    folder = tmp_path / "noise"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(12):
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(folder / f"{i:02d}.png")
    return folder


def test_a_limit_screens_no_more_and_spreads_over_the_folder(noise, tmp_path, monkeypatch):
    decoded = []
    real = plan.decode_photo
    monkeypatch.setattr(plan, "decode_photo", lambda data, most: decoded.append(1) or real(data, most))
    few = build(tmp_path / "few", noise, limit=5)
    assert len(decoded) == 5
    assert few.source == {"seen": 12, "used": 5, "left_out": {"not_needed": 7}}
    assert few.drops == {}
    names = sorted(reference.photo for reference in few.references.values())
    assert names != ["00", "01", "02", "03", "04"]
    again = build(tmp_path / "again", noise, limit=5)
    assert again.references == few.references
    more = build(tmp_path / "more", noise, limit=8)
    assert set(few.references) < set(more.references)


def test_every_split_gets_a_photograph_while_there_are_enough(noise, tmp_path, capsys):
    shares = {"train": 0.98, "validation": 0.01, "test": 0.01}
    made = plan.build(tmp_path / "plan", Source(path=str(noise), **SOURCE), Splits(**shares), 1)
    assert made.photographs["validation"] == made.photographs["test"] == 1
    assert "no photograph's digest falls into 'test': it is given the nearest one, " in capsys.readouterr().err
    two = plan.build(tmp_path / "two", Source(path=str(noise), **SOURCE), Splits(**shares), 1, limit=2)
    assert two.photographs == {"train": 1, "validation": 1, "test": 0}
    assert "cannot fill" not in capsys.readouterr().err  # that is said before the run
    (noise / f"{next(iter(two.references.values())).photo}.png").write_bytes(b"")
    plan.build(tmp_path / "fewer", Source(path=str(noise), **SOURCE), Splits(**shares), 1, limit=3)
    assert "2 photographs cannot fill 3 splits, since none is in two: nothing in test." in capsys.readouterr().err


def test_photographs_that_fill_another_split_are_kept_account_of(noise, tmp_path):
    shares = {"train": 0.98, "validation": 0.01, "test": 0.01}
    made = plan.build(tmp_path / "plan", Source(path=str(noise), **SOURCE), Splits(**shares), 1)
    assert set(made.moved.values()) == {"validation", "test"}
    splits = {reference.photo_id: reference.split for reference in made.references.values()}
    assert all(splits[photo_id] == made.moved.get(photo_id, screen.split_of(photo_id, shares)) for photo_id in splits)
