import os
import socket
import tempfile
from pathlib import Path

import numpy as np
import pytest
from fuzz_budget import examples
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from fgr.errors import UserError
from fgr.image_files import MAX_BYTES, ImageFileError, expand, images_below, images_in, list_images, read_image


def test_folders_stand_for_the_images_in_them(tmp_path):
    for name in ("b.PNG", "a.jpg", "deeper/c.webp", "text.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    assert [file.name for file in images_in(tmp_path)] == ["a.jpg", "b.PNG"]
    assert [file.name for file in images_below(tmp_path)] == ["a.jpg", "b.PNG", "c.webp"]
    assert expand([tmp_path / "text.txt", tmp_path]) == (
        [tmp_path / "text.txt", *images_in(tmp_path)],
        {"other_suffix": 1},
    )


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


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def test_everything_that_is_left_out_is_counted_by_reason(tmp_path):
    folder = tmp_path / "photos"
    touch(folder, "a.png", "sub/b.JFIF", "sub/deep/c.avif", "d.bmp", "e.jp2", "notes.txt", "sub/Thumbs.db")
    touch(
        folder, ".hidden.png", "._a.png", ".Trash-1000/files/x.png", "@eaDir/a.png/S.jpg", "__MACOSX/._b.png", ".thumbnails/a.png"
    )
    touch(tmp_path, "elsewhere/linked.webp", "elsewhere/again/f.tif")
    (folder / "album").symlink_to(tmp_path / "elsewhere")
    (folder / "sub" / "up").symlink_to(folder)
    (tmp_path / "elsewhere" / "again" / "loop").symlink_to(tmp_path / "elsewhere")
    (folder / "broken.png").symlink_to(tmp_path / "nowhere.png")
    (folder / "file.png").symlink_to(folder / "a.png")
    os.mkfifo(folder / "pipe.png")
    (folder / "device.png").symlink_to("/dev/zero")
    found = list_images(folder)
    assert [file.relative_to(folder).as_posix() for file in found.files] == [
        "a.png", "album/again/f.tif", "album/linked.webp", "d.bmp", "e.jp2", "file.png", "sub/b.JFIF", "sub/deep/c.avif",
    ]  # fmt: skip
    assert found.left_out == {"hidden": 6, "other_suffix": 2, "broken_link": 1, "no_regular_file": 2, "seen_before": 2}
    assert found.sentence() == (
        "1 links that lead nowhere; 6 hidden, or in a hidden or system folder; 2 no regular file (a pipe, device or socket); "
        "2 without an image's suffix; 2 links to a folder that was read already"
    )
    assert set(found.examples) == set(found.left_out)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_without_permission_is_counted(tmp_path):
    touch(tmp_path, "a.png", "closed/b.png")
    (tmp_path / "closed").chmod(0)
    found = list_images(tmp_path)
    (tmp_path / "closed").chmod(0o700)
    assert [file.name for file in found.files] == ["a.png"]
    assert found.left_out == {"no_permission": 1}


def test_pipes_devices_sockets_and_folders_are_never_opened(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "device.png").symlink_to("/dev/zero")
    (tmp_path / "folder.png").mkdir()
    address = tmp_path / "socket.png"
    monkeypatch.chdir(tmp_path)  # a socket's address has a limit
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address.name)
        monkeypatch.setattr(os, "open", lambda *_: pytest.fail("it was opened"))
        for name in ("pipe.png", "device.png", "folder.png", "socket.png"):
            with pytest.raises(ImageFileError, match="not a regular file") as caught:
                read_image(tmp_path / name)
            assert caught.value.reason == "no_regular_file"


def test_a_file_above_the_limit_is_not_read(tmp_path):
    with open(tmp_path / "a.png", "wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(ImageFileError, match="more than"):
        read_image(tmp_path / "a.png")
    with pytest.raises(ImageFileError, match=r"gone\.png cannot be read: No such file"):
        read_image(tmp_path / "gone.png")


@pytest.mark.fuzz
@settings(max_examples=examples(15), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    tree=st.lists(
        st.tuples(st.integers(0, 5), st.sampled_from(["a.png", "b.txt", ".c", "d", "e.jpg", "@eaDir"]), st.integers(0, 4)),
        max_size=12,
    )
)
@example(tree=[(0, "a.png", 2), (0, ".c", 2), (1, "a.png", 4), (2, "a.png", 0), (2, "b.txt", 0)])
def test_every_file_is_listed_or_counted_once(tree, tmp_path):
    """Random trees of files, folders and links, in circles too: nothing is read twice, nothing is lost."""
    folder = Path(tempfile.mkdtemp(dir=tmp_path))
    places = [folder]
    for parent, name, kind in tree:
        path = places[parent % len(places)] / name
        if os.path.lexists(path):
            continue
        if kind < 2:
            path.write_bytes(b"")
        elif kind < 4:
            path.mkdir()
            places.append(path)
        else:
            path.symlink_to(places[(parent + 1) % len(places)])
    found = list_images(folder)
    files = {
        path for place, _, names in os.walk(folder) for path in (Path(place) / name for name in names) if not path.is_symlink()
    }
    real = [file.resolve() for file in found.files]
    assert len(real) == len(set(real))
    links = found.left_out["seen_before"] + found.left_out["broken_link"]
    hidden = [path for path in folder.rglob("*") if path.is_symlink() and path.parent.resolve() == path.parent]
    assert len(files) <= len(real) + found.left_out.total() <= len(files) + links + len(hidden)
