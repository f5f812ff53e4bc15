"""Word error rates: how many words of a transcript are wrong.

    WER = (substitutions + deletions + insertions) / words of the references, over all sentences together

with the fewest edits that turn each reference into its hypothesis (jiwer aligns them). Content words are the
colours and the parts of flowers, birds and rooms: what a picture has to show. Their rate is that of both
texts with every other word taken out.

Known pitfalls:
- Sums over sentences, not the mean of each sentence's rate: long sentences count more.
- May exceed 1, as insertions count.
- Texts are lower-cased, stripped of punctuation and spelt the American way first: nobody can hear whether
  "centre" or "center", "grey" or "gray" was said. Every other difference of spelling counts.
- Systems that hear a filler too much look bad although no picture would change: read both rates.
"""

import re
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import jiwer

from speech2image.errors import DataError
from speech2image.metrics.colour_words import COLOUR_WORDS
from speech2image.metrics.estimate import Estimate

_PARTS = (
    "petal bloom blossom flower floret bract ray bell trumpet cup star ball spike cluster head centre "
    "center middle heart throat disc disk cone dome stamen pistil filament pollen anther vein line stripe "
    "streak dot spot speck speckle freckle fleck tip edge rim border margin fringe ring base column stem "
    "stalk leaf bud thread bird beak bill leg foot eye eyebrow eyering cap crown mask nape neck chin "
    "breast chest belly abdomen side flank back rump wing wingbar feather tail bib collar crest patch bar"
)
_OF_ROOMS = (
    "room bedroom kitchen wall floor ceiling window door bed bedspread pillow cushion headboard table chair "
    "armchair sofa stool bench rug carpet lamp chandelier fireplace curtain cabinet counter island stove "
    "oven refrigerator sink television mirror shelf picture dresser desk tile"
)
_UNEVEN = ("leaves", "foliage", "petaled", "feet", "branches", "patches", "bellies", "shelves", "bedding")
CONTENT_WORDS = frozenset(
    [
        *COLOUR_WORDS,
        *_UNEVEN,
        *(f"{part}{ending}" for part in (_PARTS + " " + _OF_ROOMS).split() for ending in ("", "s")),
    ]
)
"""Colours, and parts of flowers, birds and rooms, in the singular and the plural."""
AMERICAN = (
    ("grey", "gray"),
    ("colour", "color"),
    ("centred", "centered"),
    ("centre", "center"),
    ("petalled", "petaled"),
    ("fibre", "fiber"),
    ("theatre", "theater"),
    ("neighbour", "neighbor"),
    ("favour", "favor"),
    ("honour", "honor"),
    ("harbour", "harbor"),
    ("labour", "labor"),
)
"""British spellings and the American ones that stand for both, wherever in a word, in this order."""


def word_error_rate(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """WER over all sentences together, >= 0.

    Args:
        references: what was said.
        hypotheses: what was understood, one a reference.

    Raises:
        DataError: the numbers differ, or no reference has a word.
    """
    return _rate(references, hypotheses, None)


def content_word_error_rate(
    references: Sequence[str], hypotheses: Sequence[str], content: Collection[str] = CONTENT_WORDS
) -> float:
    """WER of the content words alone, >= 0.

    Args:
        references: what was said.
        hypotheses: what was understood, one a reference.
        content: the words that count, in lower case and either spelling.

    Raises:
        DataError: the numbers differ, or no reference has a content word.
    """
    return _rate(references, hypotheses, content)


@dataclass(frozen=True)
class Transcripts:
    """Sentences that were said, and what was understood of each."""

    references: Sequence[str]
    hypotheses: Sequence[str]


def wer(spoken: Transcripts) -> Estimate:
    """Word error rate as a measure."""
    return Estimate(word_error_rate(spoken.references, spoken.hypotheses))


def content_wer(spoken: Transcripts) -> Estimate:
    """Word error rate of content words as a measure."""
    return Estimate(content_word_error_rate(spoken.references, spoken.hypotheses))


def words(text: str) -> list[str]:
    """Lower-case words without punctuation, in American spelling; apostrophes inside a word stay.

    >>> words("The bird's BELLY, light-grey.")
    ['the', "bird's", 'belly', 'light', 'gray']
    """
    plain = unicodedata.normalize("NFKC", text).lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    for british, american in AMERICAN:
        plain = plain.replace(british, american)
    return re.findall(r"\w+(?:'\w+)*", plain)


def _rate(references: Sequence[str], hypotheses: Sequence[str], content: Collection[str] | None) -> float:
    if len(references) != len(hypotheses):
        raise DataError(f"{len(references)} references but {len(hypotheses)} hypotheses; give one for each")
    counted = None if content is None else set(words(" ".join(content)))
    said, understood = (
        [[word for word in words(text) if counted is None or word in counted] for text in texts]
        for texts in (references, hypotheses)
    )
    if not any(said):
        kind = "word" if content is None else "content word"
        raise DataError(f"no reference has a {kind}: there is nothing to be wrong about")
    return float(jiwer.wer([" ".join(kept) for kept in said], [" ".join(kept) for kept in understood]))
