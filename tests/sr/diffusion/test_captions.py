"""Captions of images in DiffBIR's prompt: by a captioner of transformers, or out of a table."""

import pytest
import torch
from small_diffusion import image
from small_pretrained import captioner

from fgr.errors import UserError
from fgr.sr import Job, open_upscaler
from fgr.sr.diffusion.captions import open_captions

MODELS = ("diffbir",)
SMALL = {"steps": 2, "negative_prompt": "blur", "guidance": 1.0}


def job(seed, photo):
    return Job(image(seed, 32, 32), photo, (32, 32), (0, 0, 0))


def test_blips_words_go_before_the_prompt(copied):
    with pytest.raises(UserError, match=r"BLIP, whose words the prompt asks for, is not here.\n.*fgr models diffbir --fetch"):
        open_upscaler("diffbir", scale=4, diffusion=SMALL)
    captioner(copied / "blip-captioning")
    upscaler = open_upscaler("diffbir", scale=4, diffusion=SMALL)
    upscaler.upscale([job(0, "")])
    prompt = upscaler.settings()["diffusion"]["prompt"]
    words, _, rest = prompt.partition(", Cinematic, High Contrast")
    assert words
    assert set(words) <= set("abcdefghijklmnopqrstuvwxyz# ")
    assert rest.endswith("without deformations.")


def test_a_captioner_by_its_folder(tmp_path, capsys):
    captioner(tmp_path / "own")
    ask = open_captions(str(tmp_path / "own"), torch.device("cpu"))
    first, second = ask(torch.rand(2, 3, 20, 30, generator=torch.Generator().manual_seed(0)), ["", ""])
    assert first == ask(torch.rand(1, 3, 20, 30, generator=torch.Generator().manual_seed(0)), [""])[0]
    assert isinstance(second, str)
    with pytest.raises(UserError, match=r"There is no captioner .*nowhere here"):
        open_captions(str(tmp_path / "nowhere"), torch.device("cpu"))


def test_a_table_of_captions(folder, tmp_path):
    table = tmp_path / "captions.csv"
    table.write_text("file,caption\ncat.png,a cat\nroof.jpg,a roof\n")
    upscaler = open_upscaler("diffbir", scale=4, diffusion=SMALL | {"captions": str(table), "prompt": "{caption}, sharp"})
    upscaler.upscale([job(0, "roof"), job(1, "photos/cat")])
    assert [upscaler.settings(i)["diffusion"]["prompt"] for i in (0, 1)] == ["a roof, sharp", "a cat, sharp"]
    with pytest.raises(UserError, match=r"captions.csv has no caption for 'dog'.\nIts 2 names must be those .*: cat, roof"):
        upscaler.upscale([job(0, "dog")])


@pytest.mark.parametrize("content", ["", "name,text\ncat,a cat\n", "file,caption\ncat\n"])
def test_a_table_without_its_columns_is_refused(tmp_path, content):
    (tmp_path / "captions.csv").write_text(content)
    with pytest.raises(UserError, match=r"captions.csv is not a table of captions.\n.*file,caption"):
        open_captions(str(tmp_path / "captions.csv"), torch.device("cpu"))
    with pytest.raises(UserError, match="cannot be read"):
        open_captions(str(tmp_path / "none.csv"), torch.device("cpu"))
