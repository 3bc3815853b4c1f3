"""What diffusion models cost before they run: parameters, operations and memory, counted without weights on the meta device.

    python -m bench.cost [NAME…]

Networks of the published sizes are built without memory for their tensors, and PyTorch's FlopCounterMode counts what they do for
one image of 128×128 pixels that becomes 512×512, by each model's own settings; a multiplication and an addition are two
operations. Text encoders count as parameters alone, since they run once. Taggers and captioners are left out, but for the Swin
Transformer whose tokens SeeSR looks at. Memory is that of the parameters in float32 and of the largest layer's input and output,
times what a layer needs beside them. The figures stand in `fgr.sr.costs`.
"""

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel, UNet2DModel, VQModel
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPTextConfig, CLIPTextModel, SwinConfig, SwinModel

from fgr.sr.costs import DIFFUSION_COSTS
from fgr.sr.diffusion.invsr import NoisePredictor
from fgr.sr.diffusion.stablesr_networks import Structure, StructureEncoder, Wrapping
from fgr.sr.diffusion.swin import SwinUNet
from fgr.sr.memory import SLACK

INPUT, LATENT, OUTPUT = 128, 64, 512
WIDTHS = (320, 640, 1280, 1280)


class Part(NamedTuple):
    """A network, what it is called with, and how often for an image; `number` 0 for what only counts as parameters."""

    module: Any
    call: Callable[[Any], Any]
    number: int


def parts(name: str) -> list[Part]:
    """The networks of a model at their published sizes, on the meta device."""
    cost = DIFFUSION_COSTS[name]
    with torch.device("meta"):
        return BUILT[name](cost.steps, 2 if cost.guided else 1)


def counted(name: str) -> tuple[float, float, float]:
    """Millions of parameters, TFLOP for a 512×512 output and GB of memory in float32 of one model."""
    found = parts(name)
    operations, largest = 0.0, 0.0
    with torch.device("meta"), torch.no_grad():
        for part in found:
            if part.number:
                counter = FlopCounterMode(display=False)
                with Largest(part.module) as layers, counter:
                    part.call(part.module)
                operations += counter.get_total_flops() * part.number
                largest = max(largest, layers.bytes)
    modules = {id(part.module): part.module for part in found}
    parameters = sum(one.numel() for module in modules.values() for one in module.parameters())
    return parameters / 1e6, operations / 1e12, (4 * parameters + SLACK * largest) / 1e9


class Largest:
    """The bytes of the largest input and output that a layer of a module has while it runs."""

    def __init__(self, module: Any) -> None:
        self.bytes = 0.0
        self._layers = [one for one in module.modules() if not list(one.children())]

    def __enter__(self) -> "Largest":
        self._hooks = [one.register_forward_hook(self._look) for one in self._layers]
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _look(self, module: Any, inputs: Any, output: Any) -> None:
        tensors = [one for one in [*inputs, output] if isinstance(one, torch.Tensor)]
        self.bytes = max(self.bytes, sum(one.numel() * one.element_size() for one in tensors))


def time() -> torch.Tensor:
    return torch.zeros(1, dtype=torch.long)


def text(width: int = 1024) -> torch.Tensor:
    return torch.empty(1, 77, width)


def sd_unet() -> Any:
    return UNet2DConditionModel(
        block_out_channels=WIDTHS, attention_head_dim=(5, 10, 20, 20), cross_attention_dim=1024, use_linear_projection=True
    )


def sd_control(channels: int = 4) -> Any:
    return ControlNetModel(
        in_channels=channels, block_out_channels=WIDTHS, attention_head_dim=(5, 10, 20, 20), cross_attention_dim=1024,
        use_linear_projection=True,
    )  # fmt: skip


def sd_vae(levels: tuple[int, ...] = (128, 256, 512, 512)) -> Any:
    number = len(levels)
    return AutoencoderKL(
        block_out_channels=levels, down_block_types=("DownEncoderBlock2D",) * number,
        up_block_types=("UpDecoderBlock2D",) * number, layers_per_block=2,
    )  # fmt: skip


def sd_text() -> Part:
    config = CLIPTextConfig(
        vocab_size=49408, hidden_size=1024, intermediate_size=4096, num_hidden_layers=23, num_attention_heads=16
    )
    return Part(CLIPTextModel(config), lambda module: None, 0)


def autoencoder(vae: Any, encoder: int, latent: int, channels: int = 4) -> list[Part]:
    """An image of `encoder` pixels encoded (0: none) and a latent decoded, both once."""
    found = [Part(vae, lambda module: module.decode(torch.empty(1, channels, latent, latent)), 1)]
    return [Part(vae, lambda module: module.encode(torch.empty(1, 3, encoder, encoder)), 1), *found] if encoder else found


def called(unet: Any, side: int, number: int, channels: int = 4, **more: Any) -> Part:
    return Part(unet, lambda module: module(torch.empty(1, channels, side, side), time(), text(), **more), number)


def stablesr(side: int) -> Callable[[int, int], list[Part]]:
    """At a latent of `side`: the structure encoder once a step, the UNet for each prompt."""

    def built(steps: int, prompts: int) -> list[Part]:
        structure, unet, vae = Structure(), sd_unet(), sd_vae()
        structure.attach(unet, 256)
        vae.wrapping = Wrapping(vae, 0.5)
        encoder = StructureEncoder(4, (256, 256, 512, 512), 256)

        def run(module: Any) -> None:
            structure.features = {(side >> i, side >> i): torch.empty(1, 256, side >> i, side >> i) for i in range(4)}
            module(torch.empty(1, 4, side, side), time(), text())

        return [
            *autoencoder(vae, 8 * side, side), sd_text(), Part(unet, run, steps * prompts),
            Part(encoder, lambda module: module(torch.empty(1, 4, side, side), time()), steps),
        ]  # fmt: skip

    return built


def resshift(steps: int, prompts: int) -> list[Part]:
    unet = SwinUNet(6, 3, (160, 320, 320, 640), (192, 6, 8, 768))
    shapes = [(1, 3, INPUT, INPUT)] * 2
    return [
        Part(unet, lambda module: module(torch.empty(shapes[0]), time(), torch.empty(shapes[1])), steps),
        *autoencoder(vq(8192), OUTPUT, INPUT, 3),
    ]


def vq(codes: int) -> Any:
    return VQModel(
        block_out_channels=(128, 256, 512), down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3, layers_per_block=2, latent_channels=3, num_vq_embeddings=codes,
    )  # fmt: skip


def osediff(steps: int, prompts: int) -> list[Part]:
    return [called(sd_unet(), LATENT, steps), *autoencoder(sd_vae(), OUTPUT, LATENT), sd_text()]


def invsr(steps: int, prompts: int) -> list[Part]:
    predictor = NoisePredictor((256, 512), (3, 3), 512)
    return [*osediff(steps * prompts, 1), Part(predictor, lambda module: module(torch.empty(1, 3, INPUT, INPUT), time()), 1)]


def s3diff(steps: int, prompts: int) -> list[Part]:
    """Without the low-rank changes, which are not merged here as they are elsewhere: a percent of the parameters."""
    return osediff(steps * prompts, 1)


def diffbir(cleaner: Callable[[], Part]) -> Callable[[int, int], list[Part]]:
    def built(steps: int, prompts: int) -> list[Part]:
        control = sd_control(8)
        control.controlnet_cond_embedding = Nothing()
        return [
            cleaner(), called(control, LATENT, steps * prompts, 8, controlnet_cond=torch.empty(1)),
            called(sd_unet(), LATENT, steps * prompts), *autoencoder(sd_vae(), OUTPUT, LATENT), sd_text(),
        ]  # fmt: skip

    return built


class Nothing(torch.nn.Module):
    def forward(self, condition: torch.Tensor) -> float:
        return 0.0


def swinir() -> Part:
    from spandrel.architectures.SwinIR import SwinIR

    with torch.device("cpu"):  # it computes its masks
        module = SwinIR(
            img_size=64, embed_dim=180, depths=[6] * 8, num_heads=[6] * 8, window_size=8, mlp_ratio=2, upscale=8, img_range=1.0,
            upsampler="nearest+conv", resi_connection="1conv", start_unshuffle=8,
        )  # fmt: skip
    return Part(module.to("meta"), lambda network: network(torch.empty(1, 3, OUTPUT, OUTPUT)), 1)


def bsrnet() -> Part:
    from spandrel.architectures.ESRGAN import ESRGAN

    return Part(ESRGAN(), lambda network: network(torch.empty(1, 3, INPUT, INPUT)), 1)


def seesr(steps: int, prompts: int) -> list[Part]:
    unet, control = seeing(sd_unet()), seeing(sd_control())
    tokens = SwinModel(SwinConfig(image_size=384, embed_dim=192, depths=[2, 2, 18, 2], num_heads=[6, 12, 24, 48], window_size=12))
    return [
        called(unet, LATENT, steps * prompts), *autoencoder(sd_vae(), OUTPUT, LATENT), sd_text(),
        called(control, LATENT, steps * prompts, controlnet_cond=torch.empty(1, 3, OUTPUT, OUTPUT)),
        Part(tokens, lambda module: module(torch.empty(1, 3, 384, 384)), 1),
    ]  # fmt: skip


def seeing(network: Any) -> Any:
    """With an attention to an image's 512-wide tokens after each attention to the text."""
    for block in [*network.down_blocks, network.mid_block, *getattr(network, "up_blocks", [])]:
        for attention in getattr(block, "attentions", []):
            beside = type(attention)(**{**attention.config, "cross_attention_dim": 512})
            attention.beside = beside
            attention.register_forward_hook(
                lambda module, inputs, output, beside=beside: beside(
                    output[0], encoder_hidden_states=torch.empty(1, 145, 512), return_dict=False
                )
            )
    return network


def sd_x4(steps: int, prompts: int) -> list[Part]:
    unet = UNet2DConditionModel(
        in_channels=7, block_out_channels=(256, 512, 512, 1024), attention_head_dim=8, cross_attention_dim=1024,
        down_block_types=("DownBlock2D", *("CrossAttnDownBlock2D",) * 3), num_class_embeds=1000, use_linear_projection=True,
        up_block_types=(*("CrossAttnUpBlock2D",) * 3, "UpBlock2D"), only_cross_attention=(True, True, True, False),
    )  # fmt: skip
    return [
        called(unet, INPUT, steps * prompts, 7, class_labels=time()),
        *autoencoder(sd_vae((128, 256, 512)), 0, INPUT), sd_text(),
    ]  # fmt: skip


def ldm_sr(steps: int, prompts: int) -> list[Part]:
    unet = UNet2DModel(
        in_channels=6, out_channels=3, block_out_channels=(160, 320, 320, 640), attention_head_dim=32,
        down_block_types=(*("DownBlock2D",) * 3, "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", *("UpBlock2D",) * 3),
    )  # fmt: skip
    run = Part(unet, lambda module: module(torch.empty(1, 6, INPUT, INPUT), time()), steps)
    return [run, *autoencoder(vq(8192), 0, INPUT, 3)]


BUILT: dict[str, Callable[[int, int], list[Part]]] = {
    "sd-x4-upscaler": sd_x4, "ldm-sr": ldm_sr, "stablesr": stablesr(LATENT), "stablesr-turbo": stablesr(LATENT),
    "stablesr-768": stablesr(96), "resshift": resshift, "resshift-s4": resshift, "resshift-bicubic": resshift, "sinsr": resshift,
    "osediff": osediff, "pisasr": osediff, "invsr": invsr, "s3diff": s3diff, "diffbir": diffbir(swinir),
    "diffbir-v2": diffbir(bsrnet), "seesr": seesr,
}  # fmt: skip


def main() -> None:
    print("| model | M parameters | TFLOP | GB in fp32 |\n|---|---|---|---|")
    for name in sys.argv[1:] or DIFFUSION_COSTS:
        million, teraflop, gigabytes = counted(name)
        print(f"| {name} | {million:,.0f} | {teraflop:,.1f} | {gigabytes:.1f} |", flush=True)


if __name__ == "__main__":
    main()
