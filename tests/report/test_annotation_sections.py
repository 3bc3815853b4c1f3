"""The pages about people's work."""

import json
import shutil

import numpy as np
import pytest

from fgr.dataset import tables
from fgr.images import codec
from fgr.report import annotation_sections, page

ATTACK = "<script>alert(1)</script> & <img src=x onerror=alert(2)>"
PEOPLE = ("p-a", "p-b", "p-c")


@pytest.fixture(scope="module")
def annotated(tiny, tmp_path_factory):
    """Three people's work on six samples: two agree, on the last sample the third paints elsewhere and scores otherwise."""
    folder = tmp_path_factory.mktemp("annotated") / "dataset"
    shutil.copytree(tiny, folder)
    ids = sorted(row["id"] for row in tables.read_rows(folder, "samples", ["id"]))[:6]
    rows = []
    for i, sample in enumerate(ids):
        for who in PEOPLE[: 1 if i == 0 else 3]:
            odd = who == "p-c" and i == 5
            map_ = np.zeros((128, 128), np.uint8)
            map_[(60 if odd else 10) : (90 if odd else 40), 10:40] = 153
            rows.append({
                "id": sample, "annotator": who, "score": 5.0 if odd else 80.0 + i, "degradation_map": codec.encode_mask(map_),
                "defects": [{"kind": "ringing", "severity": 3, "area": 0.05}], "comment": ATTACK if odd else "",
                "lead_time_s": 12.0, "created_at": "", "project": ATTACK,
            })  # fmt: skip
    tables.write_table(folder / "annotations" / "part-00000-of-00001.parquet", "annotations", rows)
    choices = [
        {"left_id": ids[0], "right_id": ids[1], "annotator": "p-a", "choice": "left"},
        {"left_id": ids[0], "right_id": ids[2], "annotator": "p-a", "choice": "tie"},
    ]
    tables.write_table(folder / "preferences" / "part-00000-of-00001.parquet", "preferences", choices)
    return folder, ids


def test_coverage_histograms_and_disputes_are_shown(annotated, tmp_path):
    folder, ids = annotated
    text = page.write(folder, tmp_path / "report.html", rows=2, samples=1).read_text()
    total = tables.count_rows(folder, "samples")
    assert f"6 of {total} samples have opinions of 3 annotators" in text
    assert f'<tr><td>none</td><td class="n">{total - 6}</td></tr><tr><td>1</td><td class="n">1</td>' in text
    assert '<tr><td>ringing</td><td class="n">16</td><td class="n">3.0</td></tr>' in text
    assert "6 scores" in text
    assert "5 scores" in text
    assert text.index(f"<code>{ids[5][:12]}</code>", text.index("Most contested")) > 0
    assert f"image, {ids[5][:12]}" in text
    assert "p-c · 5" in text
    assert "run <code>fgr annotate consensus</code>" in text
    assert "2 choices" in text


def test_comments_and_names_are_escaped(annotated, tmp_path):
    text = page.write(annotated[0], tmp_path / "report.html", rows=1, samples=1).read_text()
    assert ATTACK not in text
    assert "<img src=x" not in text
    assert text.count("&lt;script&gt;alert(1)") >= 2, "the comment and the project"


def test_what_consensus_found_is_shown(annotated, tmp_path):
    folder = tmp_path / "dataset"
    shutil.copytree(annotated[0], folder)
    (folder / "consensus").mkdir()
    verdict = {
        "annotator": "p-c", "correlation": 0.1, "alpha": None, "dice": 0.2, "gold_right": 1, "gold_total": 3,
        "left_out": ["1 of 3 gold samples right"],
    }  # fmt: skip
    report = {"scores": "mle", "alpha": 0.4321, "alpha_accepted": None, "dice": 0.5, "iou": 0.4, "annotators": [verdict]}
    (folder / "consensus" / "annotators.json").write_text(json.dumps(report))
    text = page.write(folder, None, rows=1, samples=1).read_text()
    for part in ("1 of 3 gold samples right", "0.432", ">1/3<"):
        assert part in text


def test_one_annotators_maps_are_shown_the_lowest_score_first(annotated, tmp_path):
    folder = shutil.copytree(annotated[0], tmp_path / "dataset")
    alone = [row for row in tables.read_rows(folder, "annotations") if row["annotator"] == "p-a"]
    tables.write_small(folder, "annotations", alone)
    section = annotation_sections.contested(folder, 2)
    assert section.title == "Annotated samples, lowest score first"
    assert [section.html.index(f"image, {sample[:12]}") > 0 for sample in annotated[1][:2]] == [True, True]
    assert section.html.index(annotated[1][0][:12]) < section.html.index(annotated[1][1][:12])
    assert section.html.count("<span>p-a · 8") == 2
    assert section.html.count("computed map") == 6


def test_dispute_by_hand():
    same = np.array([[1, 1, 0, 0]] * 2, bool)
    assert annotation_sections.dispute(np.array([50, 50]), same) == 0
    apart = np.array([[1, 1, 0, 0], [0, 1, 1, 0]], bool)
    assert annotation_sections.dispute(np.array([50, 50]), apart) == pytest.approx(0.5)
    assert annotation_sections.dispute(np.array([40, 60]), same) == pytest.approx(0.2)
    assert annotation_sections.dispute(np.array([40, 60]), np.zeros((2, 4), bool)) == pytest.approx(0.2)


def test_a_dataset_without_people_has_no_such_pages(tiny):
    for build in (
        annotation_sections.coverage,
        annotation_sections.scores,
        annotation_sections.contested,
        annotation_sections.preferences,
    ):
        assert build(tiny, 3) is None
