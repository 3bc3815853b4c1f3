"""A server on loopback between `fgr annotate` and a real Label Studio that spoils chosen requests."""

import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

TIMEOUT = 4.0  # seconds that the client waits in these tests


class Proxy(ThreadingHTTPServer):
    """A server on loopback before the real one that spoils chosen requests.

    `faults` are (method, part of the path, what): a status to answer instead; `lost` or `late` (done, but answered never or
    too late), `cut` (half an answer); or a function that is called before the request goes on. Each happens once, in order.
    """

    daemon_threads = True

    def __init__(self, target):
        super().__init__(("127.0.0.1", 0), Relay)
        self.target, self.faults, self.lock = target, [], threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_port}"

    def fault(self, method, path):
        with self.lock:
            if self.faults and self.faults[0][0] == method and self.faults[0][1] in path:
                return self.faults.pop(0)[2]
        return None

    def handle_error(self, request, address):
        """Clients that hang up are meant to."""


class Relay(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def relay(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.server.fault(self.command, self.path)
        if isinstance(fault, int):
            self.answer(fault, {"Retry-After": "0"}, b"{}")
            return
        if callable(fault):
            fault()
        headers = {name: value for name, value in self.headers.items() if name.lower() not in ("host", "connection")}
        headers["Accept-Encoding"] = "identity"
        try:
            done = httpx.request(  # on loopback: to load the certificates for each one takes longer than the answer
                self.command, self.server.target + self.path,
                content=body, headers=headers, timeout=60, trust_env=False, verify=False,
            )  # fmt: skip
        except httpx.TransportError:
            self.close_connection = True
            return
        if fault == "late":
            time.sleep(TIMEOUT + 1)
        if fault in ("lost", "late"):
            self.close_connection = True
            return
        self.answer(done.status_code, {"Content-Type": done.headers.get("content-type", "")}, done.content, fault == "cut")

    do_GET = do_POST = do_PATCH = do_DELETE = relay

    def answer(self, status, headers, body, cut=False):
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if cut else body)
        self.close_connection = self.close_connection or cut

    def log_message(self, *_):
        """Quiet."""


@contextmanager
def proxied(target):
    with Proxy(target) as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        try:
            yield made
        finally:
            made.shutdown()
            thread.join()
