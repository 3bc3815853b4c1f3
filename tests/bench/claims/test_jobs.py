"""Photographs are dealt to parts that share none, and too few are refused."""

import pytest

from bench.claims.jobs import dealt, photographs
from fgr.errors import UserError


def test_photographs_are_dealt_to_disjoint_parts_and_too_few_are_refused(tmp_path):
    parts = dealt([f"{number:03}" for number in range(130)], {"rm": 24, "judge": 8, "rl": 8, "test": 64})
    assert [len(names) for names in parts.values()] == [30, 10, 10, 80]
    assert len({name for names in parts.values() for name in names}) == 130
    (tmp_path / "one.png").write_bytes(b"one")
    with pytest.raises(UserError, match="holds 1 different photographs, the plan needs 3"):
        photographs(tmp_path / "out", {}, "cpu", str(tmp_path), {"rm": 2, "test": 1})
