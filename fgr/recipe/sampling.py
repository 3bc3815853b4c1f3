"""How diffusion models sample: `inference.diffusion` of `fgr generate`, `sampling` of `fgr rlhf`."""

from typing import Literal

from pydantic import Field, field_validator

from fgr.recipe.fields import Strict

AUTO = "auto"  # a prompt that is the model's own
LEAST_TILE = 8  # side of a latent tile


class Sampling(Strict):
    """How a diffusion model samples. null = the model's own default; a setting that a model does not have is passed over."""

    prompt: str | None = Field(
        None,
        description="what the image shows; {tags} and {caption} stand for the words of a tagger (osediff, seesr) and of a "
        "captioner (diffbir) about it; auto or null = as the model's authors have it",
    )
    negative_prompt: str | None = Field(None, description="what it should not look like, where guidance is above 1")
    steps: int | None = Field(None, ge=1, le=1000, description="sampling steps")
    guidance: float | None = Field(None, ge=0, description="classifier-free guidance scale; 1 = none, and half the time")
    noise_level: int | None = Field(None, ge=0, le=350, description="sd-x4-upscaler: noise added to the input before it is shown")
    cfw: float | None = Field(None, ge=0, le=1, description="stablesr: weight w of the input's features in the decoder")
    lambda_pix: float | None = Field(None, ge=0, description="pisasr: weight of the change for pixels; less restores less")
    lambda_sem: float | None = Field(None, ge=0, description="pisasr: weight of the change for meaning; more invents more")
    color_fix: Literal["none", "adain", "wavelet"] | None = Field(None, description="colours of the output from the input")
    latent_tile: int | None = Field(
        None,
        ge=0,
        description="side of the latent tiles that are merged at every step, 8 or more, 0 = whole latents; stablesr "
        "enlarges inputs to fill one",
    )
    latent_overlap: int | None = Field(None, ge=0, description="what neighbouring latent tiles share; below latent_tile")
    chop: int | None = Field(
        None,
        ge=0,
        description="stablesr, resshift, invsr: low-resolution pixels of a side above which inputs are cut into pieces so large, "
        "restored one by one and averaged where they overlap; 0 = never",
    )
    chop_overlap: int | None = Field(None, ge=0, description="low-resolution pixels that neighbouring pieces share; below chop")
    encoder_tile: int | None = Field(
        None,
        ge=0,
        multiple_of=32,
        description="osediff, pisasr, s3diff, seesr: side in pixels of tiles in which the autoencoder encodes what is larger; "
        "0 = whole",
    )
    decoder_tile: int | None = Field(
        None,
        ge=0,
        description="osediff, pisasr, s3diff, seesr: side of the latent tiles in which the autoencoder decodes; 0 = whole",
    )
    captions: str | None = Field(
        None,
        description="diffbir: what {caption} stands for: blip, llava, a folder or ORG/REPOSITORY of another captioner of "
        "transformers, or a table FILE.csv with the columns file and caption",
    )
    start: Literal["auto", "noise", "lr"] | None = Field(
        None,
        description="stablesr: sampling begins with noise, or with the noised input; auto = the authors' script for the size",
    )
    input: Literal["auto", "bilinear", "bicubic"] | None = Field(
        None, description="stablesr: how the input is enlarged; auto = the authors' script for the size"
    )
    eta: float | None = Field(
        None, ge=0, le=1, description="randomness of DDIM's steps: 0 = deterministic, 1 = as much as DDPM's"
    )
    base: str | None = Field(None, description="Stable Diffusion base model: a folder in diffusers layout, or ORG/REPOSITORY")
    seed: int = Field(0, ge=0, description="of the noise; each image's own follows from it and from the input's pixels")

    @field_validator("latent_tile")
    @classmethod
    def _tile(cls, value: int | None) -> int | None:
        if value is not None and 0 < value < LEAST_TILE:
            raise ValueError(f"must be 0 or {LEAST_TILE} and more")
        return value
