"""Domain words: what the words heard say of a recording's domain, beside the network that hears the sound.

A network that decides by sound alone takes "a red sports car" for a flower in some voices, though it was
heard word for word. Naive Bayes: each different word adds the logarithm of how often sentences of a domain
have it (Maron, "Automatic Indexing", 1961). Words come together far more often than by chance, which naive
Bayes leaves out, so the sum counts by a weight well below 1.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
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
    """

    frequencies: Mapping[str, Sequence[float]]
    unlisted: Sequence[float]
    weight: float

    def evidence(self, text: str) -> NDArray[np.float64]:
        """What a text adds to log-probabilities [domains]; nothing, where it has no word."""
        known = {word if word in self.frequencies else "" for word in text.split()}
        found = [self.frequencies.get(word, self.unlisted) for word in known]
        total: NDArray[np.float64] = np.sum(np.reshape(found, (-1, len(self.unlisted))), axis=0)
        return self.weight * total

    @classmethod
    def of_card(cls, stated: Any) -> "DomainWords":
        """Those that a card states, which `check_domain_words` found whole."""
        return cls(stated["words"], stated["unlisted"], float(stated["weight"]))

    def stated(self) -> dict[str, Any]:
        """What a card says of it."""
        words = {word: list(found) for word, found in self.frequencies.items()}
        return {"weight": self.weight, "unlisted": list(self.unlisted), "words": words}


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
        words, unlisted, weight = (stated.get(key) for key in ("words", "unlisted", "weight"))
        if (
            isinstance(words, dict)
            and len(words) <= MAX_WORDS
            and all(_numbers(found, domains) for found in (unlisted, *words.values()))
            and _numbers([weight], 1)
            and 0 <= float(weight) <= 1  # type: ignore[arg-type]
        ):
            return
    raise CheckpointError(
        f"{place} is damaged: 'domain_words' is {stated!r:.80}, not words with {domains} numbers each, the "
        "numbers of unlisted ones and a weight from 0 to 1"
    )


def _numbers(found: Any, count: int) -> bool:
    return (
        isinstance(found, list)
        and len(found) == count
        and all(type(x) in (int, float) and math.isfinite(x) for x in found)
    )


def count_words(
    sentences: Mapping[str, Iterable[str]], weight: float, least: int = 3, smoothing: float = 0.5
) -> DomainWords:
    """Fit domain words.

    Args:
        sentences: domain, in the order of the network's -> sentences about it, lower-case words.
        weight: of `DomainWords`.
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
    return DomainWords(dict(zip(listed, own, strict=True)), unlisted, weight)
