"""Small diffusion models with random weights, in exactly the files and layouts of the official ones."""

import json
import sys
import types
import unittest.mock
import warnings
from pathlib import Path

import numpy as np
import torch
from recordings import filled, recorded
from safetensors.torch import save_file
from small_pretrained import filled_base, ldm_sr, sd_x4

from bench.random_weights import tokenizer


def image(seed, height=16, width=16):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


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
