"""Brush codes against the SDK's, and push and pull against a real Label Studio server on loopback.

python -m bench.annotate --codec
python -m bench.annotate --server --tasks 5000 --demo out/demo
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import httpx
import numpy as np
import psutil
from label_studio_sdk.converter import brush as sdk

from bench.environment import describe
from fgr import records
from fgr.annotate import brush, labelling, pull, serve, tasks
from fgr.annotate.campaign import Campaign
from fgr.annotate.studio import Studio
from fgr.dataset import tables
from fgr.images import codec

ROUNDS = 7
SIDE = 256
IMPORT = 100  # tasks an import


def masks(side: int) -> dict[str, np.ndarray]:
    """A dozen discs, and thresholded noise as a stress case: uint8 (side, side), 0 or 255."""
    rng = np.random.default_rng(0)
    discs = np.zeros((side, side), np.uint8)
    for x, y, radius in rng.integers([0, 0, side // 40], [side, side, side // 10], (12, 3)).tolist():
        cv2.circle(discs, (x, y), radius, 255, -1)
    noise = cv2.GaussianBlur(rng.normal(size=(side, side)).astype(np.float32), (0, 0), 4)
    return {"12 discs": discs, "texture": np.where(noise > 0, 255, 0).astype(np.uint8)}


def fastest(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Medians in seconds of interleaved rounds."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def codecs() -> None:
    for name, mask in masks(2048).items():
        code = brush.encode(mask)
        assert code == sdk.mask2rle(mask)
        assert np.array_equal(brush.decode(code, *mask.shape), mask)
        rounds = ROUNDS if name == "12 discs" else 3
        write = fastest({"sdk": partial(sdk.mask2rle, mask), "fgr": partial(brush.encode, mask)}, rounds)
        read = fastest({"sdk": partial(sdk.decode_rle, code), "fgr": partial(brush.decode, code, 2048, 2048)}, rounds)
        for what, found in (("encode", write), ("decode", read)):
            ratio = found["sdk"] / found["fgr"]
            print(f"{name}, {what}: SDK {found['sdk'] * 1e3:.1f} ms, fgr {found['fgr'] * 1e3:.2f} ms, {ratio:.1f}×", flush=True)


def work(first: int, number: int) -> list[dict]:
    """The same task under `number` keys from `first` on, with a prediction and one person's work on 256×256 pixels."""
    y, x = np.mgrid[:SIDE, :SIDE]
    stars = ((y - 90) ** 2 + (x - 80) ** 2 < 50**2) * 2 + ((y - 180) ** 2 + (x - 170) ** 2 < 40**2) * 4
    painted = tasks.regions(stars.astype(np.uint8), labelling.KINDS.index("ringing"))
    result = [*painted, {"from_name": "score", "to_name": "composite", "type": "number", "value": {"number": 60}}]
    made = [tasks.defect_task(f"sample{i:05d}", "/a.webp", "/b.webp", painted, "heuristic") for i in range(first, first + number)]
    return [task | {"annotations": [{"result": result, "lead_time": 30.0}]} for task in made]


def dataset(folder: Path, number: int, demo: Path) -> None:
    """A `samples` table with keys and masks for the reader; images are one pixel; the manifest is borrowed from `demo`."""
    dot, mask = codec.encode_rgb(np.zeros((1, 1, 3), np.uint8)), codec.encode_mask(np.zeros((SIDE, SIDE), np.uint8))
    plain = {"string": "", "float32": 0.0, "int32": 0, "int64": 0, "image": dot, "image:L": mask}
    row = {column.name: plain[column.type] for column in records.TABLES["samples"]}
    rows = (row | {"id": f"sample{i:05d}"} for i in range(number))
    tables.write_table(folder / "samples" / "train-00000-of-00001.parquet", "samples", rows)
    shutil.copy(demo / "fgr.json", folder)


def one(folder: str, url: str, title: str) -> None:
    """Pull everything in a process of its own: seconds, those of its processor, and peak memory in MiB."""
    campaign = Campaign(title, url, {"interface": "defects", "reference": True}, {"": title})
    with Studio(url, os.environ["LABEL_STUDIO_API_KEY"], timeout=600) as studio:
        start, busy = time.perf_counter(), time.process_time()
        tally, _ = pull.pull(studio, Path(folder), campaign, True)
        found = {"rows": tally.rows, "seconds": time.perf_counter() - start, "busy": time.process_time() - busy}
    print(json.dumps(found | {"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


def pulled(folder: Path, url: str, token: str, title: str) -> dict[str, float]:
    command = [sys.executable, "-m", "bench.annotate", "--one", str(folder), url, title]
    environment = os.environ | {"LABEL_STUDIO_API_KEY": token}
    return dict(json.loads(subprocess.run(command, capture_output=True, check=True, text=True, env=environment).stdout))


def exported(url: str, token: str, project: int) -> dict[str, float]:
    start = time.perf_counter()
    answer = httpx.get(
        f"{url}/api/projects/{project}/export", params={"exportType": "JSON"}, timeout=1200, trust_env=False,
        headers={"Authorization": f"Token {token}"},
    )  # fmt: skip
    return {"seconds": time.perf_counter() - start, "rows": len(answer.json())}


def server(number: int, demo: Path) -> None:
    """Pull and export by turns, the best of each; with the server's processor time, which other programs disturb less."""
    with (
        tempfile.TemporaryDirectory(prefix="fgr-bench-") as name,
        serve.serving(Path(name) / "server", serve.free_port()) as running,
        Studio(running.url, running.login.token, timeout=600) as studio,
    ):
        folder, process = Path(name) / "dataset", psutil.Process(running.process.pid)
        for count in (number // 10, number):
            shutil.rmtree(folder, ignore_errors=True)
            dataset(folder, count, demo)
            title = f"bench {count}"
            project = int(studio.create_project(title, labelling.text("defects"), "", 1)["id"])
            start = time.perf_counter()
            for at in range(0, count, IMPORT):
                studio.import_tasks(project, work(at, min(IMPORT, count - at)))
            pushed = time.perf_counter() - start
            calls = {
                "pull": lambda title=title: pulled(folder, running.url, running.login.token, title),
                "export": lambda project=project: exported(running.url, running.login.token, project),
            }
            best: dict[str, dict[str, float]] = {}
            for _ in range(2):
                for what, call in calls.items():
                    before = process.cpu_times()
                    found = call()
                    after = process.cpu_times()
                    assert found["rows"] == count
                    found["server"] = after.user + after.system - before.user - before.system
                    best[what] = min(best.get(what, found), found, key=lambda one: one["seconds"])
            ours, theirs = best["pull"], best["export"]
            print(
                f"{count} tasks: push {count / pushed:.0f}/s, pull {count / ours['seconds']:.0f}/s ({ours['seconds']:.1f} s; "
                f"processor: server {ours['server']:.1f} s, fgr {ours['busy']:.1f} s), the server's JSON export "
                f"{theirs['seconds']:.1f} s (processor {theirs['server']:.1f} s), ratio "
                f"{theirs['seconds'] / ours['seconds']:.2f}×; peak memory of pull {ours['peak']:.0f} MiB",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codec", action="store_true")
    parser.add_argument("--server", action="store_true")
    parser.add_argument("--tasks", type=int, default=5000)
    parser.add_argument("--demo", type=Path, default=Path("out/demo"), help="any finished dataset")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        one(*chosen.one)
        return
    cv2.setNumThreads(1)
    print(describe("label-studio", "label-studio-sdk", "numpy"))
    if chosen.codec or not chosen.server:
        codecs()
    if chosen.server or not chosen.codec:
        server(chosen.tasks, chosen.demo)


if __name__ == "__main__":
    main()
