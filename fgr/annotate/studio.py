"""A Label Studio server over HTTP: tokens, retries with backoff, and errors as sentences that carry no secret.

Plain httpx rather than the SDK: the SDK repeats imports that are not repeatable, its errors carry whole requests with
cookies, it has no upload, and turning every stroke into models costs more than decoding it.
"""

import json
import random
import time
from collections import deque
from collections.abc import Generator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx

from fgr.annotate import answers
from fgr.annotate.answers import TOKENS
from fgr.annotate.tasks import KEY
from fgr.errors import UserError

PASSING = {408, 429, 500, 502, 503, 504}  # answers that another try may change
ATTEMPTS = 7  # waits of 0.5, 1, 2 … s: a restart of the server fits in
LONGEST = 30.0  # seconds of a wait
PAGE = 500
AHEAD = 1  # pages under way while one is read: more slow each other down in the server
SPARSE = 4  # ids a task: above, ranges of ids would be mostly empty
FIELDS = "id,data,annotations,result,completed_by,was_cancelled,lead_time,created_at,updated_at"


class Passing(Exception):
    """A failure that may pass; the message is fit to print. `after`: seconds that the server asks to wait."""

    def __init__(self, message: str, after: float = 0.0) -> None:
        super().__init__(message)
        self.after = after


class Token(httpx.Auth):
    """Sends a legacy token as it is; a personal access token (a JWT) is exchanged for access tokens of five minutes."""

    requires_response_body = True

    def __init__(self, url: str, token: str) -> None:
        self.url, self.token, self.access = url, token, ""
        self.personal = token.count(".") == 2

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if not self.personal:
            request.headers["Authorization"] = f"Token {self.token}"
            yield request
            return
        if self.access:
            request.headers["Authorization"] = f"Bearer {self.access}"
            if (yield request).status_code != 401:
                return
        answer = yield httpx.Request("POST", f"{self.url}/api/token/refresh/", json={"refresh": self.token})
        if answer.status_code in PASSING:
            raise Passing(f"the server answered {answer.status_code} when asked for access")
        self.access = answer.json().get("access", "") if answer.status_code == 200 else ""
        request.headers["Authorization"] = f"Bearer {self.access or 'refused'}"
        yield request


class Studio:
    """One server and one token. Every failure is a UserError once retries are used up."""

    def __init__(self, url: str, token: str, timeout: float = 120.0, attempts: int = ATTEMPTS) -> None:
        self.url, self.attempts = url.rstrip("/"), attempts
        if not self.url.startswith(("http://", "https://")):
            raise UserError(f"'{url}' is no address of a Label Studio server.", "Example: --url http://127.0.0.1:8080")
        if not token or not token.isascii() or any(letter.isspace() for letter in token):
            raise UserError("The Label Studio token is empty or has characters that no token has.", TOKENS)
        self._client = httpx.Client(auth=Token(self.url, token), timeout=timeout, trust_env=False)

    def __enter__(self) -> "Studio":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def call(self, method: str, path: str, attempts: int | None = None, **options: Any) -> httpx.Response:
        """One request, repeated while its failure may pass. For requests that may be repeated without harm."""
        left = attempts or self.attempts
        for attempt in range(left):
            try:
                return self._once(method, path, **options)
            except Passing as failure:
                if attempt + 1 == left:
                    raise UserError(
                        f"Label Studio at {self.url} does not work: {failure} ({left} tries).",
                        "Start the server again or wait, then run the same command again: what is done is kept.",
                    ) from None
                pause(attempt, failure.after)
        raise AssertionError("unreachable")

    def _once(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            answer = self._client.request(method, self.url + path, **options)
        except httpx.TimeoutException:
            raise Passing("no answer in time") from None
        except httpx.TransportError as error:
            raise Passing(f"no connection ({type(error).__name__})") from None
        if answer.status_code in PASSING:
            raise Passing(f"the server answered {answer.status_code}", answers.retry_after(answer))
        if answer.is_success:
            return answer
        raise answers.refusal(answer, self.url)

    def json(self, method: str, path: str, **options: Any) -> Any:
        """The JSON body of a repeatable request."""
        return self._understood(self.call(method, path, **options))

    def _understood(self, answer: httpx.Response) -> Any:
        try:
            return answer.json()
        except json.JSONDecodeError:
            raise UserError(f"{self.url} does not answer like Label Studio.", "Check --url.") from None

    def me(self) -> Mapping[str, Any]:
        """The token's user; the cheapest check of address and token."""
        found = self.json("GET", "/api/current-user/whoami")
        if not isinstance(found, dict) or "email" not in found:
            raise UserError(f"{self.url} does not answer like Label Studio.", "Check --url.")
        return found

    def people(self) -> dict[int, str]:
        """E-mail addresses by user id."""
        return {int(user["id"]): str(user["email"]) for user in self.json("GET", "/api/users/")}

    def project(self, title: str) -> dict[str, Any] | None:
        """The project with exactly that title, the oldest if there are several."""
        found: list[dict[str, Any]] = []
        page = 1
        while True:
            answer = self.json("GET", "/api/projects/", params={"title": title, "page": page, "page_size": 100})
            found += [project for project in answer["results"] if project["title"] == title]
            if not answer.get("next"):
                return min(found, key=lambda project: int(project["id"]), default=None)
            page += 1

    def create_project(self, title: str, interface: str, instruction: str, overlap: int) -> dict[str, Any]:
        """A new project. A retry after a lost answer may find that the first try had worked: it is then used."""
        for attempt in range(self.attempts):
            made = self.project(title)
            if made:
                return made
            try:
                body = {"title": title, "label_config": interface, "maximum_annotations": overlap}
                more = {
                    "expert_instruction": instruction,
                    "show_instruction": bool(instruction),
                    "sampling": "Sequential sampling",
                }
                return dict(self._once("POST", "/api/projects/", json=body | more).json())
            except Passing as failure:
                pause(attempt, failure.after)
        raise UserError(f"Label Studio at {self.url} does not create the project '{title}'.", "Look at the server's log.")

    def tasks(
        self, project: int, include: str, conditions: list[dict[str, Any]] | None = None, size: int = PAGE, **options: Any
    ) -> Iterator[list[dict[str, Any]]]:
        """Pages of a project's tasks by ascending id: each asks for ids above the last, so deletions shift nothing."""
        last = 0
        while True:
            items = [*(conditions or []), _condition("id", "greater", "Number", last)]
            page = self._understood(self._page(project, include, items, size, **options))["tasks"]
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

    def work(self, project: int, since: str = "", size: int = 200) -> Iterator[list[dict[str, Any]]]:
        """Pages of tasks with their annotations, those with a change after `since` (ISO time) alone if it is given.

        Without `since` and where ids lie close together the pages are ranges of ids, the next of which is fetched while one is
        read: the server need not wait for its last answer to be understood.
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

        def fetch(start: int) -> httpx.Response:  # understood by the reader's thread: memory of many threads lies scattered
            ids = [_condition("id", "greater", "Number", start - 1), _condition("id", "less", "Number", start + size)]
            return self._page(project, FIELDS, ids, size, **options)

        with ThreadPoolExecutor(AHEAD) as threads:
            coming: deque[Future[httpx.Response]] = deque()
            for start in range(first, last + 1, size):
                coming.append(threads.submit(fetch, start))
                if len(coming) > AHEAD:
                    yield self._understood(coming.popleft().result())["tasks"]
            while coming:
                yield self._understood(coming.popleft().result())["tasks"]

    def _ends(self, project: int) -> tuple[int, int, int]:
        """The lowest and the highest id of a project's tasks, and their number."""
        low, high = (self._understood(self._page(project, "id", [], 1, order)) for order in ("tasks:id", "-tasks:id"))
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
                self._once("POST", f"/api/projects/{project}/import", json=missing)
                return len(tasks)
            except Passing as failure:
                reason = failure
                pause(attempt, failure.after)
                known = set(self.keys(project))
        if all(task["data"][KEY] in known for task in tasks):
            return len(tasks)
        raise UserError(f"Label Studio at {self.url} does not take tasks: {reason}.", "Run the same command again later.")

    def remove_twins(self, project: int) -> int:
        """Of tasks that have the same key delete those that nobody has worked on, but leave one; the number deleted."""
        gone: list[int] = []
        for tasks in self.keys(project).values():
            if len(tasks) > 1:
                idle = [task for task in tasks if not self.json("GET", f"/api/tasks/{task}/annotations/")]
                gone += idle if len(idle) < len(tasks) else idle[1:]
        for task in gone:
            self.call("DELETE", f"/api/tasks/{task}/")
        return len(gone)

    def upload(self, project: int, files: Mapping[str, bytes]) -> dict[str, str]:
        """Upload up to 100 images (the server's limit); addresses by name. A repeat leaves a copy, never a mistake."""
        parts = {f"f{i}": (name, data, "image/webp") for i, (name, data) in enumerate(files.items())}
        path = f"/api/projects/{project}"
        made = self.json("POST", f"{path}/import", params={"commit_to_project": "false"}, files=parts)["file_upload_ids"]
        return _addresses(self.json("GET", f"{path}/file-uploads", params={"ids": json.dumps(made)}))

    def uploads(self, project: int) -> dict[str, str]:
        """Addresses of all a project's uploaded files by the name they were uploaded under."""
        return _addresses(self.json("GET", f"/api/projects/{project}/file-uploads", params={"all": "true"}))

    def serve_folder(self, project: int, path: str) -> None:
        """Let the server serve the images of a folder on its own disk."""
        there = self.json("GET", "/api/storages/localfiles", params={"project": project})
        if not any(storage.get("path") == path for storage in there):
            body = {"project": project, "path": path, "title": "fgr", "use_blob_urls": True, "regex_filter": ".*webp"}
            self.json("POST", "/api/storages/localfiles", json=body)


def pause(attempt: int, after: float = 0.0) -> None:
    """Wait before another try: longer each time, with some chance in it, and at least `after` seconds."""
    time.sleep(max(min(LONGEST, 0.5 * 2**attempt) * random.uniform(0.75, 1.25), min(LONGEST, after)))


def _addresses(listed: list[dict[str, Any]]) -> dict[str, str]:
    """Addresses by original name: the server puts eight digits and a dash before it; the latest upload of a name counts."""
    ordered = sorted(listed, key=lambda file: int(file["id"]))
    return {str(file["file"]).rpartition("/")[2].partition("-")[2]: f"/data/{file['file']}" for file in ordered}


def _condition(column: str, operator: str, kind: str, value: Any) -> dict[str, Any]:
    return {"filter": f"filter:tasks:{column}", "operator": operator, "type": kind, "value": value}
