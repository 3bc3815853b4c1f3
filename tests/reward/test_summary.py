import pytest

from fgr.reward.summary import summary


def test_summaries_by_hand():
    def record(kind, model, scores, ap, area, source_id, photo_id="p"):
        figures = dict.fromkeys(
            ("ap", "cc", "auc", "sim", "kld", "nss", "mse", "mean", "iou@0.1", "f1@0.1", "iou@0.25", "f1@0.25"), ap
        )
        bins = {"share": [0.5, 0.5], "predicted": [0.1, 0.9], "observed": [0.3, 0.9]}
        return {
            "id": "x", "source_id": source_id, "photo_id": photo_id, "model": model, "mask_kind": kind, "mask_area": area,
            "score": 1 - area, "scores": {"model": scores}, "maps": {"model": figures}, "clean": figures, "bins": bins,
            "base": scores[2] * 2,
        }  # fmt: skip

    nan = float("nan")
    found = summary(
        [
            record("ellipse", "a", [0.0, 0.5, 1.0], 0.8, 0.03, "1"),
            record("polygon", "b", [0.0, 2.0, 0.5], 0.4, 0.3, "2"),
            record("full", "b", [0.1, 0.1, 0.75], 0.6, 1.0, "3"),
            record("sham", "a", [0.0, 0.5, 1.0], nan, 0.1, "1"),
        ],
        held_out=["b", "c"],
    )
    assert found["maps"]["model"]["ap"] == pytest.approx(0.6)
    assert found["maps_by_area"]["2–5 %"]["ap"] == 0.8
    assert found["held_out"] == ["b"]
    assert found["by_sr_model"]["b"]["maps"]["model"]["ap"] == pytest.approx(0.5)
    assert found["triplets"]["model"]["accuracy"] == 0.5
    assert found["triplets"]["model"]["n"] == 2
    assert found["pairs_by_area"]["2–5 %"]["model"]["accuracy"] == 1
    assert found["clean"]["images"] == 3
    assert found["clean"]["corr_base"] == pytest.approx(1)
    assert found["reliability"]["ece"] == pytest.approx(0.1)
    assert found["empty"]["sham"]["rows"] == 1
    assert found["maps"]["model"]["ap_low"] != found["maps"]["model"]["ap_low"]  # one photograph has no interval
    assert found["maps"]["model"]["ap_mask"] != found["maps"]["model"]["ap_mask"]  # records of before have none
    photographs = summary(
        [record("ellipse", "a", [0.0, 0.5, 1.0], ap, 0.03, name, name) for ap, name in ((0.2, "p"), (0.6, "q"))]
    )
    figures = photographs["maps"]["model"]
    assert (figures["ap"], figures["ap_low"], figures["ap_high"]) == pytest.approx((0.4, 0.2, 0.6))
    assert photographs["triplets"]["model"]["low"] == pytest.approx(2 / (2 + 1.96**2), abs=1e-3)  # both right: Wilson at 2 of 2
    assert photographs["clean"]["mean_low"] == photographs["clean"]["mean"] == 1
    assert photographs["reliability"]["ece_low"] == pytest.approx(0.1)
