"""What every policy is: a network of which something learns, beside the frozen one that it began as."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fgr.errors import UserError
from fgr.recipe import rlhf as recipe
from fgr.tensors import first_keys, non_finite, write_tensors
from fgr.training.low_rank import add_adapters

Weights = dict[str, torch.Tensor]


class Policy(nn.Module):
    """An SR model being tuned: `policy(low)` is its output, `policy.start(low)` that of the untuned model.

    `low` is float (B, 3, h, w) in [0, 1]; outputs are (B, 3, h·scale, w·scale) in [0, 1]. The network stays in evaluation mode
    (no dropout): it is tuned as it will be used.
    """

    scale: int

    def __init__(self, name: str, network: nn.Module, digest: str, license: str) -> None:
        super().__init__()
        wrong = non_finite(network.state_dict())
        if wrong:
            raise UserError(
                f"The weights of the SR model '{name}' hold values that are not finite, in {len(wrong)} of its tensors: "
                f"{first_keys(wrong)}.",
                "Copy or download them anew, or tune another model.",
            )
        self.name, self.digest, self.license = name, digest, license
        self.network = network.eval().requires_grad_(False)
        self.left_out: frozenset[str] = frozenset()  # parameters without a part in the output
        self.adapted: Any = None  # peft's model around the network, where low-rank changes learn

    def learn(self, settings: recipe.Policy) -> None:
        """Let learn what the recipe's `policy` says. UserError for what the model cannot do."""
        raise NotImplementedError

    def expect_gradients(self) -> None:
        """UserError where gradients do not reach what learns; asked once, on the device of the run. `learn` may have asked."""

    def save(self, path: Path, **about: str) -> None:
        """Write the tuned model as the upscalers open it; `about` becomes the file's metadata."""
        raise NotImplementedError

    @torch.no_grad()
    def start(self, low: torch.Tensor) -> torch.Tensor:
        """The untuned model's output."""
        with self.untuned():
            return self.forward(low)

    @contextlib.contextmanager
    def untuned(self) -> Iterator[None]:
        """Within the block the low-rank changes are switched off."""
        if self.adapted is None:
            yield
            return
        with self.adapted.disable_adapter():
            yield

    def train(self, mode: bool = True) -> "Policy":
        """Evaluation mode, whatever is asked for."""
        return super().train(False)

    def learned(self) -> Weights:
        """The tensors that learn, by name, by reference."""
        found = self.network.named_parameters()
        return {name: value for name, value in found if value.requires_grad and name not in self.left_out}

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

    def _adapt(self, layers: Sequence[str], rank: int, alpha: int) -> None:
        self.adapted = add_adapters(self.network, layers, rank, alpha, "policy.train=lora")

    def _write(self, path: Path, state: Weights, about: dict[str, str]) -> None:
        metadata = {"format": "pt", "tuned_from": self.name, "license": self.license, **about}
        write_tensors(path, state, metadata)
