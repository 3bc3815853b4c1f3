"""A Label Studio ML backend on loopback: a reward model's map as pre-painted regions when a task is opened."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from fgr.annotate import push, tasks
from fgr.images import codec

HOST = "127.0.0.1"
VERSION = "fgr"
LARGEST = 64 << 20  # bytes of a request
Predict = Callable[[np.ndarray], tuple[np.ndarray, float]]


def answer(directory: Path, predict: Predict, asked: list[dict[str, Any]], **look: float) -> list[dict[str, Any]]:
    """One prediction a task, in order; images come from the dataset by our own key, never from an address in a task."""
    keys = [str((task.get("data") or {}).get(tasks.KEY) or "") for task in asked]
    regions = {
        row["id"]: tasks.regions(tasks.levels(predict(codec.decode_rgb(row["composite"]))[0], **look))
        for row in push.rows(directory, set(keys))
    }
    return [{"result": regions.get(key, []), "model_version": VERSION} for key in keys]


@contextmanager
def listening(directory: Path, predict: Predict, port: int) -> Iterator[ThreadingHTTPServer]:
    """A server bound to the loopback port (0: any), to be run by `serve_forever`."""
    lock = Lock()  # one forward at a time: a model is not made for threads

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._send({"status": "UP"} if self.path in ("/", "/health") else {"versions": [VERSION]})

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            try:
                body = json.loads(self.rfile.read(length)) if 0 < length <= LARGEST else {}
            except (json.JSONDecodeError, UnicodeDecodeError):
                self._send({"detail": "not JSON"}, 400)
                return
            if self.path != "/predict":
                self._send({"model_version": VERSION})
                return
            with lock:
                self._send({"results": answer(directory, predict, body.get("tasks") or [])})

        def _send(self, body: dict[str, Any], code: int = 200) -> None:
            data = json.dumps(body).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet: a setup request carries a token."""

    with ThreadingHTTPServer((HOST, port), Handler) as server:
        yield server
