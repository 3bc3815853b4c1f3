"""What a double of the Hub answers to the requests of uploads and downloads."""

import base64
import hashlib
import json
import re
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs

from hub_repositories import Entry, Repository

DATE = "2026-01-01T00:00:00.000Z"


class Answers(BaseHTTPRequestHandler):
    """A method for each of ROUTES, of the request's body and query and the parts of its path."""

    def answer(self, content, status: int = 200, headers: dict[str, str] | None = None) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def absent(self, what: str, commit: str = "") -> None:
        headers = {"X-Error-Code": what, "X-Error-Message": what} | ({"X-Repo-Commit": commit} if commit else {})
        self.answer({"error": what}, 404, headers)

    def tree(self, repo: str, revision: str) -> tuple[Repository, str, dict[str, Entry]] | None:
        repository = self.server.repositories.get(repo)
        if repository is None:
            return self.absent("RepoNotFound")
        found = repository.at(revision)
        return (repository, *found) if found else self.absent("RevisionNotFound")

    def create(self, body, query) -> None:
        asked = json.loads(body)
        name = f"{asked['organization']}/{asked['name']}"
        url = f"{self.server.url}/{'datasets/' if asked['type'] == 'dataset' else ''}{name}"
        if name in self.server.repositories:
            return self.answer({"url": url, "error": "You already created this repo"}, 409)
        private = asked.get("private") or asked.get("visibility") == "private"
        repository = self.server.repositories[name] = Repository(asked.get("type", "model"), bool(private))
        repository.commit("initial commit", {".gitattributes": self.small(b"*.parquet filter=lfs\n")})
        self.answer({"url": url, "name": name, "id": name})

    def small(self, data: bytes) -> Entry:
        oid = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        self.server.blobs[oid] = data
        return Entry(oid, len(data))

    def validate(self, body, query) -> None:
        self.answer({"errors": [], "warnings": []})

    def whoami(self, body, query) -> None:
        self.answer({"type": "user", "name": "someone", "fullname": "Someone", "orgs": [], "auth": {}})

    def preupload(self, body, query, repo, revision) -> None:
        if (found := self.tree(repo, revision)) is None:
            return
        files = []
        for file in json.loads(body)["files"]:
            large = file["path"].endswith((".parquet", ".safetensors"))
            there = found[2].get(file["path"])
            oid = (there.lfs or there.oid) if there else None
            files.append({"path": file["path"], "uploadMode": "lfs" if large else "regular", "shouldIgnore": False, "oid": oid})
        self.answer({"files": files})

    def batch(self, body, query, repo) -> None:
        objects = []
        for one in json.loads(body)["objects"]:
            missing = one["oid"] not in self.server.blobs
            href = f"{self.server.url}/lfs/{one['oid']}"
            actions = {"actions": {"upload": {"href": href}, "verify": {"href": f"{href}/verify"}}} if missing else {}
            objects.append({"oid": one["oid"], "size": one["size"], **actions})
        self.answer({"transfer": "basic", "objects": objects}, headers={"Content-Type": "application/vnd.git-lfs+json"})

    def put(self, body, query, oid) -> None:
        if hashlib.sha256(body).hexdigest() != oid:
            return self.answer({"error": "digest"}, 400)
        with self.server.lock:
            self.server.blobs[oid] = body
            self.server.received += len(body)
        self.answer({})

    def verify(self, body, query, oid) -> None:
        self.answer({}, 200 if oid in self.server.blobs else 404)

    def commit(self, body, query, repo, revision) -> None:
        if (found := self.tree(repo, revision)) is None:
            return
        repository, _, tree = found
        tree, title = dict(tree), ""
        for line in body.decode().splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "header":
                title = value["summary"]
            elif item["key"] == "file":
                tree[value["path"]] = self.small(base64.b64decode(value["content"]))
            elif item["key"] == "lfsFile":
                tree[value["path"]] = Entry(hashlib.sha1(value["oid"].encode()).hexdigest(), value["size"], value["oid"])
            elif item["key"] == "deletedFile":
                tree.pop(value["path"])
        oid = repository.commit(title, tree)
        url = f"{self.server.url}/{repo}/commit/{oid}"
        self.answer({"success": True, "commitOid": oid, "commitUrl": url, "pullRequestUrl": None, "hookOutput": ""})

    def info(self, body, query, repo, revision=None) -> None:
        if (found := self.tree(repo, revision or "main")) is None:
            return
        repository, oid, tree = found
        self.answer(
            {
                "_id": "0", "id": repo, "author": "someone", "sha": oid, "private": repository.private, "gated": False,
                "disabled": False, "tags": [], "downloads": 0, "likes": 0, "lastModified": DATE, "createdAt": DATE,
                "siblings": [{"rfilename": path} for path in sorted(tree)],
            }
        )  # fmt: skip

    def listing(self, body, query, repo, revision, folder="") -> None:
        if (found := self.tree(repo, revision)) is None:
            return
        _, oid, tree = found
        prefix = folder.strip("/") + "/" if folder else ""
        inside = {path: entry for path, entry in tree.items() if path.startswith(prefix)}
        if folder and not inside:
            return self.absent("EntryNotFound", oid)
        deep = query.get("recursive", "").lower() in ("true", "1")
        folders = {prefix + "/".join(path.removeprefix(prefix).split("/")[:-1]) for path in inside}
        shown = {path: entry for path, entry in inside.items() if deep or "/" not in path.removeprefix(prefix)}
        directories = [
            {"type": "directory", "path": name, "oid": "0" * 40, "size": 0}
            for name in sorted(folders)
            if name.strip("/") != prefix.strip("/")
        ]
        self.answer(directories + [described(path, entry) for path, entry in sorted(shown.items())])

    def paths(self, body, query, repo, revision) -> None:
        if (found := self.tree(repo, revision)) is None:
            return
        json_body = "json" in self.headers.get("Content-Type", "")
        asked = json.loads(body)["paths"] if json_body else parse_qs(body.decode())["paths"]
        tree = found[2]
        answers = [described(path, tree[path]) for path in asked if path in tree]
        folders = [path for path in asked if path not in tree and any(name.startswith(path + "/") for name in tree)]
        self.answer(answers + [{"type": "directory", "path": path, "oid": "0" * 40, "size": 0} for path in folders])

    def refs(self, body, query, repo) -> None:
        if (found := self.tree(repo, "main")) is not None:
            self.answer(
                {"branches": [{"name": "main", "ref": "refs/heads/main", "targetCommit": found[1]}], "tags": [], "converts": []}
            )

    def commits(self, body, query, repo, revision) -> None:
        if (found := self.tree(repo, revision)) is not None:
            made = [{"id": oid, "title": title, "message": "", "authors": [], "date": DATE} for oid, title, _ in found[0].commits]
            self.answer(made[::-1])

    def resolve(self, body, query, repo, revision, path) -> None:
        if (found := self.tree(repo, revision)) is None:
            return
        _, oid, tree = found
        entry = tree.get(path)
        if entry is None:
            return self.absent("EntryNotFound", oid)
        data = self.server.blobs[entry.lfs or entry.oid]
        etag = f'"{entry.lfs or entry.oid}"'
        headers = {
            "X-Repo-Commit": oid, "ETag": etag, "Accept-Ranges": "bytes", "Content-Type": "application/octet-stream",
            "X-Linked-Size": str(len(data)), "X-Linked-Etag": etag,
        }  # fmt: skip
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if not wanted:
            return self.answer(data, 200, headers)
        first, last = int(wanted[1]), min(int(wanted[2] or len(data)), len(data) - 1)
        self.answer(data[first : last + 1], 206, headers | {"Content-Range": f"bytes {first}-{last}/{len(data)}"})


def described(path: str, entry: Entry) -> dict:
    large = {"lfs": {"oid": entry.lfs, "size": entry.size, "pointerSize": 130}} if entry.lfs else {}
    return {"type": "file", "path": path, "oid": entry.oid, "size": entry.size, **large}


REPO = r"(?P<repo>[^/]+/[^/]+)"
API = rf"/api/(?:datasets|models)/{REPO}"
REVISION = r"(?P<revision>refs/pr/\d+|[^/]+)"
ROUTES = [
    (r"POST /api/repos/create", "create"),
    (r"POST /api/validate-yaml", "validate"),
    (r"GET /api/whoami-v2", "whoami"),
    (rf"POST {API}/preupload/{REVISION}", "preupload"),
    (rf"POST /(?:datasets/)?{REPO}\.git/info/lfs/objects/batch", "batch"),
    (r"PUT /lfs/(?P<oid>\w+)", "put"),
    (r"POST /lfs/(?P<oid>\w+)/verify", "verify"),
    (rf"POST {API}/commit/{REVISION}", "commit"),
    (rf"GET {API}(?:/revision/{REVISION})?", "info"),
    (rf"GET {API}/tree/{REVISION}(?:/(?P<folder>.+))?", "listing"),
    (rf"POST {API}/paths-info/{REVISION}", "paths"),
    (rf"GET {API}/refs", "refs"),
    (rf"GET {API}/commits/{REVISION}", "commits"),
    (rf"(?:GET|HEAD) /(?:datasets/)?{REPO}/resolve/{REVISION}/(?P<path>.+)", "resolve"),
]
