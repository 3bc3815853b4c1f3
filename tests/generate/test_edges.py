"""HED on small random weights in the layout of Keras's file, against a second statement of the network in torch's modules."""

import numpy as np
import pytest
import torch
from skimage import data
from small_hed import small_hed

from fgr.errors import UserError
from fgr.generate import edges

PHOTO = np.ascontiguousarray(data.coffee()[100:167, 200:290])  # sides that no pooling divides


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return small_hed(tmp_path_factory.mktemp("hed") / "hed.weights.h5")


def test_five_depths_are_fused_into_a_map_of_the_image_s_size(file):
    layers = edges.read_layers(file)
    assert len(layers) == 13 + 5 + 1
    drawn = edges.Hed(layers, "cpu").edges(PHOTO)
    assert (drawn.shape, drawn.dtype) == (PHOTO.shape[:2], np.float32)
    assert (drawn > 0).all()
    assert (drawn < 1).all()
    assert drawn.std() > 0.01
    image = torch.from_numpy(PHOTO[..., ::-1].astype(np.float32)).permute(2, 0, 1)[None]
    features, sides = image - torch.tensor(edges.MEAN_BGR).view(1, 3, 1, 1), []
    for depth, names in enumerate((("", "_1"), ("", "_1"), *[("", "_1", "_2")] * 3), start=1):
        if depth > 1:
            features = torch.nn.MaxPool2d(2, ceil_mode=True)(features)
        for i in range(len(names)):
            kernel, bias = layers[f"block{depth}.{i}"]
            convolution = torch.nn.Conv2d(*kernel.shape[1::-1], 3, padding=1)
            convolution.load_state_dict({"weight": kernel, "bias": bias})
            features = torch.relu(convolution(features))
        kernel, bias = layers[f"side{depth}"]
        side = torch.einsum("oc,bchw->bohw", kernel[..., 0, 0], features) + bias.view(1, -1, 1, 1)
        sides.append(torch.nn.Upsample(PHOTO.shape[:2], mode="bilinear")(side))
    kernel, bias = layers["fuse"]
    fused = sum(weight * side for weight, side in zip(kernel.flatten(), sides, strict=True)) + bias
    assert np.allclose(drawn, torch.sigmoid(fused)[0, 0].detach().numpy(), atol=1e-5)


def test_a_file_of_another_network_is_refused(file, tmp_path):
    import h5py

    cut = tmp_path / "cut.h5"
    cut.write_bytes(file.read_bytes()[:500])
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as content:
        content["block1/layers/conv2d/vars/0"] = np.zeros((3, 3, 3, 4), np.float32)
    for path in (cut, other, tmp_path / "nowhere.h5"):
        with pytest.raises(UserError, match="is damaged, or does not hold HED's weights"):
            edges.read_layers(path)
