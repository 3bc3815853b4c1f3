import json

import numpy as np
import pytest
import torch

from fgr.errors import UserError
from fgr.evaluate.systems import open_system
from fgr.evaluate.testset import Item, open_test_set


def item(name, *aliases):
    return Item(name, name, (name, *aliases), None, None)


def test_a_run_stands_for_its_best_weights(pairs, tmp_path):
    from safetensors.torch import save_file
    from spandrel.architectures.Compact.__arch.SRVGG import SRVGGNetCompact

    tests = open_test_set(str(pairs))
    torch.manual_seed(0)
    network = SRVGGNetCompact(num_feat=8, num_conv=1, upscale=2)
    save_file(network.state_dict(), tmp_path / "best.safetensors")
    with pytest.raises(UserError, match="holds no images"):
        open_system(str(tmp_path), tests.items, scale=2)
    (tmp_path / "run.json").write_text(json.dumps({"kind": "rlhf"}))
    with pytest.raises(UserError, match=r"not a finished run of fgr rlhf: it has no summary\.json"):
        open_system(str(tmp_path), tests.items, scale=2)
    (tmp_path / "summary.json").write_text('{"generator": {"name": "spandrel:x.pth"}, "metrics": []}')
    system = open_system(str(tmp_path), tests.items, scale=2)
    low = torch.from_numpy(tests.items[0].low().transpose(2, 0, 1).copy())[None].float() / 255
    with torch.inference_mode():
        expected = (network(low).clamp(0, 1) * 255).round()[0].numpy().transpose(1, 2, 0)
    assert np.abs(system.restore(tests.items[0]).astype(float) - expected).max() <= 1
    assert system.facts()["license"] == "unknown"
    (tmp_path / "best.safetensors").unlink()
    with pytest.raises(UserError, match=r"has no best\.safetensors"):
        open_system(str(tmp_path), tests.items, scale=2)


def test_outputs_are_found_by_name(tmp_path, write_image):
    image = np.zeros((4, 4, 3), np.uint8)
    for name in ("a.png", "b_out.jpg", "deeper/c-x4.png", "a_2.png"):
        write_image(tmp_path / name, image)
    items = [item("a"), item("b"), item("c"), item("a_2")]
    system = open_system(str(tmp_path), items, scale=4)
    assert system.restore(items[0]).shape == (4, 4, 3)
    with pytest.raises(UserError, match="no output for 'd'"):
        open_system(str(tmp_path), [item("d")], scale=4)
    write_image(tmp_path / "b_two.png", image)
    with pytest.raises(UserError, match="several outputs for 'b'"):
        open_system(str(tmp_path), items, scale=4)


def test_an_output_of_another_image_is_never_taken(tmp_path, write_image):
    write_image(tmp_path / "a_2.png", np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(UserError, match="no output for 'a'"):
        open_system(str(tmp_path), [item("a"), item("a_2")], scale=4)


def test_other_outputs_have_another_digest(tmp_path, write_image):
    write_image(tmp_path / "a.png", np.zeros((4, 4, 3), np.uint8))
    before = open_system(str(tmp_path), [item("a")], scale=4).facts()["digest"]
    write_image(tmp_path / "a.png", np.ones((4, 4, 3), np.uint8))
    assert open_system(str(tmp_path), [item("a")], scale=4).facts()["digest"] != before
