"""The interface's XML and the names the code reads are one thing."""

from xml.etree import ElementTree

import numpy as np
import pytest
from label_studio_sdk.label_interface import LabelInterface

from fgr.annotate import labelling, tasks
from fgr.errors import UserError
from fgr.records import CHOICES


def controls(kind, reference=True):
    return {e.get("name"): e for e in ElementTree.fromstring(labelling.text(kind, reference)).iter() if e.get("name")}


def test_the_names_in_the_xml_are_those_in_the_code():
    found = controls("defects")
    assert found.keys() == {"composite", "reference", "defect", "severity", "clean", "score", "comment"}
    assert tuple(label.get("value") for label in found["defect"]) == labelling.KINDS
    assert found["severity"].get("maxRating") == str(labelling.SEVERITIES)
    assert found["severity"].get("perRegion") == "true"
    assert (found["score"].get("min"), found["score"].get("max"), found["score"].get("required")) == ("0", "100", "true")
    assert [choice.get("value") for choice in found["clean"]] == [labelling.CLEAN]
    assert {e.get("toName") for e in found.values() if e.get("toName")} == {"composite"}
    assert tuple(choice.get("value") for choice in controls("preference")["preference"]) == CHOICES


@pytest.mark.parametrize("kind", ["defects", "preference"])
@pytest.mark.parametrize("reference", [True, False])
def test_task_data_fits_the_interface(kind, reference):
    xml = LabelInterface(labelling.text(kind, reference))
    xml.validate()
    address = "/r" if reference else None
    made = tasks.preference_task("a", "b", ("/a", "/b"), address) if kind == "preference" else None
    task = made or tasks.defect_task("a", "/a", address, [], "v")
    images = {e.get("value").lstrip("$") for e in controls(kind, reference).values() if e.tag == "Image"}
    assert images == task["data"].keys() - {tasks.KEY}


def test_no_words_in_the_data_give_a_sample_away():
    task = tasks.defect_task("0f3a", "/data/upload/1/ab-0f3a-composite.webp", "/data/r", [], "heuristic")
    assert set(task["data"]) == {"composite", "reference", tasks.KEY}
    assert "predictions" not in task


def test_cosmetics_do_not_count_as_an_edit():
    xml = labelling.text("defects")
    assert labelling.differences(xml, xml.replace('size="5"', 'size="3"').replace("#1f77b4", "#000000")) == []
    unasked = xml.replace('required="true" requiredMessage="Give the selected region 1 to 5 stars"', "")
    assert unasked != xml
    assert labelling.differences(xml, unasked) == [], "campaigns pushed before stars were asked for go on"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('<Label value="ringing"', '<Label value="halo"', "'defect' has values"),
        ('max="100"', 'max="10"', "'score' has max '10', expected '100'"),
        ('name="comment"', 'name="remark"', "the control 'comment' is missing; the control 'remark' was added"),
        ('perRegion="true"', "", "'severity' has perRegion 'absent', expected 'true'"),
        ("</View>", "", "its XML cannot be parsed"),
    ],
)
def test_an_edit_by_hand_is_named(old, new, says):
    xml = labelling.text("defects")
    edited = xml.replace(old, new, 1)
    assert edited != xml
    assert says in "; ".join(labelling.differences(xml, edited))
    with pytest.raises(UserError, match="was edited"):
        labelling.expect_unchanged("defects", True, edited, "p")


def test_regions_that_the_interface_does_not_have_are_refused_without_their_strokes():
    xml, regions = labelling.text("defects"), tasks.regions(np.full((8, 8), 3, np.uint8), labelling.KINDS.index("noise"))
    task = tasks.defect_task("a1", "/a", None, regions, "v")
    labelling.expect_fit(xml, task, "a1")
    with pytest.raises(UserError, match="the sample a1 do not fit") as error:
        labelling.expect_fit(xml.replace('value="noise"', 'value="grain"'), task, "a1")
    assert str(regions[0]["value"]["rle"])[1:20] not in str(error.value)
