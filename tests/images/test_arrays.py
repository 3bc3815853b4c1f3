import numpy as np

from fgr.images.arrays import as_images, as_tensor


def test_pixels_survive_the_way_to_tensors_and_back():
    image = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    tensor = as_tensor([image])
    assert tensor.shape == (1, 3, 4, 5)
    assert np.array_equal(as_images(tensor)[0], image)
