import json
import re

import pytest

from fgr.report import page, reward_sections


@pytest.fixture(scope="module")
def written(trained, tmp_path_factory):
    return page.write(trained, tmp_path_factory.mktemp("page") / "report.html").read_text()


def test_a_run_shows_curves_scores_and_maps(written, trained):
    assert re.findall(r"<h2>(.*?)</h2>", written) == ["Verdict", "Curves", "Scores", "Maps", "Run"]
    assert written.count("<circle") == 2  # two validation rows
    shown = json.loads((trained / "examples.json").read_text())
    pictures = 4 * sum(map(len, shown["groups"].values()))
    assert written.count("data:image/webp;base64,") == pictures > 0
    assert "stage-1" in written
    assert "of triplets are in order" in written
    assert "<details><summary>Recipe" in written
    assert not re.findall(r"(?:src|href)=\"(?!data:|#)", written)


def test_rounds_show_how_much_less_could_be_bought(tmp_path):
    for number, closed in enumerate((0.77, 0.2)):
        run = tmp_path / ".fgr" / f"round-{number}" / "tuned-0"
        run.mkdir(parents=True)
        own = {"role": "trained", "value": closed, "low": None, "high": 0.9, "photographs": {"p": closed}}
        outcome = {"closures": [own], "closure": closed, "closure_full_reference": 0.01, "hacking_index": closed - 0.01,
                   "ceiling": None, "final_alarms": [] if number else ["bought"]}  # fmt: skip
        (run / "summary.json").write_text(json.dumps(outcome))
        (run / "run.json").write_text(json.dumps({"kind": "rlhf", "recipe": {}, "facts": {"generator": {"name": "small<net>"}}}))
    section = reward_sections.rounds(tmp_path, 4)
    assert [float(one) for one in re.findall(r"<td class=\"n\">(.0\.[27].)</td><td class=\"n\">\+0\.01", section.html)] == [
        0.77,
        0.2,
    ]
    assert re.findall(r"<td>(yes|no)</td>", section.html) == ["yes", "no"]
    assert "small<net>" not in section.html
    assert reward_sections.rounds(tmp_path / "elsewhere", 4) is None


def test_an_unfinished_run_has_a_page_too(trained, tmp_path):
    (tmp_path / "run.json").write_text((trained / "run.json").read_text())
    (tmp_path / "metrics.jsonl").write_text((trained / "metrics.jsonl").read_text()[:200])
    assert re.findall(r"<h2>(.*?)</h2>", page.write(tmp_path).read_text()) == ["Verdict", "Run"]
    written = (tmp_path / "report.html").read_text()
    assert "Nothing was validated yet" in written
    assert "the same command goes on" in written


def test_names_cannot_break_out(tmp_path, trained):
    run = json.loads((trained / "run.json").read_text())
    run["recipe"]["name"] = "<script>alert(1)</script>"
    (tmp_path / "run.json").write_text(json.dumps(run))
    assert "<script>alert" not in page.write(tmp_path).read_text()


def test_long_curves_are_averaged():
    steps, values = reward_sections.thinned((list(range(1000)), [float(i % 2) for i in range(1000)]), most=500)
    assert len(steps) == 500
    assert set(values) == {0.5}
