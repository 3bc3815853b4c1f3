"""Lower precision where it is asked for, and full precision where it fails."""

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import torch

from fgr.sr.network import PRECISIONS


@contextlib.contextmanager
def numerics(device: torch.device, precision: str) -> Iterator[None]:
    """Inference in `precision` by autocast; on CUDA the same bytes every time, and fp32 that is fp32."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode())
        if device.type == "cuda":
            stack.enter_context(torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False))
        if PRECISIONS[precision] != torch.float32:
            stack.enter_context(torch.autocast(device.type, PRECISIONS[precision]))
        yield


def again_in_float32(module: Any, what: str) -> None:
    """Let `module` run once more in float32 whenever its output under autocast holds NaN or infinity; say so the first time."""
    said = False

    def check(module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor | None:
        nonlocal said
        kind = output.device.type
        if not torch.is_autocast_enabled(kind) or torch.isfinite(output).all():
            return None
        if not said:
            print(f"fgr: {what} overflows in this precision; it runs again in fp32 where it does.", file=sys.stderr)
            said = True
        with torch.autocast(kind, enabled=False):
            return module.forward(*(one.float() if isinstance(one, torch.Tensor) else one for one in inputs))

    module.register_forward_hook(check)
