"""The page of a tuning run."""

import json
import re
import shutil
from html import escape

import pytest

from fgr import recipe as recipes
from fgr.report import page
from fgr.rlhf.run import tune

OVERRIDES = (
    "data={crop: 16, batch: 2}",
    "audit={every: 3, images: 2, crop: 16, patch: 32, sheet: 2, planted: 1, metrics: [], at_hand: false}",
    "reward.reference_images=4",
    "training={steps: 6, lr: 1.0e-4, checkpoint_every: 3}", "curriculum.blend_steps=2",
)  # fmt: skip


@pytest.fixture(scope="module")
def tuned(network_files, reward_run, tiny, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    tune(recipes.load("demo", "rlhf", OVERRIDES), network_files["compact"], str(reward_run), str(tiny), out, "cpu")
    return out


def test_a_run_shows_curves_table_and_pictures_in_one_file(tuned):
    written = page.write(tuned).read_text()
    parts = ["Verdict", "Curves", "Start and end", "Known defects", "Pictures", "Run"]
    assert re.findall(r"<h2>(.*?)</h2>", written) == parts
    assert written.count("data:image/webp;base64,") == 2 * 7
    assert ">RM_1</text>" in written
    assert ">RM_2</text>" in written
    assert "trained reward" in written
    assert "naturalness" in written
    found = json.loads((tuned / "summary.json").read_text())
    psnr = next(row for row in found["metrics"] if row["metric"] == "psnr")
    if psnr["low"] is not None:
        assert f"[{psnr['low']:+.3g}, {psnr['high']:+.3g}]" in written
    assert escape(found["verdict"][0]) in written
    assert "trained reward: " in written or "no gap" in written
    assert "difference ×8" in written
    assert "<th>checkerboard</th>" in written
    assert not re.findall(r"(?:src|href)=\"(?!data:|#)", written)


def test_an_unfinished_run_shows_its_newest_sheet(tuned, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(tuned, out)
    (out / "summary.json").unlink()
    written = page.write(out).read_text()
    assert re.findall(r"<h2>(.*?)</h2>", written) == ["Verdict", "Curves", "Pictures", "Run"]
    assert "step-000006" in written
    assert "the same command goes on" in written


def test_a_run_of_an_earlier_version_still_opens(tuned, tmp_path):
    """Its index is in standard deviations, its intervals are over images, and there are no closures."""
    out = tmp_path / "run"
    shutil.copytree(tuned, out)
    new = ("closure", "ceiling", "excess", "hacking_index_")
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    older = [{name: value for name, value in line.items() if not name.startswith(new)} for line in lines]
    for line in older:
        line |= {"hacking_index": 4.5} if line["split"] == "audit" else {}
    (out / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in older))
    found = json.loads((out / "summary.json").read_text())
    kept = {
        "steps", "ended", "best_step", "alarms", "skipped", "rollbacks", "images", "reward", "held_out", "metrics", "generator",
        "license", "scale", "examples",
    }  # fmt: skip
    older = {name: value for name, value in found.items() if name in kept} | {"hacking_index": 4.5}
    for row in older["metrics"]:
        row |= {"low": -0.5, "high": 0.5}
    (out / "summary.json").write_text(json.dumps(older))
    written = page.write(out).read_text()
    assert re.findall(r"<h2>(.*?)</h2>", written) == ["Verdict", "Curves", "Start and end", "Pictures", "Run"]
    assert "+4.50 sd" in written
    assert "bootstrap interval over images" in written


def test_alarms_are_marked_in_red_and_named_in_the_events(tuned, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(tuned, out)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        if line["split"] == "audit" and line["step"] == 3:
            line["alarm"] = True
    lines.append({"step": 3, "split": "event", "event": "alarm", "reason": "reward hacking: <b>bold</b>"})
    (out / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    written = page.write(out).read_text()
    assert written.count('class="alarm"') == 3  # in each panel of the audit
    assert "reward hacking: &lt;b&gt;bold" in written
    assert page.write(tuned).read_text().count('class="alarm"') == 0
