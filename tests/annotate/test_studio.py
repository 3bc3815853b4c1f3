"""Reading a project page by page: the same tasks in the same order, however they are fetched."""

import pytest

from fgr.annotate import labelling, pages, tasks
from fgr.annotate import studio as studios


@pytest.fixture(scope="module")
def project(server):
    """Eleven tasks with gaps between their ids, each with one annotation."""
    with studios.Studio(server.url, server.login.token, timeout=60) as studio:
        made = int(studio.create_project("pages", labelling.text("defects"), "", 1)["id"])
        done = {"result": [], "lead_time": 1.0}
        for start in (0, 6):
            some = [tasks.defect_task(f"s{i:02}", "/a.webp", "/b.webp", [], "") for i in range(start, start + 7)]
            studio.import_tasks(made, [task | {"annotations": [done]} for task in some])
        ids = sorted(number for found in studio.keys(made).values() for number in found)
        for number in (ids[0], ids[5], ids[6]):
            studio.call("DELETE", f"/api/tasks/{number}/")
        return made


@pytest.mark.parametrize(("size", "ahead", "sparse"), [(3, 2, 4), (3, 1, 4), (100, 2, 4), (3, 2, 0), (100, 2, 0)])
def test_all_work_comes_in_order_once(studio, project, monkeypatch, size, ahead, sparse):
    monkeypatch.setattr(pages, "PREFETCH", ahead)
    monkeypatch.setattr(pages, "SPARSE", sparse)
    listed = [task for page in studio.tasks(project, "id,data", size=4) for task in page]
    assert len(listed) == 11
    asked = []
    call = studio.call_once
    monkeypatch.setattr(
        studio, "call_once", lambda *args, **options: asked.append(options["params"]["query"]) or call(*args, **options)
    )
    found = list(studio.annotated_tasks(project, size=size))
    assert [(task["id"], task["data"]) for page in found for task in page] == [(task["id"], task["data"]) for task in listed]
    assert all(len(task["annotations"]) == 1 for page in found for task in page)
    assert all(len(page) <= size for page in found)
    assert ("less" in asked[-1]) == bool(sparse), "by ranges of ids only where they lie close together"


def test_a_project_without_tasks_has_no_pages(studio):
    empty = int(studio.create_project("no tasks", labelling.text("defects"), "", 1)["id"])
    assert [task for page in studio.annotated_tasks(empty) for task in page] == []
