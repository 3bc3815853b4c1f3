import json
import re

import pytest

from fgr.report import page, reward_sections


@pytest.fixture(scope="module")
def written(trained, tmp_path_factory):
    return page.write(trained, tmp_path_factory.mktemp("page") / "report.html").read_text()


def test_a_run_shows_curves_scores_and_maps(written, trained):
    assert re.findall(r"<h2>(.*?)</h2>", written) == ["Run", "Curves", "Scores", "Maps"]
    assert written.count("<circle") == 2  # two validation rows
    shown = json.loads((trained / "examples.json").read_text())
    pictures = 4 * sum(map(len, shown["groups"].values()))
    assert written.count("data:image/webp;base64,") == pictures > 0
    assert "stage-1" in written
    assert not re.findall(r"(?:src|href)=\"(?!data:|#)", written)


def test_an_unfinished_run_has_a_page_too(trained, tmp_path):
    (tmp_path / "run.json").write_text((trained / "run.json").read_text())
    (tmp_path / "metrics.jsonl").write_text((trained / "metrics.jsonl").read_text()[:200])
    assert re.findall(r"<h2>(.*?)</h2>", page.write(tmp_path).read_text())[0] == "Run"


def test_names_cannot_break_out(tmp_path, trained):
    run = json.loads((trained / "run.json").read_text())
    run["recipe"]["name"] = "<script>alert(1)</script>"
    (tmp_path / "run.json").write_text(json.dumps(run))
    assert "<script>alert" not in page.write(tmp_path).read_text()


def test_long_curves_are_averaged():
    steps, values = reward_sections.thinned((list(range(1000)), [float(i % 2) for i in range(1000)]), most=500)
    assert len(steps) == 500
    assert set(values) == {0.5}
