"""What is asked of a Label Studio server: its users, and a project's tasks, annotations and images."""

import json
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx

from fgr.annotate.client import Client, TransientError
from fgr.annotate.tasks import KEY
from fgr.errors import UserError

PAGE = 500  # tasks a page
PREFETCH = 1  # pages requested while one is read: more slow each other down in the server
SPARSE = 4  # ids a task: above, ranges of ids would be mostly empty
FIELDS = "id,data,annotations,result,completed_by,was_cancelled,lead_time,created_at,updated_at"


class Studio(Client):
    """The requests that `fgr annotate` makes. Tasks are known by our own key, never by the server's ids."""

    def me(self) -> Mapping[str, Any]:
        """The token's user; the cheapest check of address and token."""
        user = self.json("GET", "/api/current-user/whoami")
        if not isinstance(user, dict) or "email" not in user:
            raise UserError(f"{self.url} does not look like a Label Studio server.", "Check --url.")
        return user

    def people(self) -> dict[int, str]:
        """E-mail addresses by user id."""
        return {int(user["id"]): str(user["email"]) for user in self.json("GET", "/api/users/")}

    def project(self, title: str) -> dict[str, Any] | None:
        """The project with exactly that title, the oldest if there are several."""
        found: list[dict[str, Any]] = []
        page = 1
        while True:
            listed = self.json("GET", "/api/projects/", params={"title": title, "page": page, "page_size": 100})
            found += [project for project in listed["results"] if project["title"] == title]
            if not listed.get("next"):
                return min(found, key=lambda project: int(project["id"]), default=None)
            page += 1

    def create_project(self, title: str, interface: str, instruction: str, raters: int) -> dict[str, Any]:
        """The project with that title, made if there is none; each task goes to `raters` people.

        A retry after a lost answer may find that the first try had worked: it is then used.
        """
        for attempt in range(self.attempts):
            project = self.project(title)
            if project:
                return project
            try:
                body = {"title": title, "label_config": interface, "maximum_annotations": raters}
                more = {
                    "expert_instruction": instruction,
                    "show_instruction": bool(instruction),
                    "sampling": "Sequential sampling",
                }
                return dict(self.call_once("POST", "/api/projects/", json=body | more).json())
            except TransientError as failure:
                self.pause(attempt, failure.retry_after)
        raise UserError(f"Label Studio at {self.url} did not create the project '{title}'.", "Check the server's log.")

    def tasks(
        self, project: int, include: str, conditions: list[dict[str, Any]] | None = None, size: int = PAGE, **options: Any
    ) -> Iterator[list[dict[str, Any]]]:
        """Pages of a project's tasks by ascending id: each asks for ids above the last, so deletions shift nothing."""
        last = 0
        while True:
            items = [*(conditions or []), _condition("id", "greater", "Number", last)]
            page = self.decoded(self._page(project, include, items, size, **options))["tasks"]
            if page:
                yield page
                last = max(int(task["id"]) for task in page)
            if len(page) < size:
                return

    def _page(
        self, project: int, include: str, items: list[dict[str, Any]], size: int, order: str = "tasks:id", **options: Any
    ) -> httpx.Response:
        query = json.dumps({"filters": {"conjunction": "and", "items": items}, "ordering": [order]})
        params = {"project": project, "page": 1, "page_size": size, "include": include, "query": query} | options
        return self.call("GET", "/api/tasks", params=params)

    def keys(self, project: int) -> dict[str, list[int]]:
        """Task ids by our own key, ascending; more than one where an import went in twice."""
        found: dict[str, list[int]] = {}
        for page in self.tasks(project, "id,data", size=2000):
            for task in page:
                if KEY in (task.get("data") or {}):
                    found.setdefault(str(task["data"][KEY]), []).append(int(task["id"]))
        return found

    def annotated_tasks(self, project: int, since: str = "", size: int = 200) -> Iterator[list[dict[str, Any]]]:
        """Pages of tasks with their annotations, those with a change after `since` (ISO time) alone if it is given.

        Without `since` and where ids lie close together the pages are ranges of ids, the next of which is fetched while one is
        read: the server need not wait for its last response to be decoded.
        """
        # `review` spares the server columns that join all results into texts, `expand` a new serialiser for each task
        options = {"fields": "all", "review": "true", "expand": "annotations"}
        if since:
            changed = [_condition("updated_at", "greater", "Datetime", since)]
            yield from self.tasks(project, FIELDS, changed, size, **options)
            return
        first, last, count = self._ends(project)
        if last - first >= SPARSE * count:
            yield from self.tasks(project, FIELDS, None, size, **options)
            return

        def fetch(start: int) -> httpx.Response:  # decoded in the reader's thread: memory of many threads lies scattered
            ids = [_condition("id", "greater", "Number", start - 1), _condition("id", "less", "Number", start + size)]
            return self._page(project, FIELDS, ids, size, **options)

        with ThreadPoolExecutor(PREFETCH) as threads:
            pending: deque[Future[httpx.Response]] = deque()
            for start in range(first, last + 1, size):
                pending.append(threads.submit(fetch, start))
                if len(pending) > PREFETCH:
                    yield self.decoded(pending.popleft().result())["tasks"]
            while pending:
                yield self.decoded(pending.popleft().result())["tasks"]

    def _ends(self, project: int) -> tuple[int, int, int]:
        """The lowest and the highest id of a project's tasks, and their number."""
        low, high = (self.decoded(self._page(project, "id", [], 1, order)) for order in ("tasks:id", "-tasks:id"))
        if not low["tasks"] or not high["tasks"]:
            return 0, -1, 0
        return int(low["tasks"][0]["id"]), int(high["tasks"][0]["id"]), int(low["total"])

    def import_tasks(self, project: int, tasks: list[dict[str, Any]]) -> int:
        """Add the tasks whose key is not there yet; the number added. A lost answer is settled by asking what arrived."""
        known: set[str] = set()
        for attempt in range(self.attempts):
            missing = [task for task in tasks if task["data"][KEY] not in known]
            if not missing:
                return len(tasks)
            try:
                self.call_once("POST", f"/api/projects/{project}/import", json=missing)
                return len(tasks)
            except TransientError as failure:
                reason = failure
                self.pause(attempt, failure.retry_after)
                known = set(self.keys(project))
        if all(task["data"][KEY] in known for task in tasks):
            return len(tasks)
        raise UserError(f"Label Studio at {self.url} does not accept tasks: {reason}.", "Run the same command again later.")

    def remove_duplicates(self, project: int) -> int:
        """Of tasks that have the same key delete those that nobody has worked on, but leave one; the number deleted."""
        deleted: list[int] = []
        for tasks in self.keys(project).values():
            if len(tasks) > 1:
                idle = [task for task in tasks if not self.json("GET", f"/api/tasks/{task}/annotations/")]
                deleted += idle if len(idle) < len(tasks) else idle[1:]
        for task in deleted:
            self.call("DELETE", f"/api/tasks/{task}/")
        return len(deleted)

    def upload(self, project: int, files: Mapping[str, bytes]) -> dict[str, str]:
        """Upload up to 100 images (the server's limit); addresses by name. A repeat leaves a copy, never a mistake."""
        parts = {f"f{i}": (name, data, "image/webp") for i, (name, data) in enumerate(files.items())}
        path = f"/api/projects/{project}"
        ids = self.json("POST", f"{path}/import", params={"commit_to_project": "false"}, files=parts)["file_upload_ids"]
        return _addresses(self.json("GET", f"{path}/file-uploads", params={"ids": json.dumps(ids)}))

    def uploads(self, project: int) -> dict[str, str]:
        """Addresses of all a project's uploaded files by the name they were uploaded under."""
        return _addresses(self.json("GET", f"/api/projects/{project}/file-uploads", params={"all": "true"}))

    def serve_folder(self, project: int, path: str) -> None:
        """Let the server serve the images of a folder on its own disk."""
        storages = self.json("GET", "/api/storages/localfiles", params={"project": project})
        if not any(storage.get("path") == path for storage in storages):
            body = {"project": project, "path": path, "title": "fgr", "use_blob_urls": True, "regex_filter": ".*webp"}
            self.json("POST", "/api/storages/localfiles", json=body)


def _addresses(listed: list[dict[str, Any]]) -> dict[str, str]:
    """Addresses by original name: the server puts eight digits and a dash before it; the latest upload of a name counts."""
    ordered = sorted(listed, key=lambda file: int(file["id"]))
    return {str(file["file"]).rpartition("/")[2].partition("-")[2]: f"/data/{file['file']}" for file in ordered}


def _condition(column: str, operator: str, kind: str, value: Any) -> dict[str, Any]:
    return {"filter": f"filter:tasks:{column}", "operator": operator, "type": kind, "value": value}
