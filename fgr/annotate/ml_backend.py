"""A Label Studio ML backend on loopback: a reward model's map as pre-painted regions."""

import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import Any

from fgr.annotate import tasks
from fgr.annotate.push import Predict, sample_rows, suggested
from fgr.recipe.annotate import Prediction

HOST = "127.0.0.1"
VERSION = "fgr"
LARGEST = 64 << 20  # bytes of a request


def predictions(
    directory: Path, predict: Predict, settings: Prediction, requested: list[dict[str, Any]], unpainted: Collection[str] = ()
) -> list[dict[str, Any]]:
    """One prediction a task, in order, empty for the keys in `unpainted`.

    Images come from the dataset by our own key, never from an address in a task.
    """
    keys = [str((task.get("data") or {}).get(tasks.KEY) or "") for task in requested]
    regions = {}
    for row in sample_rows(directory, set(keys) - set(unpainted)):
        regions[row["id"]] = suggested(row, None, settings, predict)
    return [{"result": regions.get(key, []), "model_version": VERSION} for key in keys]


@contextmanager
def listening(
    directory: Path, predict: Predict, settings: Prediction, port: int, unpainted: Collection[str] = ()
) -> Iterator[tuple[ThreadingHTTPServer, Thread]]:
    """A server on the loopback port (0: any) and the thread in which it answers, until it is left."""
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
                self._send({"results": predictions(directory, predict, settings, body.get("tasks") or [], unpainted)})

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
        thread = Thread(target=server.serve_forever, args=(0.1,), daemon=True)
        thread.start()
        try:
            yield server, thread
        finally:
            server.shutdown()
