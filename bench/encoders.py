"""Reward recipes for equal steps, on photographs and on an SR network that training did not see: a table of docs/reward.md.

    python -m bench.encoders PHOTOGRAPHS [--recipes demo tiny] [--data out/demo] [--held-out realesrgan-anime] [--seeds 0 1 2]
        [--rows 300] [--out out/encoders] [--device auto] [--generate KEY=VALUE…] [--train KEY=VALUE…]

Two test sets are made of the folder PHOTOGRAPHS, none of which may be among those of --data: one by the SR models of --data, one
by the model held out. Each recipe is trained on --data with each seed, all for the steps of the first recipe; --train changes
keys of all of them. Run again, it goes on where it stopped; the table is printed at the end.
"""

import argparse
import json
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.environment import describe
from fgr import atomic
from fgr import recipe as recipes
from fgr.dataset import manifest
from fgr.errors import UserError
from fgr.generate.run import generate
from fgr.reward.evaluate import evaluate_reward_model
from fgr.reward.run import train_reward_model

TESTS = ("networks of training", "held-out network")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--recipes", nargs="+", default=["demo", "tiny"])
    parser.add_argument(
        "--data", type=Path, default=Path("out/demo"), help="what is trained on; made by the recipe demo if absent"
    )
    parser.add_argument("--held-out", default="realesrgan-anime", help="an SR model that --data does not hold")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--rows", type=int, default=300, help="of each test set")
    parser.add_argument("--out", type=Path, default=Path("out/encoders"))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--generate", nargs="*", default=[], metavar="KEY=VALUE", help="changes of the recipe of the test sets")
    parser.add_argument("--train", nargs="*", default=[], metavar="KEY=VALUE", help="changes of every reward recipe")
    chosen = parser.parse_args()
    try:
        run(chosen)
    except UserError as error:
        raise SystemExit(f"{error}") from None


def run(chosen: argparse.Namespace) -> None:
    """All that is missing, then the table."""
    if not (chosen.data / "fgr.json").is_file():
        generate(recipes.load("demo", "generate"), chosen.data, workers=chosen.workers, device=chosen.device)
    trained_on = manifest.read(chosen.data)["recipe"]["models"]
    if chosen.held_out in trained_on:
        raise UserError(f"{chosen.held_out} is among the SR models of {chosen.data}.", "Hold out another: --held-out NAME.")
    tests = dict(zip(TESTS, (chosen.out / "test", chosen.out / "test-held-out"), strict=True))
    for folder, models in zip(tests.values(), (trained_on, [chosen.held_out]), strict=True):
        options = {"models": models, "source.path": str(chosen.photographs), "samples": chosen.rows}
        splits = "splits={train: 0, validation: 0, test: 1}"
        generate(
            recipes.load("demo", "generate", [splits, *chosen.generate], options),
            folder, workers=chosen.workers, device=chosen.device,
        )  # fmt: skip
    print(describe("torch", "timm"))
    print(f"trained on {chosen.data}, {', '.join(trained_on)}; held out: {chosen.held_out}")
    print(f"{chosen.rows} rows of {chosen.photographs} for each test set")
    for line in table({name: list(results(name, tests, chosen)) for name in chosen.recipes}, chosen.seeds):
        print(line)


def results(name: str, tests: dict[str, Path], chosen: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The figures of a recipe, a seed at a time: those of each test set, and the seconds of training."""
    first = recipes.load(chosen.recipes[0], "reward", chosen.train)
    for seed in chosen.seeds:
        out = chosen.out / f"{name}-{seed}"
        file = out / "figures.json"
        if not file.is_file():
            steps = [f"base.steps={first.base.steps}", f"stages={list(first.stages)}"]
            recipe = recipes.load(name, "reward", [*chosen.train, *steps], {"seed": seed})
            train_reward_model(recipe, str(chosen.data), out, chosen.device)
            figures: dict[str, Any] = {"seconds": training_seconds(out)}
            for test, folder in tests.items():
                figures[test] = evaluate_reward_model(str(out), str(folder), "test", None, chosen.device)
            atomic.write_text(file, json.dumps(figures))
        yield json.loads(file.read_text())


def training_seconds(run: Path) -> float:
    """What the optimiser's steps of a run took, resumed or not."""
    lines = (json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines())
    return sum(line["step_s"] + line["wait_s"] for line in lines if "step_s" in line)


def table(found: dict[str, Sequence[dict[str, Any]]], numbers: Sequence[int]) -> Iterator[str]:
    """A row a recipe and seed, and one of its seeds' mean."""
    columns = [
        f"{figure}{', held out' if test == TESTS[1] else ''}" for test in TESTS for figure in ("AP", "CC", "triplets", "sham")
    ]
    yield f"| recipe | seed | {' | '.join(columns)} | training |"
    yield "|" + "---|" * (len(columns) + 3)
    for name, seeds in found.items():
        rows = [[value for test in TESTS for value in figures_of(one[test])] for one in seeds]
        for number, row, one in zip(numbers, rows, seeds, strict=True):
            yield f"| {name} | {number} | {' | '.join(f'{value:.3f}' for value in row)} | {one['seconds']:.0f} s |"
        means = [statistics.fmean(column) for column in zip(*rows, strict=True)]
        yield f"| {name} | mean | {' | '.join(f'{value:.3f}' for value in means)} | |"


def figures_of(summary: dict[str, Any]) -> tuple[float, float, float, float]:
    """Average precision and correlation of the map, share of triplets in order, mean map of sham rows."""
    maps = summary["maps"]["model"]
    return maps["ap"], maps["cc"], summary["triplets"]["model"]["accuracy"], summary["empty"]["sham"]["mean"]


if __name__ == "__main__":
    main()
