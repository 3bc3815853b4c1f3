"""Small diffusion models with random weights, in exactly the files and layouts of the official ones."""

import json
import string
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, DDPMScheduler, UNet2DConditionModel, UNet2DModel, VQModel
from transformers import CLIPTextConfig, CLIPTextModel
from transformers.utils import logging

logging.disable_progress_bar()

TOKENS = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>", "pad_token": "!"}
LETTERS = string.ascii_lowercase


def image(seed, height=16, width=16):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def tokenizer(folder: Path) -> int:
    """A CLIP tokenizer that knows letters only; returns the size of its vocabulary."""
    folder.mkdir(parents=True)
    words = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), *dict.fromkeys(TOKENS.values())]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "special_tokens_map.json").write_text(json.dumps(TOKENS))
    config = TOKENS | {"model_max_length": 77, "tokenizer_class": "CLIPTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return len(words)


def text_encoder(vocabulary: int, width: int = 32) -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=2, num_attention_heads=2,
            bos_token_id=vocabulary - 3, eos_token_id=vocabulary - 2, pad_token_id=vocabulary - 1,
        )
    )  # fmt: skip


def sd_x4(folder: Path) -> None:
    """stabilityai/stable-diffusion-x4-upscaler."""
    torch.manual_seed(0)
    down = ("DownBlock2D", *("CrossAttnDownBlock2D",) * 3)
    UNet2DConditionModel(
        sample_size=16, in_channels=7, block_out_channels=(32, 32, 32, 64), down_block_types=down, attention_head_dim=8,
        up_block_types=(*("CrossAttnUpBlock2D",) * 3, "UpBlock2D"), cross_attention_dim=32, num_class_embeds=1000,
        use_linear_projection=True, only_cross_attention=(True, True, True, False),
    ).save_pretrained(folder / "unet")  # fmt: skip
    AutoencoderKL(
        block_out_channels=(32, 32, 64), down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=2, scaling_factor=0.08333, force_upcast=True,
    ).save_pretrained(folder / "vae")  # fmt: skip
    text_encoder(tokenizer(folder / "tokenizer")).save_pretrained(folder / "text_encoder")
    betas = {"beta_start": 0.0001, "beta_end": 0.02}
    DDIMScheduler(
        **betas, beta_schedule="scaled_linear", prediction_type="v_prediction", clip_sample=False, set_alpha_to_one=False,
        steps_offset=1,
    ).save_pretrained(folder / "scheduler")  # fmt: skip
    DDPMScheduler(**betas, beta_schedule="scaled_linear").save_pretrained(folder / "low_res_scheduler")


def ldm_sr(folder: Path) -> None:
    """CompVis/ldm-super-resolution-4x-openimages."""
    torch.manual_seed(1)
    UNet2DModel(
        in_channels=6, out_channels=3, block_out_channels=(32, 32, 64, 64), attention_head_dim=32, norm_eps=1e-6,
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
    ).save_pretrained(folder / "unet", safe_serialization=False)  # fmt: skip
    vq().save_pretrained(folder / "vqvae", safe_serialization=False)
    DDIMScheduler(
        beta_start=0.0015, beta_end=0.0195, beta_schedule="scaled_linear", clip_sample=False, timestep_spacing="leading"
    ).save_pretrained(folder / "scheduler")


def vq() -> VQModel:
    return VQModel(
        block_out_channels=(32, 32, 64), down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=2, num_vq_embeddings=64,
    )  # fmt: skip
