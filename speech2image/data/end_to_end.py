"""Several sets of rows laid end to end: in which set a row lies, and where in it."""

from collections.abc import Iterable

import numpy as np


class EndToEnd:
    """Places of rows.

    Args:
        sizes: rows of each set, in order.

    >>> place = EndToEnd([3, 2])
    >>> len(place), place(2), place(3)
    (5, (0, 2), (1, 0))
    """

    def __init__(self, sizes: Iterable[int]) -> None:
        self.starts = np.cumsum([0, *sizes])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __call__(self, row: int) -> tuple[int, int]:
        """The set in which row `row` lies, and its number there."""
        part = int(np.searchsorted(self.starts, row, side="right")) - 1
        return part, int(row - self.starts[part])
