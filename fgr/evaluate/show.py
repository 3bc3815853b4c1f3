"""Tables of evaluations for the terminal: title, header and rows of each."""

from collections.abc import Iterator, Mapping
from typing import Any

Table = tuple[str, list[str], list[list[str]]]
OPINIONS = ("images", "srcc", "plcc", "plcc_logistic", "krcc", "srcc_within", "accuracy", "pairs", "ties")
PUBLISHED = " (published)"
CHANGES = ["", "score, gaps", "map, gaps"]
COMPARED = {"lead": "lead over 1 − SSIM", "above_reference": "above reference"}
INVARIANCES = {
    "shift": "shift by a pixel", "flip": "mirror image", "crop": "four quarters, not the whole", "tile": "in tiles",
    "batch": "in a batch",
}  # fmt: skip


def systems_title(summary: Mapping[str, Any]) -> str:
    """What the figures are of, in words."""
    tests = summary["protocol"]["test_set"]
    inputs = f"; inputs {tests['inputs']}" if tests.get("inputs") else ""
    return f"{tests['data']}: {summary['images']} images of {summary['photos']} photographs{inputs}"


def systems(summary: Mapping[str, Any]) -> Iterator[Table]:
    """Means with intervals, then each comparison with the first system."""
    lower = summary["lower_is_better"]
    names = [*next(iter(summary["systems"].values()))]
    header = ["", *(f"{name} {'↓' if name in lower else '↑'}" for name in names)]
    rows = [[system, *(_interval(figures[name]) for name in names)] for system, figures in summary["systems"].items()]
    yield "Means and 95 % intervals", header, rows
    for system, figures in summary["compared"].items():
        rows = [[name, _difference(one), _share(one), str(one["ties"]), str(one["n"])] for name, one in figures.items()]
        yield f"{system} against {summary['against']}", ["", "difference", "win rate", "ties", "images"], rows
    if summary.get("closure"):
        yield from closures(summary["against"], summary["closure"])


def opinions_title(summary: Mapping[str, Any]) -> str:
    """What the figures are of, in words."""
    protocol = summary["protocol"]
    part = f", part {protocol['split']} of the scenes" if protocol["split"] else ""
    of = f" of {protocol['scenes']} scenes" if summary["kind"] == "scores" else ""
    notes = [
        (protocol["opinions_hidden"], "rows whose opinions are not public"),
        (protocol["scenes_of_several_sizes"], "scenes with images of several sizes"),
    ]
    counted = "".join(f"; {count} {what}" for count, what in notes if count)
    opinions = f"; opinions: {protocol['opinions']}" if protocol["opinions"].startswith("−") else ""
    return f"{protocol['benchmark']}: {protocol['images']} images{of}{part}{counted}{opinions}"


def opinions_notes(summary: Mapping[str, Any]) -> list[str]:
    """What a reader of the figures has to know."""
    notes = [f"reward: {summary['protocol']['reward_is']}"] if summary["protocol"]["reward"] else []
    source = summary.get("published", {}).get("source")
    return [*notes, *summary["notes"], *([f"published: {source}"] if source else [])]


def opinions(summary: Mapping[str, Any]) -> Iterator[Table]:
    """Agreement with people by scorer, published figures below; then by family, within generators, and choice among several."""
    known = summary.get("published", {}).get("figures", {})
    yield _agreement("Agreement with people", summary["figures"], known.get("", {}))
    for family, figures in summary.get("by_family", {}).items():
        yield _agreement(f"Family {family}", figures, known.get(family, {}))
    generators = summary.get("by_generator", {})
    if generators:
        rows = [
            [name, *(_short(figures[name]["srcc"]) for figures in generators.values())]
            for name in next(iter(generators.values()))
        ]
        counted = [f"{name} ({next(iter(figures.values()))['images']})" for name, figures in generators.items()]
        yield "SRCC within a generator (images)", ["", *counted], rows
    chosen = {name: figures["best_of"] for name, figures in summary["figures"].items() if "best_of" in figures}
    if chosen:
        columns = ("groups", "first", "gain", "possible", "share")
        yield _named("Best of a scene's images, chosen by each: people's opinion above the mean", chosen, columns, ("share",))


def _agreement(title: str, figures: Mapping[str, Any], known: Mapping[str, Mapping[str, float]]) -> Table:
    shown = {name: _with_accuracy_interval(one) for name, one in figures.items()}
    columns = tuple(name for name in OPINIONS if any(name in one for one in shown.values()))
    rows = {**shown, **{f"{name}{PUBLISHED}": one for name, one in known.items()}}
    return _named(title, rows, columns, ("srcc", "accuracy"))


def _with_accuracy_interval(figures: Mapping[str, Any]) -> dict[str, Any]:
    ends = {f"accuracy_{end}": figures[end] for end in ("low", "high") if end in figures}
    return {**figures, **ends}


def marked_maps_title(summary: Mapping[str, Any]) -> str:
    """What the figures are of, in words."""
    protocol = summary["protocol"]
    scaled = f", {protocol['masks_scaled']} of them scaled to their image" if protocol["masks_scaled"] else ""
    part = f", part {protocol['split']} of the scenes" if protocol["split"] else ""
    return f"{protocol['benchmark']}: {protocol['regions']} marked regions of {protocol['images']} images{scaled}{part}"


def marked_maps_notes(summary: Mapping[str, Any]) -> list[str]:
    """What a reader of the figures has to know."""
    source = summary["published"]["source"]
    return [*summary["notes"], *([f"published: {source}"] if source else [])]


def marked_maps(summary: Mapping[str, Any]) -> Iterator[Table]:
    """Maps against regions that people marked, by rival; then by subset and by generator."""
    rated, figures = summary["rated"], summary["figures"]
    if rated:
        columns = ("masks", "prominent", "srcc", "plcc", "ap", "auc")
        yield _named("Map in each mask against the share of viewers who see it", figures, columns, ("srcc", "auc"))
    columns = ("images", "iou", "precision", "recall", "pixel_ap", "pixel_auc")
    known = {f"{name}{PUBLISHED}": one for name, one in summary["published"]["figures"].get("", {}).items()}
    yield _named(f"{'Prominent' if rated else 'Marked'} regions found", {**figures, **known}, columns, ("iou",))
    short = ("masks", "srcc", "auc", "iou", "pixel_auc") if rated else ("masks", "iou", "precision", "recall", "pixel_auc")
    for key in ("subset", "generator"):
        for value, part in summary[f"by_{key}"].items():
            yield _named(f"{key.capitalize()} {value}", part, short, ("srcc", "iou"))


def reward_model_title(summary: Mapping[str, Any]) -> str:
    """What the figures are of, in words."""
    protocol = summary["protocol"]
    rows = f": {summary['rows']} rows of {summary['photos']} photographs" if "rows" in summary else ""
    return f"{protocol['reward']} on {protocol['data']}, split {protocol['split']}{rows}"


def reward_model(summary: Mapping[str, Any]) -> Iterator[Table]:
    """A reward model on a dataset, beside its baselines, by area, mask kind and SR model; then its probes."""
    if "maps" in summary:
        yield from _labels(summary)
    yield from probed(summary.get("probes", {}))


def _labels(summary: Mapping[str, Any]) -> Iterator[Table]:
    columns, sure = ("ap", "ap_mask", "cc", "auc", "sim", "kld", "nss", "mse", "f1@0.1"), ("ap", "ap_mask", "cc")
    yield _named("Map of the composite, rows with defects (ap: map > 0.1, ap_mask: the mask)", summary["maps"], columns, sure)
    yield _named("Map by swapped area", summary["maps_by_area"], ("rows", "ap", "ap_mask", "cc", "auc"), sure)
    yield _named("Map by mask kind", summary["maps_by_kind"], ("rows", "ap", "ap_mask", "cc", "auc"), sure)
    yield _named("Score against the dataset's score", summary["score"], ("srcc", "plcc", "plcc_logistic", "krcc"), ("srcc",))
    yield _named("Triplets in order, S_SR < S_syn < S_GT", _without_oracle(summary["triplets"]), ("accuracy", "low", "high", "n"))
    yield "By SR model", ["SR model", "", "ap", "ap_mask", "cc", "triplets"], list(_sr_models(summary))
    pairs = {label: _without_oracle(names)["model"] for label, names in summary["pairs_by_area"].items()}
    yield _named("Pairs in order by swapped area, S_syn < S_GT", pairs, ("accuracy", "low", "high", "n"))
    empty = {"sham swaps": summary["empty"]["sham"], "clean photographs": summary["empty"]["clean"]}
    yield _named("Maps that should be empty", empty, ("mean", "mse"), ("mean",))
    names = ("images", "mean", "std", "base_std", "corr_base", "align")
    yield _named("Scores of clean photographs", {"model": summary["clean"]}, names, ("corr_base",))


def probed(probes: Mapping[str, Any]) -> Iterator[Table]:
    """The parts of `probes.measured` that were measured, changes in units of the gap between SR outputs and references."""
    if "gap" in probes:
        yield _gap(probes)
    if "planted" in probes:
        yield from _planted(probes)
    if "random" in probes and "ascent" not in probes:
        rows = [[f"random ±{step} of 255", *_changes(one)] for step, one in probes["random"].items()]
        yield "SR outputs with every value changed a little", CHANGES, rows
    if "approach" in probes:
        rows = [
            [f"{float(share):.0%}", *_changes(one), _within(one["ssim"], "value")] for share, one in probes["approach"].items()
        ]
        yield "SR outputs moved a part of the way to their references", [*CHANGES, "1 − SSIM, gaps"], rows
    if "ascent" in probes:
        names = {"ascent": "gradient ascent within", "random": "random"}
        rows = [
            [f"{name} ±{step} of 255", *_changes(one[key])]
            for step, one in probes["ascent"].items()
            for key, name in names.items()
        ]
        yield "SR outputs with every value changed a little", CHANGES, rows
    if "invariances" in probes:
        rows = [
            [INVARIANCES[name], _within(one["score"], "gaps"), _within(one["map"], "mean"), _short(one["worst"])]
            for name, one in probes["invariances"].items()
        ]
        yield "What should change nothing", ["", "score, gaps", "map, mean", "map, worst pixel"], rows
    if "systems" in probes:
        counted = f", {probes['systems']['images']} images of {probes['systems']['photographs']} photographs"
        yield from closures(probes["systems"]["start"]["name"], probes["systems"]["systems"], counted)


def _gap(probes: Mapping[str, Any]) -> Table:
    pairs = probes["pairs"]
    title = f"The gap: references above SR outputs, {pairs['images']} pairs of {pairs['photographs']} photographs"
    return title, ["", "mean"], [[name, _within(one, "mean")] for name, one in probes["gap"].items()]


def _planted(probes: Mapping[str, Any]) -> Iterator[Table]:
    found = probes["planted"]
    rows = []
    for name, kind in found["kinds"].items():
        marks = [*(["never planted"] if kind["held_out"] else []), *(["not counted"] if kind["apart"] else [])]
        changes = [_change(kind[on][figure]) for on in ("reference", "sr") for figure in ("score", "map")]
        rows.append([f"{name} ({', '.join(marks)})" if marks else name, *changes])
    right, of = found["right"], found["right"]["of"]
    rows.append([f"right, of {of}", *(str(right[figure][on]) for on in ("reference", "sr") for figure in ("score", "map"))])
    untaught = "; none were planted in training" if probes["planting"]["share"] == 0 else ""
    title = f"Planted defects: change in gaps (− worse, + as if better; ✓ surely worse, ✗ not){untaught}"
    yield title, ["", "reference: score", "map", "SR output: score", "map"], rows


def closures(start: str, found: Mapping[str, Any], counted: str = "") -> Iterator[Table]:
    """How much of each figure's gap from `start` to the references systems close, and what a reward says beside 1 − SSIM."""
    first = next(iter(found.values()))
    rows = [[name, *(_within(one["closure"][figure], "value") for figure in first["closure"])] for name, one in found.items()]
    yield f"Share of the gap from {start} to the references that is closed{counted}", ["", *first["closure"]], rows
    parts = [(part, figure) for part in COMPARED for figure in first[part]]
    if parts:
        header = ["", *(f"{COMPARED[part]}: {figure}" for part, figure in parts)]
        rows = [[name, *(_within(one[part][figure], "value") for part, figure in parts)] for name, one in found.items()]
        yield "The same against 1 − SSIM, and the share of outputs judged better than their references", header, rows


def _changes(one: Mapping[str, Any]) -> list[str]:
    return [_in_gaps(one["score"]), _in_gaps(one["map"])]


def _change(one: Mapping[str, Any]) -> str:
    """A change in gaps with its interval, and whether it is surely for the worse."""
    mark = {True: " ✓", False: " ✗", None: ""}[one["right"]]
    return _in_gaps(one) + mark


def _in_gaps(one: Mapping[str, Any]) -> str:
    return _within({"low": one["gaps_low"], "high": one["gaps_high"], "gaps": one["gaps"]}, "gaps", sign="+")


def _within(one: Mapping[str, float], key: str, sign: str = "") -> str:
    value, low, high = (f"{x:{sign}.2f}" if x == x else "–" for x in (one[key], one["low"], one["high"]))
    return f"{value} [{low}, {high}]"


def _sr_models(summary: Mapping[str, Any]) -> Iterator[list[str]]:
    for name, group in summary["by_sr_model"].items():
        label = f"{name} (held out)" if name in summary["held_out"] else name
        for rival, figures in group["maps"].items():
            accuracy = group["triplets"].get(rival, {}).get("accuracy", float("nan"))
            triplets = _short(accuracy) if rival == "model" or rival in ("gradient energy",) else ""
            yield [label, rival, *(_short(figures.get(name)) for name in ("ap", "ap_mask", "cc")), triplets]
            label = ""


def _without_oracle(figures: Mapping[str, Any]) -> dict[str, Any]:
    """The mask's area puts every triplet in order by construction: no rival."""
    return {name: value for name, value in figures.items() if "oracle" not in name}


def _named(
    title: str, figures: Mapping[str, Mapping[str, float]], columns: tuple[str, ...], with_interval: tuple[str, ...] = ()
) -> Table:
    rows = [[name, *(_figure(one, column, column in with_interval) for column in columns)] for name, one in figures.items()]
    return title, ["", *columns], rows


def _figure(figures: Mapping[str, float], name: str, with_interval: bool) -> str:
    value = _short(figures.get(name))
    low, high = figures.get(f"{name}_low"), figures.get(f"{name}_high")
    return f"{value} [{low:.2f}, {high:.2f}]" if with_interval and low is not None and high is not None and low == low else value


def _interval(figure: Mapping[str, float]) -> str:
    dropped = f" ({figure['left_out']} left out)" if figure["left_out"] else ""
    return f"{_number(figure['mean'])} [{_number(figure['low'])}, {_number(figure['high'])}]{dropped}"


def _difference(one: Mapping[str, float]) -> str:
    return f"{one['difference']:+.4f} [{_number(one['low'])}, {_number(one['high'])}]"


def _share(one: Mapping[str, float]) -> str:
    rate, *ends = (f"{100 * one[key]:.0f}" if one[key] == one[key] else "–" for key in ("win_rate", "win_low", "win_high"))
    return f"{rate} % [{', '.join(ends)}]"


def _number(value: float | int | None) -> str:
    if value is None or value != value:
        return "–"
    return str(value) if isinstance(value, int) else f"{value:.4g}" if abs(value) >= 10 else f"{value:.4f}"


def _short(value: float | int | None) -> str:
    if value is None or value != value:
        return "–"
    return str(value) if isinstance(value, int) else f"{value:.3f}"
