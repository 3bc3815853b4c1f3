"""The pages of the documentation say what their protocols say."""

from pathlib import Path

import yaml

from bench.claims import page, protocol

ROOT = Path(__file__).parents[3]


def test_pages_are_those_of_their_protocols(tmp_path):
    text, cpu = (ROOT / "docs" / "claims.md").read_text(), protocol.load("cpu")
    assert page.UNRUN not in text or text == page.write(cpu, None, tmp_path).read_text()
    assert all(rule.strip() in text for rule in cpu.rules.values())
    first = yaml.safe_load((ROOT / "bench" / "claims" / "first-protocol.yaml").read_text())
    history = " ".join((ROOT / "docs" / "claims-first.md").read_text().split())
    assert all(" ".join(rule.split()) in history for rule in first["rules"].values())
    assert all(one["title"] in history for one in first["arms"].values())
