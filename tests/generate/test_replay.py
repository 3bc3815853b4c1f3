import json
import shutil

import pytest

from fgr.dataset import tables
from fgr.errors import UserError
from fgr.generate.replay import replay


def test_replay_gives_back_sr_and_map_exactly(tiny):
    assert list(replay(tiny, 100, "cpu")) == [None] * tables.count_rows(tiny, "samples")


def test_replay_makes_maps_of_whole_images_anew_where_there_are_any(tiny, older, tmp_path):
    assert list(replay(older, 3, "cpu")) == [None] * 3
    copy = shutil.copytree(tiny, tmp_path / "copy")
    shard = tables.shards(copy, "samples", "train")[0]
    rows = list(tables.read_shard(shard))
    other = next(row for row in rows if row["sr"] != rows[0]["sr"])
    tables.write_table(shard, "samples", [rows[0] | {"sr_map": other["sr_map"]}])
    assert any(problem and "sr_map differs on replay" in problem.text for problem in replay(copy, 100, "cpu"))


def test_replay_finds_an_altered_degradation_and_refuses_other_weights(tiny, tmp_path):
    copy = shutil.copytree(tiny, tmp_path / "copy")
    shard = tables.shards(copy, "samples", "train")[0]
    rows = list(tables.read_shard(shard))
    record = json.loads(rows[1]["degradation"])
    tables.write_table(shard, "samples", [row | {"degradation": rows[-1]["degradation"]} for row in rows[:1]])
    assert record["preset"] == "light"
    assert any(problem and "sr differs on replay" in problem.text for problem in replay(copy, 100, "cpu"))
    tables.write_table(shard, "samples", [rows[0] | {"model_digest": "0" * 64}])
    with pytest.raises(UserError, match="are not those of the dataset"):
        list(replay(copy, 100, "cpu"))
