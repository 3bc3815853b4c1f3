"""Loading networks of diffusion models: diffusers folders, checkpoints of the latent diffusion code.

Checkpoints of the latent diffusion code hold Stable Diffusion 2 networks in a key layout of their own. Sizes follow from the
tensors' shapes; what Stable Diffusion 2 fixes is fixed here: four levels of two blocks, heads of 64.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from fgr.errors import UserError, notice
from fgr.progress import without_loading_bars
from fgr.sr.diffusion.prompts import END_OF_TEXT, START_OF_TEXT, TEXT_LENGTH

State = Mapping[str, torch.Tensor]

HEAD = 64
UNET, VAE, TEXT = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.model."
LATENT_SCALE = 0.18215


@without_loading_bars()
def part(kind: Any, folder: Path, name: str) -> Any:
    """A module from its subfolder. UserError if that is damaged, of another architecture, or not whole."""
    import diffusers

    verbosity = diffusers.utils.logging.get_verbosity()
    diffusers.utils.logging.set_verbosity(50)  # it takes for an error every .bin file that is no .safetensors
    hint = f"Move {folder / name} away and fetch it again."
    try:
        module, info = kind.from_pretrained(folder / name, local_files_only=True, output_loading_info=True)
    except Exception as error:  # configurations and files fail in many ways
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise UserError(f"{folder / name} holds no {kind.__name__} ({reason.rstrip('.')}).", hint) from None
    finally:
        diffusers.utils.logging.set_verbosity(verbosity)
    wrong = [str(key) for kind_ in ("missing_keys", "unexpected_keys", "mismatched_keys") for key in info[kind_]]
    wrong = [key for key in wrong if not key.endswith("position_ids")]  # a constant that older files carry along
    if wrong:
        raise UserError(f"{folder / name} does not match its config.json: tensor {wrong[0]} and {len(wrong) - 1} others.", hint)
    return module.eval().requires_grad_(False)


def base_parts(folder: Path) -> dict[str, Callable[[], Any]]:
    """What opens the parts of Stable Diffusion 2.1 base: unet, vae and text_encoder, the last without its last layer."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel

    kinds = {"unet": UNet2DConditionModel, "vae": AutoencoderKL, "text_encoder": CLIPTextModel}
    return {name: partial(part, kind, folder, name) for name, kind in kinds.items()}


def load_strictly(module: Any, state: dict[str, Any], what: str, file: Path) -> Any:
    """Load `state` into a torch module; return the module. UserError unless keys and shapes are exactly the module's."""
    own = module.state_dict()
    missing, foreign = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    bent = sorted(key for key in own.keys() & state.keys() if own[key].shape != state[key].shape)
    if missing or foreign or bent:
        kinds = (("missing", missing), ("unknown", foreign), ("of another shape", bent))
        listed = "; ".join(f"{len(keys)} {kind} (first {keys[0]})" for kind, keys in kinds if keys)
        raise UserError(f"{file} does not hold {what}: tensors {listed}.", "Put the right file in its place.")
    module.load_state_dict(state)
    return module.eval().requires_grad_(False)


def ldm_unet(state: State, file: Path, attach: Callable[[Any], None] | None = None) -> Any:
    """The UNet of a checkpoint's `model.diffusion_model.`, whole; `attach` adds submodules that hang under its blocks."""
    from diffusers import UNet2DConditionModel
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    with expecting(file, "a Stable Diffusion 2 UNet"):
        channels = tuple(state[f"{UNET}input_blocks.{3 * i + 1}.0.out_layers.3.weight"].shape[0] for i in range(4))
        module: Any = UNet2DConditionModel(
            in_channels=state[f"{UNET}input_blocks.0.0.weight"].shape[1], out_channels=state[f"{UNET}out.2.weight"].shape[0],
            block_out_channels=channels, attention_head_dim=tuple(max(1, one // HEAD) for one in channels),
            cross_attention_dim=state[f"{UNET}input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"].shape[1],
            use_linear_projection=True,
        )  # fmt: skip
    if attach is not None:
        attach(module)
    own = {key: value for key, value in state.items() if key.startswith(UNET)}
    converted = convert_ldm_unet_checkpoint(own, dict(module.config))
    expect_all_taken(own, converted, "a Stable Diffusion 2 UNet", file)
    return load_strictly(module, converted, "a Stable Diffusion 2 UNet", file)


def ldm_vae(state: State, file: Path, prefix: str = VAE) -> Any:
    """The variational autoencoder of a checkpoint, whole."""
    from diffusers import AutoencoderKL
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    own = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    with expecting(file, "an autoencoder of Stable Diffusion"):
        channels = tuple(own[f"encoder.down.{i}.block.1.conv2.weight"].shape[0] for i in range(4))
        module: Any = AutoencoderKL(
            block_out_channels=channels, down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2, latent_channels=own["post_quant_conv.weight"].shape[1], scaling_factor=LATENT_SCALE,
        )  # fmt: skip
        converted = convert_ldm_vae_checkpoint(own, dict(module.config))
    expect_all_taken(own, converted, "an autoencoder of Stable Diffusion", file)
    return load_strictly(module, converted, "an autoencoder of Stable Diffusion", file)


def ldm_text_encoder(state: State, file: Path) -> Any:
    """The OpenCLIP text encoder of a checkpoint without its last layer, which Stable Diffusion 2 does not use."""
    from diffusers.loaders.single_file_utils import convert_open_clip_checkpoint
    from transformers import CLIPTextConfig, CLIPTextModel

    layers = 1 + max((int(key.split(".")[4]) for key in state if key.startswith(f"{TEXT}transformer.resblocks.")), default=0)
    last = f"{TEXT}transformer.resblocks.{layers - 1}."
    own = {key: value for key, value in state.items() if key.startswith(TEXT) and not key.startswith(last)}
    with expecting(file, "an OpenCLIP text encoder"):
        words, width = own[f"{TEXT}token_embedding.weight"].shape
        module = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=words, hidden_size=width, num_hidden_layers=layers - 1, num_attention_heads=max(1, width // HEAD),
                intermediate_size=own[f"{TEXT}transformer.resblocks.0.mlp.c_fc.weight"].shape[0], hidden_act="gelu",
                max_position_embeddings=TEXT_LENGTH, bos_token_id=START_OF_TEXT, eos_token_id=END_OF_TEXT,
            )
        )  # fmt: skip
        converted = convert_open_clip_checkpoint(module, own, prefix=TEXT)
    flat = "text_model." not in next(iter(module.state_dict()))
    names = {key.removeprefix("text_model.") if flat else key: value for key, value in converted.items()}
    names = {key: value for key, value in names.items() if key != "text_projection.weight"}
    return load_strictly(module, names, "an OpenCLIP text encoder", file)


def expect_all_taken(own: State, converted: State, what: str, file: Path) -> None:
    """The converters pass over names that they do not know: UserError if they did."""
    taken = {tensor.data_ptr() for tensor in converted.values()}
    left = [name for name, tensor in own.items() if tensor.data_ptr() not in taken]
    if left:
        raise UserError(
            f"{file} does not hold {what}: tensors {len(left)} unknown (first {left[0]}).", "Put the right file in its place."
        )


@contextlib.contextmanager
def expecting(file: Path, what: str) -> Iterator[None]:
    """Turns a tensor that is not there into a sentence."""
    try:
        yield
    except KeyError as error:
        message = f"{file} does not hold {what}: there is no tensor {error.args[0]}."
        raise UserError(message, "Put the right file in its place.") from None


def expect_steps(steps: int, what: str) -> None:
    """UserError for a single step where the schedule's only time would be its cleanest: noise would pass for almost clean."""
    if steps < 2:
        raise UserError(f"{what} needs 2 steps or more, but steps={steps} was requested.", "Leave steps out, or raise it.")


def expect_one_step(steps: int, what: str) -> None:
    """UserError for more steps than the one that a model was tuned to restore in."""
    if steps != 1:
        raise UserError(f"{what} has one step, but steps={steps} was requested.", "Leave steps out, or set it to 1.")


def again_in_float32(module: Any, what: str) -> None:
    """Let `module` run once more in float32 whenever its output under autocast holds NaN or infinity; say so the first time."""
    reported = False

    def check(module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor | None:
        nonlocal reported
        kind = output.device.type
        if not torch.is_autocast_enabled(kind) or torch.isfinite(output).all():
            return None
        if not reported:
            notice(f"{what} overflows in this precision; it runs again in fp32 where it does.")
            reported = True
        with torch.autocast(kind, enabled=False):
            return module.forward(*(one.float() if isinstance(one, torch.Tensor) else one for one in inputs))

    module.register_forward_hook(check)
