"""Records of an evaluation as tables. Pure: the records of `evaluate.records` in, JSON values out."""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from fgr.metrics.intervals import accuracy
from fgr.metrics.maps import correlation
from fgr.metrics.ranks import score_figures, triplets_in_order

Record = Mapping[str, Any]
AREAS = (0.0, 0.02, 0.05, 0.1, 0.25, 1.0)
MAP_FIGURES = ("ap", "cc", "auc", "sim", "kld", "nss", "mse", "iou@0.1", "f1@0.1", "iou@0.25", "f1@0.25")
POSITIONS = ("sr", "composite", "reference")


def summary(records: Sequence[Record], held_out: Sequence[str] = ()) -> dict[str, Any]:
    """Everything there is to say about an evaluation. `held_out` are the SR models that the reward model never saw."""
    defective = [record for record in records if record["maps"]["model"]["ap"] == record["maps"]["model"]["ap"]]
    triples = [record for record in records if record["mask_kind"] not in ("sham", "full")]
    by_model = {name: [r for r in records if r["model"] == name] for name in sorted({r["model"] for r in records})}
    return {
        "rows": len(records),
        "photos": len({record["photo_id"] for record in records}),
        "held_out": sorted(set(held_out) & set(by_model)),
        "maps": _by_name(defective, "maps", lambda rows, name: _means([r["maps"][name] for r in rows], MAP_FIGURES)),
        "maps_by_area": {label: _short(rows) for label, rows in _by_area(defective).items()},
        "maps_by_kind": {kind: _short(_of(defective, "mask_kind", kind)) for kind in sorted({r["mask_kind"] for r in defective})},
        "by_sr_model": {name: _sr_model(rows) for name, rows in by_model.items()},
        "empty": _empty(records),
        "reliability": _reliability(records),
        "score": _by_name(records, "scores", _score),
        "triplets": _by_name(triples, "scores", lambda rows, name: accuracy(_in_order(rows, name))),
        "pairs_by_area": {
            label: _by_name(rows, "scores", lambda part, name: accuracy(_pairs(part, name)))
            for label, rows in _by_area(triples).items()
        },
        "clean": clean(records),
    }


def clean(records: Iterable[Record]) -> dict[str, float]:
    """Scores of the clean photographs, each once: their spread and agreement with S_base, lost where a gate collapses."""
    once = {record["source_id"]: record for record in records}.values()
    scores = np.array([record["scores"]["model"][2] for record in once])
    base = np.array([record.get("base", np.nan) for record in once])
    return {
        "images": len(scores), "mean": float(scores.mean()), "std": float(scores.std()), "base_std": float(base.std()),
        "corr_base": correlation(scores, base) if len(scores) > 2 and np.isfinite(base).all() else float("nan"),
        "align": float(np.abs(scores - base).mean()),
    }  # fmt: skip


def _sr_model(rows: Sequence[Record]) -> dict[str, Any]:
    defective = [record for record in rows if np.isfinite(record["maps"]["model"]["ap"])]
    triples = [record for record in rows if record["mask_kind"] not in ("sham", "full")]
    return {
        "maps": _by_name(defective, "maps", lambda part, name: _means([r["maps"][name] for r in part], ("ap", "cc", "auc"))),
        "triplets": _by_name(triples, "scores", lambda part, name: accuracy(_in_order(part, name))),
    }


def _empty(records: Sequence[Record]) -> dict[str, Any]:
    sham = [record["maps"]["model"] for record in records if record["mask_kind"] == "sham"]
    return {
        "sham": _means(sham, ("mean", "mse"))
        | {"rows": len(sham), "worst": max((figures["mean"] for figures in sham), default=float("nan"))},
        "clean": _means([record["clean"] for record in records], ("mean", "mse")),
    }


def _reliability(records: Sequence[Record]) -> dict[str, Any]:
    shares = np.array([record["bins"]["share"] for record in records])
    result: dict[str, Any] = {"share": shares.mean(0).tolist()}
    for name in ("predicted", "observed"):
        values = np.nan_to_num(np.array([record["bins"][name] for record in records]))
        total = shares.sum(0)
        result[name] = np.divide((shares * values).sum(0), total, out=np.full(total.shape, np.nan), where=total > 0).tolist()
    gap = np.abs(np.array(result["predicted"]) - np.array(result["observed"]))
    return result | {"ece": float(np.nansum(np.array(result["share"]) * gap))}


def _score(rows: Sequence[Record], name: str) -> dict[str, float]:
    scores = np.array([record["scores"][name][1] for record in rows])
    return score_figures(scores, np.array([record["score"] for record in rows]))


def _in_order(rows: Sequence[Record], name: str) -> np.ndarray:
    values = np.array([record["scores"][name] for record in rows]).reshape(-1, 3)
    return triplets_in_order(dict(zip(POSITIONS, values.T, strict=True)))


def _pairs(rows: Sequence[Record], name: str) -> np.ndarray:
    values = np.array([record["scores"][name] for record in rows]).reshape(-1, 3)
    return values[:, 1] < values[:, 2]


def _by_name(rows: Sequence[Record], key: str, figure: Callable[[Sequence[Record], str], Any]) -> dict[str, Any]:
    return {name: figure(rows, name) for name in (rows[0][key] if rows else ())}


def _by_area(rows: Sequence[Record]) -> dict[str, list[Record]]:
    bins = {
        f"{100 * low:g}–{100 * high:g} %": [r for r in rows if low < r["mask_area"] <= high]
        for low, high in itertools.pairwise(AREAS)
    }
    return {label: part for label, part in bins.items() if part}


def _short(rows: Sequence[Record]) -> dict[str, Any]:
    return {"rows": len(rows)} | _means([record["maps"]["model"] for record in rows], ("ap", "cc", "auc"))


def _of(rows: Sequence[Record], key: str, value: str) -> list[Record]:
    return [record for record in rows if record[key] == value]


def _means(figures: Sequence[Mapping[str, float]], names: Sequence[str]) -> dict[str, float]:
    means: dict[str, float] = {}
    for name in names:
        values = [row[name] for row in figures if np.isfinite(row[name])]
        means[name] = float(np.mean(values)) if values else float("nan")
    return means
