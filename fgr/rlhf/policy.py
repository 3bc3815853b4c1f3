"""Policies that are networks: tuned whole or by low-rank adaptation, beside their frozen start."""

import contextlib
import copy
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from spandrel import ImageModelDescriptor
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from fgr import atomic
from fgr.errors import UserError, missing_extra
from fgr.licenses import terms_of
from fgr.sr import parse_name, weights
from fgr.sr.network import build_descriptor

Weights = dict[str, torch.Tensor]
LAYERS = (nn.Conv2d, nn.Linear)  # that low-rank changes are added to


class Policy(nn.Module):
    """A deterministic SR network: `policy(low)` is its output with gradients, `policy.start(low)` that of the untuned one.

    `low` is float (B, 3, h, w) in [0, 1]; outputs are (B, 3, h·scale, w·scale) in [0, 1]. The network stays in evaluation mode
    (no dropout): it is tuned as it will be used.
    """

    def __init__(self, name: str, descriptor: ImageModelDescriptor, digest: str, license: str) -> None:
        super().__init__()
        self.name, self.digest, self.license, self.scale = name, digest, license, descriptor.scale
        self._descriptor = descriptor
        self.network: nn.Module = descriptor.model.eval().requires_grad_(False)
        self._adapted: Any = None
        self._frozen: list[nn.Module] = []  # in a list: not a submodule, not in the state

    def learn_all(self) -> None:
        """Let every weight learn; a frozen copy is kept."""
        self._frozen = [copy.deepcopy(self.network)]
        self.network.requires_grad_(True)

    def learn_lora(self, rank: int, alpha: int) -> None:
        """Let low-rank changes of convolutions and linear layers learn, 0 at first. UserError without peft or such layers."""
        try:
            from peft import LoraConfig, get_peft_model
        except ImportError:
            raise missing_extra("peft", "diffusion", "policy.train=lora") from None
        names = [
            name for name, layer in self.network.named_modules() if isinstance(layer, LAYERS) and getattr(layer, "groups", 1) == 1
        ]
        if not names:
            raise UserError(f"{self.name} has no convolution or linear layer for low-rank changes.", "Use policy.train=all.")
        config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=names)
        self._adapted = get_peft_model(self.network, config)  # type: ignore[arg-type]

    def forward(self, low: torch.Tensor) -> torch.Tensor:
        """The policy's output."""
        return self._run(self.network, low)

    @torch.no_grad()
    def start(self, low: torch.Tensor) -> torch.Tensor:
        """The untuned network's output."""
        if self._adapted is not None:
            with self._adapted.disable_adapter():
                return self._run(self.network, low)
        return self._run(self._frozen[0] if self._frozen else self.network, low)

    def to(self, *args: Any, **kwargs: Any) -> "Policy":
        """As for every module; the frozen copy goes along."""
        super().to(*args, **kwargs)
        for one in self._frozen:
            one.to(*args, **kwargs)
        return self

    def train(self, mode: bool = True) -> "Policy":
        """Evaluation mode, whatever is asked for."""
        return super().train(False)

    def learned(self) -> Weights:
        """The tensors that learn, by name, by reference."""
        return {name: value for name, value in self.network.named_parameters() if value.requires_grad}

    @contextlib.contextmanager
    def holding(self, values: Weights) -> Iterator[None]:
        """Within the block the learning tensors have these values; their own come back afterwards, exactly."""
        kept = {name: value.detach().clone() for name, value in self.learned().items()}
        self.put(values)
        try:
            yield
        finally:
            self.put(kept)

    @torch.no_grad()
    def put(self, values: Weights) -> None:
        """Set the learning tensors."""
        for name, value in self.learned().items():
            value.copy_(values[name])

    def merged(self) -> Weights:
        """The whole network's state as spandrel reads it, low-rank changes added to the weights, on the CPU."""
        network = self.network
        if self._adapted is not None:
            network = copy.deepcopy(self._adapted).merge_and_unload()
        return {name: value.detach().cpu().contiguous().clone() for name, value in network.state_dict().items()}

    def save(self, path: Path, **about: str) -> None:
        """Write the tuned network as safetensors that spandrel opens; `about` becomes its metadata."""
        from safetensors.torch import save

        metadata = {"format": "pt", "tuned_from": self.name, "license": self.license, **about}
        atomic.write_bytes(path, save(self.merged(), metadata))

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


def open_policy(name: str, accepted: Sequence[str] = ()) -> Policy:
    """The SR network `name` (as `fgr models` lists it, or spandrel:PATH) with nothing learning yet.

    UserError: no such model, no network (bicubic, folder:DIR), weights absent or damaged, a licence that limits tuning or sharing
    and that is not accepted, a network that changes no size.
    """
    spec = parse_name(name)
    if spec.kind in ("bicubic", "folder"):
        raise UserError(f"'{name}' is no network: there is nothing to tune.", "Name a network that `fgr models` lists.")
    found = weights.locate(spec)
    expect_license(name, found.license, accepted)
    descriptor = build_descriptor(name, weights.load(found), None)
    return Policy(name, descriptor, found.digest, found.license)


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


def expect_license(name: str, license: str, accepted: Sequence[str]) -> None:
    """UserError for a licence that limits what may be done with a tuned network, unless `accepted` names the model."""
    found = terms_of(license)
    if found.limit and name not in accepted:
        raise UserError(
            f"The SR model '{name}' is under {license}, which {found.limit}: so would be the tuned network.",
            f"If that suits you, say so in the recipe: policy.accept_license='[{name}]'.",
        )
