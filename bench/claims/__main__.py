"""The three claims, tested.

python -m bench.claims run PHOTOGRAPHS [--tier cpu|night|gpu|smoke] [--out out/claims]    goes on where it was interrupted
python -m bench.claims plan [--tier …]    jobs, estimated minutes, power, what it cannot show; runs nothing
python -m bench.claims report [OUT]       numbers and report of what is done so far, which `run` writes when all is
python -m bench.claims repeat OUT AGAIN UNIT…    some reward models' jobs once more, and whether the same comes of them
python -m bench.claims compare A B        whether two runs have the same numbers
python -m bench.claims page [OUT]         docs/claims.md and its pictures
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from bench.claims import protocol as protocols
from fgr.errors import UserError
from fgr.recipe import differences


def run(given: argparse.Namespace) -> int:
    """Every job that is not done, then numbers and report."""
    from bench.claims import plan as plans
    from bench.claims import pool

    protocol = protocols.load(given.tier)
    out = Path(given.out).resolve()
    jobs = plans.jobs(protocol, str(Path(given.photographs).resolve()))
    device = given.device or protocol.device
    pool.work_off(jobs, out, device, given.workers or protocol.workers)
    return report(given)


def report(given: argparse.Namespace) -> int:
    """Numbers and report of the jobs that are done, be it all of them or not."""
    from bench.claims import figures, pool
    from bench.claims import plan as plans
    from bench.claims import report as reports

    protocol, out = protocols.load(given.tier), Path(given.out).resolve()
    numbers = figures.plain(figures.collect(out, protocol))
    figures.write(out / "numbers.json", numbers)
    page = reports.write(out, protocol, numbers, pool.spent(out, plans.jobs(protocol, "")))
    for name, found in reports.decide(numbers, protocol).items():
        print(f"{name}: {found.verdict} – {found.why}")
    print(page)
    return 0


def plan(given: argparse.Namespace) -> int:
    """Print what a tier has, takes and cannot show."""
    from bench.claims import report

    print(report.planned(protocols.load(given.tier)))
    return 0


def repeat(given: argparse.Namespace) -> int:
    """0 if the jobs of some reward models, done again, leave the same results, else 1 and the files that differ."""
    from bench.claims import repeat as repeats

    out, again = Path(given.out).resolve(), Path(given.again).resolve()
    protocol = protocols.load(given.tier)
    found = repeats.repeat(protocol, out, again, given.units, given.device or protocol.device, given.workers or protocol.workers)
    same = f"{found.jobs} jobs done again, {found.files} files compared: all the same."
    print("\n".join(["These differ:", *found.differing]) if found.differing else same)
    return bool(found.differing)


def compare(given: argparse.Namespace) -> int:
    """0 if the numbers of two runs are the same, else 1 and where they differ."""
    first, second = (json.loads((Path(folder) / "numbers.json").read_text(encoding="utf-8")) for folder in (given.a, given.b))
    other = differences(first, second)
    print("\n".join(other) if other else "The same numbers.")
    return bool(other)


def page(given: argparse.Namespace) -> int:
    """Write docs/claims.md."""
    from bench.claims import page as pages

    tier = "cpu"
    if given.out:
        tier = json.loads((Path(given.out) / "numbers.json").read_text(encoding="utf-8"))["tier"]
    print(pages.write(protocols.load(tier), Path(given.out) if given.out else None))
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.claims", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(required=True)
    one = verbs.add_parser("run")
    one.add_argument("photographs")
    one.add_argument("--out", default="out/claims")
    five = verbs.add_parser("repeat")
    five.add_argument("out")
    five.add_argument("again")
    five.add_argument("units", nargs="+", metavar="unit", help="a reward model: family-fold-seed, such as paper-0-101")
    six = verbs.add_parser("report")
    six.add_argument("out", nargs="?", default="out/claims")
    for verb in (one, five, six):
        verb.add_argument("--tier", default="cpu")
    for verb in (one, five):
        verb.add_argument(
            "--device", choices=("auto", "cpu", "cuda"), help="in place of the tier's: the tier smoke on a GPU is its dry run"
        )
        verb.add_argument("--workers", type=int, help="processes side by side, in place of the tier's")
    four = verbs.add_parser("plan")
    four.add_argument("--tier", default="cpu")
    two = verbs.add_parser("compare")
    two.add_argument("a")
    two.add_argument("b")
    three = verbs.add_parser("page")
    three.add_argument("out", nargs="?")
    for verb, work in ((one, run), (two, compare), (three, page), (four, plan), (five, repeat), (six, report)):
        verb.set_defaults(work=work)
    given = parser.parse_args()
    chosen: Callable[[argparse.Namespace], int] = given.work
    try:
        return chosen(given)
    except UserError as error:
        print(f"claims: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("claims: interrupted; the same command goes on.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
