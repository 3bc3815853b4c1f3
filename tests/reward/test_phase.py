from collections import Counter

import pytest
import torch
from accelerate import Accelerator

from fgr.errors import UserError
from fgr.recipe.reward import Training
from fgr.reward.phase import Phase, Validation
from fgr.training import directory as runs


class Weight(torch.nn.Module):
    """One weight, 1 at first."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))


def fit(folder, totals, validate=lambda model: {"total": 1.0}, **settings):
    """Train `Weight` on losses of these values, whose gradient is 1; the phase, and the run's lines of the training steps."""
    run = runs.Run(folder / "run")
    run.start("reward", {}, {})
    phase = Phase("stage-1", len(totals), Weight(), Accelerator(cpu=True), Training(**settings), run, None)
    try:
        phase.fit(
            ({"total": torch.tensor(total)} for total in totals),
            lambda model, batch: {"total": batch["total"] + model.weight - model.weight.detach()},
            validate,
        )
    finally:
        lines = [line for line in runs.metrics(folder / "run") if line["split"] == "train"]
    return phase, lines


def test_a_loss_that_explodes_stops_the_run(tmp_path):
    assert len(fit(tmp_path / "below", [0.1] * 30 + [4.9])[1]) == 31
    with pytest.raises(UserError, match=r"exploded in step 31 of stage-1 \(loss 5\.1, gradient norm 1, mean loss so far 0\.1"):
        fit(tmp_path / "above", [0.1] * 30 + [5.1])
    with pytest.raises(UserError, match="is not a number in step 1"):
        fit(tmp_path / "nan", [float("nan")])


def test_a_phase_that_does_not_improve_ends_early(tmp_path):
    assert len(fit(tmp_path, [0.1] * 40, patience=2, validate_every=1)[1]) == 3


def test_the_averaged_weights_of_the_best_validation_are_kept(tmp_path):
    """The weight falls, and validation wants it to: the average of the last step, which lags behind, is the result."""
    seen = []

    def validate(model):
        seen.append(model.weight.item())
        return {"total": seen[-1]}

    phase, _ = fit(tmp_path, [0.1] * 8, validate, validate_every=2, lr=0.1)
    assert seen == sorted(seen, reverse=True)
    assert phase.result().weight.item() == pytest.approx(seen[-1])
    assert phase.result().weight > phase.plain.weight


def test_validation_rows_are_of_every_model_where_models_take_turns():
    chosen = Validation(range(716), 240, "cpu").chosen
    assert len(chosen) == 240
    assert min(Counter(row % 3 for row in chosen).values()) > 48
