"""Small random weights of HED in the layout of Keras's file."""

from pathlib import Path

import numpy as np

from fgr.generate import edges


def small_hed(file: Path, seed: int = 0) -> Path:
    """Write them, 4 to 8 channels wide, and return the file."""
    import h5py

    rng = np.random.default_rng(seed)
    shapes, channels = {}, 3
    for depth, count in enumerate(edges.CONVOLUTIONS, start=1):
        width = 4 if depth < 3 else 8
        for i in range(count):
            shapes[f"block{depth}/layers/conv2d{f'_{i}' if i else ''}"] = (3, 3, channels, width)
            channels = width
        shapes[f"dsn{depth}"] = (1, 1, channels, 1)
    shapes["fuse"] = (1, 1, 5, 1)
    with h5py.File(file, "w") as content:
        for name, shape in shapes.items():
            scale = (2 / np.prod(shape[:3])) ** 0.5 * (0.02 if name.startswith("dsn") else 1)
            content[f"{name}/vars/0"] = rng.normal(0, scale, shape).astype(np.float32)
            content[f"{name}/vars/1"] = rng.normal(0, 0.1, shape[3]).astype(np.float32)
    return file
