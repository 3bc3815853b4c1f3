from fgr.reward import examples


def test_the_pictures_shown_are_the_best_and_the_worst():
    rows = [{"id": i, "cc": i / 10, "mask_kind": "ellipse", "map_mean": 0.0} for i in range(10)]
    rows += [{"id": "sham", "cc": None, "mask_kind": "sham", "map_mean": 0.3}]
    groups = examples.pick(rows)
    assert [row["id"] for row in groups["Best localised"]] == [9, 8, 7, 6]
    assert [row["id"] for row in groups["Worst localised"]] == [0, 1, 2, 3]
    assert [row["id"] for row in groups["Should be empty"]] == ["sham"]
