"""The protocol is tied to the code, the statistics are right, the rules decide as they say, and the plan runs end to end."""

import copy
import json
import math
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from bench.claims import page, plan, protocol, statistics, verdicts  # noqa: E402
from bench.claims.__main__ import main  # noqa: E402
from bench.claims.jobs import JOBS, dealt  # noqa: E402
from fgr import recipe as recipes  # noqa: E402
from fgr.errors import UserError  # noqa: E402

TIERS = tuple(yaml.safe_load(protocol.FILE.read_text())["tiers"])
LIMITS = protocol.load("cpu").thresholds
KINDS = {"generated": "generate", "trained": "reward", "tuned": "rlhf", "instruments": "rlhf", "attacked": "rlhf"}


@pytest.mark.parametrize("tier", TIERS)
def test_every_job_can_be_done_its_recipe_is_sound_and_its_needs_come_before_it(tier):
    made = set()
    for job in plan.jobs(protocol.load(tier), "photos"):
        assert job.kind in JOBS
        assert set(job.needs.values()) <= made, job.name
        assert job.name not in made
        made.add(job.name)
        if job.kind in KINDS:
            recipes.load(job.settings["recipe"], KINDS[job.kind], (), job.settings["changes"])


def test_the_plan_has_what_was_promised():
    cpu = protocol.load("cpu")
    tuned = [job for job in plan.jobs(cpu, "photos") if job.kind == "tuned"]
    assert len(cpu.tuning.seeds) >= 8
    assert len(tuned) == len(protocol.ARMS) * len(cpu.tuning.seeds)
    assert all(len(protocol.load(tier).arms) == len(protocol.ARMS) for tier in TIERS)
    assert cpu.digest != protocol.load("gpu").digest


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("surprise", 1),
        ("thresholds.claim1.gian", 0.1),
        ("engines.held_out", "realesrgan-anime"),
        ("arms.A6", {}),
        ("photographs", {"rm": 1}),
    ],
)
def test_a_protocol_with_a_mistake_is_refused(tmp_path, key, value):
    tree = yaml.safe_load(protocol.FILE.read_text())
    place = tree
    *parents, last = key.split(".")
    for part in parents:
        place = place[part]
    place[last] = value
    file = tmp_path / "protocol.yaml"
    file.write_text(yaml.safe_dump(tree))
    with pytest.raises(UserError):
        protocol.load("cpu", file)


def test_a_tier_changes_no_key_that_is_not_there(tmp_path):
    file = tmp_path / "protocol.yaml"
    file.write_text(protocol.FILE.read_text().replace("measures.rows: 576", "measures.rowz: 576"))
    with pytest.raises(UserError, match="rowz"):
        protocol.load("gpu", file)


def test_photographs_are_dealt_to_disjoint_parts():
    parts = dealt([f"{number:02}" for number in range(39)], {"rm": 14, "gold": 6, "rl": 7, "test": 12})
    assert [len(names) for names in parts.values()] == [14, 6, 7, 12]
    assert len({name for names in parts.values() for name in names}) == 39


def test_statistics_by_hand():
    assert statistics.instability([9, 9, 0, 1, 3, 2]) == pytest.approx(math.sqrt(4.5))  # of 1, 3, 2: differences 2 and −1
    assert statistics.drawdown([0, 3, 1, 4, 2]) == 2
    assert statistics.at_distance([0, 2, 4], [0, 10, 30], 3) == 20
    assert statistics.at_distance([0, 2, 4], [0, 10, 30], 9) == 30
    assert statistics.holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})
    assert statistics.ratio([2, 2, 2], [1, 1, 1], 100).value == pytest.approx(2)
    found = statistics.over_seeds([1.0, 2.0, 3.0], 1000)
    assert (found.value, found.n) == (2, 3)
    assert found.low == pytest.approx(2 - 4.303 / math.sqrt(3), abs=1e-3)  # Student's t with two degrees of freedom
    same = statistics.over_groups([1, 1, 5, 5], ["a", "a", "b", "b"], 1000)
    assert (same.value, same.low, same.high, same.n) == (3, 1, 5, 2)
    assert statistics.power([-0.4, 0.4] * 4, 10.0, 0.05) == pytest.approx(1)
    assert statistics.below_zero([-1.0, -1.1, -0.9]) < 0.01 < statistics.below_zero([-1.0, 1.1, 0.2])
    assert statistics.rises([1, 2, 3])
    assert not statistics.rises([1, 1, 3])


def interval(value, low, high):
    return {"value": value, "low": low, "high": high, "n": 8}


ONE = {
    "ap": {"RM_N": 0.5, "flatness": 0.3}, "best": "flatness", "prevalence": 0.2, "gain": interval(0.2, 0.1, 0.3), "sham": 0.05,
    "pairs": {"difference": interval(0.2, 0.1, 0.3)},
}  # fmt: skip
TWO = {
    "ratios": {arm: interval(2.0, 1.3, 3.0) for arm in ("A1", "A3", "A5")}, "final_difference": interval(0.2, 0.0, 0.4),
    "rise": dict.fromkeys(("A1", "A2", "A3", "A5"), 2.0), "power": 0.9,
}  # fmt: skip
GROUPS = ("fidelity", "naturalness", "gold")


def arm(down):
    groups = {name: interval(0.1, -0.1, 0.3) | {"p": 0.5, "down": name in down} for name in GROUPS}
    groups["gold"] = interval(0.3, 0.1, 0.5) | {"p": 0.5, "down": "gold" in down}
    return {"trained": interval(2.0, 1.5, 2.5), "groups": groups}


THREE = {
    "groups": list(GROUPS), "arms": {"A0": arm(("fidelity", "naturalness")), "A2": arm(())},
    "index_difference": interval(1.0, 0.5, 1.5), "gold_over_fidelity": interval(0.2, 0.1, 0.3),
}  # fmt: skip


def changed(found, key, value):
    found = copy.deepcopy(found)
    place = found
    *parents, last = key.split("/")
    for part in parents:
        place = place[part]
    place[last] = value
    return found


@pytest.mark.parametrize(
    ("key", "value", "verdict"),
    [
        ("best", "flatness", "confirmed"), ("gain", interval(0.04, 0.01, 0.07), "inconclusive"),
        ("gain", interval(0.0, -0.01, 0.015), "refuted"), ("sham", 0.2, "inconclusive"),
        ("pairs/difference", interval(0.05, 0, 0.1), "inconclusive"), ("prevalence", 0.3, "inconclusive"),
    ],
)  # fmt: skip
def test_claim_1(key, value, verdict):
    assert verdicts.claim1(changed(ONE, key, value), LIMITS.claim1, LIMITS.instruments).verdict == verdict


@pytest.mark.parametrize(
    ("key", "value", "verdict"),
    [
        ("power", 0.9, "confirmed"), ("ratios/A1", interval(1.1, 0.9, 1.3), "refuted"),
        ("ratios/A1", interval(1.2, 1.05, 1.4), "inconclusive"), ("ratios/A3", interval(0.9, 0.5, 1.5), "refuted"),
        ("ratios/A5", interval(1.2, 0.9, 1.5), "inconclusive"), ("final_difference", interval(-0.3, -0.5, -0.2), "inconclusive"),
        ("rise/A2", 0.5, "inconclusive"),
    ],
)  # fmt: skip
def test_claim_2(key, value, verdict):
    assert verdicts.claim2(changed(TWO, key, value), LIMITS.claim2, LIMITS.instruments).verdict == verdict


def test_claim_2_without_power_is_not_refuted():
    weak = changed(changed(TWO, "ratios/A1", interval(1.1, 0.5, 2.5)), "power", 0.3)
    assert verdicts.claim2(weak, LIMITS.claim2, LIMITS.instruments).verdict == "inconclusive"


@pytest.mark.parametrize(
    ("key", "value", "verdict"),
    [
        ("groups", list(GROUPS), "confirmed"), ("arms/A0", arm(()), "refuted"), ("arms/A2", arm(GROUPS), "refuted"),
        ("arms/A2", arm(("fidelity",)), "inconclusive"), ("groups", ["gold"], "inconclusive"),
        ("index_difference", interval(0.5, -0.5, 1.5), "inconclusive"),
        ("arms/A0/trained", interval(0.5, 0.4, 0.6), "inconclusive"),
    ],
)  # fmt: skip
def test_claim_3(key, value, verdict):
    assert verdicts.claim3(changed(THREE, key, value), LIMITS.claim3, LIMITS.instruments).verdict == verdict


def test_the_thresholds_of_the_file_decide():
    strict = LIMITS.claim1.model_copy(update={"gain": 0.25})
    assert verdicts.claim1(ONE, strict, LIMITS.instruments).verdict == "inconclusive"


def test_the_page_is_that_of_the_protocol(tmp_path):
    text = (ROOT / "docs" / "claims.md").read_text()
    cpu = protocol.load("cpu")
    assert all(" ".join(rule.split()) in " ".join(text.split()) for rule in cpu.rules.values())
    assert all(one.title in text for one in cpu.arms.values())
    assert page.write(cpu, None, tmp_path).read_text().startswith("# The three claims, tested")


def test_the_smallest_plan_runs_and_goes_on(tmp_path, monkeypatch):
    import skimage.data
    from PIL import Image

    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("astronaut", "coffee", "chelsea", "rocket"):
        image = getattr(skimage.data, name)()[..., :3]
        height, width = image.shape[:2]
        for top, left in ((0, 0), (0, width - 200), (height - 200, 0)):
            Image.fromarray(image[top : top + 200, left : left + 200]).save(photos / f"{name}-{top}-{left}.png")
    out = tmp_path / "out"
    call = ["claims", "run", str(photos), "--tier", "smoke", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", call)
    assert main() == 0
    before = {path: path.stat().st_mtime_ns for path in out.glob("*/job.json")}
    numbers = (out / "numbers.json").read_text()
    assert json.loads(numbers)["claim2"]["seeds"] == 2
    html = (out / "report.html").read_text()
    assert all(link in html for link in ("tune-A2-1/metrics.jsonl", "maps-rm-1/rows.json", "What this cannot show"))
    assert main() == 0  # nothing left to do
    assert before == {path: path.stat().st_mtime_ns for path in out.glob("*/job.json")}
    assert (out / "numbers.json").read_text() == numbers
    monkeypatch.setattr(sys, "argv", ["claims", "compare", str(out), str(out)])
    assert main() == 0
    docs = tmp_path / "docs"
    text = page.write(protocol.load("smoke"), out, docs).read_text()
    assert "## Verdicts" in text
    assert {path.name for path in (docs / "images").iterdir()} == {"claims-1.webp", "claims-2.svg", "claims-3.webp"}
