"""Held-out evaluation: metrics that the policy is not trained on, of its outputs on fixed held-out inputs."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import torch

from fgr.errors import UserError
from fgr.metrics import niqe_fit
from fgr.rlhf.audit import MetricRole
from fgr.rlhf.diffusion_policy import DiffusionPolicy
from fgr.rlhf.inputs import Batch, Inputs, Pair, Replayed, as_images, stacked
from fgr.rlhf.objective import scaled_down
from fgr.rlhf.policy import Policy
from fgr.rlhf.reward import Reward

Quality = Callable[[torch.Tensor], torch.Tensor]  # images (B, 3, H, W) → (B,)
WORST = 0.01  # share of a map's pixels that its severity is the mean of
HIGHEST = 100.0  # decibels: identical images have infinitely many
CLEAN_PHOTOGRAPHS = 200  # at most, that natural-image statistics are fitted on


@dataclass
class HeldOutMetrics:
    """Metrics of outputs, image by image: `quality` by name, without a reference; `models` give a score and a map."""

    naturalness: niqe_fit.Naturalness | None
    quality: Mapping[str, tuple[Quality, int]] = field(default_factory=dict)  # name → function, sign
    models: Mapping[str, tuple[Any, bool]] = field(default_factory=dict)  # name → reward model, whether it counts
    perceptual: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None
    referenced: bool = True

    @property
    def roles(self) -> dict[str, MetricRole]:
        """What each metric is to the audit. The distance to the start is only shown: to move is no fault."""
        found: dict[str, MetricRole] = {}
        if self.referenced:
            found |= {"psnr": MetricRole("fidelity", 1), "ms_ssim": MetricRole("fidelity", 1)}
            found |= {"lpips": MetricRole("fidelity", -1)} if self.perceptual else {}
        found["consistency"] = MetricRole("consistency", 1)
        if self.naturalness:
            found["niqe"] = MetricRole("naturalness", -1)
        found |= {name: MetricRole("quality", sign) for name, (_, sign) in self.quality.items()}
        for name, (_, counts) in self.models.items():
            found |= {f"{name}_score": MetricRole(name, 1, counts), f"{name}_severity": MetricRole(name, -1, counts)}
        return found | {"distance": MetricRole("distance", -1, counts=False)}

    @torch.no_grad()
    def measure(self, output: torch.Tensor, batch: Batch, start: torch.Tensor) -> dict[str, np.ndarray]:
        """Each metric as float64 (B,). Decibels for psnr and consistency, 8-bit steps for the distance (RMS)."""
        from fgr.metrics.fidelity import ms_ssim, psnr

        found = {"consistency": psnr(scaled_down(output, batch.low).clamp(0, 1), batch.low).clamp_max(HIGHEST)}
        found["distance"] = (output - start).square().mean((1, 2, 3)).sqrt() * 255
        if batch.reference is not None and self.referenced:
            found |= {"psnr": psnr(output, batch.reference).clamp_max(HIGHEST), "ms_ssim": ms_ssim(output, batch.reference)}
            if self.perceptual:
                found["lpips"] = self.perceptual(output, batch.reference)
        found |= {name: quality(output) for name, (quality, _) in self.quality.items()}
        for name, (model, _) in self.models.items():
            score, map_ = model(output)
            count = max(1, round(WORST * map_[0].numel()))
            found |= {f"{name}_score": score, f"{name}_severity": map_.flatten(1).topk(count, dim=1).values.mean(dim=1)}
        values = {name: value.double().cpu().numpy() for name, value in found.items()}
        if self.naturalness:
            values["niqe"] = np.array([self.naturalness(image) for image in as_images(output)])
        return values


@dataclass(frozen=True)
class Measured:
    """Metrics by name, float64 (n,), among them `reward_K` of the rewards asked for; outputs (n, 3, H, W) of the first images."""

    values: dict[str, np.ndarray]
    outputs: torch.Tensor


class HeldOutEvaluation:
    """`metrics` and trained rewards of a policy on fixed `pairs` of one size, in batches of `batch`."""

    def __init__(
        self,
        policy: Policy | DiffusionPolicy,
        metrics: HeldOutMetrics,
        rewards: Sequence[Reward],
        pairs: Sequence[Pair],
        batch: int,
    ) -> None:
        self.policy, self.metrics, self.rewards, self.pairs, self.batch = policy, metrics, rewards, pairs, batch

    def measure(self, network: Any, device: torch.device, stages: Iterable[int], keep: int = 0) -> Measured:
        """Measure `network` (the policy's weights as they are now) under the rewards of `stages`; `keep` outputs are returned.

        UserError for values that are not finite.
        """
        parts: list[dict[str, np.ndarray]] = []
        kept: list[torch.Tensor] = []
        for first in range(0, len(self.pairs), self.batch):
            one = stacked(self.pairs[first : first + self.batch]).to(device)
            with torch.no_grad():
                output, start = network(one.low).float(), self.policy.start(one.low)
                values = self.metrics.measure(output, one, start)
                for stage in stages:
                    values[f"reward_{stage}"] = self.rewards[stage].value(output).double().cpu().numpy()
            parts.append(values)
            kept.append(output[: max(0, keep - first)].cpu())
        joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        wrong = [name for name, values in joined.items() if not np.isfinite(values).all()]
        if wrong:
            raise UserError(
                f"The held-out metrics {', '.join(wrong)} are not finite on some images.",
                "Go on from the best checkpoint with a lower training.lr, or training.precision=no.",
            )
        return Measured(joined, torch.cat(kept))

    def start_rewards(self, device: torch.device, stages: Iterable[int]) -> dict[str, np.ndarray]:
        """The untuned network's values of the rewards of `stages`."""
        measured = self.measure(self.policy.start, device, stages)
        return {name: values for name, values in measured.values.items() if name.startswith("reward_")}

    def start_outputs(self, pairs: Sequence[Pair], device: torch.device) -> torch.Tensor:
        """The untuned network's outputs (n, 3, H, W) for `pairs`, on the CPU."""
        return torch.cat([self.policy.start(stacked([pair]).low.to(device)).float().cpu() for pair in pairs])


def open_quality_metrics(names: Sequence[str], device: torch.device) -> dict[str, tuple[Quality, int]]:
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


def fit_naturalness(inputs: Inputs, patch: int) -> niqe_fit.Naturalness | None:
    """NIQE of the clean photographs that the inputs have; None for a folder, which has none. UserError: too few patches."""
    if not isinstance(inputs, Replayed):
        return None
    seen = islice((inputs[index][1] for index in range(len(inputs))), CLEAN_PHOTOGRAPHS)
    distinct = {hashlib.sha256(image.tobytes()).digest(): image for image in seen}
    try:
        return niqe_fit.fit(distinct.values(), patch)
    except ValueError as error:
        raise UserError(
            f"Natural-image statistics cannot be fitted on the references: {error}.",
            "Set audit.patch lower, or use a dataset with more photographs.",
        ) from None
