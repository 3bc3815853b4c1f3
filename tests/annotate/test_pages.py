"""Pages past what the server fails to give: the rest arrives, what is left out has a name."""

import httpx
import pytest
from studio_double import StudioDouble

from fgr.annotate import client
from fgr.errors import UserError


def numbered(*ids):
    return [{"id": number, "data": {}, "annotations": [], "updated_at": "2026-01-01T00:00:00Z"} for number in ids]


def read(studio, since="", size=8):
    lost = []
    found = [task["id"] for page in studio.annotated_tasks(1, since, size, lambda *what: lost.append(what)) for task in page]
    return found, lost


@pytest.mark.parametrize("since", ["", "2026-01-01T00:00:00Z"])
@pytest.mark.parametrize("ids", [range(1, 41), range(1, 800, 20)])
def test_a_page_that_the_server_fails_to_give_is_narrowed_down_to_the_task(monkeypatch, since, ids):
    bad = {ids[3], ids[4], ids[30]}
    double = StudioDouble(tasks=numbered(*ids), poisoned=bad)
    found, lost = read(double.studio(monkeypatch), since)
    assert found == [number for number in ids if number not in bad]
    assert lost == [(number, "the server fails to give it") for number in sorted(bad)]
    with pytest.raises(UserError, match="the server answered 500"):
        list(double.studio(monkeypatch).annotated_tasks(1, since, 8))


def test_a_server_that_fails_over_all_tasks_is_not_asked_for_each(monkeypatch):
    double = StudioDouble(tasks=numbered(*range(1, 2001)), poisoned=range(1, 2001))
    with pytest.raises(UserError, match="the server answered 500"):
        read(double.studio(monkeypatch), size=200)
    assert len(double.asked) < 200


def test_a_server_that_is_away_is_no_bad_task(monkeypatch):
    double = StudioDouble(tasks=numbered(*range(1, 41)))
    double.spoil = lambda request: httpx.Response(503) if "fields" in request.url.params else None
    with pytest.raises(UserError, match="is not available: the server answered 503"):
        read(double.studio(monkeypatch))


def test_an_answer_that_breaks_off_is_asked_for_again(monkeypatch):
    double, cut = StudioDouble(tasks=numbered(*range(1, 41))), []

    def spoil(request):
        if len(cut) < 3 and request.url.path == "/api/tasks":
            cut.append(request)
            return httpx.Response(200, content=b'{"tasks": [{"id": 1, "da')
        return None

    double.spoil = spoil
    assert read(double.studio(monkeypatch, attempts=4)) == (list(range(1, 41)), [])


def test_a_task_of_an_answer_without_end_is_left_out(monkeypatch):
    tasks = numbered(*range(1, 9))
    tasks[5]["annotations"] = [{"result": "x" * 5000}]
    monkeypatch.setattr(client, "LARGEST", 4000)
    assert read(StudioDouble(tasks=tasks).studio(monkeypatch)) == ([1, 2, 3, 4, 5, 7, 8], [(6, "more than can be read")])


def test_a_listing_without_end_is_a_sentence(monkeypatch):
    double = StudioDouble()
    double.spoil = lambda request: httpx.Response(200, json={"tasks": numbered(*range(1, 9))})
    with pytest.raises(UserError, match="the same tasks again and again"):
        list(double.studio(monkeypatch).tasks(1, "id", size=8))
