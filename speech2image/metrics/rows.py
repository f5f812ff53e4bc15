"""Helpers for rows of features: blocks of bounded size, and unit length."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray


def blocks(n: int, size: int) -> Iterator[slice]:
    """Slices of at most `size` rows that cover 0 to n."""
    return (slice(start, start + size) for start in range(0, n, size))


def unit(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows scaled to length 1; a row of zeros stays."""
    lengths: NDArray[np.float32] = np.linalg.norm(features, axis=1, keepdims=True).astype(
        np.float32, copy=False
    )
    scaled: NDArray[np.float32] = np.divide(features, np.maximum(lengths, 1e-8))
    return scaled
