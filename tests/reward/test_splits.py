import numpy as np
import pytest

from fgr.dataset.tables import write_table
from fgr.errors import UserError
from fgr.images import codec
from fgr.reward import data as batches
from fgr.reward import splits


def test_excluded_models_are_left_out_and_misspelt_ones_named(data):
    rows = splits.open_split(str(data), "train", ["beta"])
    assert set(rows["model"]) == {"alpha"}
    with pytest.raises(UserError, match="did you mean 'beta'"):
        splits.open_split(str(data), "train", ["betta"])


def test_peoples_labels_are_joined(data, tmp_path, write_card):
    human = np.full((96, 96), 51, np.uint8)
    row = {
        "id": "row-0", "score_mean": 40.0, "score_std": 5.0, "raters": 3, "degradation_map": codec.encode_mask(human),
        "agreement": 0.75, "rejected_raters": [],
    }  # fmt: skip
    joined = tmp_path / "data"
    (joined / "samples").mkdir(parents=True)
    for file in (data / "samples").iterdir():
        (joined / "samples" / file.name).symlink_to(file)
    write_table(joined / "consensus" / "part-0.parquet", "consensus", [row])
    chosen = [{"left_id": "row-0", "right_id": "row-2", "annotator": "a", "choice": "tie"}]
    write_table(joined / "preferences" / "part-0.parquet", "preferences", [*chosen, chosen[0] | {"right_id": "elsewhere"}])
    files = [{"split": split, "path": f"samples/{split}-*.parquet"} for split in ("train", "validation", "test")]
    small = {name: [{"split": "train", "path": f"{name}/*.parquet"}] for name in ("consensus", "preferences")}
    write_card(joined, {"samples": files} | small)
    rows = splits.open_split(str(joined), "train")
    samples, whole = (batches.Samples(rows, crop, consensus=splits.open_consensus(str(joined))) for crop in (48, 96))
    place = list(rows["id"]).index("row-0")
    item = samples[(place, 0)]
    assert item["human_score"] == pytest.approx(0.4)
    assert (item["human_weight"], item["human_map_weight"]) == (0, 0.75)  # a score is of the whole image, a map of each place
    assert whole[(place, 0)]["human_weight"] == 1
    assert np.allclose(item["human_map"], 0.2)
    assert samples[((place + 1) % 12, 0)]["human_weight"] == 0
    pairs = splits.open_preferences(str(joined), rows)
    assert pairs == [(place, list(rows["id"]).index("row-2"), 0.5)]
    pair = batches.Pairs(samples, pairs)[(0, 5)]
    assert pair["choice"] == 0.5
    assert pair["left"].shape == (3, 48, 48)
    left, right = (samples.decode(rows[row])["composite"].transpose(2, 0, 1) for row in pairs[0][:2])
    shown = [
        (top, across)
        for top in range(49)
        for across in range(49)
        if np.array_equal(left[:, top : top + 48, across : across + 48], pair["left"])
    ]
    assert any(np.array_equal(right[:, top : top + 48, across : across + 48], pair["right"]) for top, across in shown)


def test_datasets_that_cannot_be_used_are_sentences(data, tmp_path):
    with pytest.raises(UserError, match=r"The dataset .* does not exist"):
        splits.open_split(str(tmp_path / "nothing"), "train")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"cannot be opened|is not an FGR dataset"):
        splits.open_split(str(tmp_path / "empty"), "train")


def test_a_dataset_of_version_0_1_opens_and_another_run_begins_with_its_successor(older, data):
    earlier, now = splits.open_split(str(older), "train"), splits.open_split(str(data), "train")
    assert "sr_map" not in earlier.column_names
    assert "has no sr_map" in splits.note_on_maps("old", earlier)
    assert splits.note_on_maps("new", now) == ""
    assert isinstance(earlier[0]["degradation_map"]["bytes"], bytes)
    facts = splits.split_facts({"train": now})
    assert facts["train"]["sr_map"] is True
    assert splits.split_facts({"train": now.remove_columns("sr_map")})["train"] == {
        key: value for key, value in facts["train"].items() if key != "sr_map"
    }
    streamed = next(iter(splits.open_split(str(older), "train", streaming=True)))
    assert isinstance(streamed["mask"]["bytes"], bytes)


def test_missing_splits_and_columns_are_sentences(data, tmp_path, write_card):
    import pyarrow.parquet as pq

    with pytest.raises(UserError, match="has no split 'tset'"):
        splits.open_split(str(data), "tset")
    table = pq.read_table(data / "samples" / "test-00000-of-00001.parquet").drop_columns(["mask", "score"])
    (tmp_path / "old" / "samples").mkdir(parents=True)
    pq.write_table(table.replace_schema_metadata(None), tmp_path / "old" / "samples" / "test-0.parquet")
    write_card(tmp_path / "old", {"samples": [{"split": "test", "path": "samples/test-*.parquet"}]})
    with pytest.raises(UserError, match="lacks the columns mask, score"):
        splits.open_split(str(tmp_path / "old"), "test")
