"""No-reference metrics: CLIP-IQA on the open weights of CLIP RN50, and the metrics of pyiqa.

CLIP-IQA (Wang, Chan and Loy, AAAI 2023, arXiv 2207.12396): five pairs of prompts; the score is the mean probability of each
pair's first. Images keep their size: the attention pool works without positions.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch.nn import functional

from fgr import hub_files
from fgr.errors import UserError, missing_extra, nearest
from fgr.tensors import read_tensors

HUB, TEXT_FILE, VISUAL = "timm/resnet50_clip.openai", "open_clip_model.safetensors", "resnet50_clip.openai"
START, END = 49406, 49407
PROMPTS = (  # token ids of CLIP's vocabulary, better before worse
    ((886, 2867), (2103, 2867)),  # Good image, bad image
    ((8157, 2867), (21977, 2867)),  # Sharp image, blurry image
    ((8157, 20938), (21977, 20938)),  # sharp edges, blurry edges
    ((1400, 9977, 2867), (1042, 9977, 2867)),  # High resolution image, low resolution image
    ((9307, 268, 1139, 2867), (33495, 2867)),  # Noise-free image, noisy image
)
HEADS = 8
Weights = Mapping[str, torch.Tensor]


class ClipIqa(torch.nn.Module):
    """CLIP-IQA of a timm `resnet50_clip` with its attention pool and the text tower's weights, under OpenAI's names."""

    text: torch.Tensor
    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, visual: Any, text: Weights) -> None:
        super().__init__()
        self.visual = visual
        with torch.no_grad():
            prompts = torch.stack([torch.stack([encode_text(text, prompt) for prompt in pair]) for pair in PROMPTS])
        self.register_buffer("text", prompts * text["logit_scale"].exp().detach())
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(visual.default_cfg[name]).view(1, 3, 1, 1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Score (B,) in [0, 1], larger = better, of image (B, 3, H, W) in [0, 1]; differentiable."""
        features = self.visual.forward_features((image - self.mean) / self.std)
        vector = functional.normalize(pool(self.visual.head, features), dim=1)
        logits = torch.einsum("bc,ptc->bpt", vector, self.text)
        return logits.softmax(2)[..., 0].mean(1)


def pool(head: Any, features: torch.Tensor) -> torch.Tensor:
    """The attention pool without positions: (B, C, h, w) → (B, D)."""
    tokens = features.flatten(2).transpose(1, 2)
    mean = tokens.mean(1, keepdim=True)
    query, key, value = head.q(mean), head.k(torch.cat([mean, tokens], 1)), head.v(torch.cat([mean, tokens], 1))
    split = [x.unflatten(2, (head.num_heads, -1)).transpose(1, 2) for x in (query, key, value)]
    pooled = functional.scaled_dot_product_attention(*split)
    return head.proj(pooled.transpose(1, 2).flatten(2)).squeeze(1)


def encode_text(weights: Weights, prompt: tuple[int, ...]) -> torch.Tensor:
    """The unit vector of a prompt by CLIP's text tower. What follows the end token has no effect on it and is left out."""
    ids = torch.tensor([START, *prompt, END])
    x = weights["token_embedding.weight"][ids] + weights["positional_embedding"][: len(ids)]
    depth = len([name for name in weights if name.startswith("transformer.resblocks.") and name.endswith(".ln_1.weight")])
    for layer in range(depth):
        own = {name: weights[f"transformer.resblocks.{layer}.{name}"] for name in _LAYER}
        x = x + _attention(_norm(x, own, "ln_1"), own)
        hidden = functional.linear(_norm(x, own, "ln_2"), own["mlp.c_fc.weight"], own["mlp.c_fc.bias"])
        x = x + functional.linear(hidden * torch.sigmoid(1.702 * hidden), own["mlp.c_proj.weight"], own["mlp.c_proj.bias"])
    last = _norm(x, weights, "ln_final")[-1]
    return functional.normalize(last @ weights["text_projection"], dim=0)


_LAYER = (
    "ln_1.weight", "ln_1.bias", "ln_2.weight", "ln_2.bias", "attn.in_proj_weight", "attn.in_proj_bias", "attn.out_proj.weight",
    "attn.out_proj.bias", "mlp.c_fc.weight", "mlp.c_fc.bias", "mlp.c_proj.weight", "mlp.c_proj.bias",
)  # fmt: skip


def _norm(x: torch.Tensor, weights: Weights, name: str) -> torch.Tensor:
    return functional.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"])


def _attention(x: torch.Tensor, weights: Weights) -> torch.Tensor:
    parts = functional.linear(x, weights["attn.in_proj_weight"], weights["attn.in_proj_bias"]).chunk(3, dim=1)
    query, key, value = (part.unflatten(1, (HEADS, -1)).transpose(0, 1) for part in parts)
    mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True).transpose(0, 1).flatten(1)
    return functional.linear(mixed, weights["attn.out_proj.weight"], weights["attn.out_proj.bias"])


def open_clipiqa(device: torch.device | str = "cpu") -> ClipIqa:
    """CLIP-IQA with OpenAI's weights from the Hub or its cache. UserError if they are not available."""
    import timm

    try:
        text = read_tensors(hub_files.cached(HUB, TEXT_FILE) or hub_files.fetch(HUB, TEXT_FILE))
        visual = timm.create_model(VISUAL, pretrained=True)
    except (hub_files.Unavailable, OSError, RuntimeError) as error:
        raise UserError(
            f"The weights of CLIP RN50, which clipiqa needs, are not available: {' '.join(str(error).split())[:200]}",
            f"Fetch {HUB} on a machine with a connection and copy the Hub's cache, or leave clipiqa out "
            "(a recipe for a reward model: base.name=full-reference, with base.steps above 0).",
        ) from None
    return ClipIqa(visual, {name: value.float() for name, value in text.items()}).to(device).eval().requires_grad_(False)


def open_pyiqa(name: str, device: torch.device | str = "cpu", differentiable: bool = False) -> Any:
    """pyiqa's metric `name`, a module with `metric_mode` (FR or NR), `lower_better` and `score_range`.

    `differentiable` keeps the gradient by the image. UserError: pyiqa is not installed, has no such metric, or its weights are
    not available.
    """
    try:
        import pyiqa
    except ImportError:
        raise missing_extra("pyiqa", "iqa", f"The metric pyiqa:{name}") from None
    known = pyiqa.list_models()
    if name not in known:
        raise UserError(f"pyiqa has no metric '{name}'{nearest(name, known)}.", "pyiqa.list_models() lists them.")
    options: dict[str, Any] = {"as_loss": True, "loss_reduction": "none"} if differentiable else {}
    try:
        return pyiqa.create_metric(name, device=torch.device(device), **options)
    except Exception as error:  # every metric of pyiqa fetches its weights in its own way
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise UserError(
            f"The weights of pyiqa's {name} are not available: {reason}", "Check the connection, or copy pyiqa's cache."
        ) from None


def pyiqa_range(metric: Any) -> tuple[float, float] | None:
    """The lowest and the highest score that pyiqa states for an open metric, about; None where it states none."""
    try:
        low, high = (float(part.strip(" ~")) for part in str(metric.score_range).split(",")[:2])
    except (AttributeError, ValueError):
        return None
    return low, high
