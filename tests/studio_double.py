"""A Label Studio server made of Python values, for what no real one does on demand."""

import json
import re

import httpx

from fgr.annotate import client
from fgr.annotate.studio import Studio

URL = "http://studio.test"


class StudioDouble:
    """Answers requests for one project's tasks and uploads; `spoil(request)` may answer instead of it.

    `poisoned` are ids of tasks over which the server fails when their annotations are asked for.
    """

    def __init__(self, title="campaign", tasks=(), label_config="", poisoned=()):
        self.project = {"id": 1, "title": title, "label_config": label_config, "task_number": len(tasks)}
        self.tasks, self.poisoned, self.files = list(tasks), set(poisoned), {}
        self.spoil = lambda request: None
        self.asked = []

    def answer(self, request):
        self.asked.append(request)
        spoilt = self.spoil(request)
        if spoilt is not None:
            return spoilt
        path, params = request.url.path, request.url.params
        if path == "/api/projects/":
            return httpx.Response(200, json={"results": [self.project], "next": None})
        if path == "/api/users/":
            return httpx.Response(200, json=[{"id": 7, "email": "ada@example.org"}])
        if path == "/api/tasks":
            return self.page(json.loads(params["query"]), int(params["page_size"]), "fields" in params)
        if path == "/api/projects/1/import":
            return httpx.Response(201, json={"file_upload_ids": self.receive(request)})
        if path == "/api/projects/1/file-uploads":
            return self.uploads(request)
        return httpx.Response(404)

    def page(self, query, size, whole):
        low, high = 0, 1 << 60
        for item in query["filters"]["items"]:
            if item["filter"].endswith(":id"):
                low, high = (item["value"], high) if item["operator"] == "greater" else (low, item["value"])
        found = [task for task in self.tasks if low < task["id"] < high]
        found = found[::-1] if query["ordering"][0].startswith("-") else found
        if whole and any(task["id"] in self.poisoned for task in found[:size]):
            return httpx.Response(500)
        return httpx.Response(200, content=json.dumps({"tasks": found[:size], "total": len(found)}).encode())

    def receive(self, request):
        names = re.findall(rb'filename="([^"]+)"', request.content)
        first = max(self.files, default=0) + 1
        self.files |= {first + i: f"upload/1/0123abcd-{name.decode()}" for i, name in enumerate(names)}
        return list(range(first, first + len(names)))

    def uploads(self, request):
        if request.method == "DELETE":
            for number in json.loads(request.content)["file_upload_ids"]:
                del self.files[number]
            return httpx.Response(200, json={})
        ids = json.loads(request.url.params.get("ids", "null")) or self.files
        return httpx.Response(200, json=[{"id": number, "file": self.files[number]} for number in ids])

    def studio(self, monkeypatch, token="0" * 40, attempts=3):
        """A Studio that talks to this double, without waiting between its tries."""
        monkeypatch.setattr(client.Client, "pause", staticmethod(lambda attempt, retry_after=0.0: None))
        monkeypatch.setattr(client.httpx, "HTTPTransport", lambda **options: httpx.MockTransport(self.answer))
        return Studio(URL, token, attempts=attempts)
