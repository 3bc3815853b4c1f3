"""Policies that are networks: tuned whole or by low-rank adaptation, blocks recomputed on demand."""

import copy
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from spandrel import ImageModelDescriptor
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from fgr.errors import UserError
from fgr.recipe import rlhf as recipe
from fgr.rlhf.gradient_reach import SIDE, choose_mode
from fgr.rlhf.policy import Policy, Weights

LAYERS = (nn.Conv2d, nn.Linear)  # that low-rank changes are added to


class NetworkPolicy(Policy):
    """A deterministic SR network; gradients go through `policy(low)`."""

    def __init__(self, name: str, descriptor: ImageModelDescriptor, digest: str, license: str) -> None:
        super().__init__(name, descriptor.model, digest, license)
        self.scale = descriptor.scale
        self._descriptor = descriptor
        self._frozen: list[nn.Module] = []  # in a list: not a submodule, not in the state

    def learn(self, settings: recipe.Policy) -> None:
        """Every weight beside a frozen copy, or low-rank changes of convolutions and linear layers, 0 at first.

        UserError without blocks to recompute, without layers for low-rank changes, without peft, without gradients.
        """
        if settings.checkpoint_blocks and not checkpoint_blocks(self.network):
            raise UserError(f"{self.name} has no repeated blocks to recompute.", "Set policy.checkpoint_blocks=false.")
        if settings.train == "all":
            self.network.requires_grad_(True)
            self.left_out = choose_mode(self.name, self.network, self._run)
            self._frozen = [copy.deepcopy(self.network).requires_grad_(False)]
            return
        layers = [
            name for name, layer in self.network.named_modules() if isinstance(layer, LAYERS) and getattr(layer, "groups", 1) == 1
        ]
        if not layers:
            raise UserError(f"{self.name} has no convolution or linear layer for low-rank changes.", "Use policy.train=all.")
        self._adapt(layers, settings.lora_rank, settings.lora_alpha)
        self.network.eval()  # the new layers too
        self.left_out = choose_mode(self.name, self.network, self._run)

    def train(self, mode: bool = True) -> "NetworkPolicy":
        """The mode that `learn` chose, whatever is asked for."""
        return self

    def forward(self, low: torch.Tensor) -> torch.Tensor:
        """The policy's output."""
        return self._run(self.network, low)

    @torch.no_grad()
    def start(self, low: torch.Tensor) -> torch.Tensor:
        """The untuned network's output."""
        return self._run(self._frozen[0], low) if self._frozen else super().start(low)

    def to(self, *args: Any, **kwargs: Any) -> "NetworkPolicy":
        """As for every module; the frozen copy goes along."""
        super().to(*args, **kwargs)
        for one in self._frozen:
            one.to(*args, **kwargs)
        return self

    def state(self) -> Weights:
        """The whole network's state as spandrel reads it, low-rank changes added to the weights, on the CPU."""
        network = self.network
        if self.adapted is not None:
            network = copy.deepcopy(self.adapted).merge_and_unload()
        if self._learns_otherwise:  # what the architecture merges for inference is merged in evaluation mode
            network = copy.deepcopy(network).eval()
            with torch.no_grad():
                self._run(network, torch.zeros(1, 3, SIDE, SIDE, device=next(network.parameters()).device))
        return {name: value.detach().cpu().contiguous().clone() for name, value in network.state_dict().items()}

    def save(self, path: Path, **about: str) -> None:
        """Write the tuned network as safetensors that spandrel opens; `about` becomes its metadata."""
        self._write(path, self.state(), about)

    @property
    def _learns_otherwise(self) -> bool:
        return any(module.training for module in self.network.modules())

    def _run(self, network: Any, low: torch.Tensor) -> torch.Tensor:
        # descriptor(image) runs in inference mode; this is the same call with gradients
        height, width = low.shape[-2:]
        needs = self._descriptor.size_requirements
        down, right = (max(needs.minimum - side, 0) for side in (height, width))
        down, right = ((extra + -(side + extra) % needs.multiple_of) for side, extra in ((height, down), (width, right)))
        if needs.square:
            side = max(height + down, width + right)
            down, right = side - height, side - width
        padded = functional.pad(low, (0, right, 0, down), mode="replicate") if down or right else low
        output = self._descriptor._call_fn(network, padded)
        return output.clamp(0, 1)[..., : height * self.scale, : width * self.scale]


def checkpoint_blocks(network: nn.Module) -> int:
    """Recompute each of the network's repeated blocks in the backward pass instead of keeping what is inside; how many there are.

    The blocks are the instances of the module class of the architecture's own that occurs at least twice and holds most weights.
    """
    found = list(_blocks(network))
    for block in found:
        block.forward = _recomputed(block.forward)  # type: ignore[method-assign]
    return len(found)


def _recomputed(forward: Any) -> Any:
    def run(*inputs: Any) -> Any:
        return checkpoint(forward, *inputs, use_reentrant=False) if torch.is_grad_enabled() else forward(*inputs)

    return run


def _blocks(network: nn.Module) -> Iterator[nn.Module]:
    own = [module for module in network.modules() if not type(module).__module__.startswith(("torch.", "peft."))]
    counts = Counter(type(module) for module in own)
    sizes = {
        kind: max(sum(value.numel() for value in module.parameters()) for module in own if type(module) is kind)
        for kind, count in counts.items()
        if count > 1
    }
    if sizes:
        chosen = max(sizes, key=lambda kind: sizes[kind])
        yield from (module for module in own if type(module) is chosen)
