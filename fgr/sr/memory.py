"""How large an input fits the CPU's memory, where running out would end the process."""

import contextlib
import os
from pathlib import Path
from typing import Any

import torch

PROBE = 64  # side in pixels of the input whose activations are counted
SLACK = 1.5  # residuals and temporaries beside the largest layer's input and output; measured: 1.1 for RRDBNet and SRVGG
SHARE = 0.5  # of the memory


def pixels_that_fit(model: torch.nn.Module, scale: int) -> int | None:
    """Input pixels that a forward pass has room for in half of this machine's memory; None if that is not known."""
    total, layer = total_bytes(), _largest_layer(model)
    if total is None or layer is None:
        return None
    output = 3 * scale**2 * 8  # float32 on both sides of the way to uint8
    return int(SHARE * total / (SLACK * layer + output))


def total_bytes() -> int | None:
    """The machine's memory, or the control group's limit if that is lower; None where the system does not say."""
    with contextlib.suppress(AttributeError, ValueError, OSError):
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        with contextlib.suppress(ValueError, OSError):  # "max" is no number
            total = min(total, int(Path("/sys/fs/cgroup/memory.max").read_text()))
        return total
    return None


def _largest_layer(model: torch.nn.Module) -> float | None:
    """Bytes an input pixel of the largest input and output of a layer, counted without computing (on the meta device)."""
    largest = 0

    def count(module: Any, inputs: Any, output: Any) -> None:
        nonlocal largest
        tensors = [one for one in [*inputs, output] if isinstance(one, torch.Tensor)]
        largest = max(largest, sum(one.numel() * one.element_size() for one in tensors))

    kept = [(module, dict(vars(module))) for module in model.modules()]  # some forward passes move plain tensors to the input
    hooks = [module.register_forward_hook(count) for module in model.modules() if not list(module.children())]
    state = {name: tensor.to("meta") for name, tensor in model.state_dict().items()}
    try:
        with torch.inference_mode():
            torch.func.functional_call(model, state, (torch.empty(1, 3, PROBE, PROBE, device="meta"),))
    except Exception:  # some architectures compute with real numbers inside; then nothing is known
        return None
    finally:
        for hook in hooks:
            hook.remove()
        for module, attributes in kept:
            vars(module).update(attributes)
    return largest / PROBE**2 or None
