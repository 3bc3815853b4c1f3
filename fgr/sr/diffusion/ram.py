"""What SeeSR sees of an image: tokens of the Recognize Anything Model's Swin, tuned for degraded images (DAPE) by LoRA.

Zhang et al., Recognize Anything (arXiv 2306.03514); Wu et al., SeeSR (arXiv 2311.16518), section 3.2.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from fgr.errors import UserError
from fgr.sr.diffusion import ldm
from fgr.sr.diffusion.files import load_strictly

SIDE, PATCH = 384, 4
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
ENCODER, PROJECTION = "visual_encoder.", "image_proj."
LORA_ALPHA = 1.0  # of the adapters: one of rank r counts 1/r


class Tokens(nn.Module):
    """(B, 3, H, W) in [0, 1] → (B, 1 + 144, 512): the mean over the image, then its places."""

    def __init__(self, encoder: Any, out: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.image_proj = nn.Linear(encoder.num_features, out)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        mean, deviation = (images.new_tensor(one)[:, None, None] for one in (MEAN, DEVIATION))
        seen = functional.interpolate(images, (SIDE, SIDE), mode="bilinear", antialias=True)
        places = self.encoder.forward_features((seen - mean) / deviation).flatten(1, 2)
        return self.image_proj(torch.cat([places.mean(1, keepdim=True), places], 1))


def tokens(state: Mapping[str, torch.Tensor], adapters: Mapping[str, torch.Tensor], file: Path, adapter_file: Path) -> Tokens:
    """The network of RAM's checkpoint with DAPE's adapters merged in. UserError if the files do not hold them."""
    from timm.models.swin_transformer import SwinTransformer, checkpoint_filter_fn

    what = "RAM's image encoder"
    own = {name.removeprefix(ENCODER): tensor for name, tensor in state.items() if name.startswith(ENCODER)}
    with ldm.expecting(file, what):
        depths = tuple(len({name.split(".")[3] for name in own if name.startswith(f"layers.{i}.blocks.")}) for i in range(4))
        tables = [own[f"layers.{i}.blocks.0.attn.relative_position_bias_table"] for i in range(4)]
        encoder = SwinTransformer(
            img_size=SIDE, patch_size=PATCH, embed_dim=own["patch_embed.proj.weight"].shape[0], depths=depths, num_classes=0,
            num_heads=tuple(table.shape[1] for table in tables), window_size=(math.isqrt(len(tables[0])) + 1) // 2,
        )  # fmt: skip
        projection = {name: state[f"{PROJECTION}{name}"] for name in ("weight", "bias")}
    merged = _merged(own, adapters, adapter_file)
    load_strictly(encoder, checkpoint_filter_fn(merged, encoder), what, file)
    network = Tokens(encoder, len(projection["bias"]))
    network.image_proj.load_state_dict(projection)
    return network.eval().requires_grad_(False)


def _merged(own: Mapping[str, torch.Tensor], adapters: Mapping[str, torch.Tensor], file: Path) -> dict[str, torch.Tensor]:
    """Queries and values of every block with their low-rank updates; keys have none."""
    merged = dict(own)
    blocks = [name.removesuffix(".weight") for name in own if name.endswith("attn.qkv.weight")]
    for block in blocks:
        with ldm.expecting(file, "DAPE's adapters"):
            below, above = (adapters[f"{ENCODER}{block}.lora_{part}"] for part in "AB")
        rank, width = below.shape[0] // 2, own[f"{block}.weight"].shape[1]
        if above.shape != (2 * width, rank) or below.shape[1] != width:
            raise UserError(f"{file} does not fit RAM: {block} is {width} wide.", "Put DAPE.pth of SeeSR in its place.")
        query, value = (above[i * width : (i + 1) * width] @ below[i * rank : (i + 1) * rank] for i in (0, 1))
        update = torch.cat([query, torch.zeros_like(query), value]) * (LORA_ALPHA / rank)
        merged[f"{block}.weight"] = own[f"{block}.weight"] + update
    return merged
