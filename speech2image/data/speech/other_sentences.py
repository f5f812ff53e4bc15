"""Other sentences: spoken descriptions, commands and talk that are about no flower, bird or room.

A model that knows three domains must notice the rest ("a red sports car"). The hard cases are descriptions
of other things in the same words, colours and parts above all, so half of the sentences are such
descriptions; the others are what people say to a microphone. Things, people's talk and foreign sentences
of the split "test" never occur in "train": what is measured there are unseen things, not seen sentences.
"""

import hashlib
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal

import numpy as np

OtherSplit = Literal["train", "test"]


@dataclass(frozen=True)
class OtherSentence:
    """One sentence about something else.

    Attributes:
        text: lower-case words without punctuation.
        kind: "thing" (described with colours and parts), "talk" or "foreign".
        language: "en", "de", "fr", "es" or "it"; foreign sentences want a voice of that language.
    """

    text: str
    kind: str
    language: str = "en"


_FORMS = (
    "a {c} {t}",
    "this {t} is {c} with {d} {p}",
    "a {c} {t} with {d} {p}",
    "a {t} with {p} that are {c} and {d}",
    "show me a {c} {t}",
    "draw a {c} {t} please",
    "a small {c} and {d} {t}",
    "the {t} has {c} {p} and {d} {q}",
    "a large {c} {t} with {p} and {d} {q}",
    "uh a {c} {t}",
    "a {t} painted {c} and {d} with {p}",
    "a {c} {t} next to a {d} {u}",
    "i want a picture of a {c} {t}",
)


def other_sentences(n: int, split: OtherSplit, seed: int = 0) -> Iterator[OtherSentence]:
    """Draw `n` sentences: one half describe things, three tenths are talk, one fifth is foreign.

    The same `split` and `seed` give the same sentences; row k does not depend on `n`. Talk and foreign
    sentences repeat.

    Args:
        n: how many.
        split: "train", or "test" for things and sentences that "train" never has.
        seed: of the draw.
    """
    words = _words()
    things = [(kind["parts"], _of_split(kind["names"], split)) for kind in words["things"]]
    talk = _of_split(words["talk"]["en"], split)
    foreign = [(lang, text) for lang, texts in words["foreign"].items() for text in _of_split(texts, split)]
    for k in range(n):
        rng = np.random.default_rng((seed, k, split == "test"))
        kind = rng.random()
        if kind < 0.5:
            yield OtherSentence(_description(rng, words["colours"], things), "thing")
        elif kind < 0.8:
            yield OtherSentence(str(rng.choice(talk)), "talk")
        else:
            language, text = foreign[rng.integers(len(foreign))]
            yield OtherSentence(text, "foreign", language)


def _description(
    rng: np.random.Generator, colours: list[str], things: list[tuple[list[str], list[str]]]
) -> str:
    parts, names = things[rng.integers(len(things))]
    first, second = rng.choice(colours, 2, replace=False)
    part, other = rng.choice(parts, 2, replace=False)
    neighbour = rng.choice([name for _, others in things for name in others])
    form = str(rng.choice(_FORMS))
    text = form.format(c=first, d=second, t=rng.choice(names), u=neighbour, p=part, q=other)
    return re.sub(r"\ba (?=[aeio])", "an ", text)


@cache
def _words() -> dict[str, Any]:
    file = resources.files("speech2image.data") / "captions" / "other.toml"
    return tomllib.loads(file.read_text(encoding="utf-8"))


def _of_split(items: list[str], split: OtherSplit) -> list[str]:
    """Those that belong to a split: a quarter, chosen by their hash, to "test"."""
    return [
        item for item in items if (hashlib.sha256(item.encode()).digest()[0] % 4 == 0) == (split == "test")
    ]
