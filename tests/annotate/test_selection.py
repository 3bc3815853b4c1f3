"""Selection, gold samples, pairs and assignment."""

from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fgr.annotate import selection
from fgr.annotate.selection import Candidate


def crowd(count=400, seed=0):
    rng = np.random.default_rng(seed)
    kinds = ["ellipse", "polygon", "full", "sham"]
    return [
        Candidate(
            f"s{i:04d}",
            f"p{i // 4}",
            "ab"[i % 4 == 0],
            kinds[i % 8 % 4] if i % 8 < 4 else "stroke",
            float(rng.random() * 0.3),
            float(s),
        )
        for i, s in enumerate(rng.beta(6, 2, count))
    ]


def test_selection_is_even_over_models_and_scores():
    candidates = crowd()
    chosen = set(selection.stratified(candidates, 100, 5, np.random.default_rng(1)))
    assert len(chosen) == 100
    rank = {c.id: i * 5 // 400 for i, c in enumerate(sorted(candidates, key=lambda c: c.score))}
    counts = Counter((c.model, rank[c.id]) for c in candidates if c.id in chosen)
    assert set(counts.values()) == {10}


def test_selection_depends_on_the_seed_alone_and_takes_the_most_disputed_first():
    candidates = crowd()
    first = selection.stratified(candidates, 50, 5, np.random.default_rng(3))
    assert first == selection.stratified(candidates, 50, 5, np.random.default_rng(3))
    assert first != selection.stratified(candidates, 50, 5, np.random.default_rng(4))
    marked = [Candidate(c.id, c.source, c.model, c.mask_kind, c.area, c.score, float(c.id < "s0040")) for c in candidates]
    chosen = selection.stratified(marked, 40, 1, np.random.default_rng(3))
    assert sum(name < "s0040" for name in chosen) >= 25
    assert selection.stratified(candidates, 10_000, 5, np.random.default_rng(0)).__len__() == 400


def test_gold_samples_have_a_known_answer():
    candidates = crowd()
    by_id = {c.id: c for c in candidates}
    found = selection.gold(candidates, 20, 0.2, 0.05, np.random.default_rng(0))
    assert Counter(kind for _, kind in found) == {"clean": 10, "strong": 10}
    bound = np.quantile([c.score for c in candidates if c.mask_kind not in ("sham", "full")], 0.2)
    for name, kind in found:
        one = by_id[name]
        assert (
            (one.mask_kind == "sham")
            if kind == "clean"
            else (one.area >= 0.05 and one.score <= bound and one.mask_kind != "full")
        )
    no_sham = [c for c in candidates if c.mask_kind != "sham"]
    assert {kind for _, kind in selection.gold(no_sham, 8, 0.2, 0.05, np.random.default_rng(0))} == {"strong"}
    assert selection.gold([], 8, 0.2, 0.05, np.random.default_rng(0)) == []


def test_pairs_share_a_reference_and_never_repeat():
    candidates = crowd(80)
    by_id = {c.id: c for c in candidates}
    found = selection.pairs(candidates, 60, np.random.default_rng(0))
    assert len({frozenset(pair) for pair in found}) == len(found) == 60
    assert all(by_id[a].source == by_id[b].source and a != b for a, b in found)
    assert 10 < sum(a < b for a, b in found) < 50, "sides are drawn at random"


@settings(max_examples=40)
@given(st.integers(1, 8), st.integers(1, 60), st.data())
def test_assignment_is_balanced_and_nobody_sees_a_sample_twice(people, items, data):
    overlap = data.draw(st.integers(1, people))
    names = [f"a{i}" for i in range(people)]
    given_to = selection.assign([f"s{i}" for i in range(items)], names, overlap, ["s0"])
    assert given_to["s0"] == names
    assert all(len(set(who)) == len(who) == overlap for item, who in given_to.items() if item != "s0")
    load = Counter(name for item, who in given_to.items() if item != "s0" for name in who)
    counts = [load[name] for name in names]
    assert max(counts) - min(counts) <= 1


def test_assignment_lets_everybody_be_compared_with_everybody_and_evens_out_what_came_before():
    names = list("abcde")
    given_to = selection.assign([f"s{i}" for i in range(100)], names, 2)
    met = Counter(frozenset(pair) for who in given_to.values() for pair in combinations(who, 2))
    assert len(met) == 10
    later = selection.assign([f"t{i}" for i in range(30)], names, 1, load={"a": 20, "b": 20})
    assert Counter(who[0] for who in later.values()) == {"c": 10, "d": 10, "e": 10}
    with pytest.raises(ValueError, match="2 raters for each item, but 1 annotators"):
        selection.assign(["s"], ["a"], 2)


def test_disagreement():
    one, none = np.full((8, 8), 0.5, np.float32), np.zeros((8, 8), np.float32)
    assert selection.disagreement(one, one) == 0
    assert selection.disagreement(one, none) == selection.disagreement(none, one) == 1
    assert selection.disagreement(none, none) == 0
    assert selection.disagreement(one, one / 2) == pytest.approx(0.5)


def test_cold_share():
    ids = [f"s{i}" for i in range(50)]
    cold = selection.cold(ids, 0.2, np.random.default_rng(0))
    assert len(cold) == 10
    assert cold < set(ids)
