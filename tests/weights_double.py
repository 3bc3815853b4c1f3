"""A server of weights on loopback, as a release's and as the Hub; it can break off, change its file and refuse."""

import hashlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CONTENT = bytes(range(256)) * 12_000  # three megabytes
SHA256 = hashlib.sha256(CONTENT).hexdigest()
COMMIT = "c" * 40


class WeightsServer(ThreadingHTTPServer):
    """Serves CONTENT as a release does; `/REPO/resolve/main/FILE` as the Hub does. `breaks` cuts that many answers in half."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.breaks, self.content, self.ranges, self.requests = 0, CONTENT, True, []
        self.later = None  # what it serves after the next answer
        self.address = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request, client_address):
        pass  # a client that went away


class Handler(BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        server = self.server
        server.requests.append((self.command, self.path, self.headers.get("Range")))
        status, code = self.refusal()
        if status:
            return self.refuse(status, code)
        start = int(self.headers["Range"].removeprefix("bytes=").partition("-")[0]) if self.headers.get("Range") else 0
        start = start if server.ranges else 0
        if start and start >= len(server.content):
            return self.refuse(416, None)
        self.send_response(206 if start else 200)
        body = server.content[start:]
        self.send_header("Content-Length", str(len(body)))
        self.send_header(
            "Content-Range" if start else "Accept-Ranges", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}"
        )
        self.send_header("ETag", f'"{hashlib.sha256(server.content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "HEAD":
            return None
        if server.breaks:
            server.breaks -= 1
            body = body[: len(body) // 2]
        server.content, server.later = server.later or server.content, None
        self.wfile.write(body)
        self.close_connection = True
        return None

    def refusal(self):
        known = {"gated": (403, "GatedRepo"), "gone": (404, "RepoNotFound"), "empty": (404, "EntryNotFound"), "busy": (429, None)}
        return next((answer for word, answer in known.items() if word in self.path), (None, None))

    def refuse(self, status, code):
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Range", f"bytes */{len(self.server.content)}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass
