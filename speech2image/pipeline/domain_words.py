"""Domain words: what the words heard say of a recording's domain, beside the network that hears the sound.

A network that decides by sound alone takes "a red sports car" for a flower in some voices, though it was
heard word for word. Naive Bayes: each different word adds the logarithm of how often sentences of a domain
have it (Maron, "Automatic Indexing", 1961). Words come together far more often than by chance, which naive
Bayes leaves out, so the sum counts by a weight well below 1.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speech2image.errors import CheckpointError

MAX_WORDS = 100_000


@dataclass(frozen=True)
class DomainWords:
    """How often words occur in sentences of each domain.

    Attributes:
        frequencies: word -> logarithms of its frequency in each domain, in the order of the network's.
        unlisted: those of all other words together.
        weight: what the sum counts by, 0 to 1.
        threshold: that of `domains.Domains` where words have a say, above 0 to 1.
    """

    frequencies: Mapping[str, Sequence[float]]
    unlisted: Sequence[float]
    weight: float
    threshold: float

    def evidence(self, text: str) -> NDArray[np.float64]:
        """What a text adds to log-probabilities [domains]; nothing, where it has no word."""
        known = {word if word in self.frequencies else "" for word in text.split()}
        found = [self.frequencies.get(word, self.unlisted) for word in known]
        total: NDArray[np.float64] = np.sum(np.reshape(found, (-1, len(self.unlisted))), axis=0)
        return self.weight * total

    @classmethod
    def of_card(cls, stated: Any) -> "DomainWords":
        """Those that a card states, which `check_domain_words` found whole."""
        weight, threshold = float(stated["weight"]), float(stated["threshold"])
        return cls(stated["words"], stated["unlisted"], weight, threshold)

    def stated(self) -> dict[str, Any]:
        """What a card says of it."""
        words = {word: list(found) for word, found in self.frequencies.items()}
        numbers = {"weight": self.weight, "threshold": self.threshold, "unlisted": list(self.unlisted)}
        return {**numbers, "words": words}


def check_domain_words(stated: Any, domains: int, place: str) -> None:
    """Refuse domain words that `DomainWords.stated` would not give.

    Args:
        stated: by the card.
        domains: how many there are.
        place: of the card, for errors.

    Raises:
        CheckpointError: they are something else.
    """
    if isinstance(stated, dict):
        keys = ("words", "unlisted", "weight", "threshold")
        words, unlisted, weight, threshold = (stated.get(key) for key in keys)
        if (
            isinstance(words, dict)
            and len(words) <= MAX_WORDS
            and _numbers([unlisted, *words.values()], domains)
            and _numbers([[weight, threshold]], 2)
            and 0 <= weight <= 1  # type: ignore[operator]
            and 0 < threshold <= 1  # type: ignore[operator]
        ):
            return
    raise CheckpointError(
        f"{place} is damaged: 'domain_words' is {stated!r:.80}, not words with {domains} numbers each, the "
        "numbers of unlisted ones, a weight from 0 to 1 and a threshold above 0 and at most 1"
    )


def _numbers(rows: list[Any], count: int) -> bool:
    """Whether all rows are lists of so many finite numbers; looked at together, as every start does it."""
    if not set(map(type, rows)) <= {list} or not set(map(len, rows)) <= {count}:
        return False
    numbers = list(chain.from_iterable(rows))
    return set(map(type, numbers)) <= {int, float} and all(map(math.isfinite, numbers))


def count_words(
    sentences: Mapping[str, Iterable[str]],
    weight: float,
    threshold: float,
    *,
    least: int = 3,
    smoothing: float = 0.5,
) -> DomainWords:
    """Fit domain words.

    Args:
        sentences: domain, in the order of the network's -> sentences about it, lower-case words.
        weight, threshold: of `DomainWords`.
        least: sentences that a word must occur in to be listed.
        smoothing: added to every count, so that no word rules a domain out.
    """
    counts: dict[str, list[int]] = {}
    for place, texts in enumerate(sentences.values()):
        for text in texts:
            for word in set(text.split()):
                counts.setdefault(word, [0] * len(sentences))[place] += 1
    listed = {word: found for word, found in counts.items() if sum(found) >= least}
    rest = np.sum([found for word, found in counts.items() if word not in listed] or [[0]], axis=0)
    table = np.array([*listed.values(), np.broadcast_to(rest, len(sentences))], dtype=np.float64) + smoothing
    logarithms = np.round(np.log(table / table.sum(0)), 2)
    *own, unlisted = logarithms.tolist()
    return DomainWords(dict(zip(listed, own, strict=True)), unlisted, weight, threshold)
