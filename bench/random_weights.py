"""Networks of real size, or small, with random weights in the official files: for speed and memory, not for pictures."""

import json
import string
from pathlib import Path
from typing import Any

import torch

SIZES: dict[bool, dict[str, Any]] = {  # of the x4-upscaler: real or not
    True: {
        "unet": (256, 512, 512, 1024), "heads": 8, "vae": (128, 256, 512), "groups": 32, "width": 1024, "layers": 23,
        "words": 49_408,
    },
    False: {"unet": (32, 32, 32, 64), "heads": 8, "vae": (32, 32, 64), "groups": 32, "width": 32, "layers": 2, "words": 0},
}  # fmt: skip
RRDB = {True: (64, 23), False: (8, 2)}  # channels and blocks


def rrdbnet(folder: Path, real: bool) -> str:
    """An RRDBNet of ×4 in a file of `folder`; the name by which `fgr` opens it."""
    from safetensors.torch import save_file
    from spandrel.architectures.ESRGAN.__arch.RRDB import RRDBNet

    torch.manual_seed(0)
    channels, blocks = RRDB[real]
    network = RRDBNet(num_filters=channels, num_blocks=blocks, scale=4)
    save_file({name: value.contiguous() * 0.5 for name, value in network.state_dict().items()}, folder / "rrdbnet.safetensors")
    return f"spandrel:{folder / 'rrdbnet.safetensors'}"


def sd_x4_upscaler(folder: Path, real: bool, device: str) -> None:
    """stabilityai/stable-diffusion-x4-upscaler in `folder`, in diffusers layout: 1.1 billion parameters, or small ones."""
    import diffusers
    import transformers

    parts: Any = diffusers  # whose classes get their methods as it runs
    texts: Any = transformers
    size = SIZES[real]
    down = ("DownBlock2D", *("CrossAttnDownBlock2D",) * 3)
    words = tokenizer(folder / "tokenizer")
    torch.manual_seed(0)
    with torch.device(device):  # drawing a billion numbers takes a GPU no time
        parts.UNet2DConditionModel(
            sample_size=128 if real else 16, in_channels=7, block_out_channels=size["unet"], down_block_types=down,
            attention_head_dim=size["heads"], up_block_types=(*("CrossAttnUpBlock2D",) * 3, "UpBlock2D"),
            cross_attention_dim=size["width"], num_class_embeds=1000, use_linear_projection=True,
            only_cross_attention=(True, True, True, False),
        ).to("cpu").save_pretrained(folder / "unet")  # fmt: skip
        parts.AutoencoderKL(
            block_out_channels=size["vae"], down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3, layers_per_block=2, scaling_factor=0.08333, force_upcast=True,
            norm_num_groups=size["groups"],
        ).to("cpu").save_pretrained(folder / "vae")  # fmt: skip
        texts.CLIPTextModel(
            texts.CLIPTextConfig(
                vocab_size=max(words, size["words"]), hidden_size=size["width"], intermediate_size=4 * size["width"],
                num_hidden_layers=size["layers"], num_attention_heads=max(2, size["width"] // 64), hidden_act="gelu",
                bos_token_id=words - 3, eos_token_id=words - 2, pad_token_id=words - 1,
            )
        ).to("cpu").save_pretrained(folder / "text_encoder")  # fmt: skip
    betas = {"beta_start": 0.0001, "beta_end": 0.02}
    parts.DDIMScheduler(
        **betas, beta_schedule="scaled_linear", prediction_type="v_prediction", clip_sample=False, set_alpha_to_one=False,
        steps_offset=1,
    ).save_pretrained(folder / "scheduler")  # fmt: skip
    parts.DDPMScheduler(**betas, beta_schedule="scaled_linear").save_pretrained(folder / "low_res_scheduler")


def tokenizer(folder: Path) -> int:
    """A CLIP tokenizer that knows letters alone; the size of its vocabulary."""
    special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>", "pad_token": "!"}
    folder.mkdir(parents=True, exist_ok=True)
    letters = string.ascii_lowercase
    words = [*letters, *(f"{letter}</w>" for letter in letters), *dict.fromkeys(special.values())]
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "special_tokens_map.json").write_text(json.dumps(special))
    config = special | {"model_max_length": 77, "tokenizer_class": "CLIPTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return len(words)
