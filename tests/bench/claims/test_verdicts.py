"""The rules of the three claims decide as they say, on numbers that are made up."""

import copy

import pytest

from bench.claims import protocol, verdicts

LIMITS = protocol.load("cpu").thresholds


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


def test_what_is_not_measured_yet_decides_nothing_and_counts_as_a_test_that_failed():
    found = verdicts.decide(FAMILY | {"claim2": None, "claim3": None}, LIMITS)
    assert [found[name].why for name in ("claim2", "claim3")] == ["Not measured yet."] * 2
    assert {found[name].verdict for name in ("claim2", "claim3")} == {"inconclusive"}
    assert found["claim1"].verdict == "confirmed"  # p = 0.001, three times that after Holm
    few = FAMILY | {"claim2": None, "claim3": None, "claim1": FAMILY["claim1"] | {"whole": 14}}
    assert "14 reward models" in verdicts.decide(few, LIMITS)["claim1"].why
