"""Noise from a seed, the same on every machine and for good, and the ranges of seeds and counts."""

import operator
from typing import Any

import numpy as np
from numpy.random import PCG64  # here: on first use by several threads at once, numpy fails to load it
from numpy.typing import NDArray

from speech2image.errors import SettingsError

MAX_PICTURES = 10_000
"""The most pictures one call may ask for."""


def noise(n: int, size: int, seed: int) -> NDArray[np.float32]:
    """Draw standard normal noise z, shape [n, size]; row k depends on `seed` and k alone, never on `n`.

    Box-Muller on the raw bits of PCG64, whose stream numpy keeps the same for good (what it does not promise
    for `Generator.standard_normal`), so a seed gives the same picture with any version of numpy.

    Raises:
        SettingsError: `n` is not a whole number from 1 to 10,000, or `seed` is not a whole number from 0.
    """
    n, seed = check_count(n), check_seed(seed)
    pairs = (size + 1) // 2
    bits = PCG64(seed).random_raw(n * 2 * pairs).reshape(n, 2, pairs)
    uniform = ((bits >> np.uint64(11)) + 0.5) * 2.0**-53  # in (0, 1), both ends excluded
    radius, angle = np.sqrt(-2 * np.log(uniform[:, 0])), 2 * np.pi * uniform[:, 1]
    both = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return both[:, :size].astype(np.float32)


def check_count(n: object, name: str = "n") -> int:
    """Check that `n` is a whole number of pictures from 1 to 10,000."""
    return check_whole(n, name, MAX_PICTURES)


def check_seed(seed: object) -> int:
    """Check that `seed` is a whole number from 0 to 2**64 - 1."""
    return check_whole(seed, "seed", 2**64 - 1, lowest=0)


def check_whole(value: Any, name: str, highest: int, lowest: int = 1) -> int:
    """Check that `value` is a whole number from `lowest` to `highest`.

    Raises:
        SettingsError: it is not; `name` is what to call it.
    """
    try:
        whole = operator.index(value)
    except TypeError:
        whole = None
    if whole is None or isinstance(value, bool) or not lowest <= whole <= highest:
        raise SettingsError(f"{name} must be a whole number from {lowest} to {highest}, not {value!r}")
    return whole
