"""The audit's exam: the policy's outputs on fixed held-out inputs, measured by the battery and by the trained rewards."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch

from fgr.errors import UserError
from fgr.metrics import niqe_fit as naturalness
from fgr.rlhf.battery import Battery
from fgr.rlhf.diffusion_policy import DiffusionPolicy
from fgr.rlhf.inputs import Inputs, Pair, Replayed, stacked
from fgr.rlhf.policy import Policy
from fgr.rlhf.reward import Reward

CLEAN_PHOTOGRAPHS = 200  # at most, that natural-image statistics are fitted on


@dataclass(frozen=True)
class Measured:
    """Figures by name, float64 (n,), among them `reward_K` of the rewards asked for; outputs (n, 3, H, W) of the first images."""

    values: dict[str, np.ndarray]
    outputs: torch.Tensor


class Exam:
    """Fixed `pairs` of one size, in batches of `batch`."""

    def __init__(
        self, policy: Policy | DiffusionPolicy, battery: Battery, rewards: Sequence[Reward], pairs: Sequence[Pair], batch: int
    ) -> None:
        self.policy, self.battery, self.rewards, self.pairs, self.batch = policy, battery, rewards, pairs, batch

    def take(self, network: Any, device: torch.device, stages: Iterable[int], keep: int = 0) -> Measured:
        """Measure `network` (the policy's weights as they are now) under the rewards of `stages`; `keep` outputs are returned."""
        parts: list[dict[str, np.ndarray]] = []
        kept: list[torch.Tensor] = []
        for first in range(0, len(self.pairs), self.batch):
            one = stacked(self.pairs[first : first + self.batch]).to(device)
            with torch.no_grad():
                output, start = network(one.low).float(), self.policy.start(one.low)
                values = self.battery.measure(output, one, start)
                for stage in stages:
                    values[f"reward_{stage}"] = self.rewards[stage].value(output).double().cpu().numpy()
            parts.append(values)
            kept.append(output[: max(0, keep - first)].cpu())
        joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        wrong = [name for name, values in joined.items() if not np.isfinite(values).all()]
        if wrong:
            raise UserError(
                f"The audit's figures {', '.join(wrong)} are no numbers on some images.",
                "Go on from the best checkpoint with a lower training.lr, or training.precision=no.",
            )
        return Measured(joined, torch.cat(kept))

    def started(self, device: torch.device, stages: Iterable[int]) -> dict[str, np.ndarray]:
        """The untuned network's values of the rewards of `stages`."""
        measured = self.take(self.policy.start, device, stages)
        return {name: values for name, values in measured.values.items() if name.startswith("reward_")}

    def starts(self, pairs: Sequence[Pair], device: torch.device) -> torch.Tensor:
        """The untuned network's outputs (n, 3, H, W) for `pairs`, on the CPU."""
        return torch.cat([self.policy.start(stacked([pair]).low.to(device)).float().cpu() for pair in pairs])


def fit_naturalness(inputs: Inputs, patch: int) -> naturalness.Naturalness | None:
    """NIQE of the clean photographs that the inputs have; None for a folder, which has none. UserError: too few patches."""
    if not isinstance(inputs, Replayed):
        return None
    seen = islice((inputs[index][1] for index in range(len(inputs))), CLEAN_PHOTOGRAPHS)
    distinct = {hashlib.sha256(image.tobytes()).digest(): image for image in seen}
    try:
        return naturalness.fit(distinct.values(), patch)
    except ValueError as error:
        raise UserError(
            f"Natural-image statistics cannot be fitted on the references: {error}.",
            "Set audit.patch lower, or use a dataset with more photographs.",
        ) from None
