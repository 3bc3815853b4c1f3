"""Small sets in the layouts of the public ones, and tables as files."""

import io
import json
import zipfile

import numpy as np
import polars
import pytest
from PIL import Image

from fgr.errors import UserError
from fgr.people import table_files
from fgr.people.opinions import family_of, read_source
from fgr.people.published import published
from fgr.people.scenes import PARTS, part_of
from fgr.people.score_layouts import open_score_benchmark


@pytest.fixture
def files(tmp_path):
    """Writes a pixel under each name below the folder, and gives the folder."""

    def write(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((2, 3, 3), 7, np.uint8)).save(tmp_path / name)
        return tmp_path

    return write


def workbook(path, header, *rows):
    """A workbook as spreadsheet programs write it: texts shared, numbers in place."""
    texts = sorted({text for row in (header, *rows) for text in row if isinstance(text, str)})

    def cell(place, value):
        if isinstance(value, str):
            return f'<c r="{place}" t="s"><v>{texts.index(value)}</v></c>'
        return f'<c r="{place}"><v>{value}</v></c>' if value is not None else ""

    lines = "".join(
        f"<row>{''.join(cell(f'{chr(65 + x)}{y + 1}', value) for x, value in enumerate(row))}</row>"
        for y, row in enumerate((header, *rows))
    )
    space = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    shared = "".join(f"<si><t>{text}</t></si>" for text in texts)
    with zipfile.ZipFile(path, "w") as book:
        book.writestr("xl/worksheets/sheet1.xml", f"<worksheet {space}><sheetData>{lines}</sheetData></worksheet>")
        book.writestr("xl/sharedStrings.xml", f"<sst {space}>{shared}</sst>")


def test_disrqad_names_say_method_scene_and_reference(files):
    root = files(
        "hr/00042.png", "hr/ava_00107.png", "sr_x4/SeeSR_x4_00042_blur_x4.png", "sr_x2/Real-ESRGAN_x2_ava_00107_jpeg_x2.png",
        "sr_x4/PASD-SDXL_x4_00042_noise_x4.png",
    )  # fmt: skip
    (root / "scores").mkdir()
    lines = [
        "img_name,mos", "SeeSR_x4_00042_blur_x4.png,3.5", "Real-ESRGAN_x2_ava_00107_jpeg_x2.png,2", "absent_x4_1_blur_x4.png,1",
        "PASD-SDXL_x4_00042_noise_x4.png,", "SeeSR_x4_00042_blur_x4.png,3",
    ]  # fmt: skip
    (root / "scores" / "mos.csv").write_text("\n".join(lines) + "\n")
    found = open_score_benchmark("DISRQAD", str(root))
    assert [(row.scene, row.generator, row.family, row.mos) for row in found.rows] == [
        ("00042", "SeeSR", "diffusion", 3.5), ("00107", "Real-ESRGAN", "classic", 2.0)
    ]  # fmt: skip
    assert [row.reference.name for row in found.rows] == ["00042.png", "ava_00107.png"]
    assert len(found.hidden) == 1  # opinions that are kept for a challenge
    assert "is not in the folder" in found.left_out["scores/mos.csv, row 3"]
    assert "in the table twice" in found.left_out["scores/mos.csv, row 5"]
    with pytest.raises(UserError, match=r"has no column name; it has img_name, mos"):
        open_score_benchmark("disrqad", str(root), {"image": "name"})


def test_vha_bench_is_negated_and_may_hold_its_images(files):
    root = files("gt/1.png", "sr/OSEDiff_1.png")
    (root / "pairs.csv").write_text(
        "sample_id,image_id,method,gt,sr,human_score,n_ratings\na,1,OSEDiff,gt/1.png,sr/OSEDiff_1.png,4.5,20\n"
    )
    found = open_score_benchmark("vha-bench", str(root))
    assert [(row.mos, row.scene, row.generator, row.reference.name) for row in found.rows] == [(-4.5, "1", "OSEDiff", "1.png")]
    assert found.opinions == "−human_score"
    (root / "pairs.csv").unlink()
    (root / "data").mkdir()
    encoded = {"bytes": (root / "gt" / "1.png").read_bytes(), "path": "1.png"}
    row = {"image_id": "1", "method": "VOSR", "gt": encoded, "sr": encoded, "human_score": 1.0}
    polars.DataFrame([row]).write_parquet(root / "data" / "test-00000.parquet")
    found = open_score_benchmark("vha-bench", str(root))
    assert read_source(found.rows[0].image).shape == (2, 3, 3)
    assert str(found.rows[0].reference) == "data/test-00000.parquet, row 1, reference"


def test_qualisr_rows_are_a_case_and_a_method(files):
    root = files("hr/0000001.png", "sr/PASD/0000001.png", "sr/RealESRGAN/0000001.png", "lr/0000001.png")
    rows = ["test_case,method,score,image", "0000001,pasd,0.72,", "0000001,realesrgan,0.6,sr/RealESRGAN/0000001.png"]
    (root / "labels.csv").write_text("\n".join([*rows, "0000002,pasd,0.3,"]) + "\n")
    found = open_score_benchmark("qualisr-set120", str(root))
    assert [(row.image.parent.name, row.scene, row.family) for row in found.rows] == [
        ("PASD", "0000001", "diffusion"), ("RealESRGAN", "0000001", "classic")
    ]  # fmt: skip
    assert found.rows[0].reference == root / "hr" / "0000001.png"
    assert list(found.left_out) == ["labels.csv, row 3"]


def test_isrgen_qa_comes_as_workbooks(files):
    root = files("HR/0813.png", "SR/ATD_x2_0813x2.png", "SR/StableSR_x4_0813x4.png", "LR/0813x2.png")
    header = ("Image_name", "LR_ref", "HR_ref", "P1", "MOS")
    workbook(root / "train.xlsx", header, ("ATD_x2_0813x2", "0813x2", "0813", 3, 3.25))
    workbook(root / "val.xlsx", header, ("StableSR_x4_0813x4", "0813x4", "0813", 4, 4))
    found = open_score_benchmark("isrgen-qa", str(root))
    assert [(row.scene, row.generator, row.family, row.mos) for row in found.rows] == [
        ("0813", "ATD", "classic", 3.25), ("0813", "StableSR", "diffusion", 4.0)
    ]  # fmt: skip
    assert found.rows[0].reference == root / "HR" / "0813.png"


def test_refsr_18k_ranks_within_folders_as_rows_or_as_lists(files):
    root = files(*(f"{group}/{name}.png" for group in ("g1", "g2") for name in ("a", "b", "lr")))
    for group in ("g1", "g2"):
        (root / group / "ranks.csv").write_text("image,rank\na.png,2\nb.png,1\n")
    found = open_score_benchmark("refsr-18k", str(root))
    assert [(row.scene, row.image.stem, row.mos) for row in found.rows] == [
        ("g1", "a", -2), ("g1", "b", -1), ("g2", "a", -2), ("g2", "b", -1)
    ]  # fmt: skip
    (root / "all.jsonl").write_text(json.dumps({"id": 5, "outputs": ["g1/a.png", "g1/b.png"], "order": [1, 2]}) + "\n")
    found = open_score_benchmark("refsr-18k", str(root), {"image": "outputs", "rank": "order", "group": "id"})
    assert [(row.scene, row.mos) for row in found.rows] == [("5", -1), ("5", -2)]
    assert found.opinions == "−order"


def test_incomplete_folders_say_what_is_there(files, tmp_path):
    root = files("hr/1.png")
    with pytest.raises(UserError, match=r"incomplete: it has no folder sr/; it has hr"):
        open_score_benchmark("disrqad", str(root))
    files("sr/x.png")
    with pytest.raises(UserError, match=r"incomplete: it has no scores/mos\*.csv"):
        open_score_benchmark("disrqad", str(root))
    (root / "mos.csv").write_text("img_name,mos\na.png,3\n")
    with pytest.raises(UserError, match="Nothing in the benchmark disrqad") as raised:
        open_score_benchmark("disrqad", str(root))
    assert "row 1: the image a.png is not in the folder" in raised.value.lines[0]
    with pytest.raises(UserError, match="has to be downloaded first"):
        open_score_benchmark("vha-bench")
    with pytest.raises(UserError, match="no folder"):
        open_score_benchmark("vha-bench", str(tmp_path / "absent"))
    with pytest.raises(UserError, match="no column 'masks'"):
        open_score_benchmark("vha-bench", str(root), {"masks": "x"})


def test_tables_of_every_kind(tmp_path):
    rows = [{"image": "a.png", "mos": 1.5}, {"image": "b.png", "mos": 2.0}]
    polars.DataFrame(rows).write_csv(tmp_path / "t.csv")
    polars.DataFrame(rows).write_parquet(tmp_path / "t.parquet")
    (tmp_path / "t.json").write_text(json.dumps(rows))
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    workbook(tmp_path / "t.xlsx", ("image", "mos"), ("a.png", 1.5), ("b.png", 2))
    for suffix in table_files.SUFFIXES:
        columns, found = table_files.read(tmp_path / f"t{suffix}")
        assert (columns, [{**row, "mos": float(row["mos"])} for row in found]) == (["image", "mos"], rows), suffix
        (tmp_path / f"bad{suffix}").write_bytes(b"")
        with pytest.raises(UserError, match="cannot be read"):
            table_files.read(tmp_path / f"bad{suffix}")
    with pytest.raises(UserError, match="not a table"):
        table_files.read(tmp_path / "t.txt")
    empty = io.BytesIO()
    zipfile.ZipFile(empty, "w").close()
    (tmp_path / "empty.xlsx").write_bytes(empty.getvalue())
    with pytest.raises(UserError, match="no sheet"):
        table_files.read(tmp_path / "empty.xlsx")


def test_a_scene_is_always_in_the_same_part():
    parts = [part_of(f"{number:05d}") for number in range(2000)]
    for part, share in PARTS.items():
        assert parts.count(part) / 2000 == pytest.approx(share, abs=0.04)
    assert part_of("00042 ") == part_of("00042")


def test_families_and_published_figures():
    assert [family_of(name) for name in ("DiT4SR", "PASD-SDXL", "Real-ESRGAN", "bicubic", "unheard of")] == [
        "diffusion", "diffusion", "classic", "classic", ""
    ]  # fmt: skip
    known = published("DISRQAD")
    assert known.figures["diffusion"]["CLIPIQA"] == {"srcc": 0.332, "plcc": 0.37}
    assert "2610.09077" in known.source
    assert published("t.csv").figures == {}
