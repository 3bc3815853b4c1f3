"""The tagger of RAM and DAPE against numbers recorded from the published implementation (cswry/SeeSR, commit 8edecc7), run on the
same small weights in float32; and its words in prompts."""

import json

import pytest
import torch
from small_diffusion import image, restored

from fgr.dataset import tables
from fgr.errors import UserError
from fgr.generate.replay import replay
from fgr.sr import Job, open_upscaler
from fgr.sr.catalogue import catalogue
from fgr.sr.diffusion.files import paths
from fgr.sr.diffusion.tagger import RAM, TAG_LIST, THRESHOLDS, open_tagger, open_tokens

MODELS, RECORDED = ("osediff",), "seesr_reference.npz"


def opened():
    found = paths("osediff")
    return open_tagger(found, open_tokens(found), torch.device("cpu"))


def test_logits_and_words(reference, folder):
    picture = torch.rand(1, 3, 40, 56, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        tagger = opened()
        reference.expect("tag_logits", tagger.head(tagger.tokens(picture)))
        assert tagger.tags(picture) == [str(reference["tags"])]
    assert str(reference["tags"]) == "cat, 3D glasses, sky, house, rain"


def test_a_checkpoint_with_the_older_name_of_the_decoder_is_read(copied):
    expected = opened().tags(torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1)))
    state = torch.load(copied / RAM, weights_only=True)["model"]
    renamed = {name.replace("tagging_head.", "vision_multi."): one for name, one in state.items()}
    torch.save({"model": renamed}, copied / RAM)
    assert opened().tags(torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))) == expected


@pytest.mark.parametrize("name", [TAG_LIST, THRESHOLDS])
def test_lists_of_another_length_are_refused(copied, name):
    (copied / name).write_text((copied / name).read_text().partition("\n")[2])
    with pytest.raises(UserError, match=rf"{name} has 8 lines, but the tag decoder of {RAM} knows 9 tags"):
        open_upscaler("osediff", scale=4)


def test_without_a_tagger_the_fetch_and_the_way_around_are_named(copied):
    assert catalogue(["osediff"])[0]["state"] == "here"
    (copied / TAG_LIST).unlink()
    assert catalogue(["osediff"])[0]["state"] == "fetchable"
    with pytest.raises(UserError, match=rf"there is no {TAG_LIST}.\n.*fgr models osediff --fetch.*'osediff@prompt='"):
        open_upscaler("osediff", scale=4)
    assert restored("osediff@prompt=", image(0, 32, 32), {}).shape == (128, 128, 3)


def test_the_words_follow_the_image_and_belong_to_the_row(folder):
    upscaler = open_upscaler("osediff", scale=4)
    jobs = [Job(image(seed, 32, 32), "", (32, 32), (0, 0, 0)) for seed in range(3)]
    together = upscaler.upscale(jobs)
    prompts = [upscaler.settings(index)["diffusion"]["prompt"] for index in range(3)]
    assert all(prompt.endswith(", ,") and "{" not in prompt for prompt in prompts)
    [alone] = upscaler.upscale([Job(jobs[1].image, "", (32, 32), (0, 0, 0), prompt=prompts[1])])
    assert (alone == together[1]).all()
    [plain] = upscaler.upscale([Job(jobs[1].image, "", (32, 32), (0, 0, 0), prompt="")])
    assert not (plain == together[1]).all()


def test_a_dataset_stores_the_words_and_replays_by_them(dataset_of):
    made = dataset_of("osediff", {"prompt": "auto"})
    for row in tables.read_rows(made, "samples", ["inference"]):
        assert json.loads(row["inference"])["diffusion"]["prompt"].endswith(", ,")
    assert list(replay(made, 2, "cpu")) == [None, None]
