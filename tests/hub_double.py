"""A Hugging Face Hub on loopback, as far as uploading and loading go: repositories as lists of commits, large files by digest.

It can be told to fail, and keeps a log of what it was asked.
"""

import contextlib
import re
import threading
from http.server import ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlparse

from hub_answers import ROUTES, Answers
from hub_repositories import Repository


class Hub(ThreadingHTTPServer):
    """`fail`: request line pattern → how many times it is answered with 500 (uploads: cut off half-way)."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, Repository] = {}
        self.blobs: dict[str, bytes] = {}
        self.log: list[str] = []
        self.tokens: set[str] = set()
        self.received = 0
        self.fail: dict[str, int] = {}
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request, client_address) -> None:
        """Clients that were ended leave broken connections: no news."""


@contextlib.contextmanager
def serving():
    with Hub() as hub:
        thread = threading.Thread(target=hub.serve_forever, daemon=True)
        thread.start()
        yield hub
        hub.shutdown()
        thread.join()


class Handler(Answers):
    """Notes a request, fails it if told so, and has it answered."""

    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *_) -> None:
        pass

    def do_GET(self):
        self.route("GET")

    def do_HEAD(self):
        self.route("HEAD")

    def do_POST(self):
        self.route("POST")

    def do_PUT(self):
        self.route("PUT")

    def route(self, method: str) -> None:
        url = urlparse(self.path)
        path, query = unquote(url.path), {name: values[-1] for name, values in parse_qs(url.query).items()}
        line = f"{method} {path}"
        self.server.log.append(line)
        self.server.tokens.add(self.headers.get("Authorization", ""))
        if self.failing(line):
            return
        body = self.body() if method in ("POST", "PUT") else b""
        for pattern, name in ROUTES:
            if (found := re.fullmatch(pattern, line)) is not None:
                return getattr(self, name)(body, query, **found.groupdict())
        self.answer({"error": f"the double does not know {line}"}, 404)

    def failing(self, line: str) -> bool:
        for pattern, left in self.server.fail.items():
            if left and re.search(pattern, line):
                self.server.fail[pattern] = left - 1
                self.body()
                self.answer({"error": "told to fail"}, 403)
                return True
        return False

    def body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))
