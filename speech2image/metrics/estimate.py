"""Estimates: a figure with its interval, how it is written, and how values of single items become one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from speech2image.metrics.bootstrap import bootstrap_interval


@dataclass(frozen=True)
class Estimate:
    """A figure.

    Attributes:
        value: in the measure's own unit; shares are in [0, 1].
        interval: of 95 %, None if there is none.
        details: what else a results file keeps of it, by name.
    """

    value: float
    interval: tuple[float, float] | None = None
    details: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Format:
    """How figures of a measure are written: times `scale`, with so many digits, `unit` after the label."""

    scale: float = 1.0
    digits: int = 3
    unit: str = ""

    def number(self, value: float | None) -> str:
        """A figure, "-" if there is none."""
        return "-" if value is None else f"{self.scale * value:.{self.digits}f}"

    def span(self, interval: Sequence[float] | None) -> str:
        """An interval, "-" if there is none."""
        return "-" if interval is None else " to ".join(map(self.number, interval))

    def estimate(self, estimate: Estimate | None) -> str:
        """A figure with its interval in brackets, if it has one."""
        if estimate is None:
            return "-"
        text = self.number(estimate.value)
        return text if estimate.interval is None else f"{text} ({self.span(estimate.interval)})"


NUMBER, PERCENT, THOUSANDTHS = Format(), Format(100, 1, ", %"), Format(1000, 3, " x 1000")


@dataclass(frozen=True)
class Sample:
    """Items that depend on one another in groups: of each value's group, [n], intervals draw whole groups.

    Attributes:
        groups: label of each item's group, [n].
        seed: of the bootstrap.
        resamples: of the bootstrap.
    """

    groups: NDArray[np.int64]
    seed: int
    resamples: int

    def mean(self, values: NDArray[np.generic]) -> Estimate:
        """The mean of the items' values [n], with its bootstrap interval."""
        numbers = values.astype(np.float64)
        interval = bootstrap_interval(numbers, seed=self.seed, groups=self.groups, n=self.resamples)
        return Estimate(float(numbers.mean()), interval)
