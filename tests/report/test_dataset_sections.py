"""The sections about a dataset."""

import shutil

import numpy as np

from fgr.dataset import manifest, tables
from fgr.report import charts, dataset_sections, page


def test_the_page_counts_what_the_dataset_holds(tiny, tmp_path):
    text = page.write(tiny, tmp_path / "report.html", samples=12).read_text()
    assert f"{tables.count_rows(tiny, 'samples')} samples of 5 photographs" in text
    for model in manifest.read(tiny)["models"]:
        assert model["name"] in text
        assert model["digest"][:16] in text
    assert text.count('class="sample"') == 12
    assert page.write(tiny, tmp_path / "again.html", samples=12).read_text() == text


def test_texts_of_the_data_are_escaped(tiny, tmp_path):
    copy = shutil.copytree(tiny, tmp_path / "copy")
    attack = "<script>alert(1)</script>"
    for shard in tables.shards(copy, "samples"):
        tables.write_table(
            shard, "samples", [row | {"attribution": attack, "license": attack} for row in tables.read_shard(shard)]
        )
    text = page.write(copy, None, samples=2).read_text()
    assert attack not in text
    assert "&lt;script&gt;alert(1)" in text
    charted = (
        charts.histogram({attack: [0.5]}, 0, 1, x=attack) + charts.legend([attack]) + charts.lines({attack: ([0, 1], [1, 2])})
    )
    assert attack not in charted


def test_the_overlay_shows_the_map_inside_the_mask_only():
    composite, mask = np.full((32, 32, 3), 100, np.uint8), np.zeros((32, 32), np.uint8)
    mask[8:24, 8:24] = 255
    values = np.zeros((32, 32), np.float32)
    values[12:20, 12:20] = 1
    shown = dataset_sections.overlay(composite, mask, values)
    assert (shown[:6] == 45).all()
    assert shown[16, 16].sum() > shown[10, 10].sum()
    assert (shown[8, 16] == 255).all()
