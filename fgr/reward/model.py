"""FinPercep-RM: a score of the whole image, conditioned on a map of where it is bad."""

from collections.abc import Callable
from math import ceil
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub import PyTorchModelHubMixin, hf_hub_download
from huggingface_hub.constants import SAFETENSORS_SINGLE_FILE
from safetensors.torch import load_model
from torch import nn
from torch.nn import functional

from fgr.backbones import Backbone
from fgr.errors import UserError
from fgr.recipe.reward import Model
from fgr.reward.decoder import Decoder
from fgr.reward.encoder import ENERGY_FLOOR, ChannelNorm, Trained, build_encoder, load_pretrained, set_trained
from fgr.reward.score_scale import ScoreScale
from fgr.training.low_rank import parametrize_low_rank

Gate = Literal["concat", "paper", "complement", "residual"]
Pool = Callable[[torch.Tensor], torch.Tensor]
DEFAULTS = Model()  # the recipe's

GATES: dict[str, Callable[[torch.Tensor, torch.Tensor, float], list[torch.Tensor]]] = {
    "concat": lambda f, m, gain: [f * (1 - m), f * m],
    "paper": lambda f, m, gain: [f * m],
    "complement": lambda f, m, gain: [f * (1 - m)],
    "residual": lambda f, m, gain: [f * (1 + gain * m)],
}
CARD = """---
license: apache-2.0
library_name: fgr
tags: [image-quality-assessment, super-resolution, reward-model, artifact-localization]
---

# A FinPercep-RM reward model

Gives an image a global quality score (larger = better) and a map of its artifacts (values in [0, 1], larger = worse, aligned to
the pixel). Trained with `fgr train-rm` after FinPercep-RM (CVPR 2026, arXiv 2512.22647); **not the authors' own weights**.

```python
from fgr.reward import FinPercepRM

model = FinPercepRM.from_pretrained("{{ repo_id | default('THIS_FOLDER', true) }}")
score, degradation_map = model(image)   # image: float32 (B, 3, H, W) RGB in [0, 1], any size; differentiable
```

`config.json` holds the architecture and the stage of the curriculum. The score is on the scale of the image-quality model that
the training was anchored to; it ranks images of like content and is no measure of fidelity to an unseen original.
"""


class FinPercepRM(
    nn.Module,
    PyTorchModelHubMixin,
    library_name="fgr",
    license="apache-2.0",
    tags=["image-quality-assessment", "super-resolution", "reward-model"],
    model_card_template=CARD,
):
    """The reward model of one stage of the curriculum.

    Stage 0 gives a score only (its map is 0 everywhere); stages 1 … `stages` decode ever finer levels of the encoder. `gate` says
    how the map modulates the deepest feature before the score's MLP: `paper` is the published equation f ⊙ M, which leaves
    nothing of a clean image (M → 0); the default `concat` keeps both f ⊙ (1 − M) and f ⊙ M. The MLP scores each place of the
    deepest feature and the score is their mean: a local score holds in any photograph, that of pooled features overfits soon.
    `penalty` lowers the local score by so many standard deviations times the map there: what the map has learnt, pixel by
    pixel, the score then knows as well, and it cannot rise while the map does not fall.
    `encoder_weights` only says what the encoder's training began with; a model's own weights are in its file. The defaults of
    `penalty`, `antialias` and `energy_floor` are what models of earlier versions, whose config.json does not name them, have.
    """

    input_mean: torch.Tensor
    input_std: torch.Tensor
    score_mean: torch.Tensor
    score_std: torch.Tensor
    score_scale: ScoreScale | None = None  # what scores mean, where the folder it was opened from says so

    def __init__(
        self,
        encoder: str = "tiny",
        gate: Gate = DEFAULTS.gate,
        stage: int = 3,
        stages: int = 3,
        width: int = DEFAULTS.width,
        hidden: int = DEFAULTS.hidden,
        gain: float = DEFAULTS.gain,
        penalty: float = DEFAULTS.penalty,
        lora_rank: int = 0,
        encoder_weights: str = "",
        antialias: bool = False,
        energy_floor: float = ENERGY_FLOOR,
    ) -> None:
        super().__init__()
        if not 0 <= stage <= stages:
            raise ValueError(f"stage {stage} is not within 0 … {stages}")
        self.settings: dict[str, Any] = {
            "encoder": encoder, "gate": gate, "stage": stage, "stages": stages, "width": width, "hidden": hidden, "gain": gain,
            "penalty": penalty, "lora_rank": lora_rank, "encoder_weights": encoder_weights, "antialias": antialias,
            "energy_floor": energy_floor,
        }  # fmt: skip
        self.gate, self.gain, self.penalty, self.stage, self.stages = gate, gain, penalty, stage, stages
        self.encoder = build_encoder(encoder, antialias, energy_floor)
        if lora_rank:
            parametrize_low_rank(self.encoder, lora_rank)
        channels = self.encoder.channels
        levels = levels_of(stage, stages, len(channels))
        self.decoder = Decoder(channels, levels, width) if levels else None
        self.multiple = max(self.encoder.reductions)
        deepest = channels[-1]
        self.norm = ChannelNorm(deepest)
        last = nn.Linear(hidden, 1)
        self.head = nn.Sequential(nn.Linear(deepest * (2 if gate == "concat" else 1), hidden), nn.GELU(), last)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.register_buffer("input_mean", torch.tensor(self.encoder.mean).view(1, 3, 1, 1))
        self.register_buffer("input_std", torch.tensor(self.encoder.std).view(1, 3, 1, 1))
        self.register_buffer("score_mean", torch.zeros(()))
        self.register_buffer("score_std", torch.ones(()))

    @classmethod
    def _from_pretrained(cls, *, model_id: str, map_location: str = "cpu", strict: bool = True, **options: Any) -> "FinPercepRM":
        """Build the model of a folder's or a Hub repository's config.json and fill it from model.safetensors, every tensor."""
        hub = {name: options.pop(name, None) for name in ("revision", "cache_dir", "force_download", "local_files_only", "token")}
        file = Path(model_id) / SAFETENSORS_SINGLE_FILE
        if not Path(model_id).is_dir():
            given = {name: value for name, value in hub.items() if value is not None}
            file = Path(hf_hub_download(model_id, SAFETENSORS_SINGLE_FILE, **given))
        model = cls(**options)
        load_model(model, file, strict=strict, device=map_location)
        return model.to(map_location).eval()

    def forward(self, image: torch.Tensor, places: bool = False) -> tuple[torch.Tensor, ...]:
        """score (B,), larger = better, and map (B, 1, H, W) in [0, 1], larger = worse, of image (B, 3, H, W) in [0, 1].

        With `places` also the local scores (B, h, w) at the places of the deepest feature, of which the score is the mean. Any
        height and width; TypeError or ValueError for another layout.
        """
        hidden, weight, degradation_map = self._hidden_and_map(image, None)
        score = self.score_of((hidden * weight).sum((2, 3)), weight.sum((2, 3)))
        if not places:
            return score, degradation_map
        return score, degradation_map, self.score_of(hidden.movedim(1, -1), torch.ones_like(weight).movedim(1, -1))

    def pooled(self, image: torch.Tensor, valid: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """What the score is computed from: weighted sums of the hidden units (B, F + 1), the weight (B, 1), and the map.

        `valid` (B, 1, H, W) in [0, 1] says which pixels count. Sums and weights of an image's tiles may be added up.
        """
        hidden, weight, degradation_map = self._hidden_and_map(image, valid)
        return (hidden * weight).sum((2, 3)), weight.sum((2, 3)), degradation_map

    def _hidden_and_map(self, image: torch.Tensor, valid: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Hidden units (B, F + 1, h, w) at the deepest feature's places, how much the places count (B, 1, h, w), and the map."""
        _check(image)
        height, width = image.shape[-2:]
        down, right = -height % self.multiple, -width % self.multiple
        padded = _pad(image, down, right)
        if valid is None:
            valid = torch.ones_like(image[:, :1])
        valid = functional.pad(valid, (0, right, 0, down))
        features = self.encoder((padded - self.input_mean) / self.input_std)
        deepest = self.norm(features[-1])
        weight = functional.adaptive_avg_pool2d(valid, deepest.shape[-2:])
        if self.decoder is None:
            whole = torch.zeros_like(padded[:, :1])
            modulation = torch.ones_like(weight) if self.gate == "paper" else torch.zeros_like(weight)
        else:
            small = torch.sigmoid(self.decoder(features))
            whole = functional.interpolate(small, padded.shape[-2:], mode="bilinear", align_corners=False)
            counted = small * functional.adaptive_avg_pool2d(valid, (small.shape[-2], small.shape[-1]))
            modulation = functional.adaptive_avg_pool2d(counted, deepest.shape[-2:]) / weight.clamp_min(1e-6)
        return self.hidden_units(deepest, modulation), weight, whole[..., :height, :width]

    def hidden_units(self, deepest: torch.Tensor, modulation: torch.Tensor) -> torch.Tensor:
        """What local scores are linear in, (B, F + 1, h, w), of the deepest feature (B, C, h, w) and the map (B, 1, h, w): the
        head's hidden units of the gated feature, and the map."""
        layer, bend, _ = self.head
        gated = torch.cat(GATES[self.gate](deepest, modulation, self.gain), 1)
        map_ = modulation if self.decoder is not None else torch.zeros_like(modulation)
        return torch.cat([bend(layer(gated.movedim(1, -1))).movedim(-1, 1), map_], 1)

    def score_of(self, sums: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """The scores (…) of weighted sums of hidden units (…, F + 1) and their weights (…, 1), as `pooled` gives them."""
        hidden, map_ = (sums / weight).split([self.head[-1].in_features, 1], -1)
        return (self.head[-1](hidden) - self.penalty * map_).squeeze(-1) * self.score_std + self.score_mean

    @property
    def cell(self) -> int:
        """Side in pixels of what the stage's map can tell apart: its finest level's reduction; 1 at the last stage."""
        levels = len(self.decoder.levels) if self.decoder else 0
        return 1 if self.stage == self.stages else int(self.encoder.reductions[-levels]) if levels else self.multiple

    def grown(self, stage: int) -> "FinPercepRM":
        """The model of a later stage: this one's parameters and, at first, its outputs; new parameters added."""
        if stage < self.stage:
            raise ValueError(f"stage {stage} comes before stage {self.stage}")
        model = FinPercepRM(**(self.settings | {"stage": stage}))
        missing, unexpected = model.load_state_dict(self.state_dict(), strict=False)
        assert not unexpected
        assert all(name.startswith("decoder.") for name in missing)
        return model.train(self.training)

    def choose_trained(self, trained: Trained) -> None:
        """Choose which of the encoder's parameters learn; decoder and head always do."""
        set_trained(self.encoder, trained)

    def set_map_mean(self, mean: float) -> None:
        """Give an untrained map the value `mean` everywhere. A bias learns slowly: what it lacks, every weight would learn."""
        if self.decoder is not None:
            self.decoder.set_mean(mean)

    def load_encoder(self, backbone: Backbone) -> None:
        """Let the encoder begin with the weights of a backbone of its name, and take images as that one does."""
        load_pretrained(self.encoder, backbone)
        config = backbone.network.pretrained_cfg
        self.input_mean.copy_(torch.tensor(config["mean"]).view(1, 3, 1, 1))
        self.input_std.copy_(torch.tensor(config["std"]).view(1, 3, 1, 1))

    def set_scale(self, mean: float, std: float) -> None:
        """Put the score on another scale: its untrained head gives about `mean`, one unit of it is `std`."""
        self.score_mean.fill_(mean)
        self.score_std.fill_(std)

    def train(self, mode: bool = True) -> "FinPercepRM":
        """As for every module, but batch normalisation keeps its running statistics: a score must not depend on the batch."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self


def levels_of(stage: int, stages: int, available: int) -> int:
    """Decoder levels of a stage: none at stage 0, all at the last, in between in equal steps. UserError: too many."""
    if stages > available:
        raise UserError(
            f"The encoder has {available} levels of features, too few for {stages} stages of maps.",
            f"Give `stages` at most {available + 1} entries, RM_0 among them.",
        )
    return ceil(available * stage / stages) if stage else 0


def _pad(image: torch.Tensor, down: int, right: int) -> torch.Tensor:
    return functional.pad(image, (0, right, 0, down), mode="replicate") if down or right else image


def _check(image: torch.Tensor) -> None:
    if image.ndim != 4 or image.shape[1] != 3:
        raise ValueError(f"expected an image (B, 3, H, W), got {tuple(image.shape)}")
    if not image.is_floating_point():
        raise TypeError(f"expected floating point values in [0, 1], got {image.dtype}")
