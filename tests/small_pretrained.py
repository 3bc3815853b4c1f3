"""Small models with random weights in the folders that diffusers and transformers read: whole ones, and bases of others."""

from pathlib import Path
from string import ascii_lowercase

import torch
from diffusers import AutoencoderKL, DDIMScheduler, DDPMScheduler, UNet2DConditionModel, UNet2DModel, VQModel
from recordings import filled
from transformers import CLIPTextConfig, CLIPTextModel
from transformers.utils import logging

from bench.random_weights import tokenizer

logging.disable_progress_bar()


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


def filled_base(folder: Path, *parts: str) -> None:
    """Stable Diffusion 2.1 base, with weights that follow from their names in these parts, by default in all."""
    torch.manual_seed(2)
    modules = {
        "unet": UNet2DConditionModel(
            block_out_channels=(64, 64, 64, 64), attention_head_dim=(1, 1, 1, 1), cross_attention_dim=64,
            use_linear_projection=True,
        ),
        "vae": AutoencoderKL(
            block_out_channels=(32, 32, 32, 32), down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4, layers_per_block=2,
        ),
        "text_encoder": text_encoder(49408, 64),
    }  # fmt: skip
    for name in parts or modules:
        state = modules[name].state_dict()
        modules[name].load_state_dict(filled({key: tuple(tensor.shape) for key, tensor in state.items()}))
    for name, module in modules.items():
        module.save_pretrained(folder / name)
    tokenizer(folder / "tokenizer")


def captioner(folder: Path) -> None:
    """Salesforce/blip-image-captioning-base."""
    from transformers import BertTokenizer, BlipConfig, BlipForConditionalGeneration, BlipImageProcessor, BlipProcessor

    torch.manual_seed(3)
    folder.mkdir(parents=True)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *ascii_lowercase, *(f"##{letter}" for letter in ascii_lowercase)]
    (folder / "vocab.txt").write_text("\n".join(words))
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = sizes | {"vocab_size": len(words), "encoder_hidden_size": 32, "bos_token_id": 2, "eos_token_id": 2, "sep_token_id": 3}
    config = BlipConfig(text_config=text | {"pad_token_id": 0}, vision_config=sizes | {"image_size": 32, "patch_size": 16})
    BlipForConditionalGeneration(config).save_pretrained(folder)
    images = BlipImageProcessor(size={"height": 32, "width": 32})
    BlipProcessor(images, BertTokenizer(str(folder / "vocab.txt"))).save_pretrained(folder)
    (folder / "model.safetensors").unlink()
    torch.save(BlipForConditionalGeneration(config).state_dict(), folder / "pytorch_model.bin")
