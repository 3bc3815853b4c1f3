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


def test_probes_are_shown_in_gaps_with_their_verdicts():
    effect = {"change": -0.1, "low": -0.2, "high": -0.05, "gaps": -0.5, "gaps_low": -1.0, "gaps_high": -0.25, "right": True}
    unsure = effect | {"high": float("nan"), "gaps_low": float("nan"), "gaps_high": float("nan"), "right": None}
    both = {"images": 4, "score": effect, "map": effect | {"right": False}}
    kind = {"kind": "dots", "period": 4, "held_out": True, "apart": False, "reference": both, "sr": both | {"score": unsure}}
    mean = {"mean": 0.1, "low": 0.05, "high": 0.2}
    share = {"value": 0.45, "low": 0.4, "high": 0.5}
    of_system = {"closure": {"score": share, "1 − ssim": share}} | {
        name: {"score": share, "map": share} for name in ("lead", "above_reference")
    }
    right = {"score": {"reference": 1, "sr": 0}, "map": {"reference": 0, "sr": 0}, "of": 1}
    found = list(show.probed({
        "pairs": {"images": 4, "photographs": 3}, "gap": {"score": mean, "map": mean}, "planting": {"share": 0.0},
        "planted": {"kinds": {"dots 4, 8": kind}, "right": right}, "random": {"1": both},
        "approach": {"0.25": both | {"ssim": {"value": 0.4, "low": 0.3, "high": 0.5}}},
        "invariances": {"shift": {"score": {"gaps": 0.1, "low": 0.0, "high": 0.2}, "map": mean, "worst": 0.25}},
        "systems": {"start": {"name": "s"}, "systems": {"t": of_system}, "images": 4, "photographs": 3},
    }))  # fmt: skip
    assert all(len(row) == len(header) for _, header, rows in found for row in rows)
    titles = [title for title, _, _ in found]
    assert "4 pairs of 3 photographs" in titles[0]
    assert "none were planted in training" in titles[1]
    assert found[1][2] == [
        [
            "dots 4, 8 (never planted)",
            "-0.50 [-1.00, -0.25] ✓",
            "-0.50 [-1.00, -0.25] ✗",
            "-0.50 [–, –]",
            "-0.50 [-1.00, -0.25] ✗",
        ],
        ["right, of 1", "1", "0", "0", "0"],
    ]
    assert found[2][2] == [["random ±1 of 255", "-0.50 [-1.00, -0.25]", "-0.50 [-1.00, -0.25]"]]
    assert found[3][2] == [["25%", *["-0.50 [-1.00, -0.25]"] * 2, "0.40 [0.30, 0.50]"]]
    assert found[4][2] == [["shift by a pixel", "0.10 [0.00, 0.20]", "0.10 [0.05, 0.20]", "0.250"]]
    assert found[5][2] == [["t", "0.45 [0.40, 0.50]", "0.45 [0.40, 0.50]"]]
    assert list(show.probed({})) == []


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
