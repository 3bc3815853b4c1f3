"""One row of an evaluation: figures of maps and baselines, in worker processes if wanted.

Everything here is arithmetic on arrays; the network is run elsewhere. Importing this loads no torch: a worker starts in a second.
"""

import contextlib
import multiprocessing
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from fgr.errors import UserError
from fgr.metrics import maps as map_metrics
from fgr.reward import baselines

Record = dict[str, Any]
Start = Callable[[Sequence["JudgedRow"]], list[Callable[[], Record]]]  # begins some rows; each then gives its record
MASKED = 127  # a mask above this counts as inside


@dataclass(frozen=True, slots=True)
class JudgedRow:
    """A row and what the model said of it: `known` goes into the record as it is."""

    known: Mapping[str, Any]
    images: Mapping[str, np.ndarray]  # sr, composite, reference: uint8 (H, W, 3)
    mask: np.ndarray  # uint8 (H, W)
    target: np.ndarray  # uint16 (H, W)
    map: np.ndarray  # float32 (H, W), of the composite
    scores: Sequence[float]  # of sr, composite, reference


def record(row: JudgedRow) -> Record:
    """The row's record: `known`, and by model and baseline `scores` (sr, composite, reference) and figures of the `maps`; `bins`
    is the reliability of the model's."""
    target = row.target.astype(np.float32) / 65535
    of_baselines = [baselines.scores(image) for image in row.images.values()]
    scores = {"model": list(row.scores)} | {name: [one[name] for one in of_baselines] for name in baselines.SCORES}
    scores["mask area (oracle)"] = [-1.0, -float(row.known["mask_area"]), 0.0]
    bins = map_metrics.reliability(row.map, target)
    return dict(row.known) | {"scores": scores, "maps": _maps(row, target), "bins": bins}


def _maps(row: JudgedRow, target: np.ndarray) -> dict[str, dict[str, float]]:
    if not target.any():  # a sham: nothing to find
        return {"model": map_metrics.map_figures(row.map, target)}
    maps = {"model": row.map} | {name: baseline(row.images["composite"]) for name, baseline in baselines.MAPS.items()}
    maps |= {"constant": np.full_like(target, 0.1), "mask (oracle)": row.mask.astype(np.float32) / 255}
    inside = row.mask > MASKED
    return {name: map_metrics.map_figures(map_, target, inside) for name, map_ in maps.items()}


@contextlib.contextmanager
def row_workers(workers: int) -> Iterator[Start]:
    """Begins rows in so many processes of its own, or (0) does each when its record is asked for. UserError if one is killed."""
    if not workers:
        yield lambda rows: [partial(record, row) for row in rows]
        return
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _prepare) as pool:
        try:
            yield lambda rows: [pool.submit(record, row).result for row in rows]
        except BrokenProcessPool:
            raise UserError(
                "A worker process was killed, perhaps because memory ran out.", "Run it again with fewer --workers (0 = none)."
            ) from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _prepare() -> None:
    import cv2

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers
    cv2.setNumThreads(1)
