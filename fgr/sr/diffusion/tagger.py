"""The Recognize Anything Model (arXiv 2306.03514) as DAPE tunes it: what SeeSR sees, and tags.

Its image encoder is a Swin; an embedding of every tag looks at the image's tokens in two layers of cross-attention
(Query2Label, arXiv 2107.10834), and a threshold of its own decides. DAPE (SeeSR, section 3.2) tunes the encoder, and the
cross-attention where its file says so, for degraded images, by low-rank adaptation.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from fgr.errors import UserError
from fgr.sr.diffusion import loading
from fgr.tensors import read_tensors

RAM, DAPE, TAG_LIST, THRESHOLDS = "ram_swin_large_14m.pth", "DAPE.pth", "ram_tag_list.txt", "ram_tag_list_threshold.txt"
SIDE, PATCH = 384, 4
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
ENCODER, PROJECTION, HEAD, OLD_HEAD = "visual_encoder.", "image_proj.", "tagging_head.encoder.", "vision_multi.encoder."
LORA_ALPHA = 1.0  # of DAPE: an adapter of rank r counts 1/r
HEADS = 4  # of the cross-attention


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


class CrossAttention(nn.Module):
    """Tags (B, n, width) look at the image's tokens; names are those of the checkpoint."""

    def __init__(self, width: int, tokens: int, hidden: int) -> None:
        super().__init__()
        own = {"query": nn.Linear(width, width), "key": nn.Linear(tokens, width), "value": nn.Linear(tokens, width)}
        self.crossattention = nn.ModuleDict({"self": nn.ModuleDict(own), "output": _residual(width, width)})
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(width, hidden)})
        self.output = _residual(hidden, width)

    def forward(self, tags: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        batch, number, width = tags.shape
        shape = batch, -1, HEADS, width // HEADS
        own: Any = self.crossattention["self"]
        query, key, value = (
            own[name](given).reshape(shape).transpose(1, 2)
            for name, given in (("query", tags), ("key", tokens), ("value", tokens))
        )
        seen = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(batch, number, width)
        tags = _added(self.crossattention["output"], seen, tags)
        return _added(self.output, functional.gelu(self.intermediate["dense"](tags)), tags)


class TagHead(nn.Module):
    """The image's tokens → logits of the tags, (B, n)."""

    def __init__(self, number: int, embedding: int, width: int, tokens: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.label_embed = nn.Parameter(torch.zeros(number, embedding))
        self.wordvec_proj = nn.Linear(embedding, width) if embedding != width else nn.Identity()
        self.layer = nn.ModuleList(CrossAttention(width, tokens, hidden) for _ in range(layers))
        self.fc = nn.Linear(width, 1)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        tags = functional.relu(self.wordvec_proj(self.label_embed)).expand(len(tokens), -1, -1)
        for layer in self.layer:
            tags = layer(tags, tokens)
        return self.fc(tags)[..., 0]


class Tagger:
    """Names what images show, by a published list of tags with a threshold for each."""

    def __init__(self, tokens: Tokens, head: TagHead, names: Sequence[str], thresholds: torch.Tensor) -> None:
        self.tokens, self.head, self._names, self._thresholds = tokens, head, names, thresholds

    def tags(self, images: torch.Tensor) -> list[str]:
        """The tags of images (B, 3, H, W) in [0, 1], by commas, in the order of the list."""
        found = self.head(self.tokens(images)).sigmoid() > self._thresholds.to(images.device)
        return [", ".join(name for name, has in zip(self._names, row, strict=True) if has) for row in found.tolist()]


def expect_tagger(found: Mapping[str, Path], name: str) -> Mapping[str, Path]:
    """The files themselves. UserError if the tagger's are not among them."""
    absent = [file for file in (RAM, DAPE, TAG_LIST, THRESHOLDS) if file not in found]
    if absent:
        raise UserError(
            f"The prompt of '{name}' begins with the words of a tagger, which is not here: there is no {', no '.join(absent)}.",
            f"Fetch them with `fgr models {name} --fetch`, or give a prompt of your own without {{tags}}: '{name}@prompt='.",
        )
    return found


def open_tokens(found: Mapping[str, Path]) -> Tokens:
    """The network of RAM's checkpoint with DAPE's adapters merged in. UserError if the files do not hold them."""
    from timm.models.swin_transformer import SwinTransformer, checkpoint_filter_fn

    what, file = "RAM's image encoder", found[RAM]
    state = read_tensors(file, lazily=True)
    own = {name.removeprefix(ENCODER): tensor for name, tensor in state.items() if name.startswith(ENCODER)}
    with loading.expecting(file, what):
        depths = tuple(len({name.split(".")[3] for name in own if name.startswith(f"layers.{i}.blocks.")}) for i in range(4))
        tables = [own[f"layers.{i}.blocks.0.attn.relative_position_bias_table"] for i in range(4)]
        encoder = SwinTransformer(
            img_size=SIDE, patch_size=PATCH, embed_dim=own["patch_embed.proj.weight"].shape[0], depths=depths, num_classes=0,
            num_heads=tuple(table.shape[1] for table in tables), window_size=(math.isqrt(len(tables[0])) + 1) // 2,
        )  # fmt: skip
        projection = {name: state[f"{PROJECTION}{name}"] for name in ("weight", "bias")}
    merged = _merged(own, read_tensors(found[DAPE]), found[DAPE])
    loading.load_strictly(encoder, checkpoint_filter_fn(merged, encoder), what, file)
    network = Tokens(encoder, len(projection["bias"]))
    network.image_proj.load_state_dict(projection)
    return network.eval().requires_grad_(False)


def open_tagger(found: Mapping[str, Path], tokens: Tokens, device: torch.device) -> Tagger:
    """The tagger of the same files, on a device. UserError if they hold no decoder, or lists of another length."""
    what, file = "RAM's tag decoder", found[RAM]
    state = {name.replace(OLD_HEAD, HEAD): tensor for name, tensor in read_tensors(file, lazily=True).items()}
    own = {name.removeprefix(HEAD): one for name, one in state.items() if name.startswith(HEAD) and ".attention." not in name}
    with loading.expecting(file, what):
        own |= {name: state[name] for name in ("label_embed", "fc.weight", "fc.bias")}
        (number, embedding), width = own["label_embed"].shape, own["fc.weight"].shape[1]
        if embedding != width:
            own |= {name: state[name] for name in ("wordvec_proj.weight", "wordvec_proj.bias")}
        hidden = own["layer.0.intermediate.dense.weight"].shape[0]
        seen = own["layer.0.crossattention.self.key.weight"].shape[1]
    layers = len({name.split(".")[1] for name in own if name.startswith("layer.")})
    head = TagHead(number, embedding, width, seen, hidden, layers)
    loading.load_strictly(head, _adapted(own, read_tensors(found[DAPE])), what, file)
    names, thresholds = (found[name].read_text(encoding="utf-8").splitlines() for name in (TAG_LIST, THRESHOLDS))
    for given, name in ((names, TAG_LIST), (thresholds, THRESHOLDS)):
        if len(given) != number:
            raise UserError(
                f"{found[name]} has {len(given)} lines, but the tag decoder of {file.name} knows {number} tags.",
                "Put the list that was published with it in its place.",
            )
    return Tagger(tokens.to(device), head.to(device), names, torch.tensor([float(one) for one in thresholds]))


def _residual(into: int, out: int) -> nn.ModuleDict:
    return nn.ModuleDict({"dense": nn.Linear(into, out), "LayerNorm": nn.LayerNorm(out, eps=1e-12)})


def _added(layer: Any, inner: torch.Tensor, outer: torch.Tensor) -> torch.Tensor:
    return layer["LayerNorm"](layer["dense"](inner) + outer)


def _adapted(own: Mapping[str, torch.Tensor], adapters: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights of the decoder with the low-rank updates that DAPE has of it; it may have none."""
    adapted = dict(own)
    for name, weight in own.items():
        layer = f"{HEAD}{name.removesuffix('.weight')}"
        below, above = (adapters.get(f"{layer}.lora_{part}") for part in "AB")
        if below is not None and above is not None:
            adapted[name] = weight + above @ below * (LORA_ALPHA / len(below))
    return adapted


def _merged(own: Mapping[str, torch.Tensor], adapters: Mapping[str, torch.Tensor], file: Path) -> dict[str, torch.Tensor]:
    """Queries and values of every block with their low-rank updates; keys have none."""
    merged = dict(own)
    blocks = [name.removesuffix(".weight") for name in own if name.endswith("attn.qkv.weight")]
    for block in blocks:
        with loading.expecting(file, "DAPE's adapters"):
            below, above = (adapters[f"{ENCODER}{block}.lora_{part}"] for part in "AB")
        rank, width = below.shape[0] // 2, own[f"{block}.weight"].shape[1]
        if above.shape != (2 * width, rank) or below.shape[1] != width:
            raise UserError(f"{file} does not fit RAM: {block} is {width} wide.", "Put DAPE.pth of SeeSR in its place.")
        query, value = (above[i * width : (i + 1) * width] @ below[i * rank : (i + 1) * rank] for i in (0, 1))
        update = torch.cat([query, torch.zeros_like(query), value]) * (LORA_ALPHA / rank)
        merged[f"{block}.weight"] = own[f"{block}.weight"] + update
    return merged
