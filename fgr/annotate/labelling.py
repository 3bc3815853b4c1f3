"""The labelling interface: the names that code and XML share, and how edits by hand are found."""

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from fgr.errors import UserError
from fgr.shipped import shipped

if TYPE_CHECKING:
    from label_studio_sdk.label_interface.interface import LabelInterface

KINDS = ("painterly", "false texture", "ringing", "structure", "colour", "noise", "other")
SEVERITIES = 5  # stars: 1 barely visible … 5 very annoying
CLEAN = "no visible defect"
FILES = {"defects": "interface.xml", "preference": "preference.xml"}
READ = ("toName", "value", "perRegion", "min", "max", "maxRating", "choice", "required")  # attributes that change what arrives


def text(kind: str, reference: bool = True) -> str:
    """The interface `kind` (defects or preference) as XML, with or without the reference beside the image."""
    xml = shipped("annotation").joinpath(FILES[kind]).read_text(encoding="utf-8")
    if reference:
        return xml
    root = ElementTree.fromstring(xml)
    for parent in list(root.iter()):
        for child in list(parent):
            if "fgr-reference" in child.get("className", ""):
                parent.remove(child)
    return ElementTree.tostring(root, encoding="unicode")


def differences(expected: str, found: str) -> list[str]:
    """What differs between two interfaces in the controls that are read, as phrases; cosmetics do not count."""
    try:
        mine, theirs = _controls(expected), _controls(found)
    except ElementTree.ParseError:
        return ["its XML cannot be parsed"]
    phrases = [f"the control '{name}' is missing" for name in mine.keys() - theirs.keys()]
    phrases += [f"the control '{name}' was added" for name in theirs.keys() - mine.keys()]
    for name in mine.keys() & theirs.keys():
        keys = mine[name].keys() | theirs[name].keys()
        phrases += [
            f"'{name}' has {key} {theirs[name].get(key, 'absent')!r}, expected {mine[name].get(key, 'absent')!r}"
            for key in keys
            if mine[name].get(key) != theirs[name].get(key)
        ]
    return sorted(phrases)


def expect_unchanged(kind: str, reference: bool, found: str, project: str) -> None:
    """UserError naming each difference between a project's interface and the shipped one."""
    changed = differences(text(kind, reference), found)
    if changed:
        raise UserError(
            f"The labelling interface of the project '{project}' was edited: {'; '.join(changed)}.",
            f"Put annotation/{FILES[kind]} back under Settings → Labeling Interface → Code, or name another project.",
        )


def expect_fit(xml: str, task: Mapping[str, Any], sample: str) -> None:
    """UserError if what is painted beforehand in a task does not fit the interface: the server would store and not show it."""
    for prediction in task.get("predictions", ()):
        if _interface(xml).validate_prediction(dict(prediction), return_errors=True):  # the mistakes repeat whole strokes
            raise UserError(
                f"The regions painted beforehand for the sample {sample} do not fit the labelling interface.",
                f"The brush needs the kinds {', '.join(KINDS)} and stars 1 to {SEVERITIES}. Or: prediction.source=none.",
            )


@cache
def _interface(xml: str) -> "LabelInterface":
    from label_studio_sdk.label_interface.interface import LabelInterface

    interface = LabelInterface(xml)
    interface.validate()
    return interface


def _controls(xml: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for element in ElementTree.fromstring(xml).iter():
        name = element.get("name")
        if name:
            read = [key for key in READ if key != "required" or element.get("perRegion") != "true"]  # unrated regions are read
            control: dict[str, Any] = {"tag": element.tag}
            control |= {key: element.get(key) for key in read if element.get(key) is not None}
            values = sorted(child.get("value", "") for child in element if child.tag in {"Label", "Choice"})
            found[name] = control | ({"values": values} if values else {})
    return found
