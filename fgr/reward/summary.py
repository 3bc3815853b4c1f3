"""Records of an evaluation as tables. Pure: the records of `evaluate.records` in, JSON values out."""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from fgr.metrics.intervals import accuracy, resampled
from fgr.metrics.intervals import summary as mean_of
from fgr.metrics.maps import correlation
from fgr.metrics.ranks import score_figures, triplets_in_order

Record = Mapping[str, Any]
AREAS = (0.0, 0.02, 0.05, 0.1, 0.25, 1.0)
MAP_FIGURES = ("ap", "ap_mask", "cc", "auc", "sim", "kld", "nss", "mse", "iou@0.1", "f1@0.1", "iou@0.25", "f1@0.25")
SHORT = ("ap", "ap_mask", "cc", "auc")
POSITIONS = ("sr", "composite", "reference")
RESAMPLES = 500  # of what is more than a mean


def summary(records: Sequence[Record], held_out: Sequence[str] = ()) -> dict[str, Any]:
    """Everything there is to say about an evaluation. `held_out` are the SR models that the reward model never saw.

    A figure's 95 % interval over photographs is beside it: NAME_low and NAME_high, of shares low and high.
    """
    defective = [record for record in records if record["maps"]["model"]["ap"] == record["maps"]["model"]["ap"]]
    triples = [record for record in records if record["mask_kind"] not in ("sham", "full")]
    by_model = {name: [r for r in records if r["model"] == name] for name in sorted({r["model"] for r in records})}
    return {
        "rows": len(records),
        "photos": len({record["photo_id"] for record in records}),
        "held_out": sorted(set(held_out) & set(by_model)),
        "maps": _by_name(defective, "maps", lambda rows, name: _means(rows, _map_of(name), MAP_FIGURES)),
        "maps_by_area": {label: _short(rows) for label, rows in _by_area(defective).items()},
        "maps_by_kind": {kind: _short(_of(defective, "mask_kind", kind)) for kind in sorted({r["mask_kind"] for r in defective})},
        "by_sr_model": {name: _sr_model(rows) for name, rows in by_model.items()},
        "empty": _empty(records),
        "reliability": _reliability(records),
        "score": _by_name(records, "scores", _score),
        "triplets": _by_name(triples, "scores", lambda rows, name: _share(rows, _in_order(rows, name))),
        "pairs_by_area": {
            label: _by_name(rows, "scores", lambda part, name: _share(part, _pairs(part, name)))
            for label, rows in _by_area(triples).items()
        },
        "clean": clean(records),
    }


def clean(records: Iterable[Record]) -> dict[str, float]:
    """Scores of the clean photographs, each once: their spread and agreement with S_base, lost where a gate collapses."""
    once = list({record["source_id"]: record for record in records}.values())
    scores = np.array([record["scores"]["model"][2] for record in once])
    base = np.array([record.get("base", np.nan) for record in once])

    def agreement(rows: np.ndarray) -> float:
        return correlation(scores[rows], base[rows]) if len(rows) > 2 and np.isfinite(base).all() else float("nan")

    found = {
        "images": len(scores), "mean": float(scores.mean()), "std": float(scores.std()), "base_std": float(base.std()),
        "corr_base": agreement(np.arange(len(scores))), "align": float(np.abs(scores - base).mean()),
    }  # fmt: skip
    photographs = _photographs(once)
    ends = {
        "mean": lambda rows: float(scores[rows].mean()),
        "std": lambda rows: float(scores[rows].std()),
        "corr_base": agreement,
    }
    return found | {key: end for name, figure in ends.items() for key, end in _ends(name, figure, photographs).items()}


def _sr_model(rows: Sequence[Record]) -> dict[str, Any]:
    defective = [record for record in rows if np.isfinite(record["maps"]["model"]["ap"])]
    triples = [record for record in rows if record["mask_kind"] not in ("sham", "full")]
    return {
        "maps": _by_name(defective, "maps", lambda part, name: _means(part, _map_of(name), SHORT)),
        "triplets": _by_name(triples, "scores", lambda part, name: _share(part, _in_order(part, name))),
    }


def _empty(records: Sequence[Record]) -> dict[str, Any]:
    sham = [record for record in records if record["mask_kind"] == "sham"]
    worst = max((record["maps"]["model"]["mean"] for record in sham), default=float("nan"))
    return {
        "sham": _means(sham, _map_of("model"), ("mean", "mse")) | {"rows": len(sham), "worst": worst},
        "clean": _means(records, lambda record: record["clean"], ("mean", "mse")),
    }


def _reliability(records: Sequence[Record]) -> dict[str, Any]:
    bins = {name: np.array([record["bins"][name] for record in records], float) for name in ("share", "predicted", "observed")}
    found = _pooled(bins, np.arange(len(records)))
    return found | _ends("ece", lambda rows: float(_pooled(bins, rows)["ece"]), _photographs(records))


def _pooled(bins: Mapping[str, np.ndarray], rows: np.ndarray) -> dict[str, Any]:
    """The reliability of rows together, of that of each: arrays (N, bins)."""
    shares, total = bins["share"][rows], bins["share"][rows].sum(0)
    result: dict[str, Any] = {"share": shares.mean(0).tolist()}
    for name in ("predicted", "observed"):
        weighted = (shares * np.nan_to_num(bins[name][rows])).sum(0)
        result[name] = np.divide(weighted, total, out=np.full(total.shape, np.nan), where=total > 0).tolist()
    gap = np.abs(np.array(result["predicted"]) - np.array(result["observed"]))
    return result | {"ece": float(np.nansum(np.array(result["share"]) * gap))}


def _score(rows: Sequence[Record], name: str) -> dict[str, float]:
    scores = np.array([record["scores"][name][1] for record in rows])
    truth = np.array([record["score"] for record in rows])
    ends = _ends("srcc", lambda chosen: _rank_correlation(scores[chosen], truth[chosen]), _photographs(rows))
    return score_figures(scores, truth) | ends


def _rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    from scipy.stats import rankdata

    return correlation(rankdata(a), rankdata(b))


def _share(rows: Sequence[Record], right: np.ndarray) -> dict[str, float]:
    return accuracy(right, _photographs(rows))


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
    return {"rows": len(rows)} | _means(rows, _map_of("model"), SHORT)


def _of(rows: Sequence[Record], key: str, value: str) -> list[Record]:
    return [record for record in rows if record[key] == value]


def _map_of(name: str) -> Callable[[Record], Mapping[str, float]]:
    return lambda record: record["maps"][name]


def _means(rows: Sequence[Record], figures: Callable[[Record], Mapping[str, float]], names: Sequence[str]) -> dict[str, float]:
    """Means of figures over the rows that have them, and their intervals over photographs."""
    means: dict[str, float] = {}
    for name in names:
        found = mean_of(np.array([figures(row).get(name, np.nan) for row in rows], float), _photographs(rows))
        means |= {name: found["mean"], f"{name}_low": found["low"], f"{name}_high": found["high"]}
    return means


def _ends(name: str, figure: Callable[[np.ndarray], float], photographs: Sequence[str]) -> dict[str, float]:
    low, high = resampled(figure, photographs, RESAMPLES)
    return {f"{name}_low": low, f"{name}_high": high}


def _photographs(rows: Sequence[Record]) -> list[str]:
    return [str(row["photo_id"]) for row in rows]
