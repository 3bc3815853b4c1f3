"""Choosing some rows of many."""

import numpy as np


def spread(count: int, most: int) -> list[int]:
    """Indices of at most `most` of `count` rows, ascending: one drawn from each of as many equal parts, the same every time.

    Every n-th row would not do: neighbours are of different SR models in turn, and n may be their number.
    """
    if most >= count:
        return list(range(count))
    edges = np.linspace(0, count, most + 1).astype(int)
    return np.random.default_rng(0).integers(edges[:-1], edges[1:]).tolist()
