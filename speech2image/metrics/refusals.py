"""Refusals: how many recordings of speech the speech detector takes for no speech."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from speech2image.metrics.estimate import Estimate, Sample


@dataclass(frozen=True)
class Refusals:
    """Whether each utterance was refused, bool [n]."""

    refused: NDArray[np.bool_]
    sample: Sample


def refused_share(found: Refusals) -> Estimate:
    """Share of utterances that are refused: a user gets no picture."""
    return found.sample.mean(found.refused)
