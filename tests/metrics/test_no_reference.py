import pytest
import timm
import torch

from fgr.errors import UserError
from fgr.metrics import no_reference


def tower(width=64, layers=2, out=32):
    """A small random text tower under OpenAI's names, and torch's own modules with the same weights."""
    torch.manual_seed(0)
    weights = {
        "token_embedding.weight": torch.randn(49408, width) * 0.1, "positional_embedding": torch.randn(77, width) * 0.1,
        "text_projection": torch.randn(width, out) * 0.1, "logit_scale": torch.tensor(2.0),
        "ln_final.weight": torch.rand(width) + 0.5, "ln_final.bias": torch.randn(width),
    }  # fmt: skip
    blocks = []
    for layer in range(layers):
        block = torch.nn.ModuleDict({
            "ln_1": torch.nn.LayerNorm(width), "attn": torch.nn.MultiheadAttention(width, no_reference.HEADS, batch_first=True),
            "ln_2": torch.nn.LayerNorm(width),
            "mlp": torch.nn.ModuleDict({"c_fc": torch.nn.Linear(width, 4 * width), "c_proj": torch.nn.Linear(4 * width, width)}),
        })  # fmt: skip
        blocks.append(block)
        weights |= {f"transformer.resblocks.{layer}.{name}": value.detach() for name, value in block.state_dict().items()}
    return weights, blocks


@torch.no_grad()
def test_the_text_tower_agrees_with_torchs_attention():
    weights, blocks = tower()
    prompt = no_reference.PROMPTS[4][0]
    ids = torch.zeros(77, dtype=torch.long)
    ids[: len(prompt) + 2] = torch.tensor([no_reference.START, *prompt, no_reference.END])
    x = (weights["token_embedding.weight"][ids] + weights["positional_embedding"])[None]
    mask = torch.full((77, 77), float("-inf")).triu(1)
    for block in blocks:
        y = block["ln_1"](x)
        x = x + block["attn"](y, y, y, attn_mask=mask, need_weights=False)[0]
        hidden = block["mlp"]["c_fc"](block["ln_2"](x))
        x = x + block["mlp"]["c_proj"](hidden * torch.sigmoid(1.702 * hidden))
    last = torch.nn.functional.layer_norm(x[0, len(prompt) + 1], (64,), weights["ln_final.weight"], weights["ln_final.bias"])
    expected = torch.nn.functional.normalize(last @ weights["text_projection"], dim=0)
    torch.testing.assert_close(no_reference.encode_text(weights, prompt), expected, atol=1e-5, rtol=1e-5)


def test_clip_iqa_scores_any_size_and_has_a_gradient():
    weights, _ = tower(layers=1, out=1024)
    visual = timm.create_model("resnet50_clip.openai", pretrained=False).eval()
    model = no_reference.ClipIqa(visual, weights).eval().requires_grad_(False)
    image = torch.rand(2, 3, 64, 96).requires_grad_()
    score = model(image)
    score.sum().backward()
    assert score.shape == (2,)
    assert ((score > 0) & (score < 1)).all()
    assert image.grad.abs().sum() > 0
    flat = torch.ones(1, 2048, 3, 3)  # where all tokens are alike, pooling them gives the projected value of one
    one = visual.head.proj(visual.head.v(torch.ones(1, 2048)))
    torch.testing.assert_close(no_reference.pool(visual.head, flat), one, atol=1e-4, rtol=1e-4)


def test_absent_clip_weights_are_a_sentence(monkeypatch, tmp_path):
    import huggingface_hub

    def absent(*_, **__):
        raise huggingface_hub.errors.LocalEntryNotFoundError("not in the cache")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", absent)
    with pytest.raises(UserError, match=r"base\.name=full-reference"):
        no_reference.open_clipiqa()
