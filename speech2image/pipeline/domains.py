"""Domains: what a recording is about, one of those that a model draws or something else."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from speech2image.errors import CheckpointError
from speech2image.files import is_one_line
from speech2image.pipeline.domain_words import DomainWords

OTHER = "other"
"""The domain of what no other domain of a model fits."""
MAX_DOMAINS, MAX_NAME = 100, 40


class Decision(NamedTuple):
    """What a recording is about.

    Attributes:
        domain: a name; None where the model does not decide.
        confidence: that domain's probability, 0 to 1.
        domains: all between which it decided, the last one `OTHER`.
    """

    domain: str | None = None
    confidence: float | None = None
    domains: tuple[str, ...] = ()


@dataclass(frozen=True)
class Domains:
    """The domains that a network tells apart, and when it decides for none of those that are drawn.

    Attributes:
        names: in the network's order; the last one is `OTHER`.
        threshold: the smallest probability of `OTHER` that decides for it, above 0 to 1.
        words: what words heard say of the domain, with a threshold of its own; None where they have no say.
    """

    names: tuple[str, ...]
    threshold: float
    words: DomainWords | None = None

    def decide(self, log_probabilities: NDArray[np.floating], heard: str = "") -> Decision:
        """What log-probabilities [domains] and the words heard say: `OTHER` from the threshold on, else the
        likeliest of the rest."""
        found, threshold = log_probabilities.astype(np.float64), self.threshold
        if self.words is not None and heard:
            found = found + self.words.evidence(heard)
            found -= np.logaddexp.reduce(found)
            threshold = self.words.threshold
        chances = np.exp(np.minimum(found, 0.0))
        other = chances[-1] >= threshold
        place = len(chances) - 1 if other else int(chances[:-1].argmax())
        return Decision(self.names[place], float(chances[place]), self.names)


def decided(
    domains: Domains | None, output: NDArray[np.float32] | None, network: str, heard: str = ""
) -> Decision:
    """What a network says of the one clip of a batch; nothing where it tells no domains.

    Args:
        domains: that it tells apart, if any.
        output: what it gave, [1, domains].
        network: what to call it in errors.
        heard: the words of the clip, where a decoder wrote them down.

    Raises:
        CheckpointError: it does not fit its card.
    """
    if domains is None or output is None:
        return Decision()
    if output.shape != (1, len(domains.names)):
        raise CheckpointError(
            f"{network} gave an array of shape {list(output.shape)}, not the log-probabilities of "
            f"{len(domains.names)} domains; it does not fit its card"
        )
    return domains.decide(output[0], heard)


def something_else(domains: Sequence[str]) -> str:
    """What to tell of a recording that is about `OTHER`.

    >>> something_else(("flower", "bird", "other"))
    'this model draws flowers and birds; this sounded like something else'
    """
    *first, last = [f"{name}s" for name in domains if name != OTHER]
    known = f"{', '.join(first)} and {last}" if first else last
    return f"this model draws {known}; this sounded like something else"


def check_domains(names: Any, threshold: object, place: str) -> None:
    """Refuse names and a threshold that no network of this project comes with.

    Args:
        names, threshold: as stated.
        place: where they are stated, for errors.

    Raises:
        CheckpointError: the names are not at least two different short texts, the last one `OTHER`, or the
            threshold is not above 0 and at most 1.
    """
    right = isinstance(names, list | tuple) and all(
        isinstance(name, str) and name.strip() and len(name) <= MAX_NAME and is_one_line(name)
        for name in names
    )
    if not right or not 2 <= len(set(names)) == len(names) <= MAX_DOMAINS or names[-1] != OTHER:
        raise CheckpointError(
            f"{place} is damaged: 'domains' is {names!r:.80}, not two or more different short names, the "
            f"last one '{OTHER}'"
        )
    if not isinstance(threshold, int | float) or isinstance(threshold, bool) or not 0 < threshold <= 1:
        raise CheckpointError(
            f"{place} is damaged: 'other_threshold' is {threshold!r:.80}, not a number above 0 and at most 1"
        )
