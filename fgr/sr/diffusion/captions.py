"""Captions of images: out of a file, or by a captioner of transformers (BLIP, LLaVA and others)."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from fgr.errors import UserError
from fgr.images.arrays import as_images
from fgr.progress import without_loading_bars
from fgr.sr.diffusion import files
from fgr.sr.diffusion.prompts import Words

BLIP = "blip-captioning"  # its folder in the weights folder
KNOWN = {"llava": "llava-hf/llava-1.5-7b-hf"}
QUESTION = "USER: <image>\nPlease give me a very short description of this image. ASSISTANT:"  # what LLaVA is asked
LONGEST = 64  # tokens of a caption
COLUMNS = ("file", "caption")


def open_captions(chosen: str, device: torch.device) -> Words:
    """What captions images: `chosen` is blip, llava, a folder or a repository in the Hub's cache, or a table of captions (.csv).

    UserError: no such captioner here, a table without the columns file and caption.
    """
    if chosen.endswith(".csv"):
        return CaptionFile(Path(chosen).expanduser())
    if chosen != "blip":
        return Captioner(KNOWN.get(chosen, chosen), device)
    found = files.words("diffbir")
    if not found:
        raise UserError(
            "The captioner BLIP, whose words the prompt asks for, is not here.",
            "Fetch it with `fgr models diffbir --fetch`, give captions as a table (captions=FILE.csv), or a prompt without them.",
        )
    return Captioner(str(files.folder_of(found, BLIP)), device)


class CaptionFile:
    """Captions out of a table with the columns file and caption, by the photographs' names without suffix."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                rows = list(csv.DictReader(file))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise UserError(f"The captions in {path} cannot be read ({error}).", "Name a table in UTF-8.") from None
        if not rows or any(row.get(column) is None for row in rows for column in COLUMNS):
            raise UserError(f"{path} is not a table of captions.", "Its first line must be: file,caption – and more must follow.")
        self._captions = {Path(row["file"]).stem: row["caption"].strip() for row in rows}

    def __call__(self, images: torch.Tensor, photos: Sequence[str]) -> list[str]:
        """See `Words`. UserError for a photograph that has none."""
        for photo in photos:
            if Path(photo).name not in self._captions and photo not in self._captions:
                some = ", ".join(list(self._captions)[:3])
                raise UserError(
                    f"{self._path} has no caption for '{photo or 'an image without a name'}'.",
                    f"Its {len(self._captions)} names must be those of the photographs; the first are: {some}.",
                )
        return [self._captions.get(photo, self._captions.get(Path(photo).name, "")) for photo in photos]


class Captioner:
    """An image-to-text model of transformers."""

    @without_loading_bars()
    def __init__(self, place: str, device: torch.device) -> None:
        from transformers import AutoModelForImageTextToText, AutoProcessor

        try:
            self._processor: Any = AutoProcessor.from_pretrained(place, local_files_only=True)
            model: Any = AutoModelForImageTextToText.from_pretrained(place, local_files_only=True)
        except Exception as error:  # configurations and files fail in many ways
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            raise UserError(
                f"There is no captioner {place} here ({reason.rstrip('.')}).",
                "Name a folder, or a repository that `hf download` has brought into the Hub's cache, of an image-to-text model; "
                "captions=blip is small.",
            ) from None
        self._model = model.eval().requires_grad_(False).to(device)
        self._question = QUESTION if str(model.config.model_type).startswith("llava") else None
        self._device = device

    def __call__(self, images: torch.Tensor, photos: Sequence[str]) -> list[str]:
        """See `Words`."""
        return [self._caption(Image.fromarray(one)) for one in as_images(images)]

    def _caption(self, picture: Image.Image) -> str:
        text = {"text": self._question} if self._question else {}
        inputs = self._processor(images=picture, return_tensors="pt", **text).to(self._device)
        found = self._model.generate(**inputs, max_new_tokens=LONGEST, do_sample=False, num_beams=1)
        if self._question:
            found = found[:, inputs["input_ids"].shape[1] :]
        return self._processor.decode(found[0], skip_special_tokens=True).strip()
