"""The smallest plan, end to end by the commands: run, gone on with, compared, reported and repeated."""

import json
import shutil
import sys

import pytest

from bench.claims import figures, page, protocol
from bench.claims.__main__ import main


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    import skimage.data
    from PIL import Image

    folder = tmp_path_factory.mktemp("photos")
    for name in ("astronaut", "coffee", "chelsea", "rocket"):
        image = getattr(skimage.data, name)()[..., :3]
        height, width = image.shape[:2]
        for top, left in ((0, 0), (0, width - 200), (height - 200, 0)):
            Image.fromarray(image[top : top + 200, left : left + 200]).save(folder / f"{name}-{top}-{left}.png")
    return folder


@pytest.mark.timeout(1800)  # half a minute of two cores
def test_the_smallest_plan_runs_goes_on_and_can_be_repeated(photos, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    monkeypatch.setattr(sys, "argv", ["claims", "run", str(photos), "--tier", "smoke", "--out", str(out)])
    assert main() == 0
    before = {path: path.stat().st_mtime_ns for path in out.glob("*/job.json")}
    numbers = (out / "numbers.json").read_text()
    found = json.loads(numbers)["families"]["paper"]
    assert len(found["units"]) == found["claim2"]["whole"] == 2
    judged = json.loads((out / "judged-paper-0-9001" / "judged.json").read_text())
    assert judged["distance"] == min(judged["arms"][arm]["moved"] for arm in protocol.COMPARED)
    html = (out / "report.html").read_text()
    assert all(link in html for link in ("tune-A2-paper-0-9001/metrics.jsonl", "maps-paper-1-9001/rows.json", "cannot show"))
    assert main() == 0  # nothing left to do
    assert before == {path: path.stat().st_mtime_ns for path in out.glob("*/job.json")}
    assert (out / "numbers.json").read_text() == numbers
    assert figures.opened(json.loads(numbers))["tier"] == "smoke"
    monkeypatch.setattr(sys, "argv", ["claims", "compare", str(out), str(out)])
    assert main() == 0
    (out / "judged-paper-1-9001").rename(tmp_path / "aside")
    monkeypatch.setattr(sys, "argv", ["claims", "report", str(out), "--tier", "smoke"])
    assert main() == 0
    found = json.loads((out / "numbers.json").read_text())["families"]["paper"]
    assert [found[claim]["whole"] for claim in ("claim1", "claim2")] == [2, 1]
    (tmp_path / "aside").rename(out / "judged-paper-1-9001")
    assert main() == 0
    assert (out / "numbers.json").read_text() == numbers
    again = tmp_path / "again"
    for folder in out.glob("*-paper-0-9001"):
        shutil.copytree(folder, again / folder.name)
    monkeypatch.setattr(sys, "argv", ["claims", "repeat", str(out), str(again), "paper-0-9001", "--tier", "smoke"])
    assert main() == 0
    assert "9 jobs done again" in capsys.readouterr().out
    log = again / "tune-A2-paper-0-9001" / "metrics.jsonl"
    log.write_text(log.read_text().replace('"step_s"', '"wait_s"').replace('"norm": ', '"norm": 1'))
    assert main() == 1
    assert capsys.readouterr().out.splitlines() == ["These differ:", "tune-A2-paper-0-9001/metrics.jsonl"]
    monkeypatch.setattr(sys, "argv", ["claims", "repeat", str(out), str(again), "paper-9", "--tier", "smoke"])
    assert main() == 1
    docs = tmp_path / "docs"
    text = page.write(protocol.load("smoke"), out, docs).read_text()
    assert "**inconclusive.**" in text
    assert {path.name for path in (docs / "images").iterdir()} >= {"claims-second-2.svg"}
