"""The table of the benchmark of encoders, from figures as evaluations give them."""

from bench.encoders import TESTS, table


def figures(ap):
    one = {"maps": {"model": {"ap": ap, "cc": 0.25}}, "triplets": {"model": {"accuracy": 0.9}}, "empty": {"sham": {"mean": 0.01}}}
    return dict.fromkeys(TESTS, one) | {"seconds": 61.4}


def test_a_row_a_seed_and_their_mean():
    lines = list(table({"demo": [figures(0.5), figures(0.6)]}, [0, 7]))
    known = "0.500 | 0.250 | 0.900 | 0.010"
    assert lines[0].startswith("| recipe | seed | AP | CC | triplets | sham | AP, held out | CC, held out |")
    assert lines[2:] == [
        f"| demo | 0 | {known} | {known} | 61 s |",
        f"| demo | 7 | {known} | {known} | 61 s |".replace("0.500", "0.600"),
        f"| demo | mean | {known} | {known} | |".replace("0.500", "0.550"),
    ]
    assert len({line.count("|") for line in lines}) == 1
