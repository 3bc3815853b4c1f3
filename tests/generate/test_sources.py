import io
import json

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageCms
from skimage import data

from fgr.dataset import tables
from fgr.dataset.load import load_samples
from fgr.errors import UserError
from fgr.generate import plan
from fgr.generate.sources import open_source
from fgr.images import codec
from fgr.images.photos import decode_photo
from fgr.licenses import terms_of
from fgr.recipe.generate import Source, Splits

datasets.disable_progress_bars()


def photographs(path, license, attribution):
    return open_source(path, license=license, attribution=attribution).photos


def test_embedded_photographs_need_no_network_and_state_their_licences():
    photos = {photo.name: photo for photo in photographs("embedded", license="x", attribution="y")}
    assert list(photos) == ["astronaut", "camera", "chelsea", "china", "coffee", "flower", "rocket"]
    assert {photo.license for photo in photos.values()} == {"cc0-1.0", "public domain", "cc-by-2.0"}
    assert terms_of("cc-by-2.0").redistribute
    assert "danielbuechele" in photos["china"].attribution
    assert "vultilion" in photos["flower"].attribution
    assert all(decode_photo(photo.read(), 10**7).shape[2] == 3 for photo in photos.values())


def test_the_photographs_of_scikit_image_alone_are_what_they_were():
    names = [photo.name for photo in photographs("skimage", license="x", attribution="y")]
    assert names == ["astronaut", "chelsea", "coffee", "hubble_deep_field", "rocket"]


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_a_folders_metadata_states_licences(tmp_path, suffix):
    for name in ("a.png", "b.png"):
        (tmp_path / name).touch()
    row = {"file_name": "a.png", "license": "cc-by-4.0", "attribution": "A. Body"}
    text = json.dumps(row) if suffix == "jsonl" else "\n".join([",".join(row), ",".join(row.values())])
    (tmp_path / f"metadata.{suffix}").write_text(text + "\n")
    found = {photo.name: (photo.license, photo.attribution) for photo in photographs(str(tmp_path), license="l", attribution="")}
    assert found == {"a": ("cc-by-4.0", "A. Body"), "b": ("l", "")}
    (tmp_path / f"metadata.{suffix}").write_text("{" if suffix == "jsonl" else "no,names\n1,2\n")
    with pytest.raises(UserError, match="each row needs a file_name"):
        list(photographs(str(tmp_path), license="l", attribution=""))


def test_a_dataset_on_the_disk_is_a_source(tiny, tmp_path):
    photos = list(photographs(f"{tiny}:samples/test", license="x", attribution="y"))
    assert photos
    assert all(photo.license != "x" for photo in photos)
    assert list(photographs(f"{tiny}:samples/train", license="x", attribution="y"))
    plain = tmp_path / "plain"
    plain.mkdir()
    rows = {"picture": [Image.fromarray(data.coffee())], "text": ["a"]}
    datasets.Dataset.from_dict(rows).cast_column("picture", datasets.Image()).to_parquet(plain / "train.parquet")
    assert [photo.license for photo in photographs(str(plain), license="x", attribution="y")] == ["x"]
    datasets.Dataset.from_dict({"text": ["a"]}).to_parquet(plain / "train.parquet")
    with pytest.raises(UserError, match="has no image column, only text"):
        list(photographs(str(plain), license="x", attribution="y"))


def test_sources_that_are_not_there_are_sentences(tmp_path):
    for path in ("nowhere", "/nowhere", "./nowhere", "a/b/c"):
        with pytest.raises(UserError, match="there is no such folder"):
            photographs(path, license="", attribution="")
    with pytest.raises(UserError, match="holds no photographs"):
        list(photographs(str(tmp_path), license="", attribution=""))


def encodings(image):
    """JPEG, PNG and WebP bytes of an image with a profile and EXIF, lossless WebP among them."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "of a test"
    kinds = {"JPEG": {"quality": 83}, "PNG": {}, "WEBP": {"quality": 71}, "WEBP lossless": {"lossless": True, "exact": True}}
    made = {}
    for number, (kind, options) in enumerate(kinds.items()):
        buffer = io.BytesIO()
        image.crop((8 * number, 0, 200 + 8 * number, 200)).save(
            buffer, kind.split()[0], exif=exif, icc_profile=profile, **options
        )
        made[f"{kind.lower().replace(' ', '-')}.{kind.split()[0].lower()}"] = buffer.getvalue()
    return made


def parquet(folder, columns, features=None):
    folder.mkdir(parents=True, exist_ok=True)
    schema = datasets.Features(features).arrow_schema if features else None
    pq.write_table(pa.table(columns, schema=schema), folder / "train.parquet")
    return folder


@pytest.mark.parametrize("schema", [True, False])
def test_a_datasets_photographs_are_those_of_the_folder_byte_for_byte(tmp_path, schema):
    contents = encodings(Image.fromarray(data.astronaut()))
    (tmp_path / "folder").mkdir()
    for name, content in contents.items():
        (tmp_path / "folder" / name).write_bytes(content)
    cells = [{"bytes": content, "path": name} for name, content in contents.items()]
    other = [{"bytes": content, "path": None} for content in contents.values()]  # another picture, and columns, to be removed
    columns = {"thumbnail": other, "caption": ["text"] * len(cells), "image": cells}
    image = datasets.Image()
    features = {"thumbnail": image, "caption": datasets.Value("string"), "image": image} if schema else None
    parquet(tmp_path / "set", columns, features)
    assert [photo.read() for photo in photographs(str(tmp_path / "set"), "l", "a")] == list(contents.values())
    plans = [
        plan.build(
            tmp_path / f"plan-{kind}",
            Source(path=str(tmp_path / kind), crop=128, duplicate_bits=0),
            Splits(train=1, validation=0, test=0),
            1,
        )
        for kind in ("folder", "set")
    ]
    assert list(plans[0].references) == list(plans[1].references)
    assert len(plans[0].references) == len(contents)


@pytest.mark.parametrize("streaming", [True, False])
def test_load_samples_decodes_the_stored_bytes(tiny, tmp_path, streaming):
    """Reading only some columns of a stream must not encode the pictures anew."""
    rows = load_samples(tiny, "test", ["id", "composite", "reference"], streaming=streaming)
    stored = {row["id"]: row for row in tables.read_rows(tiny, "samples", ["id", "composite", "reference"], "test")}
    for row in rows:
        for name in ("composite", "reference"):
            assert np.array_equal(row[name], codec.decode_rgb(stored[row["id"]][name]))


def test_a_path_beside_bytes_is_not_looked_at(tmp_path, monkeypatch):
    content = encodings(Image.fromarray(data.astronaut()))["png.png"]
    (tmp_path / "here.png").write_bytes(b"a file of the user's that has the name by chance")
    monkeypatch.chdir(tmp_path)
    cells = [{"bytes": content, "path": "here.png"}, {"bytes": content, "path": str(tmp_path / "here.png")}]
    folder = parquet(tmp_path / "set", {"image": cells}, {"image": datasets.Image()})
    assert [photo.read() for photo in photographs(str(folder), "l", "a")] == [content, content]


def test_cells_without_an_image_are_counted_and_named(tmp_path, capsys):
    good = encodings(Image.fromarray(data.astronaut()))["jpeg.jpeg"]
    (tmp_path / "mine.jpeg").write_bytes(good)
    cells = [
        {"bytes": good, "path": "good.jpg"}, None, {"bytes": None, "path": None}, {"bytes": b"", "path": "x.png"},
        {"bytes": b"garbage", "path": "y.png"}, {"bytes": None, "path": str(tmp_path / "mine.jpeg")},
        {"bytes": None, "path": "http://127.0.0.1:9/x.png"}, {"bytes": good[:-3000], "path": None},
    ]  # fmt: skip
    folder = parquet(
        tmp_path / "set",
        {"image": cells, "license": [None] * 8},
        {"image": datasets.Image(), "license": datasets.Value("string")},
    )
    made = plan.build(tmp_path / "plan", Source(path=str(folder), crop=128), Splits(train=1, validation=0, test=0), 1)
    assert (made.drops["no_image"], made.drops["empty"]) == (4, 1)
    assert made.source == {"seen": 8, "used": 1, "left_out": {"empty": 1, "no_image": 4, "truncated": 1, "unreadable": 1}}
    said, shown = capsys.readouterr().err, str(tmp_path / "mine.jpeg")[:80]
    for name, why in {
        "00000001": "the row has no image.", "00000002": "the row has no image.", "00000003-x": "it is empty",
        "00000004-y": "it is not", "00000005-mine": f"the row has only the path '{shown}', which is not",
        "00000006-x": "the row has only the path 'http://127.0.0.1:9/x.png'", "00000007": "its pixels cannot be decoded",
    }.items():  # fmt: skip
        assert f"fgr: {name} is left out: {why}" in said


def test_bytes_alone_are_an_image_column(tmp_path):
    content = encodings(Image.fromarray(data.astronaut()))["png.png"]
    folder = parquet(tmp_path / "set", {"hr": pa.array([content, None], pa.binary()), "n": [1, 2]})
    assert [photo.content for photo in photographs(str(folder), "l", "a")] == [content, None]


def test_licences_of_a_dataset_become_text(tmp_path):
    cell = {"bytes": b"x", "path": None}
    names = datasets.ClassLabel(names=["cc0", "cc-by"])
    folder = parquet(
        tmp_path / "labels", {"image": [cell] * 3, "license": [1, None, 0], "attribution": [7, 8, None]},
        {"image": datasets.Image(), "license": names, "attribution": datasets.Value("int64")},
    )  # fmt: skip
    found = [(photo.license, photo.attribution) for photo in photographs(str(folder), "l", "a")]
    assert found == [("cc-by", "7"), ("l", "8"), ("cc0", "a")]
    folder = parquet(
        tmp_path / "lists", {"image": [cell], "license": [["cc0"]]},
        {"image": datasets.Image(), "license": datasets.List(datasets.Value("string"))},
    )  # fmt: skip
    with pytest.raises(UserError, match=r"The column license of the dataset .* holds no text"):
        list(photographs(str(folder), "l", "a"))


TABLE = "file_name{0}license{0}attribution\n./a.png{0}CC-BY-4.0{0}Zoë\nsub\\b.png{0}{0}B\nimages/c.png{0}x{0}y\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_metadata_as_spreadsheets_write_it(tmp_path, encoding, delimiter):
    for name in ("a.png", "sub/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "metadata.csv").write_text(TABLE.format(delimiter), encoding=encoding)
    source = open_source(str(tmp_path), license="l", attribution="")
    found = {photo.name: (photo.license, photo.attribution) for photo in source.photos}
    assert found == {"a": ("CC-BY-4.0", "Zoë"), "sub/b": ("l", "B")}
    assert source.notes == (f"{tmp_path / 'metadata.csv'}: 1 of 3 rows match no photograph, for example 'images/c.png'.",)
    assert not source.left_out


def test_metadata_that_is_no_text_is_refused_with_its_row(tmp_path):
    (tmp_path / "a.png").touch()
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.png", "license": null, "attribution": 5}\n')
    (photo,) = photographs(str(tmp_path), "l", "")
    assert (photo.license, photo.attribution) == ("l", "5")
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.png", "license": "x\\ud800", "attribution": " "}\n')
    (photo,) = photographs(str(tmp_path), "l", "me")
    assert (photo.license, photo.attribution) == ("x?", "me")  # half a surrogate pair goes into no table
    for value in ('["cc0"]', '{"a": 1}'):
        (tmp_path / "metadata.jsonl").write_text(f'{{"file_name": "a.png", "license": {value}}}\n')
        with pytest.raises(UserError, match=r"metadata.jsonl: 'a.png': its license is (list|dict), not text"):
            photographs(str(tmp_path), "l", "")


def test_what_is_left_out_of_a_folder_is_said(tmp_path):
    for name in ("a.png", ".b.png", "n.txt"):
        (tmp_path / name).touch()
    source = open_source(str(tmp_path), license="", attribution="")
    assert source.left_out == {"hidden": 1, "other_suffix": 1}
    assert "1 hidden, or in a hidden or system folder; 1 without an image's suffix; for example" in source.notes[0]
    (tmp_path / "metadata.csv").write_text("file_name,license\na.png,cc0\n")
    source = open_source(str(tmp_path), license="", attribution="")
    assert source.left_out == {"hidden": 1, "other_suffix": 1}  # not the table, which is read
    assert source.notes[0].endswith(f"{tmp_path / 'n.txt'}.")
    (tmp_path / "a.png").unlink()
    with pytest.raises(UserError, match="holds no photographs") as caught:
        open_source(str(tmp_path), license="", attribution="")
    assert "1 hidden" in str(caught.value)


@pytest.mark.parametrize("damage", ["footer", "data"])
def test_a_damaged_dataset_is_named_with_its_file(tmp_path, damage):
    content = np.random.default_rng(0).bytes(200_000)
    folder = parquet(tmp_path / "set", {"image": [{"bytes": content, "path": None}] * 20}, {"image": datasets.Image()})
    file = folder / "train.parquet"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2] if damage == "footer" else bytes(len(whole) - 2000) + whole[-2000:])
    with pytest.raises(UserError, match=r"cannot be read: train\.parquet: it is not a readable Parquet file"):
        list(photographs(str(folder), "l", "a"))


def test_two_hundred_bad_photographs_and_twenty_good_ones_are_counted(tmp_path, capsys):
    rng = np.random.default_rng(0)
    good = [rng.integers(0, 256, (64, 64, 3), np.uint8) for _ in range(20)]
    for number, image in enumerate(good):
        Image.fromarray(image).save(tmp_path / f"good-{number:02d}.png")
    content = (tmp_path / "good-00.png").read_bytes()
    for number in range(200):
        ways = [
            b"", b"no image", content[: 40 + number], rng.bytes(300), b"%!PS-Adobe-3.0 EPSF-3.0\n", content[:8] + rng.bytes(99),
            b"\xff\xd8\xff\xe1" + rng.bytes(500), b"II*\0\x08\0\0\0" + rng.bytes(200),
        ]  # fmt: skip
        (tmp_path / f"bad-{number:03d}.{('png', 'jpg', 'webp', 'tif', 'avif', 'jp2')[number % 6]}").write_bytes(ways[number % 8])
    made = plan.build(
        tmp_path / "plan",
        Source(path=str(tmp_path), crop=64, min_sharpness=0, duplicate_bits=0),
        Splits(train=1, validation=0, test=0),
        1,
    )
    assert made.source["seen"] == 220
    assert made.source["used"] == 20 == sum(made.photographs.values())
    assert sum(made.source["left_out"].values()) == 200 == sum(made.drops.values())
    said = capsys.readouterr().err
    assert all(f"bad-{number:03d}." in said for number in range(200))
