"""Small sets in the layouts of the public ones."""

import json
import re

import polars
import pytest

from fgr.errors import UserError
from fgr.people.map_layouts import is_of_maps, open_map_benchmark


def touch(*files):
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x")


def test_sr_prominence_is_a_table_beside_images_its_columns_named(tmp_path):
    touch(*(tmp_path / f"{kind}/{n}.png" for kind in ("images", "masks", "gt") for n in (0, 1)))
    rows = [
        {"file": f"images/{n}.png", "mask": f"masks/{n}.png", "votes": n / 2, "reference": f"gt/{n}.png" if n else "",
         "subset": "DeSRA" if n else "Urban100-HR"} for n in (0, 1)
    ]  # fmt: skip
    polars.DataFrame(rows).write_csv(tmp_path / "all.csv")
    names = {"image": "file", "prominence": "votes"}
    found = open_map_benchmark("sr-prominence", str(tmp_path), names)
    assert [row.prominence for row in found.rows] == [0, 0.5]
    assert [row.subset for row in found.rows] == ["Urban100-HR", "DeSRA"]
    assert (found.rows[0].reference, found.rows[1].reference) == (None, tmp_path / "gt" / "1.png")
    assert found.rated
    assert open_map_benchmark(str(tmp_path / "all.csv"), None, names).rows == found.rows
    assert is_of_maps(str(tmp_path / "all.csv"), {})
    (tmp_path / "broken.parquet").write_bytes(b"nothing")
    assert not is_of_maps(str(tmp_path / "broken.parquet"), {})
    with pytest.raises(UserError, match="has no column image; it has file, mask, votes, reference, subset"):
        open_map_benchmark("sr-prominence", str(tmp_path))


def test_several_tables_are_subsets(tmp_path):
    touch(tmp_path / "a.png", tmp_path / "b.png")
    for name in ("DeSRA", "Urban100"):
        (tmp_path / f"{name}.csv").write_text("image,mask\n" + ("a.png,a.png\n" if name == "DeSRA" else "b.png,b.png\n"))
    found = open_map_benchmark("sr-prominence", str(tmp_path))
    assert [row.subset for row in found.rows] == ["DeSRA", "Urban100"]
    assert not found.rated


def test_shares_may_be_whole_for_long(tmp_path):
    touch(*(tmp_path / f"{number}.png" for number in range(120)))
    lines = [f"{number}.png,{number}.png,{'0.5' if number == 119 else 0}" for number in range(120)]
    (tmp_path / "t.csv").write_text("\n".join(["image,mask,prominence", *lines]) + "\n")
    assert open_map_benchmark(str(tmp_path / "t.csv")).rows[-1].prominence == 0.5


def test_what_is_wrong_with_a_row_is_named(tmp_path):
    touch(tmp_path / "a.png", tmp_path / "m.png")
    lines = [
        "a.png,m.png,0.4",
        "a.png,m.png,0.5",
        "a.png,a.png,40",
        "a.png,absent.png,0.1",
        "b.png,m.png,1",
        ",m.png,1",
        "m.png,a.png,",
    ]
    (tmp_path / "t.csv").write_text("\n".join(["image,mask,prominence", *lines]) + "\n")
    found = open_map_benchmark(str(tmp_path / "t.csv"))
    assert len(found.rows) == 1
    reasons = list(found.left_out.values())
    assert list(found.left_out) == [f"t.csv, row {number}" for number in (2, 3, 4, 5, 6, 7)]
    wanted = (
        "in the table twice",
        "40 is not a share",
        "the mask .*absent.png does not exist",
        "the image .*b.png",
        "nothing in",
        "of None",
    )
    assert all(re.search(*pair) for pair in zip(wanted, reasons, strict=True))
    (tmp_path / "t.csv").write_text("image,mask,prominence\na.png,m.png,40\n")
    with pytest.raises(UserError, match=r"Nothing in the benchmark .* can be used"):
        open_map_benchmark(str(tmp_path / "t.csv"))


def desra(root, *, without=()):
    for generator in ("RealESRGAN", "SwinIR"):
        folders = [name for name in ("MSE-SR", "GAN-SR", "DeSRA-Mask", "LR", "GT-Mask") if name not in without]
        touch(*(root / generator / folder / f"{name}.png" for folder in folders for name in ("1", "2")))
    return root


def test_desra_as_it_comes(tmp_path):
    found = open_map_benchmark("desra", str(desra(tmp_path)))
    assert [row.generator for row in found.rows] == ["RealESRGAN"] * 2 + ["SwinIR"] * 2
    assert found.rows[0].reference == tmp_path / "RealESRGAN" / "MSE-SR" / "1.png"
    assert found.rows[0].maps == {"DeSRA-Mask": tmp_path / "RealESRGAN" / "DeSRA-Mask" / "1.png"}
    assert not found.rated
    one = open_map_benchmark("desra", str(tmp_path / "SwinIR"))
    assert (len(one.rows), one.rows[0].generator) == (2, "")


def test_images_without_masks_and_masks_without_images_are_named(tmp_path):
    desra(tmp_path)
    (tmp_path / "SwinIR" / "GAN-SR" / "1.png").unlink()
    (tmp_path / "RealESRGAN" / "GT-Mask" / "2.png").unlink()
    (tmp_path / "SwinIR" / "GT-Mask" / "2.webp").write_bytes(b"x")
    found = open_map_benchmark("desra", str(tmp_path))
    assert len(found.rows) == 2
    assert found.left_out.pop(str(tmp_path / "SwinIR" / "GT-Mask" / "2.webp")) == "of the same name as 2.png."
    assert sorted(found.left_out.values()) == ["a mask without an image in GAN-SR.", "an image without a mask in GT-Mask."]


def test_an_incomplete_folder_says_what_is_missing(tmp_path):
    with pytest.raises(UserError, match="RealESRGAN is incomplete: it has no GT-Mask"):
        open_map_benchmark("desra", str(desra(tmp_path, without=("GT-Mask",))))
    with pytest.raises(UserError, match="has no masks_for_markup"):
        open_map_benchmark("sr-ground", str(tmp_path))
    with pytest.raises(UserError, match="holds no table"):
        open_map_benchmark("sr-prominence", str(tmp_path))
    with pytest.raises(UserError, match="has to be downloaded first"):
        open_map_benchmark("desra")
    with pytest.raises(UserError, match=r"There is no .*absent"):
        open_map_benchmark("desra", str(tmp_path / "absent"))
    with pytest.raises(UserError, match="no column 'masks' to name"):
        open_map_benchmark("desra", str(tmp_path), {"masks": "m"})


def test_sr_ground_by_its_names(tmp_path):
    folder = tmp_path / "datasets" / "SwinIR_default"
    touch(*(folder / f"7{mark}.png" for mark in ("", "@LR@", "@RF@", "@SR@")), tmp_path / "refined" / "7.png")
    touch(tmp_path / "outputs" / "SwinIR_default" / "sr_artifacts" / "7.npy.gz")
    rows = [{"img": f"datasets/SwinIR_default/7{mark}.png", "mask": "refined/7.png"} for mark in ("@SR@", "@LR@")]
    (tmp_path / "masks_for_markup.json").write_text(json.dumps(rows))
    found = open_map_benchmark("sr-ground", str(tmp_path), {"image": "img"})
    (row,) = found.rows
    assert (row.reference, row.generator, row.group) == (folder / "7.png", "SwinIR_default", "7")
    assert row.maps["SR-Ground prediction"].name == "7.npy.gz"
    assert list(found.left_out.values()) == ["an input or its bicubic copy, not an SR output."]
    (tmp_path / "masks_for_markup.json").write_text(json.dumps({"a": rows[0], "b": rows[1]}))
    assert open_map_benchmark("sr-ground", str(tmp_path), {"image": "img"}).rows == found.rows
    (tmp_path / "masks_for_markup.json").write_text("[1]")
    with pytest.raises(UserError, match="neither a list of records nor records by id"):
        open_map_benchmark("sr-ground", str(tmp_path))
