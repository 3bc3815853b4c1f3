import pytest
import torch

from fgr.reward import FinPercepRM
from fgr.reward.decoder import bounded
from fgr.reward.loss import map_loss


@pytest.mark.parametrize("logit", [-1e4, 1e4])
def test_a_map_that_has_run_away_can_come_back(logit):
    model = FinPercepRM()
    bias = model.decoder.levels[0].out.bias
    bias.data.fill_(logit)
    image = torch.rand(2, 3, 48, 64, generator=torch.Generator().manual_seed(0))
    for target in (0.0, 1.0):
        bias.grad = None
        map_loss(model(image)[1], torch.full((2, 1, 48, 64), target), torch.ones(2, 1, 48, 64), "bce").backward()
        assert abs(bias.grad) > 0
    assert bounded(torch.tensor(10.0)) == 5
