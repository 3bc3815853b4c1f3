"""Claim 3's measurements: the networks of a unit's arms on the test set's inputs, at one distance and where they ended."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from bench.claims.protocol import COMPARED
from fgr.dataset import cells
from fgr.devices import choose_device
from fgr.images import degrade
from fgr.images.arrays import as_images, as_tensor
from fgr.metrics import gap_closure
from fgr.reward import splits
from fgr.reward.pretrained import load_reward_model, load_stages
from fgr.rlhf import inputs
from fgr.rlhf import pictures as drawing
from fgr.rlhf.auditor import Auditor
from fgr.rlhf.held_out import Crops, HeldOutEvaluation, HeldOutMetrics, open_held_out
from fgr.rlhf.policies import open_policy
from fgr.rlhf.trained_reward import stage_reward
from fgr.sr import parse_name

BATCH = 8
STAGES = {"RM_0": 0, "RM_N": 1}  # numbers of the rewards in the evaluation
Network = Callable[[torch.Tensor], torch.Tensor]


class Measuring(NamedTuple):
    """Test crops and their side in low-resolution pixels; full-reference figures; images that defects are planted in."""

    crops: int
    crop: int
    figures: tuple[str, ...]
    planted: int


class Judge:
    """RM_0, RM_N, the independent judge and full-reference figures on fixed crops of the test photographs."""

    def __init__(self, needs: Mapping[str, Path], generator: str, recipe: Any, how: Measuring, device: str) -> None:
        self.device, self.how = torch.device(choose_device(device)), how
        self.policy = open_policy(parse_name(generator)).to(self.device)
        crops = spread_crops(needs["data"], self.policy.scale, how.crops, how.crop)
        stages = [stage.requires_grad_(False) for stage in load_stages(needs["reward"], str(self.device))]
        self.last = stages[-1]
        judge = stage_reward(load_reward_model(needs["judge"], str(self.device)), recipe.reward.model_copy(update={"draws": 0}))
        rewards = [stage_reward(model, recipe.reward) for model in (stages[0], self.last)]
        references, starts = self._frozen(str(needs["data"]), recipe)
        for reward in (*rewards, judge):
            reward.calibrate([references, starts])
        named = open_held_out([name for name in how.figures if name != "ssim"], self.device)
        metrics = HeldOutMetrics([one for one in named if one.name in how.figures], judges={"judge": judge})
        self.evaluation = HeldOutEvaluation(self.policy, metrics, rewards, crops, BATCH)
        self.rewards_alone = HeldOutEvaluation(self.policy, HeldOutMetrics([]), rewards, crops, BATCH)
        self.auditor = Auditor(self.evaluation, recipe.audit.model_copy(update={"planted": how.planted}), self.device)

    def judged(self, networks: Mapping[str, Path]) -> dict[str, Any]:
        """Gap closures of the compared arms' networks at the smallest distance that they ended with, and R_N's where every arm
        ended; figures without a vote; every closure is listed with each photograph's share."""
        opened = {arm: self._open(path) for arm, path in networks.items()}
        start = self.evaluation.measure(self.policy.start, self.device, STAGES.values()).values
        baseline = self.auditor.baseline(start, STAGES.values())
        last = [STAGES["RM_N"]]
        ends = {arm: self.rewards_alone.measure(network, self.device, last).values for arm, network in opened.items()}
        moved = {arm: float(values["distance"].mean()) for arm, values in ends.items()}
        wanted = min((moved[arm] for arm in COMPARED if arm in moved), default=0.0)
        arms = {}
        for arm, network in opened.items():
            arms[arm] = {"moved": moved[arm], "end": self._closures(baseline, ends[arm])}
            if arm in COMPARED:
                near = self._towards(network, wanted / moved[arm]) if moved[arm] > wanted else network
                at = self.evaluation.measure(near, self.device, STAGES.values()).values
                arms[arm]["at"] = self._closures(baseline, at)
        return {
            "distance": wanted, "photographs": sorted(set(self.auditor.photographs)), "without_vote": baseline.without_vote,
            "planted": baseline.planted, "arms": arms,
        }  # fmt: skip

    def draw(self, networks: Mapping[str, Path], folder: Path, count: int) -> None:
        """Pictures of the first crops, a folder an arm."""
        pairs = self.evaluation.pairs[:count]
        for arm, path in networks.items() if count else ():
            if path.is_file():
                start = self.evaluation.start_outputs(pairs, self.device)
                output = self.evaluation.measure(self._open(path), self.device, [], count).outputs
                drawing.write_examples(folder / arm, self.last, pairs, start, output)

    def _closures(self, baseline: Any, values: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """By figure that was measured: the closure, and each photograph's share in it; nothing where there is no gap."""
        names = {f"reward_{number}": name for name, number in STAGES.items()} | {"judge": "judge"}
        roles = dict.fromkeys(names, 1)
        roles |= {name: role.better for name, role in self.evaluation.metrics.roles.items() if self._is_figure(name)}
        evidence, found = self.auditor.evidence(baseline, values), {}
        for name, better in roles.items():
            if name not in values:
                continue
            gap = evidence.gap(name, better)
            if by_photograph := gap_closure.by_photograph(gap, self.auditor.photographs):
                closed = gap_closure.closure(gap, self.auditor.photographs).value
                found[names.get(name, name)] = {"value": closed, "photographs": by_photograph}
        return found

    def _is_figure(self, name: str) -> bool:
        return name in {one.replace("-", "_") for one in self.how.figures}

    def _open(self, path: Path) -> Network:
        network: Network = open_policy(parse_name(f"spandrel:{path}")).to(self.device)
        return network

    def _towards(self, network: Network, share: float) -> Network:
        def changed(low: torch.Tensor) -> torch.Tensor:
            start = self.policy.start(low).float()
            return start + share * (network(low).float() - start)

        return changed

    def _frozen(self, data: str, recipe: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """References and untuned outputs of the tuning inputs, which the rewards' terms are standardised on."""
        opened = inputs.open_inputs(data, recipe.data.split, self.policy.scale)
        pairs = inputs.fixed(opened, self.policy.scale, self.how.crop, recipe.reward.reference_images)
        batch = inputs.stacked(pairs).to(self.device)
        assert batch.reference is not None
        with torch.no_grad():
            outputs = [self.policy.start(batch.low[at : at + BATCH]).float() for at in range(0, len(batch.low), BATCH)]
        return batch.reference, as_tensor(as_images(torch.cat(outputs)), self.device)


def spread_crops(data: Path, scale: int, crops: int, crop: int) -> Crops:
    """Crops of the split `test` and their photographs, by turns from each photograph."""
    rows = splits.open_split(str(data), "test")
    by_photo: dict[str, dict[str, int]] = {}
    for index, (photo, reference) in enumerate(zip(rows["photo_id"], rows["source_id"], strict=True)):
        by_photo.setdefault(photo, {}).setdefault(reference, index)
    photos, pairs, names = [], [], sorted(by_photo)
    for turn in range(crops):
        photo = names[turn % len(names)]
        references = list(by_photo[photo].values())
        row = rows[references[turn // len(names) % len(references)]]
        reference = cells.pixels(row, "reference")
        low = degrade.apply(reference, json.loads(row["degradation"]))
        photos.append(photo)
        pairs.append(inputs.cut((low, reference), scale, crop, False, np.random.default_rng(turn)))
    return Crops(pairs, photos)
