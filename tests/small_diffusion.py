"""Small diffusion models with random weights, in exactly the files and layouts of the official ones."""

import hashlib
import json
import sys
import types
import unittest.mock
import warnings
from pathlib import Path
from string import ascii_lowercase

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, DDPMScheduler, UNet2DConditionModel, UNet2DModel, VQModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel
from transformers.utils import logging

from bench.random_weights import tokenizer

logging.disable_progress_bar()


def image(seed, height=16, width=16):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


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


def filled(shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """Weights that follow from their names and shapes alone, of the size that keeps activations in range."""
    return {name: _filled(name, tuple(shape)) for name, shape in shapes.items()}


def _filled(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    rng = np.random.default_rng(list(hashlib.sha256(name.encode()).digest()[:8]))
    values = rng.standard_normal(shape, np.float32)
    if len(shape) > 1:
        return torch.from_numpy(values * np.float32(0.7 / np.sqrt(np.prod(shape[1:]))))
    return torch.from_numpy(np.asarray(values * np.float32(0.1) + np.float32(name.endswith("weight"))))  # 1 ± 0.1 for norms


class recorded:
    """Numbers recorded from a published implementation."""

    def __init__(self, name: str) -> None:
        self._arrays = dict(np.load(Path(__file__).parent / "data" / name))

    def __getitem__(self, key: str) -> np.ndarray:
        return self._arrays[key]

    def shapes(self, key: str) -> dict[str, tuple[int, ...]]:
        """The names and shapes of a state dict."""
        pairs = (line.partition(" ") for line in self._arrays[key].tolist())
        return {name: tuple(int(side) for side in shape.split(",") if side) for name, _, shape in pairs}

    def expect(self, key: str, found: torch.Tensor, close: float = 1e-4, index: int | None = None) -> None:
        expected = self._arrays[key] if index is None else self._arrays[key][index]
        assert found.shape == expected.shape
        assert np.abs(found.numpy() - expected).max() < close, key


def stablesr(folder: Path, main: str = "stablesr_000117.ckpt", wrapped: str = "vqgan_cfw_00011.ckpt") -> None:
    """Iceclear/StableSR: Lightning's files, with a callback's class, the schedule's buffers and a loss."""
    reference = recorded("stablesr_reference.npz")
    autoencoder = filled(reference.shapes("wrapped_keys"))
    names, prefix = reference.shapes("main_keys"), "first_stage_model."
    own = {name: autoencoder[name.removeprefix(prefix)] for name in names if name.startswith(prefix)}
    state = filled({name: shape for name, shape in names.items() if name not in own}) | own
    state |= {name: torch.zeros(shape) for name, shape in reference.shapes("buffers").items()}
    callback = type("ModelCheckpoint", (), {"__module__": "pytorch_lightning.callbacks.model_checkpoint"})
    modules = ("pytorch_lightning", "pytorch_lightning.callbacks", callback.__module__)
    with unittest.mock.patch.dict(sys.modules, {name: types.ModuleType(name) for name in modules}):
        sys.modules[callback.__module__].ModelCheckpoint = callback
        torch.save({"state_dict": state, "global_step": 117, "callbacks": {callback: {"best": None}}}, folder / main)
    torch.save({"state_dict": autoencoder | {"loss.discriminator.main.0.weight": torch.zeros(4, 3, 4, 4)}}, folder / wrapped)


def stablesr_768(folder: Path) -> None:
    """The same networks under another name, and a tokenizer for the negative prompt."""
    stablesr(folder, "stablesr_768v_000139.ckpt")
    tokenizer(folder / "sd2.1-base" / "tokenizer")


def resshift(folder: Path, main: str = "resshift_realsrx4_s15_v2.pth", prefix: str = "module.") -> None:
    """The release of zsyOAOA/ResShift."""
    from fgr.sr.diffusion.swin import swin_unet

    reference = recorded("resshift_reference.npz")
    shapes = reference.shapes("unet_keys")
    state = filled({name: shape for name, shape in shapes.items() if not name.endswith(("attn_mask", "position_index"))})
    fixed = swin_unet(state).state_dict()
    torch.save({"state_dict": {f"{prefix}{name}": state.get(name, fixed[name]) for name in shapes}}, folder / main)
    torch.save(filled(reference.shapes("vq_keys")), folder / "autoencoder_vq_f4.pth")


def base(folder: Path) -> None:
    """Stable Diffusion 2.1 base."""
    torch.manual_seed(2)
    UNet2DConditionModel(
        block_out_channels=(64, 64, 64, 64), attention_head_dim=(1, 1, 1, 1), cross_attention_dim=64, use_linear_projection=True
    ).save_pretrained(folder / "unet")
    AutoencoderKL(
        block_out_channels=(32, 32, 32, 32), down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4, layers_per_block=2,
    ).save_pretrained(folder / "vae")  # fmt: skip
    tokenizer(folder / "tokenizer")
    text_encoder(49408, 64).save_pretrained(folder / "text_encoder")


def filled_base(folder: Path, *parts: str) -> None:
    """The base with weights that follow from their names in these parts, by default in all."""
    base(folder)
    kinds = {"unet": UNet2DConditionModel, "vae": AutoencoderKL, "text_encoder": CLIPTextModel}
    for part in parts or kinds:
        module = kinds[part].from_pretrained(folder / part)
        module.load_state_dict(filled({name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}))
        module.save_pretrained(folder / part)


def pisasr(folder: Path) -> None:
    """csslc/PiSA-SR's file, and the base that it stands on."""
    filled_base(folder / "sd2.1-base")
    tensors = filled(recorded("pisasr_reference.npz").shapes("adapters"))
    torch.save({"lora_rank_unet_pix": 4, "lora_rank_unet_sem": 4, "state_dict_unet": tensors}, folder / "pisa_sr.pkl")


def invsr(folder: Path) -> None:
    """OAOA/InvSR's file, and SD-Turbo."""
    filled_base(folder / "sd-turbo")
    torch.save(filled(recorded("invsr_reference.npz").shapes("predictor_keys")), folder / "noise_predictor_sd_turbo_v5.pth")


def s3diff(folder: Path) -> None:
    """zhangap/S3Diff's file, the degradation estimator, and SD-Turbo."""
    filled_base(folder / "sd-turbo")
    reference = recorded("s3diff_reference.npz")
    torch.save(filled(reference.shapes("degradation_keys")), folder / "de_net.pth")
    content: dict = {"rank_unet": 8, "rank_vae": 4}
    for name, tensor in filled(reference.shapes("keys")).items():
        *parts, last = name.split("/")
        inside = content
        for part in parts:
            inside = inside.setdefault(part, {})
        inside[last] = tensor
    torch.save(content, folder / "s3diff.pkl")


def osediff(folder: Path) -> None:
    """cswry/OSEDiff's file, and the base that it stands on."""
    filled_base(folder / "sd2.1-base")
    reference = recorded("osediff_reference.npz")
    content = {
        "rank_unet": 4, "rank_vae": 4, "state_dict_unet": filled(reference.shapes("unet_adapters")),
        "state_dict_vae": filled(reference.shapes("vae_adapters")),
    }  # fmt: skip
    lists = ("vae_lora_encoder_modules", *(f"unet_lora_{place}_modules" for place in ("encoder", "decoder", "others")))
    torch.save(content | {name: reference[name].tolist() for name in lists}, folder / "osediff.pkl")
    tagger(folder)


def tagger(folder: Path) -> None:
    """RAM, DAPE and the tags."""
    reference = recorded("seesr_reference.npz")
    state = filled(reference.shapes("ram_keys") | reference.shapes("head_keys"))
    torch.save({"model": {name: one for name, one in state.items() if "lora_" not in name}}, folder / "ram_swin_large_14m.pth")
    torch.save({name: one for name, one in state.items() if "lora_" in name}, folder / "DAPE.pth")
    (folder / "ram_tag_list.txt").write_text("\n".join(reference["tag_names"]))
    (folder / "ram_tag_list_threshold.txt").write_text("\n".join(reference["tag_thresholds"]))


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


def diffbir(folder: Path) -> None:
    """lxq007/DiffBIR-v2, and the base's tokenizer."""
    from spandrel.architectures.SwinIR import SwinIR

    reference = recorded("diffbir_reference.npz")
    torch.save({"state_dict": filled(reference.shapes("main_keys"))}, folder / "sd2.1-base-zsnr-laionaes5.ckpt")
    torch.save(filled(reference.shapes("control_keys")), folder / "DiffBIR_v2.1.pt")
    shapes = reference.shapes("cleaner_keys")
    state = filled({name: shape for name, shape in shapes.items() if not name.endswith(("attn_mask", "position_index"))})
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.meshgrid", UserWarning)
        fixed = SwinIR(
            img_size=64, embed_dim=12, depths=[2, 2], num_heads=[2, 2], window_size=8, mlp_ratio=2, upscale=8, img_range=1.0,
            upsampler="nearest+conv", resi_connection="1conv", start_unshuffle=8,
        ).state_dict()  # fmt: skip
    torch.save({name: state.get(name, fixed.get(name)) for name in shapes}, folder / "realesrgan_s4_swinir_100k.pth")
    tokenizer(folder / "sd2.1-base" / "tokenizer")


def diffbir_2(folder: Path) -> None:
    """DiffBIR 2, on a base of the same weights as those of `diffbir`."""
    from fgr.sr.diffusion.loading import ldm_text_encoder, ldm_unet, ldm_vae

    reference = recorded("diffbir_reference.npz")
    torch.save(filled(reference.shapes("control_keys")), folder / "v2.pth")
    torch.save(filled(reference.shapes("bsrnet_keys")), folder / "BSRNet.pth")
    state, base = filled(reference.shapes("main_keys")), folder / "sd2.1-base"
    for name, module in (("unet", ldm_unet), ("vae", ldm_vae), ("text_encoder", ldm_text_encoder)):
        module(state, folder).save_pretrained(base / name)
    if not (base / "tokenizer").is_dir():
        tokenizer(base / "tokenizer")


SEESR = {  # sizes of its networks here
    "block_out_channels": (64, 64, 64, 64), "attention_head_dim": (1, 1, 1, 1), "cross_attention_dim": 64,
    "use_linear_projection": True, "down_block_types": [*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"],
    "use_image_cross_attention": True,
}  # fmt: skip


def seesr(folder: Path) -> None:
    """CSWRY/SeeSR, RAM, and the base without its UNet."""
    reference = recorded("seesr_reference.npz")
    for part, key, more in (
        ("unet", "unet_keys", {"up_block_types": ["UpBlock2D", *["CrossAttnUpBlock2D"] * 3]}),
        ("controlnet", "control_keys", {"conditioning_embedding_out_channels": (16, 16, 16, 16)}),
    ):
        (folder / "seesr" / part).mkdir(parents=True)
        (folder / "seesr" / part / "config.json").write_text(json.dumps(SEESR | more))
        save_file(filled(reference.shapes(key)), folder / "seesr" / part / "diffusion_pytorch_model.safetensors")
    tagger(folder)
    filled_base(folder / "sd2.1-base", "vae", "text_encoder")


SMALL = {  # model → what puts its files into a weights folder
    "sd-x4-upscaler": lambda folder: sd_x4(folder / "sd-x4-upscaler"),
    "ldm-sr": lambda folder: ldm_sr(folder / "ldm-sr"),
    "stablesr": stablesr,
    "resshift": resshift,
    "osediff": osediff,
    "pisasr": pisasr,
    "invsr": invsr,
    "s3diff": s3diff,
    "diffbir": diffbir,
    "diffbir-v2": diffbir_2,
    "seesr": seesr,
    "resshift-s4": lambda folder: resshift(folder, "resshift_realsrx4_s4_v3.pth"),
    "resshift-bicubic": lambda folder: resshift(folder, "resshift_bicsrx4_s4.pth"),
    "sinsr": lambda folder: resshift(folder, "SinSR_v1.pth"),
    "stablesr-768": lambda folder: stablesr_768(folder),
    "stablesr-turbo": lambda folder: stablesr(folder, "stablesr_turbo.ckpt"),
}


def show_less(monkeypatch) -> None:
    """The small networks need not see 512 pixels."""
    from fgr.sr.diffusion.diffbir import DiffBIR
    from fgr.sr.diffusion.invsr import InvSR
    from fgr.sr.diffusion.osediff import OSEDiff
    from fgr.sr.diffusion.seesr import SeeSR

    for kind in (DiffBIR, InvSR, OSEDiff, SeeSR):
        monkeypatch.setattr(kind, "least", 128)


def restored(name: str, pixels: np.ndarray, settings: dict) -> np.ndarray:
    """What the diffusion upscaler of that name makes of an image."""
    from fgr.sr import Job, open_upscaler

    return open_upscaler(name, scale=4, diffusion=settings).upscale([Job(pixels, "", pixels.shape[:2], (0, 0, 0))])[0]
