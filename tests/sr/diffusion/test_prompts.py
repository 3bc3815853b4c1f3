"""Prompts: tokens as open_clip and as transformers read them, what is cut, words in their place."""

import json

import pytest
import torch

from bench.random_weights import tokenizer
from fgr.errors import UserError
from fgr.sr.diffusion.prompts import END_OF_TEXT, START_OF_TEXT, Prompts, Reader, filled


@pytest.fixture
def words(tmp_path):
    """A tokenizer with exclamation marks and ampersands, as Stable Diffusion 2's files have it; and its vocabulary."""
    folder = tmp_path / "tokenizer"
    tokenizer(folder)
    vocabulary = json.loads((folder / "vocab.json").read_text())
    vocabulary |= {"!</w>": len(vocabulary), "&</w>": len(vocabulary) + 1, "&": len(vocabulary) + 2, ";</w>": len(vocabulary) + 3}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    return folder, vocabulary


def test_exclamation_marks_and_entities_are_read_as_open_clip_does(words):
    folder, vocabulary = words
    begin, end = vocabulary["<|startoftext|>"], vocabulary["<|endoftext|>"]
    assert Reader(folder, cleaned=True).tokens("A!")[:4] == [begin, vocabulary["a</w>"], vocabulary["!</w>"], end]
    assert Reader(folder).tokens("A!")[:4] == [
        begin,
        vocabulary["a</w>"],
        vocabulary["!"],
        end,
    ]  # a special token to transformers
    for text in ("a &amp; b", "a  &amp;amp;\n b "):
        read = [vocabulary[one] for one in ("a</w>", "&</w>", "b</w>")]
        assert Reader(folder, cleaned=True).tokens(text)[:5] == [begin, *read, end]
    assert Reader(folder).tokens("") == [START_OF_TEXT, END_OF_TEXT] + [0] * 75


def test_a_prompt_that_is_too_long_is_cut_and_that_is_said(words, capsys):
    folder, vocabulary = words
    read = Reader(folder, cleaned=True).tokens("a " * 100)
    assert len(read) == 77
    assert read[-1] == vocabulary["<|endoftext|>"]
    assert "prompt of 100 tokens is cut: the text encoder takes 75" in capsys.readouterr().err


def test_words_in_their_place():
    assert filled("{tags}, ,clean", "cat, dog") == "cat, dog, ,clean"
    assert filled("{tags}, ,", "") == ", ,"
    assert filled("{caption}, sharp", "a cat") == "a cat, sharp"
    assert filled("{caption}, sharp", "") == "sharp"


def test_text_is_embedded_once_and_its_encoder_opened_when_it_is_needed():
    asked, openings = [], []

    def opened():
        openings.append(1)
        return lambda prompts: asked.extend(prompts) or torch.ones(len(prompts), 77, 2)

    text = Prompts({"prompt": "sharp", "negative_prompt": "blur"}, opened, torch.device("cpu"))
    assert text.of(torch.zeros(2, 3, 4, 4), ["", ""]) == ["sharp", "sharp"]
    assert text.embedded(["sharp", "sharp"]).shape == (2, 77, 2)
    assert (asked, len(openings)) == (["blur", "sharp"], 1)
    text.embedded(["other"])
    text.embedded([f"word {i}" for i in range(200)])
    text.embedded(["one more", "other"])
    assert (len(openings), text.negative.shape) == (2, (1, 77, 2))
    assert asked.count("blur") == 1


def test_a_prompt_without_a_tokenizer_is_refused_with_the_way_to_one(tmp_path):
    with pytest.raises(UserError, match=r"The prompt 'cat' needs a CLIP tokenizer.*\n.*fgr models NAME --fetch"):
        Reader(tmp_path).tokens("cat")
