"""Protocols are read strictly: what no protocol has is refused."""

import copy

import pytest
import yaml

from bench.claims import protocol
from fgr.errors import UserError

TREE = yaml.safe_load(protocol.FILE.read_text())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("surprise", 1), ("thresholds.claim1.gian", 0.1), ("engines.held_out", "realesrgan-anime"), ("arms.A6", {}),
        ("photographs", {"rm": 1}), ("families.paper.arms", ["A-1", "A0", "A1"]),
    ],
)  # fmt: skip
def test_a_protocol_with_a_mistake_is_refused(tmp_path, key, value):
    tree = copy.deepcopy(TREE)
    place = tree
    *parents, last = key.split(".")
    for part in parents:
        place = place[part]
    place[last] = value
    file = tmp_path / "protocol.yaml"
    file.write_text(yaml.safe_dump(tree))
    with pytest.raises(UserError):
        protocol.load("night", file)  # which changes nothing


def test_a_tier_changes_no_key_that_is_not_there(tmp_path):
    file = tmp_path / "protocol.yaml"
    file.write_text(protocol.FILE.read_text().replace("measures.rows: 80", "measures.rowz: 80"))
    with pytest.raises(UserError, match="rowz"):
        protocol.load("cpu", file)
