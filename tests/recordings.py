"""Numbers recorded from published implementations, and the weights that those were given."""

import hashlib
from pathlib import Path

import numpy as np
import torch


class recorded:
    """Numbers recorded from a published implementation."""

    def __init__(self, name: str) -> None:
        self._arrays = dict(np.load(Path(__file__).parent / "data" / name))

    def __getitem__(self, key: str) -> np.ndarray:
        return self._arrays[key]

    def shapes(self, key: str) -> dict[str, tuple[int, ...]]:
        """The names and shapes of a state dict."""
        pairs = (line.partition(" ") for line in self._arrays[key].tolist())
        return {name: tuple(int(side) for side in shape.split(",") if side) for name, _, shape in pairs}

    def expect(self, key: str, found: torch.Tensor, close: float = 1e-4, index: int | None = None) -> None:
        expected = self._arrays[key] if index is None else self._arrays[key][index]
        assert found.shape == expected.shape
        assert np.abs(found.numpy() - expected).max() < close, key


def filled(shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """Weights that follow from their names and shapes alone, of the size that keeps activations in range."""
    return {name: _filled(name, tuple(shape)) for name, shape in shapes.items()}


def _filled(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    rng = np.random.default_rng(list(hashlib.sha256(name.encode()).digest()[:8]))
    values = rng.standard_normal(shape, np.float32)
    if len(shape) > 1:
        return torch.from_numpy(values * np.float32(0.7 / np.sqrt(np.prod(shape[1:]))))
    return torch.from_numpy(np.asarray(values * np.float32(0.1) + np.float32(name.endswith("weight"))))  # 1 ± 0.1 for norms
