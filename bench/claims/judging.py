"""Claims 2's and 3's measurements: tuned networks on the test set's inputs, the yardsticks themselves, and the attack."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fgr import atomic
from fgr.dataset import cells
from fgr.devices import choose_device
from fgr.images import codec, degrade
from fgr.images.arrays import as_images, as_tensor
from fgr.metrics import fidelity as metrics
from fgr.reward import splits
from fgr.reward.pretrained import load_reward_model, load_stages
from fgr.rlhf import pictures as drawing
from fgr.rlhf.held_out import HeldOutMetrics, fit_naturalness, open_held_out
from fgr.rlhf.inputs import Batch, ImagePair, cut, open_inputs, stacked
from fgr.rlhf.policies import open_policy
from fgr.rlhf.trained_reward import Reward, stage_reward
from fgr.sr import parse_name

Values = dict[str, list[float]]
BATCH = 8


class Judge:
    """The held-out yardsticks on fixed crops of the test set; `chosen` is the tuning recipe."""

    def __init__(self, needs: Mapping[str, Path], generator: str, chosen: Any, crops: int, crop: int, device: str) -> None:
        self.device = torch.device(choose_device(device))
        self.generator, self.recipe, self.data = open_policy(parse_name(generator)).to(self.device), chosen, needs["data"]
        self.photos, self.pairs = spread_pairs(needs["data"], self.generator.scale, crops, crop)
        self.stages = [stage.requires_grad_(False) for stage in load_stages(needs["yardstick"], str(self.device))]
        self.gold = load_reward_model(needs["gold"], str(self.device))
        models = {"gold": (self.gold, True), "rm_n": (self.stages[-1], False), "rm_0": (self.stages[0], False)}
        train = open_inputs(str(needs["data"]), chosen.data.split, self.generator.scale)
        self.held_out = HeldOutMetrics(open_held_out((), self.device, fit_naturalness(train, chosen.audit.patch)), models)
        self.batches = [stacked(self.pairs[at : at + BATCH]).to(self.device) for at in range(0, len(self.pairs), BATCH)]
        self.starts = [self._run(self.generator, batch) for batch in self.batches]

    def judge(self, network: Path, folder: Path, pictures: int) -> dict[str, Any]:
        """Each yardstick's values of a tuned network, an image each, and their photographs; pictures of the first images."""
        tuned = open_policy(parse_name(f"spandrel:{network}")).to(self.device)
        outputs = [self._run(tuned, batch) for batch in self.batches]
        if pictures:
            shown = [self.pairs[number] for number in range(min(pictures, len(self.pairs)))]
            drawing.write_examples(folder, self.stages[-1], shown, torch.cat(self.starts), torch.cat(outputs))
        return {"photos": self.photos, "values": self._measured(outputs)}

    def mixtures(self, shares: Sequence[float]) -> dict[str, Any]:
        """The yardsticks of mixtures of the reference (its share given) and the untuned network's output."""
        found = {}
        references = [batch.reference for batch in self.batches if batch.reference is not None]
        for share in shares:
            mixed = [share * reference + (1 - share) * start for reference, start in zip(references, self.starts, strict=True)]
            found[f"{share:g}"] = self._measured(mixed)
        better = {name: metric.better for name, metric in self.held_out.roles.items()}
        return {"photos": self.photos, "better": better, "values": found}

    def planted(self, least: float, most: float) -> list[dict[str, Any]]:
        """Gold severity, gold score and NIQE of composites with a swapped area in this range, and of their references."""
        rows = splits.open_split(str(self.data), "test")
        found = []
        for row in rows:
            if row["mask_kind"] in ("sham", "full") or not least <= row["mask_area"] <= most:
                continue
            images = [cells.pixels(row, name) for name in ("composite", "reference")]
            both = as_tensor(images).to(self.device)
            values = self.held_out.measure(both, Batch(both, both), both)
            kept = {name: [float(one) for one in values[name]] for name in ("gold_score", "gold_severity", "niqe")}
            found.append({"photo": row["photo_id"], "model": row["model"], **kept})
        return found

    def attack(self, folder: Path, epsilons: Sequence[float], steps: int, images: int) -> dict[str, Any]:
        """What RM_0 and RM_N can be made to say by changing no pixel of the untuned outputs by more than ε 8-bit steps."""
        starts = torch.cat(self.starts)[:images]
        references = torch.cat([batch.reference for batch in self.batches if batch.reference is not None])[:images]
        rewards = {"RM_0": self._reward(self.stages[0]), "RM_N": self._reward(self.stages[-1])}
        found: dict[str, Any] = {"photos": self.photos[:images], "attacks": []}
        for reward in rewards.values():
            reward.calibrate([references, starts])
        for name, reward in rewards.items():
            for epsilon in epsilons:
                changed = ascended(reward, starts, epsilon / 255, steps)
                found["attacks"].append({"on": name, "epsilon": epsilon, **self._changes(rewards, starts, changed)})
                if epsilon == max(epsilons):
                    before, after = as_images(starts[:1])[0], as_images(changed[:1])[0]
                    shown = {"before": before, "after": after, "difference": drawing.difference(before, after)}
                    for label, image in shown.items():
                        atomic.write_bytes(folder / f"{name}-{label}.webp", codec.encode_rgb(image))
        return found

    @torch.no_grad()
    def _changes(self, rewards: Mapping[str, Reward], starts: torch.Tensor, changed: torch.Tensor) -> dict[str, list[float]]:
        found = {"psnr": metrics.psnr(changed, starts).tolist()}
        for name, reward in rewards.items():
            before = reward.value(starts)
            found[name] = ((reward.value(changed) - before) / before.std(correction=0).clamp_min(1e-6)).tolist()
        before = self.gold(starts)[0]
        found["gold"] = ((self.gold(changed)[0] - before) / before.std(correction=0).clamp_min(1e-6)).tolist()
        return found

    def _reward(self, stage: Any) -> Reward:
        return stage_reward(stage, self.recipe.reward.model_copy(update={"bound": 0.0, "draws": 0}))

    def _measured(self, outputs: Sequence[torch.Tensor]) -> Values:
        found: Values = {}
        for batch, start, output in zip(self.batches, self.starts, outputs, strict=True):
            for name, values in self.held_out.measure(output, batch, start).items():
                found.setdefault(name, []).extend(float(value) for value in values)
        return found

    @torch.no_grad()
    def _run(self, network: Any, batch: Batch) -> torch.Tensor:
        return network(batch.low).float()


def ascended(reward: Reward, starts: torch.Tensor, epsilon: float, steps: int) -> torch.Tensor:
    """Images raised in `reward` by projected gradient ascent, steps by the sign, within ±`epsilon` of `starts` and [0, 1]."""
    image = starts.clone()
    for _ in range(steps):
        step = 2.5 * epsilon / steps * reward.gradient(image)[2].sign()
        image = (starts + (image + step - starts).clamp(-epsilon, epsilon)).clamp(0, 1)
    return image


def spread_pairs(data: Path, scale: int, crops: int, crop: int) -> tuple[list[str], list[ImagePair]]:
    """`crops` pairs of the split `test` with their photographs, by turns from each photograph."""
    rows = splits.open_split(str(data), "test")
    by_photo: dict[str, dict[str, int]] = {}
    for index, (photo, reference) in enumerate(zip(rows["photo_id"], rows["source_id"], strict=True)):
        by_photo.setdefault(photo, {}).setdefault(reference, index)
    photos, pairs = [], []
    for turn in range(crops):
        names = sorted(by_photo)
        photo = names[turn % len(names)]
        references = list(by_photo[photo].values())
        row = rows[references[turn // len(names) % len(references)]]
        reference = cells.pixels(row, "reference")
        low = degrade.apply(reference, json.loads(row["degradation"]))
        photos.append(photo)
        pairs.append(cut((low, reference), scale, crop, False, np.random.default_rng(turn)))
    return photos, pairs
