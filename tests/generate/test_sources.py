import json

import datasets
import pytest
from PIL import Image
from skimage import data

from fgr.errors import UserError
from fgr.generate.sources import encoded_photos
from fgr.images.photos import decode_photo
from fgr.licenses import terms_of

datasets.disable_progress_bars()


def test_embedded_photographs_need_no_network_and_state_their_licences():
    photos = {photo.name: photo for photo in encoded_photos("embedded", license="x", attribution="y")}
    assert list(photos) == ["astronaut", "camera", "chelsea", "china", "coffee", "flower", "rocket"]
    assert {photo.license for photo in photos.values()} == {"cc0-1.0", "public domain", "cc-by-2.0"}
    assert terms_of("cc-by-2.0").redistribute
    assert "danielbuechele" in photos["china"].attribution
    assert "vultilion" in photos["flower"].attribution
    assert all(decode_photo(photo.read(), 10**7).shape[2] == 3 for photo in photos.values())


def test_the_photographs_of_scikit_image_alone_are_what_they_were():
    names = [photo.name for photo in encoded_photos("skimage", license="x", attribution="y")]
    assert names == ["astronaut", "chelsea", "coffee", "hubble_deep_field", "rocket"]


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_a_folders_metadata_states_licences(tmp_path, suffix):
    for name in ("a.png", "b.png"):
        (tmp_path / name).touch()
    row = {"file_name": "a.png", "license": "cc-by-4.0", "attribution": "A. Body"}
    text = json.dumps(row) if suffix == "jsonl" else "\n".join([",".join(row), ",".join(row.values())])
    (tmp_path / f"metadata.{suffix}").write_text(text + "\n")
    found = {
        photo.name: (photo.license, photo.attribution) for photo in encoded_photos(str(tmp_path), license="l", attribution="")
    }
    assert found == {"a": ("cc-by-4.0", "A. Body"), "b": ("l", "")}
    (tmp_path / f"metadata.{suffix}").write_text("{" if suffix == "jsonl" else "no,names\n1,2\n")
    with pytest.raises(UserError, match="each row needs a file_name"):
        list(encoded_photos(str(tmp_path), license="l", attribution=""))


def test_a_dataset_on_the_disk_is_a_source(tiny, tmp_path):
    photos = list(encoded_photos(f"{tiny}:samples/test", license="x", attribution="y"))
    assert photos
    assert all(photo.license != "x" for photo in photos)
    assert list(encoded_photos(f"{tiny}:samples/train", license="x", attribution="y"))
    plain = tmp_path / "plain"
    plain.mkdir()
    rows = {"picture": [Image.fromarray(data.coffee())], "text": ["a"]}
    datasets.Dataset.from_dict(rows).cast_column("picture", datasets.Image()).to_parquet(plain / "train.parquet")
    assert [photo.license for photo in encoded_photos(str(plain), license="x", attribution="y")] == ["x"]
    datasets.Dataset.from_dict({"text": ["a"]}).to_parquet(plain / "train.parquet")
    with pytest.raises(UserError, match="has no image column, only text"):
        list(encoded_photos(str(plain), license="x", attribution="y"))


def test_sources_that_are_not_there_are_sentences(tmp_path):
    for path in ("nowhere", "/nowhere", "./nowhere", "a/b/c"):
        with pytest.raises(UserError, match="no folder of photographs"):
            encoded_photos(path, license="", attribution="")
    with pytest.raises(UserError, match="holds no photographs"):
        list(encoded_photos(str(tmp_path), license="", attribution=""))
