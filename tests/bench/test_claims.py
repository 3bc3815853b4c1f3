"""The protocol is tied to the code, the statistics are right, the rules decide as they say, and the plan runs end to end."""

import copy
import json
import math
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from bench.claims import figures, page, plan, protocol, report, statistics, verdicts  # noqa: E402
from bench.claims.__main__ import main  # noqa: E402
from bench.claims.jobs import JOBS, dealt, photographs  # noqa: E402
from fgr import recipe as recipes  # noqa: E402
from fgr.errors import UserError  # noqa: E402

TREE = yaml.safe_load(protocol.FILE.read_text())
TIERS = tuple(TREE["tiers"])
LIMITS = protocol.load("cpu").thresholds
KINDS = {"generated": "generate", "trained": "reward", "tuned": "rlhf", "judged": "rlhf"}


@pytest.mark.parametrize("tier", TIERS)
def test_every_job_can_be_done_its_recipe_is_sound_and_its_needs_come_before_it(tier):
    made, checked = set(), set()
    for job in plan.jobs(protocol.load(tier), "photos"):
        assert job.kind in JOBS
        assert set(job.needs.values()) <= made, job.name
        assert job.name not in made
        made.add(job.name)
        told = json.dumps([job.settings.get("recipe"), job.settings.get("changes", {}) | {"seed": 0}], sort_keys=True)
        if job.kind in KINDS and told not in checked:
            checked.add(told)
            recipes.load(job.settings["recipe"], KINDS[job.kind], (), job.settings["changes"])


def test_the_unit_is_the_reward_model_and_there_are_enough_where_verdicts_are_given():
    for tier in ("cpu", "night", "gpu"):
        chosen = protocol.load(tier)
        units = chosen.units("paper")
        assert len({(unit.fold, unit.seed) for unit in units}) == len(units)
        assert len(units) >= chosen.thresholds.units
        assert min(chosen.photographs["test"], chosen.measures.rows, chosen.measures.crops) >= chosen.thresholds.photographs
        assert (tier == "night") != bool(chosen.cannot)
        tuned = [job for job in plan.jobs(chosen, "photos") if job.kind == "tuned"]
        assert len(tuned) == sum(len(one.arms) * len(chosen.units(name)) for name, one in chosen.families.items())
        beside = {"A0", "A4d", "A4c"}  # whose own reward is not R_N in z-units
        named = {job.name.split("-")[1] for job in tuned if "yardstick" in job.needs}
        assert named == beside & set(chosen.families["paper"].arms)


@pytest.mark.parametrize("tier", TIERS)
def test_nothing_changes_in_the_steps_that_are_measured(tier):
    chosen = protocol.load(tier)
    first = chosen.tuning.changes["training"]["steps"] - chosen.measures.measured
    assert chosen.tuning.changes["audit"].get("first", 0) <= first
    for name in set(chosen.families["paper"].arms) - {"A-1", "A0"}:
        changes = chosen.arms[name].changes
        before = sum(changes.get("curriculum.steps", [0])[:-1])
        assert max(before + changes.get("curriculum.blend_steps", 0), changes.get("training.warmup", 0)) <= first, name


def test_tiers_keep_their_time_by_the_estimates_and_an_estimate_is_that_of_the_jobs_side_by_side():
    for tier, minutes in {"cpu": 75, "gpu": 10, "night": 12 * 60}.items():
        chosen = protocol.load(tier)
        assert plan.estimate(plan.jobs(chosen, ""), chosen.seconds, chosen.workers) <= minutes
    jobs = [plan.Job("a", "x"), plan.Job("b", "x"), plan.Job("c", "y", {"one": "a", "other": "b"}), plan.Job("d", "x")]
    assert plan.estimate(jobs, {"x": 60, "y": 120}, 2) == 3  # a and b; c beside d
    assert plan.estimate(jobs, {"x": 60, "y": 120}, 1) == 5


def test_power_is_stated_and_is_what_the_assumptions_give():
    assert statistics.power(0.405, 0.51, 20, 0.05) == pytest.approx(0.92, abs=0.01)
    assert statistics.power(0.0, 1.0, 20, 0.05) == pytest.approx(0.05, abs=1e-6)
    said = report.planned(protocol.load("night"))
    assert "claim2: effect 0.405, power 0.92, 0.81 after Holm" in said
    assert "What people prefer" in said
    assert all(one in report.planned(protocol.load("cpu")) for one in protocol.load("cpu").cannot)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("surprise", 1), ("thresholds.claim1.gian", 0.1), ("engines.held_out", "realesrgan-anime"), ("arms.A6", {}),
        ("photographs", {"rm": 1}), ("families.paper.arms", ["A-1", "A0", "A1"]),
    ],
)  # fmt: skip
def test_a_protocol_with_a_mistake_is_refused(tmp_path, key, value):
    tree = copy.deepcopy(TREE)
    place = tree
    *parents, last = key.split(".")
    for part in parents:
        place = place[part]
    place[last] = value
    file = tmp_path / "protocol.yaml"
    file.write_text(yaml.safe_dump(tree))
    with pytest.raises(UserError):
        protocol.load("night", file)  # which changes nothing


def test_a_tier_changes_no_key_that_is_not_there(tmp_path):
    file = tmp_path / "protocol.yaml"
    file.write_text(protocol.FILE.read_text().replace("measures.rows: 80", "measures.rowz: 80"))
    with pytest.raises(UserError, match="rowz"):
        protocol.load("cpu", file)


def test_photographs_are_dealt_to_disjoint_parts_and_too_few_are_refused(tmp_path):
    parts = dealt([f"{number:03}" for number in range(130)], {"rm": 24, "judge": 8, "rl": 8, "test": 64})
    assert [len(names) for names in parts.values()] == [30, 10, 10, 80]
    assert len({name for names in parts.values() for name in names}) == 130
    (tmp_path / "one.png").write_bytes(b"one")
    with pytest.raises(UserError, match="holds 1 different photographs, the plan needs 3"):
        photographs(tmp_path / "out", {}, "cpu", str(tmp_path), {"rm": 2, "test": 1})


def test_statistics_by_hand():
    assert statistics.instability([0, 1, 2, 3, 4]) == 0  # a steady rise
    assert statistics.instability([0, 1, 0, 1]) == pytest.approx(math.sqrt(4 / 6))  # second differences −2 and 2
    noise = np.random.default_rng(0).normal(0, 0.3, 4000) + np.arange(4000)
    assert statistics.instability(noise.tolist()) == pytest.approx(0.3, abs=0.01)
    assert statistics.holm({"a": 0.01, "b": 0.04, "c": math.nan}) == pytest.approx({"a": 0.03, "b": 0.08, "c": 1.0})
    assert statistics.ratio([2, 2, 2], [1, 1, 1], 100).value == pytest.approx(2)
    found = statistics.over_units([1.0, 2.0, 3.0], 1000)
    assert found.low == pytest.approx(2 - 4.303 / math.sqrt(3), abs=1e-3)  # Student's t with two degrees of freedom
    assert (found.value, found.n) == (2, 3)
    assert found.p == pytest.approx(0.0371, abs=1e-3)
    assert statistics.sign_test(5, 0) == pytest.approx(1 / 32)
    assert statistics.sign_test(0, 0) == 1


def test_an_interval_is_as_wide_as_models_and_photographs_make_it():
    rng = np.random.default_rng(1)
    models, photos = rng.normal(0, 1, (20, 1)), rng.normal(0, 1, (1, 64))
    wide, narrow = (statistics.crossed(1 + values, 2000) for values in (models + photos, 0 * models + photos))
    assert wide.high - wide.low > 1.3 * (narrow.high - narrow.low)
    assert wide.low < 1 < wide.high
    assert statistics.crossed(np.full((15, 64), 0.1), 500).p < 0.01 < statistics.crossed(models + photos, 500).p


def test_the_hacking_index_is_the_lead_of_the_arms_own_reward_over_the_figures_that_vote(tmp_path):
    chosen = protocol.load("smoke")
    units = chosen.units("paper")

    def closed(value):
        return {"value": value, "photographs": {"p": value - 0.1, "q": value + 0.1}}

    for number, unit in enumerate(units):
        at = {
            "RM_0": closed(0.8),
            "RM_N": closed(0.3),
            "judge": closed(0.2),
            "ssim": closed(0.1 * number),
            "lite0_distance": closed(0.5),
        }
        arms = {arm: {"moved": 2.0, "at": at, "end": at} for arm in protocol.COMPARED}
        judged = {"distance": 1.0, "photographs": ["p", "q"], "without_vote": ["lite0_distance"], "arms": arms}
        figures.write(tmp_path / f"judged-{unit.name}" / "judged.json", judged)
    found = figures.hacking(tmp_path, chosen, units)
    assert found["arms"]["A0"]["index"]["value"] == pytest.approx(0.75)  # 0.8 − 0 and 0.8 − 0.1
    assert found["arms"]["A2"]["index"]["value"] == pytest.approx(0.25)
    assert (found["difference"]["value"], found["whole"], found["worth"]["value"]) == (pytest.approx(0.5), 2, 0)
    del judged["arms"]["A1"]  # a run that broke before it had a network
    figures.write(tmp_path / f"judged-{units[1].name}" / "judged.json", judged)
    assert figures.hacking(tmp_path, chosen, units)["left_out"] == [units[1].name]


def effect(value, low, high, p=0.001):
    return {"value": value, "low": low, "high": high, "n": 20, "p": p}


GOOD = effect(0.2, 0.1, 0.3)
FAMILY = {
    "units": [f"u{number}" for number in range(20)],
    "claim1": {
        "gains": {kind: {"flatness": GOOD, "centre": GOOD} for kind in ("mask", "map")}, "photographs": 64, "sham": 0.05,
        "whole": 20, "ap": {kind: {"RM_N": 0.5} for kind in ("mask", "map")}, "prevalence": {"mask": 0.2, "map": 0.1},
    },
    "claim2": {
        "ratios": {arm: effect(2.0, 1.3, 3.0) for arm in ("A1", "A3", "A5")}, "final_difference": effect(0.1, 0.0, 0.2),
        "broken": {arm: [] for arm in ("A1", "A2")}, "breaks_more": 1.0, "power": 0.9, "whole": 20,
    },
    "claim3": {
        "arms": {
            "A0": {"index": effect(0.6, 0.5, 0.7), "own": effect(0.6, 0.5, 0.7)},
            "A2": {"index": effect(0.1, 0.0, 0.2), "own": effect(0.2, 0.1, 0.3)},
        },
        "difference": effect(0.5, 0.4, 0.6), "worth": effect(0.02, 0.01, 0.03), "distance": 1.5, "photographs": 64, "whole": 20,
    },
}  # fmt: skip


def decided(claim, *changes):
    family = copy.deepcopy(FAMILY)
    for key, value in changes:
        place = family
        *parents, last = key.split("/")
        for part in parents:
            place = place[part]
        place[last] = value
    return verdicts.decide(family, LIMITS)[claim].verdict


@pytest.mark.parametrize(
    ("key", "value", "verdict"),
    [
        ("sham", 0.05, "confirmed"), ("gains/map/centre", effect(0.04, 0.01, 0.07), "inconclusive"),
        ("gains/mask/flatness", effect(0.0, -0.01, 0.015), "refuted"), ("sham", 0.2, "inconclusive"),
        ("gains/map/flatness", effect(0.2, 0.1, 0.3, 0.02), "inconclusive"), ("photographs", 63, "inconclusive"),
        ("prevalence", {"mask": 0.4, "map": 0.1}, "inconclusive"),
    ],
)  # fmt: skip
def test_claim_1(key, value, verdict):
    others = [("claim2/ratios/A1", effect(2.0, 1.3, 3.0, 0.04)), ("claim3/difference", effect(0.5, 0.4, 0.6, 0.04))]
    assert decided("claim1", (f"claim1/{key}", value), *others) == verdict


@pytest.mark.parametrize(
    ("key", "value", "verdict"),
    [
        ("power", 0.9, "confirmed"), ("ratios/A1", effect(1.1, 0.9, 1.3), "refuted"),
        ("ratios/A1", effect(1.2, 1.05, 1.4), "inconclusive"), ("ratios/A3", effect(0.9, 0.5, 1.5), "refuted"),
        ("ratios/A5", effect(1.2, 0.9, 1.5), "inconclusive"), ("final_difference", effect(-0.3, -0.5, -0.2), "inconclusive"),
        ("broken/A2", ["u1"], "inconclusive"), ("breaks_more", 0.03, "confirmed"), ("whole", 14, "inconclusive"),
        ("ratios", dict.fromkeys(("A1", "A3"), effect(2.0, 1.5, 3.0)), "inconclusive"),
    ],
)  # fmt: skip
def test_claim_2(key, value, verdict):
    assert decided("claim2", (f"claim2/{key}", value)) == verdict


def test_what_is_not_measured_yet_decides_nothing_and_counts_as_a_test_that_failed():
    found = verdicts.decide(FAMILY | {"claim2": None, "claim3": None}, LIMITS)
    assert [found[name].why for name in ("claim2", "claim3")] == ["Not measured yet."] * 2
    assert {found[name].verdict for name in ("claim2", "claim3")} == {"inconclusive"}
    assert found["claim1"].verdict == "confirmed"  # p = 0.001, three times that after Holm
    few = FAMILY | {"claim2": None, "claim3": None, "claim1": FAMILY["claim1"] | {"whole": 14}}
    assert "14 reward models" in verdicts.decide(few, LIMITS)["claim1"].why


def test_claim_2_without_power_is_not_refuted_and_more_breaks_refute_it():
    weak = ("claim2/ratios/A1", effect(1.1, 0.5, 2.5))
    assert decided("claim2", weak, ("claim2/power", 0.3)) == "inconclusive"
    assert decided("claim2", weak, ("claim2/power", 0.3), ("claim2/breaks_more", 0.03)) == "refuted"


@pytest.mark.parametrize(
    ("key", "value", "verdict"),
    [
        ("distance", 1.5, "confirmed"), ("distance", 0.2, "inconclusive"), ("arms/A2/index", effect(0.5, 0.4, 0.6), "refuted"),
        ("arms/A0/index", effect(0.1, 0.0, 0.2), "refuted"), ("arms/A2/index", effect(0.2, 0.1, 0.4), "inconclusive"),
        ("worth", effect(0.0, -0.01, 0.01), "inconclusive"), ("difference", effect(-0.2, -0.3, -0.1), "refuted"),
        ("arms/A2/own", effect(0.01, 0.0, 0.02), "inconclusive"), ("difference", effect(0.5, 0.4, 0.6, 0.06), "inconclusive"),
    ],
)  # fmt: skip
def test_claim_3(key, value, verdict):
    assert decided("claim3", (f"claim3/{key}", value)) == verdict


def test_pages_are_those_of_their_protocols(tmp_path):
    text, cpu = (ROOT / "docs" / "claims.md").read_text(), protocol.load("cpu")
    assert page.UNRUN not in text or text == page.write(cpu, None, tmp_path).read_text()
    assert all(rule.strip() in text for rule in cpu.rules.values())
    first = yaml.safe_load((ROOT / "bench" / "claims" / "first-protocol.yaml").read_text())
    history = " ".join((ROOT / "docs" / "claims-first.md").read_text().split())
    assert all(" ".join(rule.split()) in history for rule in first["rules"].values())
    assert all(one["title"] in history for one in first["arms"].values())


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
