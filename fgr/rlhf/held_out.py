"""Held-out evaluation: metrics that the policy is not trained on, on fixed held-out inputs."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import torch

from fgr.devices import one_by_one
from fgr.errors import UserError
from fgr.images.arrays import as_tensor
from fgr.metrics.fidelity import psnr
from fgr.metrics.registry import Metric, Options, open_base, open_metric
from fgr.progress import remark
from fgr.recipe.fields import DISTANCES
from fgr.rlhf.anchor import scaled_down
from fgr.rlhf.audit import JUDGE
from fgr.rlhf.changes import MetricRole
from fgr.rlhf.inputs import Batch, ImagePair, Inputs, Replayed, stacked
from fgr.rlhf.policy import Policy
from fgr.rlhf.trained_reward import Reward

WORST = 0.01  # share of a map's pixels that its severity is the mean of
HIGHEST = 100.0  # decibels: identical images have infinitely many
CLEAN_PHOTOGRAPHS = 200  # at most, that natural-image statistics are fitted on
ALWAYS = ("psnr", "ssim", "ms-ssim")  # metrics that need nothing but the reference


@dataclass(frozen=True)
class HeldOutMetrics:
    """Metrics of outputs, image by image: named ones, the score and the map of held-out reward `models`, and the rewards that
    independent `judges` give, by name."""

    metrics: Sequence[Metric]
    models: Mapping[str, tuple[Any, bool]] = field(default_factory=dict)  # name → reward model, whether it counts
    referenced: bool = True  # whether those that need a reference are measured
    judges: Mapping[str, Reward] = field(default_factory=dict)
    shown: Sequence[str] = ()  # names of metrics that do not count

    @property
    def roles(self) -> dict[str, MetricRole]:
        """What each metric is to the audit. The distance to the start is only shown: to move is no fault."""
        named = {
            _figure(metric): MetricRole(_group(metric), -1 if metric.lower_is_better else 1, metric.name not in self.shown)
            for metric in self.metrics
            if self.referenced or not metric.needs_reference
        }
        fidelity = {name: role for name, role in named.items() if role.group == "fidelity"}
        found = fidelity | {"consistency": MetricRole("consistency", 1)} | named
        for name, (_, counts) in self.models.items():
            found |= {f"{name}_score": MetricRole(name, 1, counts), f"{name}_severity": MetricRole(name, -1, counts)}
        found |= {name: MetricRole(JUDGE, 1, counts=False) for name in self.judges}
        return found | {"distance": MetricRole("distance", -1, counts=False)}

    @torch.no_grad()
    def measure(self, output: torch.Tensor, batch: Batch, start: torch.Tensor) -> dict[str, np.ndarray]:
        """Each metric as float64 (B,). Decibels for psnr and consistency, 8-bit steps for the distance (RMS)."""
        found = {"consistency": psnr(scaled_down(output, batch.low).clamp(0, 1), batch.low).clamp_max(HIGHEST)}
        found["distance"] = (output - start).square().mean((1, 2, 3)).sqrt() * 255
        for metric in self.metrics:
            if not metric.needs_reference:
                found[_figure(metric)] = metric.measure(output)
            elif batch.reference is not None and self.referenced:
                value = metric.measure(output, batch.reference)
                found[_figure(metric)] = value.clamp_max(HIGHEST) if metric.name == "psnr" else value
        for name, (model, _) in self.models.items():
            score, map_ = model(output)
            count = max(1, round(WORST * map_[0].numel()))
            found |= {f"{name}_score": score, f"{name}_severity": map_.flatten(1).topk(count, dim=1).values.mean(dim=1)}
        found |= {name: judge.value(output) for name, judge in self.judges.items()}
        return {name: value.double().cpu().numpy() for name, value in found.items()}


def open_held_out(
    names: Sequence[str], device: torch.device | str, niqe: Metric | None = None, opened: Mapping[str, Metric] | None = None
) -> list[Metric]:
    """ALWAYS and the metrics `names` (DISTANCES, `clipiqa`, `pyiqa:NAME`), the latter two scaled as scores; `niqe` where it could
    be fitted. Distances are opened here unless `opened` has them. UserError for weights or packages that are not available."""
    options = Options(device)
    found = [open_metric(name, options) for name in ALWAYS]
    found += [(opened or {}).get(name) or open_metric(name, options) for name in DISTANCES if name in names]
    scores = [Metric(name, False, False, False, name, open_base(name, device)) for name in names if name not in DISTANCES]
    return [*found, *([niqe] if niqe else []), *scores]


def _figure(metric: Metric) -> str:
    return metric.name.replace("-", "_")


def _group(metric: Metric) -> str:
    return "fidelity" if metric.needs_reference else "naturalness" if metric.name == "niqe" else "quality"


@dataclass(frozen=True)
class Measured:
    """Metrics by name, float64 (n,), among them `reward_K` of the rewards asked for; outputs (n, 3, H, W) of the first images."""

    values: dict[str, np.ndarray]
    outputs: torch.Tensor


@dataclass(frozen=True)
class Crops:
    """Fixed held-out inputs of one size, and the photograph of each."""

    pairs: Sequence[ImagePair]
    photographs: Sequence[str]

    def first_of_each(self, count: int) -> list[int]:
        """Numbers of `count` crops, by turns from each photograph."""
        by_photograph: dict[str, list[int]] = {}
        for number, photograph in enumerate(self.photographs):
            by_photograph.setdefault(photograph, []).append(number)
        turns = max((len(numbers) for numbers in by_photograph.values()), default=0)
        order = [numbers[turn] for turn in range(turns) for numbers in by_photograph.values() if turn < len(numbers)]
        return order[:count]


class HeldOutEvaluation:
    """`metrics` and trained rewards of a policy on fixed `crops`, in batches of `batch`. Outputs are rounded to 8 bits, as they
    would be saved."""

    def __init__(
        self, policy: Policy, metrics: HeldOutMetrics, rewards: Sequence[Reward], crops: Crops, batch: int
    ) -> None:  # fmt: skip
        self.policy, self.metrics, self.rewards, self.crops, self.batch = policy, metrics, rewards, crops, batch
        self._starts: dict[int, np.ndarray] = {}  # the untuned network's outputs, uint8 (3, H, W), by the crop's number

    @property
    def pairs(self) -> Sequence[ImagePair]:
        """The crops' images."""
        return self.crops.pairs

    def measure(self, network: Callable[..., Any], device: torch.device, stages: Iterable[int], keep: int = 0) -> Measured:
        """Measure `network` (the policy's weights as they are now) under the rewards of `stages`; `keep` outputs are returned.

        UserError for values that are not finite.
        """
        return self._measure(lambda batch, numbers: network(batch.low).float(), device, stages, keep)

    def references(self, device: torch.device, stages: Iterable[int]) -> dict[str, np.ndarray]:
        """The figures of the references themselves; empty where there are none."""
        if not self.metrics.referenced:
            return {}
        return self._measure(lambda batch, numbers: batch.reference, device, stages).values

    def changed(self, images: Sequence[np.ndarray], of: Sequence[int], device: torch.device, stages: Iterable[int]) -> Any:
        """The figures of `images`, uint8 (H, W, 3), each in place of the output for the crop of the number in `of`."""
        return self._measure(
            lambda batch, numbers: as_tensor([images[number] for number in numbers], device), device, stages, of=of
        ).values

    def _measure(
        self, produce: Callable[[Batch, range], Any], device: torch.device, stages: Iterable[int], keep: int = 0,
        of: Sequence[int] | None = None,
    ) -> Measured:  # fmt: skip
        crops = range(len(self.pairs)) if of is None else of
        parts: list[dict[str, np.ndarray]] = []
        kept: list[torch.Tensor] = []
        stages = list(stages)
        for first in range(0, len(crops), self.batch):
            remark(f"audit, image {first + 1} of {len(crops)}")
            chosen = crops[first : first + self.batch]
            one = stacked([self.pairs[number] for number in chosen]).to(device)
            with torch.no_grad():
                output = stored(produce(one, range(first, first + len(one.low))))
                values = self.metrics.measure(output, one, self._start(one.low, chosen))
                for stage in stages:
                    values[f"reward_{stage}"] = self.rewards[stage].value(output).double().cpu().numpy()
            parts.append(values)
            kept.append(output[: max(0, keep - first)].cpu())
        joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        wrong = [name for name, values in joined.items() if not np.isfinite(values).all()]
        if wrong:
            raise UserError(
                f"The held-out metrics {', '.join(wrong)} are not finite on some images.",
                "Continue from the best checkpoint with a lower training.lr, or training.precision=no.",
            )
        return Measured(joined, torch.cat(kept))

    def _start(self, low: torch.Tensor, crops: Sequence[int]) -> torch.Tensor:
        """The untuned network's outputs for these crops, as they would be saved: made once, whatever is tuned."""
        if not self._starts.keys() >= set(crops):
            found = (stored(self.policy.start(low).float()) * 255).round().to(torch.uint8).cpu().numpy()
            self._starts |= dict(zip(crops, found, strict=True))
        return torch.from_numpy(np.stack([self._starts[number] for number in crops])).to(low.device).float() / 255

    def start_rewards(self, device: torch.device, stages: Iterable[int]) -> dict[str, np.ndarray]:
        """The untuned network's values of the rewards of `stages`."""
        return _rewards(self.measure(self.policy.start, device, stages).values)

    def reference_rewards(self, device: torch.device, stages: Iterable[int]) -> dict[str, np.ndarray]:
        """The references' values of the rewards of `stages`; empty where there are no references."""
        return _rewards(self.references(device, stages))

    def start_outputs(self, pairs: Sequence[ImagePair], device: torch.device) -> torch.Tensor:
        """The untuned network's outputs (n, 3, H, W) for `pairs`, on the CPU."""
        size = 1 if one_by_one(device.type) else self.batch
        parts = [stacked(pairs[first : first + size]).low.to(device) for first in range(0, len(pairs), size)]
        return torch.cat([self.policy.start(low).float().cpu() for low in parts])


def stored(output: torch.Tensor) -> torch.Tensor:
    """Images in [0, 1] rounded to 8 bits."""
    return (output.clamp(0, 1) * 255).round() / 255


def fit_naturalness(inputs: Inputs, patch: int) -> Metric | None:
    """NIQE fitted on the clean photographs that the inputs have; None for a folder, which has none. UserError: too few."""
    if not isinstance(inputs, Replayed):
        return None
    seen = islice((inputs[index][1] for index in range(len(inputs))), CLEAN_PHOTOGRAPHS)
    distinct = {hashlib.sha256(image.tobytes()).digest(): image for image in seen}
    return open_metric("niqe", Options(photographs=distinct.values(), patch=patch))


def _rewards(values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: value for name, value in values.items() if name.startswith("reward_")}
