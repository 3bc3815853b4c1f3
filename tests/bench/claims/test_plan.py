"""What each tier plans can be done, is enough for verdicts, and keeps its time."""

import json

import pytest
import yaml

from bench.claims import plan, protocol
from bench.claims.jobs import JOBS
from fgr import recipe as recipes

TIERS = tuple(yaml.safe_load(protocol.FILE.read_text())["tiers"])
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
