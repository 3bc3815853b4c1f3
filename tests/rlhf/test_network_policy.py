"""SR networks as policies: what learns and what does not, the frozen start, and the file that users run."""

import numpy as np
import pytest
import torch
from safetensors import safe_open

from fgr.recipe.rlhf import Policy as PolicySettings
from fgr.rlhf.network_policy import checkpoint_blocks
from fgr.rlhf.policies import open_policy
from fgr.sr import Job, open_upscaler, parse_name

FAMILIES = ("rrdbnet", "compact", "swinir", "span")
LOW = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def opened(name, train):
    policy = open_policy(parse_name(name))
    torch.manual_seed(0)
    policy.learn(PolicySettings(train=train, lora_rank=4, lora_alpha=8))
    return policy


def stepped(policy):
    """One large step of every learning tensor towards white; two, because low-rank changes begin with one factor at 0."""
    for _ in range(2):
        optimizer = torch.optim.Adam(policy.learned().values(), lr=0.01)
        (1 - policy(LOW)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return policy


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("train", ["all", "lora"])
def test_what_learns_moves_what_is_frozen_does_not_and_the_start_stays(network_files, family, train):
    policy = opened(network_files[family], train)
    before = {name: value.clone() for name, value in policy.network.state_dict().items()}
    start = policy.start(LOW)
    assert torch.equal(policy(LOW), start)
    learned = set(policy.learned())
    stepped(policy)
    after = policy.network.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved <= learned
    assert len(moved) > 0.9 * len(learned)  # a bias behind a dead unit may rest
    assert all("lora" in name for name in learned) == (train == "lora")
    assert torch.equal(policy.start(LOW), start)
    assert not torch.equal(policy(LOW), start)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("train", ["all", "lora"])
def test_the_saved_file_is_what_generate_runs(network_files, tmp_path, family, train):
    policy = stepped(opened(network_files[family], train))
    policy.save(tmp_path / "best.safetensors", step="7")
    image = (LOW[0].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
    low = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        wanted = (policy(low)[0].permute(1, 2, 0) * 255).round().numpy()
    upscaler = open_upscaler(f"spandrel:{tmp_path / 'best.safetensors'}", scale=4)
    found = upscaler.upscale([Job(image, "", (64, 64), (0, 0, 64))])[0]
    assert np.abs(found.astype(int) - wanted.astype(int)).max() <= 1
    with safe_open(tmp_path / "best.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt", "tuned_from": network_files[family], "license": "unknown", "step": "7"}


@pytest.mark.parametrize("family", FAMILIES)
def test_recomputing_blocks_changes_no_gradient(network_files, family):
    gradients = []
    for recompute in (False, True):
        policy = opened(network_files[family], "all")
        if recompute:
            blocks = checkpoint_blocks(policy.network)
            assert (blocks > 1) == (family != "compact")  # SRVGGNetCompact is made of torch's own layers
        policy(LOW).square().mean().backward()
        gradients.append({name: value.grad.clone() for name, value in policy.learned().items()})
    assert all(torch.equal(gradients[0][name], gradients[1][name]) for name in gradients[0])


def test_recomputing_blocks_really_drops_what_is_inside_them(network_files):
    kept = []
    for recompute in (False, True):
        policy = opened(network_files["rrdbnet"], "all")
        if recompute:
            checkpoint_blocks(policy.network)
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, sizes=sizes: sizes.append(x.numel()) or x, lambda x: x):
            policy(LOW)
        kept.append(sum(sizes))
    assert kept[1] < kept[0]


def test_inputs_of_any_size_are_padded_and_cut(network_files):
    policy = opened(network_files["swinir"], "all")
    low = torch.rand(1, 3, 13, 18)
    assert policy(low).shape == (1, 3, 52, 72)


def test_holding_puts_back_the_very_weights(network_files):
    policy = opened(network_files["compact"], "all")
    before = {name: value.detach().clone() for name, value in policy.learned().items()}
    with policy.holding({name: torch.zeros_like(value) for name, value in before.items()}):
        assert all(float(value.detach().abs().max()) == 0 for value in policy.learned().values())
    assert all(torch.equal(before[name], value) for name, value in policy.learned().items())


def test_evaluation_mode_whatever_is_asked_for(network_files):
    policy = opened(network_files["swinir"], "all")
    policy.train()
    assert not any(module.training for module in policy.network.modules())
