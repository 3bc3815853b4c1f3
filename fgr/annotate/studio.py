"""What is asked of a Label Studio server: its users, and a project's tasks, annotations and images."""

import json
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, NotRequired

from typing_extensions import TypedDict

from fgr.annotate.client import Client, TransientError
from fgr.annotate.pages import Lost, Pages
from fgr.annotate.tasks import KEY
from fgr.errors import UserError

PAGE = 500  # tasks a page


class Project(TypedDict):
    """What is used of a project."""

    id: int
    title: str
    label_config: str
    task_number: NotRequired[int | None]
    model_version: NotRequired[str | None]  # whose predictions people see: of pushed ones their source, or an ML backend's title


class _Upload(TypedDict):
    id: int
    file: str


class _Sent(TypedDict):
    file_upload_ids: list[int]


class Studio(Client):
    """The requests that `fgr annotate` makes. Tasks are known by our own key, never by the server's ids."""

    def me(self) -> Mapping[str, Any]:
        """The token's user; the cheapest check of address and token."""
        from label_studio_sdk.users.client import UsersClient

        user = self.asked(lambda: UsersClient(client_wrapper=self.sdk).whoami())
        return {"email": self.shaped(str, getattr(user, "email", None))}

    def people(self) -> dict[int, str]:
        """E-mail addresses by user id."""
        from label_studio_sdk.users.client import UsersClient

        listed = self.asked(lambda: [(user.id, user.email) for user in UsersClient(client_wrapper=self.sdk).list()])
        return dict(self.shaped(list[tuple[int, str]], listed))

    def project(self, title: str) -> Project | None:
        """The project with exactly that title, the oldest if there are several."""
        found: list[Project] = []
        page, more = 1, True
        while more:
            listed, more = self.asked(partial(self._projects, title, page))
            found += [project for project in listed if project["title"] == title]
            page, more = page + 1, more and bool(listed)
        return min(found, key=lambda project: project["id"], default=None)

    def _projects(self, title: str, page: int) -> tuple[list[Project], bool]:
        """A page of the projects whose titles contain `title`, and whether there are more."""
        from label_studio_sdk.projects.client import ProjectsClient

        listed = ProjectsClient(client_wrapper=self.sdk).list(title=title, page=page, page_size=100)
        return [self._shown(project) for project in listed.items or []], bool(listed.response.next)

    def _shown(self, project: Any) -> Project:
        return self.shaped(Project, {name: getattr(project, name, None) for name in Project.__annotations__})

    def create_project(self, title: str, interface: str, instruction: str, raters: int) -> Project:
        """The project with that title, made if there is none; each task goes to `raters` people.

        A retry after a lost answer may find that the first try had worked: it is then used.
        """
        from label_studio_sdk.projects.client import ProjectsClient

        for attempt in range(self.attempts):
            project = self.project(title)
            if project:
                return project
            try:
                return self.once(
                    lambda: self._shown(
                        ProjectsClient(client_wrapper=self.sdk).create(
                            title=title,
                            label_config=interface,
                            maximum_annotations=raters,
                            expert_instruction=instruction,
                            show_instruction=bool(instruction),
                            sampling="Sequential sampling",
                        )
                    )
                )
            except TransientError as failure:
                self.pause(attempt, failure.retry_after)
        raise UserError(f"Label Studio at {self.url} did not create the project '{title}'.", "Check the server's log.")

    def tasks(self, project: int, include: str, size: int = PAGE) -> Iterator[list[dict[str, Any]]]:
        """Pages of a project's tasks by ascending id."""
        return Pages(self, project).listed(include, size)

    def keys(self, project: int) -> dict[str, list[int]]:
        """Task ids by our own key, ascending; more than one where an import went in twice."""
        found: dict[str, list[int]] = {}
        for page in self.tasks(project, "id,data", size=2000):
            for task in page:
                data = task.get("data")
                if isinstance(data, dict) and KEY in data:
                    found.setdefault(str(data[KEY]), []).append(int(task["id"]))
        return found

    def annotated_tasks(self, project: int, since: str = "", size: int = 200, lost: Lost | None = None) -> Iterator[list[Any]]:
        """Pages of tasks with their annotations, those with a change after `since` (ISO time) alone if it is given.

        `lost` is told of tasks that the server fails to give; without it they are an error.
        """
        pages = Pages(self, project, lost)
        return pages.changed(since, size) if since else pages.ranges(size)

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
                idle = [task for task in tasks if not self.asked(partial(self._has_work, task))]
                deleted += idle if len(idle) < len(tasks) else idle[1:]
        for task in deleted:
            self.asked(partial(self._delete, task))
        return len(deleted)

    def _has_work(self, task: int) -> bool:
        from label_studio_sdk.annotations.client import AnnotationsClient

        return bool(AnnotationsClient(client_wrapper=self.sdk).list(task))

    def _delete(self, task: int) -> None:
        from label_studio_sdk.tasks.client import TasksClient

        TasksClient(client_wrapper=self.sdk).delete(str(task))

    def upload(self, project: int, files: Mapping[str, bytes]) -> dict[str, str]:
        """Upload up to 100 images (the server's limit) of names that are not there yet; addresses by name.

        After a lost answer only those that did not arrive are sent again, and copies are removed.
        """
        missing, tries = dict(files), 0
        while True:
            try:
                ids = self._send_files(project, missing)
                break
            except TransientError as failure:
                tries += 1
                if tries == self.attempts:
                    raise self.unavailable(failure, tries) from None
                self.pause(tries - 1, failure.retry_after)
            there = self.uploads(project)
            missing = {name: data for name, data in files.items() if name not in there}
            if not missing:
                break
        listed = self._uploaded(project, {"all": "true"} if tries else {"ids": json.dumps(ids)})
        if tries:
            self._remove_copies(project, listed, set(files))
        addresses = _addresses(listed)
        if not files.keys() <= addresses.keys():
            raise UserError(f"Label Studio at {self.url} did not keep all images that were uploaded.", "Check the server's log.")
        return {name: addresses[name] for name in files}

    def uploads(self, project: int) -> dict[str, str]:
        """Addresses of all a project's uploaded files by the name they were uploaded under."""
        return _addresses(self._uploaded(project, {"all": "true"}))

    def _send_files(self, project: int, files: Mapping[str, bytes]) -> list[int]:
        """The ids of the uploads."""
        parts = {f"f{i}": (name, data, "image/webp") for i, (name, data) in enumerate(files.items())}
        path, params = f"/api/projects/{project}/import", {"commit_to_project": "false"}
        return self.shaped(_Sent, self.decoded(self.call_once("POST", path, params=params, files=parts)))["file_upload_ids"]

    def _uploaded(self, project: int, which: dict[str, str]) -> list[_Upload]:
        return self.shaped(list[_Upload], self.json("GET", f"/api/projects/{project}/file-uploads", params=which))

    def _remove_copies(self, project: int, listed: list[_Upload], names: set[str]) -> None:
        """Of `names` delete all uploads but the latest, which `_addresses` gives; only for names that no task refers to yet."""
        latest = {_name(file): file["id"] for file in sorted(listed, key=lambda file: file["id"])}
        copies = [file["id"] for file in listed if _name(file) in names and file["id"] != latest[_name(file)]]
        if copies:
            self.call("DELETE", f"/api/projects/{project}/file-uploads", json={"file_upload_ids": copies})

    def serve_folder(self, project: int, path: str) -> None:
        """Let the server serve the images of a folder on its own disk."""
        from label_studio_sdk.import_storage.local.client import LocalClient

        listed = self.asked(lambda: [storage.path for storage in LocalClient(client_wrapper=self.sdk).list(project=project)])
        if path not in listed:
            settings: dict[str, Any] = {"title": "fgr", "use_blob_urls": True, "regex_filter": ".*webp"}
            self.asked(lambda: LocalClient(client_wrapper=self.sdk).create(project=project, path=path, **settings))


def _addresses(listed: list[_Upload]) -> dict[str, str]:
    """Addresses by original name; the latest upload of a name counts."""
    return {_name(file): f"/data/{file['file']}" for file in sorted(listed, key=lambda file: file["id"])}


def _name(file: _Upload) -> str:
    """The name before the upload: the server puts eight digits and a dash before it."""
    return file["file"].rpartition("/")[2].partition("-")[2]
