"""NAME+lora:PATH: low-rank changes of a diffusion model's UNet, as diffusers keeps them, merged in."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from fgr.errors import UserError
from fgr.sr.spec import LORA
from fgr.tensors import file_digest, metadata, read_tensors

PREFIX = "unet."
LAYERS = (nn.Linear, nn.Conv2d)
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")  # the ends of names that low-rank changes are usually made of


def merge(unet: Any, path: Path, name: str, digest: str) -> str:
    """Add the changes in a LoRA file to a UNet's weights, in place; the file's sha256.

    UserError: no such file, no LoRA file, one tuned from other weights, layers that the UNet lacks or of another size.
    """
    state = read_tensors(path)
    _expect_base(path, name, digest)
    layers = {key: layer for key, layer in unet.named_modules() if isinstance(layer, LAYERS)}
    pairs = _pairs(path, state)
    for key, (down, up) in pairs.items():
        layer = layers.get(key)
        change = None if layer is None else _change(layer, down, up)
        if layer is None or change is None:
            what = "is not in the UNet" if layer is None else "has another size there"
            raise UserError(
                f"{path} does not fit {name}: the layer {key} {what}.", "Name low-rank changes that were tuned on this model."
            )
        with torch.no_grad():
            layer.weight += change.to(layer.weight.dtype)
    return file_digest(path)


def _pairs(path: Path, state: dict[str, torch.Tensor]) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Both factors by the layer's name. UserError for a file without, or with one alone."""
    found: dict[str, dict[str, torch.Tensor]] = {}
    for key, value in state.items():
        layer, _, rest = key.removeprefix(PREFIX).partition(".lora_")
        found.setdefault(layer, {})[rest.partition(".")[0]] = value
    if not found or any(set(pair) != {"A", "B"} for pair in found.values()):
        raise UserError(
            f"{path} is not a LoRA file in the format of diffusers (pairs of lora_A and lora_B).",
            "Name a file that fgr rlhf wrote.",
        )
    return {layer: (pair["A"].float(), pair["B"].float()) for layer, pair in found.items()}


def _change(layer: nn.Module, down: torch.Tensor, up: torch.Tensor) -> torch.Tensor | None:
    """up · down in the shape of the layer's weight; None if that is another."""
    assert isinstance(layer.weight, torch.Tensor)
    if up.shape[1] != down.shape[0]:
        return None
    change = (up.flatten(1) @ down.flatten(1)).reshape(up.shape[0], *down.shape[1:])
    return change if change.shape == layer.weight.shape else None


def _expect_base(path: Path, name: str, digest: str) -> None:
    """UserError for changes that were tuned on another model; a file that does not say is taken at its word."""
    about = metadata(path)
    tuned, base = about.get("tuned_from", name), about.get("base", digest)
    if tuned != name or base != digest:
        other = f"'{tuned}'" if tuned != name else f"other weights of '{name}'"
        raise UserError(f"{path} was tuned on {other}.", f"Run it as {tuned}{LORA}{path} with the weights that it was tuned on.")
