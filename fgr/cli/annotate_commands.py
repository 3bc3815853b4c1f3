"""The commands `fgr annotate serve | push | status | pull | consensus | ml-backend`."""

from collections.abc import Callable
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fgr.cli.options import Device, Overrides, Seed, listed, load_recipe
from fgr.cli.shell import echo, echo_lines, ended_by_signals
from fgr.errors import printable

if TYPE_CHECKING:
    import numpy as np

annotate = typer.Typer(no_args_is_help=True, help="Have people mark defects and score images in Label Studio.")

URL = "http://127.0.0.1:8080"
Dataset = Annotated[Path, typer.Argument(metavar="DATASET", help="A dataset directory.")]
Recipe = Annotated[
    str | None, typer.Argument(metavar="RECIPE", help="A YAML file, or a shipped recipe: defects, preference, demo.")
]
Project = Annotated[str, typer.Option(help="The name it was pushed under.")]
MEANING = {  # of figures of agreement, beside their values
    "alpha": "   Krippendorff's alpha of the scores: 1 = all alike, 0 = as by chance; 0.8 is good, below 0.67 too little",
    "dice": "   overlap of what two people painted in one image, on average: 1 = the same pixels, 0 = none in common",
}
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@annotate.command()
def serve(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where the server keeps everything.")] = Path("label-studio"),
    *,
    port: Annotated[int, typer.Option(help="Loopback port.")] = 8080,
    show_token: Annotated[bool, typer.Option("--show-token", help="Print the owner's API token and exit.")] = False,
) -> None:
    """Start a local Label Studio: SQLite, loopback only, no telemetry. The first start takes about a minute."""
    from fgr.annotate import serve as server

    if show_token:
        echo(server.login(folder).token)
        return
    echo(f"Starting Label Studio in {folder} …", err=True)
    with ended_by_signals(), server.serving(folder, port) as running:
        echo_lines(f"url       {running.url}\ne-mail    {running.login.email}\npassword  {running.login.password}")
        address = "" if port == 8080 else f" --url {running.url}"
        echo(f"In another terminal: fgr annotate push DATASET{address}; the token of this server is taken by itself.", err=True)
        echo(f"Images can be served from {running.files}. Ctrl-C stops the server.", err=True)
        running.process.wait()


@annotate.command()
def push(
    dataset: Dataset,
    recipe: Recipe = None,
    overrides: Overrides = None,
    *,
    url: Annotated[str, typer.Option(help="Address of the server.")] = URL,
    project: Annotated[str | None, typer.Option(help="Title of the project (the recipe's `name`).")] = None,
    samples: Annotated[int | None, typer.Option(help="Samples or pairs (the recipe's `select.samples`).")] = None,
    split: Annotated[str | None, typer.Option(help="train, validation or test.")] = None,
    models: Annotated[str | None, typer.Option(help="SR models, comma-separated.")] = None,
    annotators: Annotated[str | None, typer.Option(help="Names, comma-separated: a project for each.")] = None,
    raters: Annotated[int | None, typer.Option(help="Different people for each sample (the recipe's `raters`).")] = None,
    reward: Annotated[
        str | None, typer.Option(help="Reward model; samples it disputes come first. See prediction.source.")
    ] = None,
    files: Annotated[Path | None, typer.Option(help="With images=folder: the folder that the server serves.")] = None,
    seed: Seed = None,
    device: Device = "auto",
) -> None:
    """Make or find the project and add the tasks that are missing. The token comes from LABEL_STUDIO_API_KEY or a prompt."""
    from fgr.annotate import run

    options = {
        "name": project,
        "select.samples": samples,
        "select.split": split,
        "select.models": listed(models) or None,
        "annotators": listed(annotators) or None,
        "raters": raters,
        "seed": seed,
    }
    chosen = load_recipe(recipe, "annotate", overrides, options)
    predict = _reward(reward, device) if reward else None
    key = run.token(url)
    campaign, added = run.push(chosen, dataset, url, key, files, predict)
    echo(f"{added} tasks added; {len(campaign.entries)} samples selected, {len(campaign.gold)} of them gold.", err=True)
    for title, link in run.links(campaign, key).items():
        echo(f"{link}  {title}")
    echo("Next: open the link, sign in, and choose Label All Tasks; then, as people work:", err=True)
    echo(f"  fgr annotate status {dataset} --project {quote(campaign.name)}", err=True)
    echo(f"  fgr annotate pull {dataset} --project {quote(campaign.name)}", err=True)


@annotate.command()
def pull(
    dataset: Dataset,
    *,
    project: Project,
    everything: Annotated[bool, typer.Option("--all", help="Read everything again: the work of deleted tasks goes too.")] = False,
    export: Annotated[Path | None, typer.Option(help="Read this JSON or JSON-MIN export instead of the server.")] = None,
) -> None:
    """Bring people's work into `annotations` or `preferences`; only what changed since the last pull."""
    from fgr.annotate import run

    tally = (
        run.read_export(dataset, project, export)
        if export
        else run.pull(dataset, project, run.token(run.url_of(dataset, project)), everything)
    )
    for problem in tally.problems:
        echo(f"left out: {problem}", err=True)
    for reason, count in tally.left_out.most_common():
        echo(f"left out: {count} × {reason}", err=True)
    if tally.unrated:
        echo(f"{tally.unrated} regions had no severity and got 3.", err=True)
    echo(f"{tally.read} annotations read; {tally.table} has {tally.rows} rows")


@annotate.command()
def status(dataset: Dataset, *, project: Project, as_json: Json = False) -> None:
    """How far the people are: progress, gold accuracy, times, agreement, what is left."""
    import json

    from fgr.annotate import run
    from fgr.atomic import finite

    figures = run.status(dataset, project, run.token(run.url_of(dataset, project)))
    if as_json:
        echo_lines(json.dumps(finite(figures), indent=1))
        return
    _table(figures["annotators"], ("annotator", "done", "median_seconds", "gold", "last"))
    for name, value in figures.items():
        if name not in {"annotators", "problems", "left_out"}:
            echo(f"{name.replace('_', ' '):20} {_shown(value)}{MEANING.get(name, '')}")
    for problem in figures["problems"]:
        echo(f"left out: {problem}")
    for reason, count in figures["left_out"].items():
        echo(f"left out: {count} × {reason}")


@annotate.command()
def consensus(
    dataset: Dataset,
    recipe: Recipe = None,
    overrides: Overrides = None,
    *,
    as_json: Json = False,
) -> None:
    """Recover scores and maps from many opinions into `consensus`; says who is left out and why."""
    import json

    from fgr.annotate import run
    from fgr.atomic import finite

    report = run.consensus(load_recipe(recipe, "annotate", overrides), dataset)
    if as_json:
        echo_lines(json.dumps(finite(report), indent=1))
        return
    columns = ("annotator", "samples", "median_seconds", "correlation", "alpha", "dice", "gold")
    _table(report.get("annotators", []), columns)
    for one in report.get("annotators", []):
        if one["left_out"]:
            echo(f"left out: {one['annotator']}, {'; '.join(one['left_out'])}")
    for name, value in report.items():
        if name not in {"annotators", "strengths"}:
            echo(f"{name.replace('_', ' '):20} {_shown(value)}{MEANING.get(name, '')}")
    if "strengths" in report:
        echo(f"{'compared samples':20} {len(report['strengths'])}")


@annotate.command("ml-backend")
def ml_backend(
    dataset: Dataset,
    *,
    reward: Annotated[str, typer.Option(help="Reward model whose maps are painted when a task is opened.")],
    project: Annotated[str | None, typer.Option(help="The name it was pushed under; needed where there are several.")] = None,
    connect: Annotated[bool, typer.Option(help="Connect to the pushed project, until this command ends.")] = True,
    address: Annotated[
        str | None, typer.Option(help="Where Label Studio reaches this command, if not at 127.0.0.1: through a tunnel.")
    ] = None,
    port: Annotated[int, typer.Option(help="Loopback port.")] = 9090,
    device: Device = "auto",
) -> None:
    """Serve a reward model's maps to Label Studio as live pre-annotations of the pushed project; Ctrl-C disconnects it."""
    from fgr.annotate import connection, run
    from fgr.annotate import ml_backend as backend
    from fgr.annotate.studio import Studio
    from fgr.recipe.annotate import Prediction

    campaign = connection.chosen(dataset, project) if connect else None
    key = run.token(campaign.url) if campaign else ""
    settings = Prediction(**campaign.recipe.get("prediction", {})) if campaign else Prediction()
    held = connection.unpainted(dataset, campaign)
    predict = _reward(reward, device)
    with ended_by_signals(), backend.listening(dataset, predict, settings, port, held) as (server, thread):
        own = f"http://{backend.HOST}:{server.server_port}"
        echo(own)
        if campaign is None:
            echo("Connect it under Settings → Model; Ctrl-C stops it.", err=True)
            thread.join()
            return
        with Studio(campaign.url, key) as studio, connection.connected(studio, campaign, (address or own).rstrip("/")) as pages:
            for title, page in pages.items():
                echo(f"Connected to {page}  {title}", err=True)
            echo("Tasks that are opened there are painted by it. Ctrl-C disconnects and stops it.", err=True)
            thread.join()


def _shown(value: Any) -> Any:
    """A figure for people: a dash for what is not known yet, and for what holds nothing."""
    if isinstance(value, dict):
        value = ", ".join(f"{name} {_shown(one)}" for name, one in value.items())
    return "–" if value in (None, "", [], ()) else value


def _table(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> None:
    """What is known of annotators; `gold` is right answers of all to gold samples."""
    from rich.console import Console
    from rich.table import Table

    table = Table(*(name.replace("_", " ") for name in columns))
    for row in rows:
        full = row | {"gold": f"{row['gold_right']}/{row['gold_total']}"}
        table.add_row(*(_cell(full[name]) for name in columns))
    Console().print(table)


def _cell(value: Any) -> str:
    from rich.markup import escape

    if isinstance(value, float):
        return f"{value:.2f}"
    return "–" if value is None else escape(printable(value))


def _reward(name: str, device: str) -> "Callable[[np.ndarray], tuple[np.ndarray, float]]":
    """A reward model as a function of an image: its map and its score."""
    from fgr.devices import choose_device
    from fgr.reward.pretrained import load_reward_model
    from fgr.reward.score import score

    model = load_reward_model(name, choose_device(device))

    def predict(image: "np.ndarray") -> "tuple[np.ndarray, float]":
        value, map_ = score(model, image)
        return map_, value

    return predict
