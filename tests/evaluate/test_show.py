from fgr.evaluate import show
from fgr.reward.summary import summary

FIGURES = dict.fromkeys(("ap", "cc", "auc", "sim", "kld", "nss", "mse", "mean", "iou@0.1", "f1@0.1", "iou@0.25", "f1@0.25"), 0.5)


def record(kind, model):
    return {
        "id": "x", "source_id": model, "photo_id": "p", "model": model, "mask_kind": kind, "mask_area": 0.03, "score": 0.9,
        "scores": {"model": [0.0, 0.5, 1.0], "mask area (oracle)": [-1.0, -0.03, 0.0]}, "base": 0.5,
        "maps": {"model": FIGURES, "gradient energy": FIGURES}, "clean": FIGURES,
        "bins": {"share": [0.5, 0.5], "predicted": [0.1, 0.9], "observed": [0.3, 0.9]},
    }  # fmt: skip


def test_a_reward_model_is_shown_beside_its_rivals_but_not_the_oracle():
    tables = list(show.reward_model(summary([record("ellipse", "a"), record("polygon", "b")], held_out=["b"])))
    assert len(tables) == 9
    assert all(len(row) == len(header) for _, header, rows in tables for row in rows)
    triplets = next(rows for title, _, rows in tables if title.startswith("Triplets"))
    assert [row[0] for row in triplets] == ["model"]
    models = next(rows for title, _, rows in tables if title == "By SR model")
    assert [row[0] for row in models] == ["a", "", "b (held out)", ""]


def test_systems_are_shown_with_the_better_direction_and_against_the_first():
    figure = {"mean": 0.25, "low": 0.2, "high": 0.3, "n": 4, "left_out": 1}
    pair = {
        "difference": -0.1,
        "low": -0.2,
        "high": float("nan"),
        "win_rate": 0.75,
        "win_low": 0.5,
        "win_high": 1.0,
        "ties": 1,
        "n": 4,
    }
    result = {
        "lower_is_better": ["lpips"], "systems": {"a": {"lpips": figure}, "b": {"lpips": figure}}, "against": "a",
        "compared": {"b": {"lpips": pair}},
    }  # fmt: skip
    means, compared = show.systems(result)
    assert means[1] == ["", "lpips ↓"]
    assert means[2][0] == ["a", "0.2500 [0.2000, 0.3000] (1 left out)"]
    assert compared[0] == "b against a"
    assert compared[2] == [["lpips", "-0.1000 [-0.2000, –]", "75 % [50, 100]", "1", "4"]]
