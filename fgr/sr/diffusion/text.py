"""Prompts as Stable Diffusion 2 is shown them."""

from pathlib import Path
from typing import Any

import torch

from fgr.errors import UserError
from fgr.sr import weights
from fgr.sr.diffusion.ldm import END_OF_TEXT, START_OF_TEXT, TEXT_LENGTH

TOKENIZERS = ("sd2.1-base/tokenizer", "sd-x4-upscaler/tokenizer")  # in the weights folder; they are the same


def embed(prompts: list[str], encoder: Any, tokenizer: Path | None = None) -> torch.Tensor:
    """float32 (len(prompts), 77, width). The empty prompt needs no tokenizer. UserError if another one finds none."""
    with torch.inference_mode():
        return encoder(torch.tensor([_tokens(prompt, tokenizer) for prompt in prompts])).last_hidden_state.clone()


def _tokens(prompt: str, tokenizer: Path | None) -> list[int]:
    if not prompt:
        return [START_OF_TEXT, END_OF_TEXT] + [0] * (TEXT_LENGTH - 2)
    from transformers import CLIPTokenizer

    folders = [tokenizer] if tokenizer else [weights.folder() / path for path in TOKENIZERS]
    folder = next((one for one in folders if (one / "vocab.json").is_file()), None)
    if folder is None:
        raise UserError(
            f"The prompt '{prompt}' needs a CLIP tokenizer, and none is here.",
            f"Put vocab.json and merges.txt of Stable Diffusion 2.1's tokenizer into {folders[0]}, or leave the prompt empty.",
        )
    words = CLIPTokenizer.from_pretrained(folder)(prompt, truncation=True, max_length=TEXT_LENGTH).input_ids
    return [*words, *[0] * (TEXT_LENGTH - len(words))]
