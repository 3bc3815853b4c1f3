"""What a model costs, counted without weights, is what the table says."""

import pytest

pytest.importorskip("diffusers")
from bench.cost import BUILT, counted
from fgr.sr.costs import DIFFUSION_COSTS


def test_the_table_is_what_is_counted():
    assert BUILT.keys() == DIFFUSION_COSTS.keys()
    million, teraflop, gigabytes = counted("sinsr")
    own = DIFFUSION_COSTS["sinsr"]
    assert (round(million), round(teraflop, 1), round(gigabytes, 1)) == (own.million, own.teraflop, own.gigabytes)
