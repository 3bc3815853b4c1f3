"""The command `fgr evaluate`."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from fgr import api
from fgr.cli.options import Device, listed, named
from fgr.cli.shell import echo
from fgr.errors import printable
from fgr.shipped import REWARD_MODEL


def evaluate(
    systems: Annotated[
        list[str] | None,
        typer.Argument(metavar="SYSTEM…", help="SR systems: a folder of outputs, an SR model of `fgr models`, a run of rlhf."),
    ] = None,
    *,
    data: Annotated[
        str | None,
        typer.Option(metavar="DIR|ID", help="A dataset (its inputs are replayed), or a folder of test images (gt/ and lr/)."),
    ] = None,
    reward: Annotated[
        str | None,
        typer.Option(
            metavar="DIR|ID", help="A reward model: a run, a stage, or on the Hub; without SR systems or --metrics, fgr-lite."
        ),
    ] = None,
    benchmark: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|DIR|NAME",
            help="People's opinions: a table image,mos or group,image,rank or left,right,choice, SRIQA-Bench, or disrqad, "
            "vha-bench, qualisr-set120, isrgen-qa, refsr-18k; or regions that they marked: a table image,mask,prominence, or "
            "sr-prominence, desra, sr-ground. --data names the folder of a set that is given by name.",
        ),
    ] = None,
    columns: Annotated[
        str | None, typer.Option(metavar="A=B,…", help="What a benchmark's table calls its columns: image=file,mos=votes.")
    ] = None,
    maps: Annotated[
        str | None,
        typer.Option(metavar="NAME=DIR,…", help="Maps of others (PNG, .npy) to compare on a benchmark of masks: wasd=out/wasd."),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,…",
            help="psnr ssim ms-ssim lpips lpips-vgg dists lite0-distance timm:NAME (timm:mobilenetv2_100) clipiqa pyiqa:NAME "
            "(pyiqa:niqe). Default: the first three, where there are references.",
        ),
    ] = None,
    luma: Annotated[bool, typer.Option("--luma/--rgb", help="PSNR, SSIM and MS-SSIM on Y or on RGB.")] = False,
    border: Annotated[int, typer.Option(min=0, help="Pixels that these three leave out on each side.")] = 0,
    layout: Annotated[
        str, typer.Option(help="How a folder is arranged: auto, realsr, drealsr, pairs, reallq250, references.")
    ] = "auto",
    scale: Annotated[int | None, typer.Option(help="The factor, where the images do not tell it.")] = None,
    split: Annotated[
        str | None,
        typer.Option(help="train, validation or test. Of a dataset: test. Of a benchmark, by scene: all of it."),
    ] = None,
    limit: Annotated[int | None, typer.Option(help="At most this many images or rows, spread over the set.")] = None,
    tile: Annotated[int, typer.Option(help="SR models run in tiles of this many input pixels; 0 = whole.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Write the summary and its protocol here as JSON.")] = None,
    table: Annotated[Path | None, typer.Option(help="Write every image's figures here as Parquet (or CSV).")] = None,
    html: Annotated[
        Path | None,
        typer.Option(metavar="PAGE", help="Write it as a page too: figures, outputs under a swipe, maps over them, every image."),
    ] = None,
    pictures: Annotated[
        int, typer.Option(min=0, help="Images or scenes whose pictures the page holds, those with the worst disagreement.")
    ] = 24,
    keep: Annotated[Path | None, typer.Option(help="Keep inputs and outputs here as PNG.")] = None,
    parts: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,…",
            help="What of a reward model on a dataset: labels planted random approach ascent invariances systems. Default: all "
            "but ascent (it takes long), systems where --systems names some.",
        ),
    ] = None,
    pairs: Annotated[
        int, typer.Option(min=2, help="References, with an SR output of each, that all parts but labels are measured on.")
    ] = 16,
    tuned: Annotated[
        str | None,
        typer.Option(
            "--systems", metavar="A,B,…", help="SR networks tuned against a reward model: how much of the gap they close."
        ),
    ] = None,
    start: Annotated[
        str | None, typer.Option(metavar="SYSTEM", help="What --systems were tuned from; runs of fgr rlhf say it themselves.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes that judge maps beside the network. Default: the cores that are left.")
    ] = None,
    draws: Annotated[
        int,
        typer.Option(
            min=0, help="Judge by the mean over so many randomised copies, as `fgr score --draws`; 0 = the image itself."
        ),
    ] = 0,
    device: Device = "auto",
) -> None:
    """Measure SR systems on a test set, or a reward model on a dataset or a benchmark of people's opinions.

    fgr evaluate SYSTEM… --data DATA [--reward RM]: means, bootstrap intervals over photographs, later systems against the first.
    fgr evaluate --reward RM --data DATASET: maps, scores, triplets, beside trivial baselines; planted defects, invariances;
    --systems A,B --start C: how much of the gap to the references networks close by it that were tuned against a reward model.
    fgr evaluate --reward RM --benchmark TABLE: SRCC, PLCC, KRCC, accuracy on pairs; of masks: pooled maps against prominence,
    IoU, precision and recall, beside full-reference maps.
    """
    wanted, records = listed(metrics), None
    if (tuned or start or parts) and (systems or benchmark):
        raise typer.BadParameter("--parts, --systems and --start are for --reward with a dataset as --data.")
    if systems:
        if not data or benchmark:
            raise typer.BadParameter("SR systems need --data, and no --benchmark.")
        from fgr.evaluate import show

        result, records = api.evaluate_systems(
            systems, data, split=split or "test", layout=layout, scale=scale, limit=limit, metrics=wanted, reward=reward,
            border=border, luma=luma, tile=tile, device=device, keep=keep,
            html=html, pictures=pictures,
        )  # fmt: skip
        _print(show.systems_title(result), show.systems(result))
    elif benchmark:
        result, records = _benchmark(
            benchmark, data, columns, maps, {"reward": reward, "metrics": wanted or [], "device": device},
            {"border": border, "luma": luma},
            {"split": split, "limit": limit, "draws": draws, "html": html, "pictures": pictures},
        )  # fmt: skip
    else:
        result = _reward_model(
            reward or REWARD_MODEL, data, split=split or "test", limit=limit, device=device, parts=listed(parts), pairs=pairs,
            systems=listed(tuned) or [], start=start, workers=workers, draws=draws, html=html,
        )  # fmt: skip
    if table and records:
        from fgr.evaluate import comparison

        comparison.write_table(table, records)
    if out:
        from fgr import atomic

        atomic.write_json(out, result)
    what = ("image or mask", "images or masks") if result.get("kind") == "maps" else ("image", "images")
    name_left_out(result.get("left_out", {}), what)


def name_left_out(left_out: Mapping[str, str], what: tuple[str, str] = ("image", "images")) -> None:
    """Say which files of a work on many could not be used, and why; exit with 1 if there are any."""
    for name, reason in left_out.items():
        echo(f"fgr: {name} is left out: {reason}", err=True)
    if left_out:
        echo(f"fgr: {len(left_out)} {what[len(left_out) > 1]} left out.", err=True)
        raise typer.Exit(1)


def _benchmark(
    benchmark: str, data: str | None, columns: str | None, maps: str | None, shared: dict[str, Any], of_scores: dict[str, Any],
    both: dict[str, Any],
) -> tuple[dict[str, Any], list[dict[str, Any]]]:  # fmt: skip
    """A benchmark of scores or of maps: the summary, and a record an image or a marked region."""
    from fgr.people.map_layouts import is_of_maps

    names, folders = named(columns, "--columns"), named(maps, "--maps")
    if folders or is_of_maps(benchmark, names):
        return _marked_maps(benchmark, data, columns=names, maps=folders, **shared, **both)
    return _opinions(benchmark, data, columns=names, **shared, **of_scores, **both)


def _opinions(
    benchmark: str, data: str | None, *, reward: str | None, metrics: list[str], **settings: Any
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    from fgr.evaluate import show
    from fgr.evaluate.benchmark import evaluate_on_benchmark

    reward = reward if metrics else reward or REWARD_MODEL
    result, records = evaluate_on_benchmark(benchmark, data=data, reward=reward, metrics=metrics, **settings)
    _print(show.opinions_title(result), show.opinions(result), show.opinions_notes(result))
    return result, records


def _marked_maps(benchmark: str, data: str | None, **settings: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    from fgr.evaluate import show
    from fgr.evaluate.map_benchmark import evaluate_on_map_benchmark

    result, records = evaluate_on_map_benchmark(benchmark, data, **settings)
    _print(show.marked_maps_title(result), show.marked_maps(result), show.marked_maps_notes(result))
    return result, records


def _reward_model(reward: str, data: str | None, **settings: Any) -> dict[str, Any]:
    if not data:
        raise typer.BadParameter("Name SR systems and --data, or --data or --benchmark for a reward model.")
    from fgr.evaluate import show

    result = api.evaluate_reward_model(reward, data, **settings)
    _print(show.reward_model_title(result), show.reward_model(result))
    for note in result["notes"]:
        echo(f"fgr: {note}.", err=True)
    return result


def _print(title: str, tables: Iterable[tuple[str, list[str], list[list[str]]]], notes: Iterable[str] = ()) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(width=None if Console().is_terminal else 140)
    console.print(printable(title), highlight=False, markup=False, soft_wrap=True)
    for name, header, rows in tables:
        table = Table(title=escape(printable(name)), title_justify="left", title_style="bold")
        for number, column in enumerate(header):
            table.add_column(escape(column), justify="right" if number else "left")
        for row in rows:
            table.add_row(*(escape(printable(cell)) for cell in row))
        console.print(table)
    for note in notes:
        console.print(printable(note), highlight=False, markup=False)
