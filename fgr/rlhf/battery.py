"""The audit's battery: what a policy is not trained on, measured on its outputs image by image."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from fgr.errors import UserError
from fgr.metrics.niqe_fit import Naturalness
from fgr.rlhf.audit import Metric
from fgr.rlhf.inputs import Batch, as_images
from fgr.rlhf.objective import scaled_down

Judge = Callable[[torch.Tensor], torch.Tensor]  # images (B, 3, H, W) → (B,)
WORST = 0.01  # share of a map's pixels that its heat is the mean of
HIGHEST = 100.0  # decibels: identical images have infinitely many


@dataclass
class Battery:
    """What measures: `judges` give a value an image by themselves, `models` a score and a map."""

    naturalness: Naturalness | None
    judges: Mapping[str, tuple[Judge, int]] = field(default_factory=dict)  # name → function, sign
    models: Mapping[str, tuple[Any, bool]] = field(default_factory=dict)  # name → reward model, whether it counts (is held out)
    perceptual: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None
    referenced: bool = True

    @property
    def metrics(self) -> dict[str, Metric]:
        """Every figure's place in the battery. The distance to the start is only shown: to move is no fault."""
        found: dict[str, Metric] = {}
        if self.referenced:
            found |= {"psnr": Metric("fidelity", 1), "ms_ssim": Metric("fidelity", 1)}
            found |= {"lpips": Metric("fidelity", -1)} if self.perceptual else {}
        found["consistency"] = Metric("consistency", 1)
        if self.naturalness:
            found["niqe"] = Metric("naturalness", -1)
        found |= {name: Metric("quality", sign) for name, (_, sign) in self.judges.items()}
        for name, (_, counts) in self.models.items():
            found |= {f"{name}_score": Metric(name, 1, counts), f"{name}_heat": Metric(name, -1, counts)}
        return found | {"distance": Metric("distance", -1, counts=False)}

    @torch.no_grad()
    def measure(self, output: torch.Tensor, batch: Batch, start: torch.Tensor) -> dict[str, np.ndarray]:
        """Each figure as float64 (B,). Decibels for psnr and consistency, 8-bit steps for the distance (RMS)."""
        from fgr.metrics.fidelity import ms_ssim, psnr

        found = {"consistency": psnr(scaled_down(output, batch.low).clamp(0, 1), batch.low).clamp_max(HIGHEST)}
        found["distance"] = (output - start).square().mean((1, 2, 3)).sqrt() * 255
        if batch.reference is not None and self.referenced:
            found |= {"psnr": psnr(output, batch.reference).clamp_max(HIGHEST), "ms_ssim": ms_ssim(output, batch.reference)}
            if self.perceptual:
                found["lpips"] = self.perceptual(output, batch.reference)
        found |= {name: judge(output) for name, (judge, _) in self.judges.items()}
        for name, (model, _) in self.models.items():
            score, map_ = model(output)
            count = max(1, round(WORST * map_[0].numel()))
            found |= {f"{name}_score": score, f"{name}_heat": map_.flatten(1).topk(count, dim=1).values.mean(dim=1)}
        values = {name: value.double().cpu().numpy() for name, value in found.items()}
        if self.naturalness:
            values["niqe"] = np.array([self.naturalness(image) for image in as_images(output)])
        return values


def open_judges(names: Sequence[str], device: torch.device) -> dict[str, tuple[Judge, int]]:
    """No-reference quality by name (`clipiqa`, `pyiqa:NAME`), larger = better. UserError for absent weights or packages."""
    from fgr.metrics.iqa import open_base

    return {name: (open_base(name, device), 1) for name in names if name != "lpips"}


def open_lpips(device: torch.device) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """LPIPS (AlexNet) of images (B, 3, H, W) in [0, 1] → (B,), with gradients. UserError if its weights cannot be had."""
    try:
        from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

        network = LearnedPerceptualImagePatchSimilarity(net_type="alex").net.to(device).eval().requires_grad_(False)
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(
            f"LPIPS needs AlexNet's weights, which cannot be had: {reason}",
            "Check the connection, put alexnet-owt-7be5be79.pth into torch's cache (TORCH_HOME), or leave lpips out.",
        ) from None
    return lambda a, b: network(a, b, normalize=True).flatten()
