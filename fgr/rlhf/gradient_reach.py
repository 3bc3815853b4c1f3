"""Which learning parameters of a network gradients reach, and the mode in which they do.

Some architectures merge their layers for inference and detach them in doing so (SPAN): tuned in evaluation mode nearly nothing
of them would move, silently.
"""

import copy
from collections.abc import Callable

import torch
from torch import nn

from fgr.errors import UserError
from fgr.tensors import first_keys

SIDE = 24  # pixels of the probe
ALIKE = 1e-3  # largest difference in [0, 1] between outputs that are the same but for rounding

Run = Callable[[nn.Module, torch.Tensor], torch.Tensor]


def choose_mode(name: str, network: nn.Module, run: Run) -> frozenset[str]:
    """Put `network` in a mode in which gradients reach what is to learn; the names of what has no part in the output there.

    `run(network, low)` gives its output (B, 3, H, W) for low (B, 3, h, w) in [0, 1]. Evaluation mode stays where it serves. The
    modules of the architecture's own are put in training mode where only that reaches more, with the same output. UserError
    naming the parameters that have a part in the output and get no gradient.
    """
    with torch.random.fork_rng(devices=[]):
        low = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
        low = low.to(next(network.parameters()).device)
        missed = _missed(network, run, low)
        if not missed:
            return frozenset()
        learning = copy.deepcopy(network)
        set_own_training(learning)
        reached = _missed(learning, run, low)
        if len(reached) < len(missed) and _difference(run, network, learning, low) < ALIKE:
            set_own_training(network)
            missed = reached
        _expect_no_part(name, network, missed, run, low)
    return frozenset(missed)


def without_part(name: str, network: nn.Module, run: Run, low: torch.Tensor) -> frozenset[str]:
    """The names of the learning parameters of `network` that have no part in the output; its mode stays as it is.

    `run(network, low)` gives an output. UserError naming the parameters that have a part in it and get no gradient.
    """
    with torch.random.fork_rng(devices=[]):
        missed = _missed(network, run, low)
        if missed:
            _expect_no_part(name, network, missed, run, low)
    return frozenset(missed)


def _expect_no_part(name: str, network: nn.Module, missed: list[str], run: Run, low: torch.Tensor) -> None:
    """UserError if other values of the parameters that get no gradient change the output."""
    if _has_part(network, missed, run, low):
        learned = sum(value.requires_grad for value in network.parameters())
        raise UserError(
            f"{name} passes no gradient to {len(missed)} of the {learned} tensors that would learn: {first_keys(missed)}.",
            "Its architecture detaches them, so that it cannot be tuned: choose another SR model.",
        )


def set_own_training(network: nn.Module) -> None:
    """Training mode for the modules of the architecture's own; torch's layers, and those that drop at random, stay."""
    for module in network.modules():
        kind = type(module)
        if not kind.__module__.startswith(("torch.", "peft.")) and "drop" not in kind.__name__.lower():
            module.training = True


def _missed(network: nn.Module, run: Run, low: torch.Tensor) -> list[str]:
    """Names of the learning parameters that a probe leaves without a gradient: all of them where it cannot be taken back."""
    learning = {key: value for key, value in network.named_parameters() if value.requires_grad}
    try:
        run(network, low).square().mean().backward()
    except RuntimeError:  # nothing to differentiate, or overwritten on the way
        return list(learning)
    missed = [key for key, value in learning.items() if value.grad is None]
    for value in learning.values():
        value.grad = None
    return missed


@torch.no_grad()
def _difference(run: Run, one: nn.Module, other: nn.Module, low: torch.Tensor) -> float:
    return float((run(one, low) - run(other, low)).abs().max())


@torch.no_grad()
def _has_part(network: nn.Module, names: list[str], run: Run, low: torch.Tensor) -> bool:
    """Whether other values of these parameters change the output; they have their own again afterwards."""
    before = run(network, low)
    changed = {value: value.clone() for key, value in network.named_parameters() if key in names}
    for value in changed:
        value.add_(torch.randn_like(value))
    after = run(network, low)
    for value, kept in changed.items():
        value.copy_(kept)
    return bool((before != after).any())
