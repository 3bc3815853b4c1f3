"""The text that a model is shown: tokens, embeddings, and words that follow from each image."""

import html
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from fgr.errors import UserError, notice
from fgr.sr import weights

START_OF_TEXT, END_OF_TEXT, TEXT_LENGTH = 49406, 49407, 77
TOKENIZERS = ("sd2.1-base/tokenizer", "sd-x4-upscaler/tokenizer")  # in the weights folder; they are the same
TAGS, CAPTION = "{tags}", "{caption}"  # in a prompt: a tagger's words, a captioner's
STRAIGHT = str.maketrans({"\u201c": '"', "\u201d": '"', "\u2018": "'", "\u2019": "'"})  # quotation marks

Embed = Callable[[list[str]], torch.Tensor]  # n prompts → (n, 77, width)
Words = Callable[[torch.Tensor, Sequence[str]], list[str]]  # inputs (B, 3, h, w) in [0, 1], their photographs' names → B texts


class Prompts:
    """The prompts of a model: one for all images, or with the words of a tagger or a captioner for each.

    `opened` gives what embeds text. It is used at once for the prompts that are known, and again, kept from then on, when others
    come up. `guided` says whether the negative prompt counts.
    """

    def __init__(
        self, settings: Mapping[str, Any], opened: Callable[[], Embed], device: torch.device, *, guided: bool = True,
        words: Words | None = None,
    ) -> None:  # fmt: skip
        self.template, self._negative = str(settings["prompt"]), str(settings.get("negative_prompt", ""))
        self._opened, self._device, self._words = opened, device, words
        self._guided = guided
        self._embed: Embed | None = opened() if self.follows_image else None
        self._known: dict[str, torch.Tensor] = {}
        self._remember(([self._negative] if guided else []) + ([] if self.follows_image else [self.template]))
        if not self.follows_image:
            self._embed = None  # gigabytes that may not be needed again

    @property
    def follows_image(self) -> bool:
        """Whether the prompt has words in it that follow from the image."""
        return asks_for_words(self.template)

    def of(self, images: torch.Tensor, photos: Sequence[str]) -> list[str]:
        """The prompt of each of the inputs (B, 3, h, w) in [0, 1]; `photos` are their photographs' names."""
        if not self.follows_image:
            return [self.template] * len(images)
        assert self._words is not None
        with torch.no_grad():
            return [filled(self.template, words) for words in self._words(images, photos)]

    def embedded(self, prompts: Sequence[str]) -> torch.Tensor:
        """(B, 77, width) of B prompts, on the model's device."""
        self._remember(list(prompts))
        return torch.stack([self._known[prompt] for prompt in prompts])

    @property
    def negative(self) -> torch.Tensor | None:
        """(1, 77, width) of the negative prompt; None where it does not count."""
        return self._known[self._negative][None] if self._guided else None

    def _remember(self, prompts: list[str]) -> None:
        unknown = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._known]
        if not unknown:
            return
        self._embed = self._embed or self._opened()
        if len(self._known) > 100:  # words of images come and go
            self._known = {key: value for key, value in self._known.items() if key == self._negative}
            unknown = list(dict.fromkeys(prompts))
        self._known |= dict(zip(unknown, self._embed(unknown).to(self._device), strict=True))


def asks_for_words(prompt: str) -> bool:
    """Whether a prompt has words in it that follow from the image."""
    return TAGS in prompt or CAPTION in prompt


def filled(prompt: str, words: str) -> str:
    """The prompt with words in their place. Tags are put in as they are; where there is no caption its comma goes too."""
    if CAPTION in prompt and not words:
        return prompt.replace(f"{CAPTION}, ", "").replace(CAPTION, "")
    return prompt.replace(TAGS, words).replace(CAPTION, words)


def embed(prompts: list[str], encoder: Any, reader: "Reader") -> torch.Tensor:
    """float32 (len(prompts), 77, width). UserError as `Reader` says."""
    with torch.no_grad():  # not inference mode: gradients go through networks that are shown the text
        device = next(encoder.parameters()).device
        return encoder(torch.tensor([reader.tokens(prompt) for prompt in prompts], device=device)).last_hidden_state


class Reader:
    """Reads prompts as 77 tokens, `cleaned` as open_clip does, otherwise as transformers does.

    `folder` is that of the tokenizer; without it one of the weights folder is taken. The empty prompt needs none, and UserError
    says so if another one finds none.
    """

    def __init__(self, folder: Path | None = None, cleaned: bool = False) -> None:
        self._folder, self._cleaned = folder, cleaned
        self._tokenizer: Any = None

    def tokens(self, prompt: str) -> list[int]:
        """77 tokens of a prompt. If there are more they are cut, which is said."""
        if not prompt:
            return [START_OF_TEXT, END_OF_TEXT] + [0] * (TEXT_LENGTH - 2)
        if self._tokenizer is None:
            self._tokenizer = (_open_clips if self._cleaned else _transformers)(_folder(prompt, self._folder))
        read = self._tokenizer(_clean(prompt) if self._cleaned else prompt).input_ids
        if len(read) > TEXT_LENGTH:
            cut = f"A prompt of {len(read) - 2} tokens is cut: the text encoder takes {TEXT_LENGTH - 2} ('{prompt[:60]}…')."
            notice(cut)
            read = [*read[: TEXT_LENGTH - 1], read[-1]]
        return [*read, *[0] * (TEXT_LENGTH - len(read))]


def _folder(prompt: str, folder: Path | None) -> Path:
    folders = [folder] if folder else [weights.folder() / path for path in TOKENIZERS]
    found = next((one for one in folders if (one / "vocab.json").is_file()), None)
    if found is None:
        raise UserError(
            f"The prompt '{prompt}' needs a CLIP tokenizer, which is not available.",
            f"Fetch it with `fgr models NAME --fetch`, put vocab.json and merges.txt of Stable Diffusion 2.1's tokenizer into "
            f"{folders[0]}, or leave the prompt empty.",
        )
    return found


def _transformers(folder: Path) -> Any:
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(folder)


def _open_clips(folder: Path) -> Any:
    """The tokenizer without the special meaning that Stable Diffusion 2's files give to an exclamation mark."""
    from transformers import CLIPTokenizer

    lines = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()
    pairs: Any = [tuple(line.split()) for line in lines if line and not line.startswith("#version")]
    return CLIPTokenizer(vocab=json.loads((folder / "vocab.json").read_text(encoding="utf-8")), merges=pairs)


def _clean(text: str) -> str:
    """Entities resolved (twice: some are written as entities of entities), straight quotation marks, single spaces."""
    return re.sub(r"\s+", " ", html.unescape(html.unescape(text))).translate(STRAIGHT).strip().lower()
