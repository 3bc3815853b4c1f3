"""The command `fgr rlhf`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from fgr.cli.options import Device, Overrides, Seed, load_recipe
from fgr.cli.shell import echo
from fgr.errors import notice
from fgr.shipped import REWARD_MODEL

NAMES = "ccl-realesrgan, ccl-swinir, ccl-stablesr, direct, iqa-reward, refl-sd-x4, grpo-ldm-sr, dpo-triplets, demo"


def rlhf(
    recipe: Annotated[str | None, typer.Argument(metavar="RECIPE", help=f"A YAML file, or a shipped recipe ({NAMES}).")] = None,
    overrides: Overrides = None,
    *,
    generator: Annotated[str, typer.Option(metavar="NAME", help="The SR network: a name of `fgr models`, or spandrel:PATH.")],
    reward: Annotated[
        str | None,
        typer.Option(
            metavar="DIR|ID",
            help="The reward model's run, with its stages. Default: fgr-lite, which ships: one, directly.",
        ),
    ] = None,
    data: Annotated[
        str, typer.Option(metavar="DIR|ID", help="A dataset (inputs are replayed), or a folder of low-resolution images.")
    ],
    out: Annotated[Path, typer.Option(help="The run's folder; an unfinished run in it is resumed.")],
    schedule: Annotated[
        Literal["none", "paper", "blend", "adaptive"] | None,
        typer.Option(help="CCL: fixed steps a stage, cross-faded, or moved by the audit; none = direct training."),
    ] = None,
    stage: Annotated[int | None, typer.Option(help="With --schedule none: the stage used as reward (default: the last).")] = None,
    on_hacking: Annotated[
        Literal["stop", "rollback", "continue"] | None, typer.Option(help="What an alarm of the audit does.")
    ] = None,
    seed: Seed = None,
    audit: Annotated[
        str | None,
        typer.Option(metavar="NAME|RUN", help="Train nothing: audit this network as if it had been tuned from --generator."),
    ] = None,
    device: Device = "auto",
) -> None:
    """Fine-tune an SR network against a reward model, with a curriculum and an audit for reward hacking.

    RECIPE defaults to ccl-realesrgan; `fgr rlhf demo` takes minutes on a CPU. The tuned network, OUT/best.safetensors, is chosen
    by the audit's held-out metrics, never by the trained reward; `fgr generate --models spandrel:OUT/best.safetensors` runs it.
    Running the same command again resumes; `fgr report OUT` shows what happened. Several GPUs: accelerate launch -m fgr rlhf …
    """
    if reward is None:
        reward, schedule = REWARD_MODEL, schedule or "none"
        notice(f"no --reward is named: {reward}, which has one stage, with --schedule {schedule}.")
    options = {"curriculum.schedule": schedule, "curriculum.stage": stage, "audit.on_hacking": on_hacking, "seed": seed}
    chosen = load_recipe(recipe, "rlhf", overrides, options)
    from fgr.api import tune

    found = tune(chosen, generator, reward, data, out, audit=audit, device=device)
    _say(found)
    if audit:
        echo(out / "summary.json")
        return
    if found["ended"]:
        echo(f"Ended early: {found['ended']}.", err=True)
    echo(
        f"Best by the held-out metrics: step {found['best_step']} of {found['steps']}; alarms: {len(found['alarms'])}.", err=True
    )
    echo(out / "best.safetensors")


def _say(found: Mapping[str, Any]) -> None:
    """The figures of a finished run on stderr, and the verdict in words."""
    for row in found["metrics"]:
        line = f"{row['metric']:<20} {row['start']:>9.4g} → {row['end']:>9.4g}   {row['difference']:+.3g}"
        interval = "" if row["low"] is None else f" [{row['low']:+.3g}, {row['high']:+.3g}]"
        echo(line + interval, err=True)
    for sentence in found.get("verdict", ()):
        echo(sentence, err=True)
