"""What a model lacks, told without opening it."""

import pytest

from fgr.recipe.sampling import Sampling
from fgr.sr import parse_name
from fgr.sr.readiness import lacking
from fgr.sr.zoo import ZOO


def test_prompts_with_words_need_the_tagger(tmp_path, monkeypatch):
    pytest.importorskip("diffusers")
    monkeypatch.setenv("FGR_WEIGHTS", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    for file in ZOO["osediff"].files:
        (tmp_path / file.name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file.name).write_bytes(b"")
    assert lacking(parse_name("osediff")) == ["osediff"]
    assert lacking(parse_name("osediff"), Sampling(prompt="auto")) == ["osediff"]
    assert lacking(parse_name("osediff"), Sampling(prompt="{tags}, sharp")) == ["osediff"]
    assert lacking(parse_name("osediff"), Sampling(prompt="sharp")) == []
    assert lacking(parse_name("osediff@prompt=")) == []
    for file in ZOO["osediff"].words:
        (tmp_path / file.name).write_bytes(b"")
    assert lacking(parse_name("osediff")) == []
