import sys

import pytest
import torch
from torch import nn

from fgr.errors import UserError
from fgr.training import low_rank


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 1)).eval().requires_grad_(False)


def trained(module):
    return {name for name, parameter in module.named_parameters() if parameter.requires_grad}


def test_low_rank_changes_begin_at_zero_and_fold_into_the_weights():
    net, image = network(), torch.rand(1, 3, 8, 8)
    before = net(image)
    low_rank.parametrize_low_rank(net, 2)
    assert torch.equal(net(image), before)
    for module in net.modules():
        if isinstance(module, low_rank.LowRank):
            nn.init.ones_(module.b)
    changed = net(image)
    assert not torch.allclose(changed, before)
    low_rank.merge_low_rank(net)
    assert set(net.state_dict()) == set(network().state_dict())
    torch.testing.assert_close(net(image), changed)


def test_adapters_alone_learn_and_begin_at_zero():
    pytest.importorskip("peft")
    net, image = network(), torch.rand(1, 3, 8, 8)
    before = net(image)
    adapted = low_rank.add_adapters(net, ["0", "2"], 2, 4, "This test")
    assert torch.equal(net(image), before)
    assert len(trained(net)) == 4
    assert all(".lora_" in name for name in trained(net))
    with adapted.disable_adapter():
        assert torch.equal(net(image), before)


def test_without_peft_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UserError, match=r"(?s)This test needs the package peft.*fgr\[diffusion\]"):
        low_rank.add_adapters(network(), ["0"], 2, 4, "This test")
