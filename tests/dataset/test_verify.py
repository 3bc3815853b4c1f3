import json
import shutil
import subprocess
import sys

import datasets
import numpy as np
import pytest

from fgr.dataset import card, manifest, tables
from fgr.dataset.damage import damaged_files
from fgr.dataset.verify import verify
from fgr.errors import UserError
from fgr.generate.run import generate
from fgr.images import codec
from fgr.recipe import digest, load
from fgr.tensors import file_digest


@pytest.fixture
def copy(tiny, tmp_path):
    return shutil.copytree(tiny, tmp_path / "copy")


def rewrite(directory, change, split="train"):
    """Change the rows of a split's first shard and bring fgr.json's digest into line, as a careful forger would."""
    shard = tables.shards(directory, "samples", split)[0]
    rows = list(tables.read_shard(shard))
    changed = change(rows)
    tables.write_table(shard, "samples", changed)
    made = manifest.read(directory)
    for state in made["shards"]:
        if state["file"].endswith(shard.name):
            state |= {"sha256": file_digest(shard), "bytes": shard.stat().st_size, "rows": len(changed)}
    manifest.write(directory, made)


def texts(directory):
    return [str(problem) for problem in verify(directory)]


def partial(rows):
    """The first row whose mask is 0 somewhere and 255 somewhere, and that is no sham."""
    return next(row for row in rows if row["mask_kind"] not in ("sham", "full"))


def test_a_fresh_dataset_keeps_every_promise(tiny):
    assert texts(tiny) == []


def test_files_that_macos_leaves_beside_others_are_not_of_the_dataset(copy):
    before = tables.shards(copy, "samples")
    for file in [path for path in copy.rglob("*") if path.is_file()]:
        file.with_name(f"._{file.name}").write_bytes(b"\0\5\x16\7")
    assert texts(copy) == []
    assert tables.shards(copy, "samples") == before
    assert not list(damaged_files(copy))


def test_a_dataset_of_version_0_1_keeps_its_promises(older):
    assert texts(older) == []


def test_a_new_dataset_must_have_the_maps_of_whole_images(copy):
    rewrite(copy, lambda rows: [{name: value for name, value in row.items() if name != "sr_map"} for row in rows])
    found = texts(copy)
    assert any("its columns or their image types are not those of the table" in text for text in found)
    assert any("no value in sr_map" in text for text in found)


def test_a_map_of_a_whole_image_is_checked_inside_the_mask_and_outside(copy):
    def change(rows):
        row = partial(rows)
        values, mask = codec.decode_map(row["sr_map"]), codec.decode_mask(row["mask"])
        for level in (0, 255):
            y, x = np.argwhere(mask == level)[0]
            values[y, x] = values[y, x] + 0.001 if values[y, x] < 0.5 else values[y, x] - 0.001
        row["sr_map"] = codec.encode_map(values)
        return rows

    rewrite(copy, change)
    found = texts(copy)
    assert any("degradation_map is not sr_map times the mask in 1 pixels" in text for text in found)
    assert any("sr_map differs from its definition in 2 pixels" in text for text in found)


def test_full_rows_have_one_map_and_shams_a_map_of_what_was_not_pasted(tiny_overrides, tmp_path):
    kinds = "masks.kinds={polygon: 0, ellipse: 0, stroke: 0, semantic: 0, full: 1, sham: 1}"
    chosen = load("demo", "generate", [*tiny_overrides, kinds], {"models": ["bicubic"], "samples": 6})
    assert generate(chosen, tmp_path / "set", workers=1, device="cpu")
    assert texts(tmp_path / "set") == []
    rows = {row["mask_kind"]: row for row in tables.read_rows(tmp_path / "set", "samples")}
    assert np.array_equal(codec.decode_map(rows["full"]["sr_map"]), codec.decode_map(rows["full"]["degradation_map"]))
    assert not codec.decode_map(rows["sham"]["degradation_map"]).any()
    assert codec.decode_map(rows["sham"]["sr_map"]).mean() > 0.01


def test_a_sham_row_with_a_map_is_found(copy):
    rewrite(copy, lambda rows: [row | {"mask_kind": "sham"} if row is partial(rows) else row for row in rows])
    assert any("degradation_map is not 0, as a sham row wants" in text for text in texts(copy))


def test_an_unknown_pixel_difference_is_a_sentence(copy):
    made = manifest.read(copy)
    made["recipe"]["map"]["pixel"] = "ssimm"
    manifest.write(copy, made | {"recipe_digest": digest(made["recipe"])})
    assert any(
        "of the pixel difference 'ssimm', which this version does not know (l1, ssim, ssim-tolerant)" in t for t in texts(copy)
    )


def test_one_pixel_outside_a_mask_is_found(copy):
    def change(rows):
        row = partial(rows)
        composite, mask = codec.decode_rgb(row["composite"]), codec.decode_mask(row["mask"])
        y, x = np.argwhere(mask == 0)[0]
        composite[y, x, 0] ^= 1
        row["composite"] = codec.encode_rgb(composite)
        return rows

    rewrite(copy, change)
    found = texts(copy)
    assert len(found) == 1
    assert "in 1 pixels, 1 of them outside the mask" in found[0]


def test_one_map_value_is_found(copy):
    def change(rows):
        row = partial(rows)
        values, mask = codec.decode_map(row["degradation_map"]), codec.decode_mask(row["mask"])
        y, x = np.argwhere(mask == 255)[0]
        values[y, x] = values[y, x] + 0.001 if values[y, x] < 0.5 else values[y, x] - 0.001
        row["degradation_map"] = codec.encode_map(values)
        return rows

    rewrite(copy, change)
    assert any("degradation_map differs from its definition in 1 pixels" in text for text in texts(copy))


def test_a_map_value_outside_the_mask_is_found(copy):
    def change(rows):
        row = partial(rows)
        values, mask = codec.decode_map(row["degradation_map"]), codec.decode_mask(row["mask"])
        values[tuple(np.argwhere(mask == 0)[0])] = 0.5
        row["degradation_map"] = codec.encode_map(values)
        return rows

    rewrite(copy, change)
    assert any("degradation_map is not 0 outside the mask" in text for text in texts(copy))


def test_a_row_moved_to_another_split_is_found(copy):
    moved = []
    rewrite(copy, lambda rows: (moved.append(rows[0]), rows[1:])[1])
    rewrite(copy, lambda rows: [*rows, moved[0]], split="test")
    assert any("its photograph belongs to the split 'train'" in text for text in texts(copy))


def test_a_shard_renamed_into_another_split_is_found(copy):
    shard = tables.shards(copy, "samples", "train")[0]
    shard.rename(shard.with_name(shard.name.replace("train", "test")))
    found = texts(copy)
    assert any("missing, though fgr.json lists it" in text for text in found)
    assert any("belongs to the split 'train'" in text for text in found)


@pytest.mark.parametrize(
    ("column", "value", "part"),
    [
        ("score", 0.123, "its map gives"),
        ("mask_area", 0.9, "mask_area is not the mean"),
        ("pixel_difference", 0.5, "pixel_difference is not its mean"),
        ("feature_difference", 0.5, "feature_difference is not its mean"),
        ("seed", 1, "id is not the digest"),
        ("model_digest", "0" * 64, "not listed in fgr.json"),
        ("mask_kind", "blob", "unknown mask kind 'blob'"),
        ("degradation", "{", "degradation is not JSON"),
        ("reference", b"nonsense", "cannot be decoded"),
        ("source_id", "0" * 32, "source_id is not the digest"),
    ],
)
def test_a_changed_cell_is_found(copy, column, value, part):
    rewrite(copy, lambda rows: [rows[0] | {column: value}, *rows[1:]])
    assert any(part in text for text in texts(copy))


def test_a_changed_byte_is_found_by_its_digest(copy):
    made = manifest.read(copy)
    made["shards"][0]["sha256"] = "0" * 64
    manifest.write(copy, made)
    assert any("sha256 differs" in text for text in texts(copy))


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda made: made["recipe"].update(seed=5), "recipe_digest differs"),
        (lambda made: made.update(recipe={}), "recipe_digest differs"),
        (lambda made: made["calibration"].update(scale=1.0), "differs from its definition"),
        (lambda made: made["shards"][0].update(rows=1), "4 rows, fgr.json lists 1"),
        (lambda made: made["shards"][0].update(split="test"), "lists it in the split 'test'"),
        (lambda made: made["shards"][0]["drops"].update(severity=9), "samples, made or dropped, of 20"),
    ],
)
def test_a_changed_manifest_is_found(copy, change, part):
    made = manifest.read(copy)
    change(made)
    manifest.write(copy, made)
    assert any(part in text for text in texts(copy))


def test_a_card_without_yaml_or_with_wrong_counts_is_found(copy):
    text = (copy / "README.md").read_text()
    (copy / "README.md").write_text(text.replace("num_examples: ", "num_examples: 9"))
    assert any("the card says" in text for text in texts(copy))
    (copy / "README.md").write_text("no front matter")
    assert any("without the YAML" in text for text in texts(copy))


def test_labels_of_unknown_samples_are_found(copy):
    tables.write_small(copy, "preferences", [{"left_id": "x", "right_id": "y", "annotator": "a", "choice": "tie"}])
    card.write(copy)
    found = texts(copy)
    assert len(found) == 2
    assert "there is no sample with this id" in found[0]


def test_the_command_exits_with_1_and_names_the_row(copy, tiny):
    def run(directory):
        return subprocess.run(
            [sys.executable, "-m", "fgr", "verify", str(directory)], capture_output=True, text=True, check=False
        )

    assert run(tiny).returncode == 0
    rewrite(copy, lambda rows: [rows[0] | {"score": 0.123}, *rows[1:]])
    done = run(copy)
    assert done.returncode == 1
    assert next(iter(tables.read_rows(copy, "samples", ["id"], "train")))["id"] in done.stdout


def test_what_is_no_dataset_is_a_sentence(tmp_path):
    with pytest.raises(UserError, match=r"no fgr\.json"):
        list(verify(tmp_path))
    (tmp_path / "fgr.json").write_text(json.dumps({"a": 1}))
    with pytest.raises(UserError, match="not the manifest"):
        list(verify(tmp_path))
    (tmp_path / "fgr.json").write_text("{")
    with pytest.raises(UserError, match="not valid JSON"):
        list(verify(tmp_path))


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda made: made.update(drops={"severity": 99}), "drops"),
        (lambda made: made.update(drops=[]), "drops: input should be a valid dictionary"),
        (lambda made: made["drops"].update(odd=-1), "drops.odd: input should be greater"),
        (lambda made: made["photographs"].update(train=0), "photographs: train is 0, its rows are of"),
        (lambda made: made["photographs"].pop("test"), "photographs: the splits are train, validation, test"),
        (lambda made: made["photographs"].update(other=1), "photographs.other"),
        (lambda made: made.pop("photographs"), "photographs: field required"),
        (lambda made: made["source"].update(seen=999), "source: 999 were seen"),
        (lambda made: made["source"].update(used=999), "source: used is 999"),
        (lambda made: made.update(versions=None), "versions: input should be a valid dictionary"),
        (lambda made: made.update(extra=1), "extra: extra inputs are not permitted"),
        (lambda made: made.update(fgr=2), "fgr: input should be a valid string"),
        (lambda made: made.update(models=[]), "models: list should have at least 1 item"),
        (lambda made: made["models"][0].pop("license"), "models.0.license: field required"),
        (lambda made: made["calibration"].update(scale="x"), "calibration.scale: input should be a valid number"),
        (lambda made: made["calibration"].update(pairs=0), "calibration.pairs: input should be greater"),
        (lambda made: made.update(shards={}), "shards: input should be a valid list"),
        (lambda made: made["shards"][0].update(file="../../etc/passwd"), "shards.0.file: string should match"),
        (lambda made: made["shards"][0].pop("sha256"), "sha256 differs"),
        (lambda made: made.update(recipe="demo"), "recipe: input should be a valid dictionary"),
        (lambda made: made["recipe"].update(map=3), "recipe: "),
    ],
)
def test_every_key_of_the_manifest_is_checked(copy, change, part):
    made = manifest.read(copy)
    change(made)
    manifest.write(copy, made)
    assert any(part in text for text in texts(copy)), texts(copy)


def test_images_that_map_wrote_anew_are_named_as_such(copy):
    """As `datasets.map` with a function that touches the picture does it, put in the place of the shard."""
    shard = tables.shards(copy, "samples", "train")[0]
    rows = datasets.load_dataset("parquet", data_files=str(shard), split="train", cache_dir=str(copy.parent / "cache"))
    rows.map(lambda row: {"composite": row["composite"]}).to_parquet(copy.parent / "mapped.parquet")
    lossy = [row["composite"] for row in tables.read_shard(copy.parent / "mapped.parquet")]
    assert all(codec.is_lossy(cell) for cell in lossy)
    rewrite(copy, lambda rows: [row | {"composite": cell} for row, cell in zip(rows, lossy, strict=True)])
    found = texts(copy)
    assert len(found) == len(lossy)
    assert all("composite: lossy copies, as datasets.map writes images anew; the card says how" in text for text in found)
