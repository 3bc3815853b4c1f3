"""Poisoned annotations are left out one by one, named by their task; the rest of an export arrives, whatever it holds."""

import copy
import json

import numpy as np
import pytest
from fuzz_budget import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_campaign import score
from studio_double import StudioDouble

from fgr.annotate import campaign as campaigns
from fgr.annotate import labelling, run, tasks
from fgr.annotate.campaign import Campaign, Entry
from fgr.annotate.labelling import KINDS
from fgr.dataset import tables
from fgr.errors import UserError

NOISE = KINDS.index("noise")
SQUARE = np.zeros((128, 128), np.uint8)
SQUARE[:40, :40] = 3
COMMENT = {"from_name": "comment", "value": {"text": ["good"]}}


def annotation(**changes):
    plain = {
        "id": 5, "completed_by": 7, "was_cancelled": False, "lead_time": 4.5, "created_at": "2026-01-01T00:00:00.1Z",
        "updated_at": "2026-01-01T00:01:00.1Z", "result": [*tasks.regions(SQUARE, NOISE), *score(70), COMMENT],
    }  # fmt: skip
    return plain | changes


def spoilt_item(at, **changes):
    """The result with one of its items changed; changes of `value` are merged into it."""
    result = copy.deepcopy(annotation()["result"])
    value = changes.pop("value", None)
    result[at] |= changes
    result[at]["value"] = (
        result[at]["value"] | value if isinstance(value, dict) else result[at]["value"] if value is None else value
    )
    return {"result": result}


POISONED = {
    "brushlabels a dict": (spoilt_item(0, value={"brushlabels": {"a": 1}}), "a result of an unknown form (brushlabels)"),
    "brushlabels numbers": (spoilt_item(0, value={"brushlabels": [1]}), "a result of an unknown form (brushlabels)"),
    "a code that is text": (spoilt_item(0, value={"rle": "abc"}), "a result of an unknown form (rle)"),
    "a region's id a list": (spoilt_item(0, id=["r"]), "a result of an unknown form (id)"),
    "a rating's id a dict": (spoilt_item(1, id={"r": 1}), "a result of an unknown form (id)"),
    "a rating a list": (spoilt_item(1, value={"rating": [3]}), "a result of an unknown form (rating)"),
    "a value a list": (spoilt_item(2, value=[1]), "a result of an unknown form (value)"),
    "a control a list": (spoilt_item(2, from_name=["score"]), "a result of an unknown form (from_name)"),
    "a comment a dict": (spoilt_item(3, value={"text": {"a": 1}}), "a result of an unknown form (text)"),
    "a size a list": (spoilt_item(0, original_width=[128]), "a result of an unknown form (original_width)"),
    "lead_time words": ({"lead_time": "four"}, "an annotation of an unknown form (lead_time)"),
    "lead_time endless": ({"lead_time": float("inf")}, "an annotation of an unknown form (lead_time)"),
    "lead_time digits": ({"lead_time": 10**400}, "an annotation of an unknown form (lead_time)"),
    "created_at words": ({"created_at": "yesterday"}, "an annotation of an unknown form (created_at)"),
    "updated_at a number": ({"updated_at": 5}, "an annotation of an unknown form (updated_at)"),
    "a time before all": ({"updated_at": "0001-01-01T00:00:00Z"}, "an annotation of an unknown form (updated_at)"),
    "an author a list": ({"completed_by": [7]}, "an annotation of an unknown form (completed_by)"),
    "an author's name cut": ({"completed_by": {"email": "a\ud800"}}, "an annotation of an unknown form (completed_by)"),
    "no author": ({"completed_by": None}, "work without an author"),
    "no result": ({"result": None}, "an annotation of an unknown form (result)"),
}


@pytest.fixture
def samples(tiny):
    """Samples of the tiny dataset, in order."""
    return [row["id"] for row in tables.read_rows(tiny, "samples", ("id",))]


def task(number, sample, *annotations):
    data = {tasks.KEY: sample}
    return {"id": number, "data": data, "annotations": list(annotations), "updated_at": "2026-01-01T00:02:00Z"}


@pytest.mark.parametrize("name", POISONED)
def test_a_poisoned_annotation_is_left_out_and_named(name, dataset, samples, tmp_path):
    changes, reason = POISONED[name]
    file = tmp_path / "export.json"
    file.write_text(json.dumps([task(11, samples[0], annotation(**changes)), task(12, samples[1], annotation())]))
    tally = run.read_export(dataset, "x", file)
    assert (tally.rows, dict(tally.left_out)) == (1, {reason: 1})
    assert tally.problems == [f"task 11 (sample {samples[0]}, annotation 5): {reason}"]
    (row,) = tables.read_rows(dataset, "annotations")
    assert (row["id"], row["score"], row["comment"], row["lead_time_s"]) == (samples[1], 70, "good", 4.5)


@pytest.mark.parametrize("bad", [None, 3, "text", [], {"data": 3}, {"data": {}, "annotations": 3}, {"data": {}, "id": [1]}])
def test_what_is_no_task_is_counted(bad, dataset, samples, tmp_path):
    file = tmp_path / "export.json"
    file.write_text(json.dumps([bad, task(12, samples[1], annotation())]))
    tally = run.read_export(dataset, "x", file)
    assert tally.rows == 1
    assert sum(tally.left_out.values()) == (bad != {"data": {}})
    assert all(line.startswith("task ") for line in tally.problems)


def test_half_a_character_in_a_comment_costs_that_character_alone(dataset, samples, tmp_path):
    file = tmp_path / "export.json"
    file.write_text(json.dumps([task(1, samples[0], annotation(**spoilt_item(3, value={"text": ["so \ud83d"]})))]))
    assert run.read_export(dataset, "x", file).rows == 1
    (row,) = tables.read_rows(dataset, "annotations")
    assert row["comment"] == "so ?"


def test_problems_hold_nothing_that_steers_a_terminal(dataset, tmp_path):
    file = tmp_path / "export.json"
    file.write_text(json.dumps([task("\x1b[2Jid", "\x1b]0;x\x07", annotation())]))
    (line,) = run.read_export(dataset, "x", file).problems
    assert line.isprintable()
    assert r"\x1b[2Jid" in line


@pytest.mark.parametrize("text", ["[" * 100_000, "[" + "9" * 5000 + "]", "\ufeff[]"])
def test_files_that_break_parsers_are_sentences_or_empty(text, dataset, tmp_path):
    file = tmp_path / "export.json"
    file.write_text(text, encoding="utf-8")
    if text.startswith("\ufeff"):
        assert run.read_export(dataset, "x", file).rows == 0
        return
    with pytest.raises(UserError, match="is not JSON"):
        run.read_export(dataset, "x", file)


def campaign_of(dataset, double_url, samples):
    recipe = {"interface": "defects", "reference": True, "raters": 1}
    campaign = Campaign("campaign", double_url, recipe, {"": "campaign"}, tuple(Entry(sample, ("",)) for sample in samples))
    campaigns.save(dataset, campaign)
    return campaign


def test_pull_and_status_go_past_what_is_poisoned_and_name_it(dataset, samples, monkeypatch):
    found = [task(number + 1, sample, annotation()) for number, sample in enumerate(samples[:6])]
    found[1]["annotations"] = [annotation(lead_time="four")]
    found[2]["annotations"] = "none"
    double = StudioDouble(tasks=found, label_config=labelling.text("defects"))
    double.studio(monkeypatch)
    campaign_of(dataset, "http://studio.test", samples[:6])
    first = run.pull(dataset, "campaign", "0" * 40)
    assert (first.rows, first.read, sum(first.left_out.values())) == (4, 4, 2)
    double.poisoned = {6}
    tally = run.pull(dataset, "campaign", "0" * 40, everything=True)
    assert tally.rows == 4, "what was pulled earlier of a task that the server now fails to give stays"
    expected = {
        "an annotation of an unknown form (lead_time)": 1, "a task of an unknown form (annotations)": 1,
        "the server fails to give it": 1,
    }  # fmt: skip
    assert tally.left_out == expected
    figures = run.status(dataset, "campaign", "0" * 40)
    assert figures["left_out"] == expected
    assert [line.split(":")[0].split(" (")[0] for line in sorted(figures["problems"])] == ["task 2", "task 3", "task 6"]
    assert figures["annotations"] == 3


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("\ud800") | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "rle", "text", "x"]), inner, max_size=3),
    max_leaves=5,
)


def places(value, path=()):
    """The paths of all values within a JSON value, long lists of numbers but for their start."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value[:4]) if isinstance(value, list) else ()
    for name, inner in items:
        yield from places(inner, (*path, name))


def put(value, path, new):
    if not path:
        return new
    made = copy.copy(value)
    made[path[0]] = put(value[path[0]], path[1:], new)
    return made


MIN = {
    "id": 3, tasks.KEY: "s", "annotator": 7, "lead_time": 3.0, "created_at": "2026-01-01T00:00:00Z",
    "updated_at": "2026-01-01T00:00:00Z", "score": 70, "comment": "good",
    "defect": [item["value"] | {"original_width": 128, "original_height": 128} for item in tasks.regions(SQUARE, NOISE)[:1]],
    "severity": [tasks.regions(SQUARE, NOISE)[1]["value"]],
}  # fmt: skip


@st.composite
def spoilt_tasks(draw, samples):
    """Tasks of both kinds of export with one to three values replaced by others."""
    made = []
    for number in range(draw(st.integers(1, 12))):
        whole = MIN | {tasks.KEY: samples[0]} if draw(st.booleans()) else task(number, samples[0], annotation())
        for _ in range(draw(st.integers(1, 3))):
            path = draw(st.sampled_from([path for path in places(whole) if path]))
            whole = put(whole, path, draw(JSON))
        made.append(whole)
    return made


@pytest.mark.fuzz
@settings(max_examples=examples(8), suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_no_export_ends_raw_or_costs_its_neighbours(data, dataset, samples, tmp_path):
    file = tmp_path / "export.json"
    file.write_text(json.dumps([*data.draw(spoilt_tasks(samples)), task(12, samples[1], annotation())]))
    tally = run.read_export(dataset, "x", file)
    rows = {row["id"]: row for row in tables.read_rows(dataset, "annotations")}
    assert rows[samples[1]]["score"] == 70
    assert all(line.isprintable() for line in tally.problems)
