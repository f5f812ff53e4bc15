"""Registry of measures: their names, how they are computed and written, which way is better, what they need.

The evaluation, its reports and the paper's tables iterate over these tuples. To add a measure: a file in
`metrics/` with a function that gives an `Estimate`, an entry here, a test.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from speech2image.metrics.class_accuracy import class_accuracy
from speech2image.metrics.class_retrieval import class_map
from speech2image.metrics.colour_agreement import ColourHits, agreement
from speech2image.metrics.estimate import NUMBER, PERCENT, THOUSANDTHS, Estimate, Format
from speech2image.metrics.frechet import fid, fid_of_equal_numbers
from speech2image.metrics.inception_score import inception
from speech2image.metrics.kernel import kid
from speech2image.metrics.picture_sets import PictureSets
from speech2image.metrics.precision_recall import precision, recall
from speech2image.metrics.refusals import Refusals, refused_share
from speech2image.metrics.retrieval import KS, Ranking, class_mean_average_precision, recall_at
from speech2image.metrics.variety import (
    VarietyFeatures,
    condition_recall,
    mean_distance,
    picture_recall,
)
from speech2image.metrics.word_errors import Transcripts, content_wer, wer

Input = TypeVar("Input")
Need = Literal["network", "classifier", "classes", "labels", "transcripts"]
"""The evaluating network; a classifier on its features; one that knows the classes tested; what was asked
for; what a recognizer wrote down."""


@dataclass(frozen=True)
class Measure(Generic[Input]):
    """A measure.

    Attributes:
        key: in results.json.
        label: in reports.
        option: the word of `--measures` that asks for it.
        compute: the figure of a row of its table.
        format: of its figures.
        lower_is_better: whether less is better.
        needs: what there must be besides data and model.
        charted: whether reports have a chart of it.
        summary: whether it is a column of a model's one row.
    """

    key: str
    label: str
    option: str
    compute: Callable[[Input], Estimate]
    format: Format = NUMBER
    lower_is_better: bool = False
    needs: frozenset[Need] = frozenset({"network"})
    charted: bool = True
    summary: bool = True

    @property
    def head(self) -> str:
        """The label with its unit."""
        return self.label + self.format.unit


NOTHING: frozenset[Need] = frozenset()
PICTURES: tuple[Measure[PictureSets], ...] = (
    Measure("fid", "FID", "fid", fid, lower_is_better=True),
    Measure("fid_equal", "FID, equal n", "fid", fid_of_equal_numbers, lower_is_better=True, summary=False),
    Measure("kid", "KID", "kid", kid, THOUSANDTHS, lower_is_better=True),
    Measure("precision", "precision", "precision-recall", precision, PERCENT),
    Measure("recall", "recall", "precision-recall", recall, PERCENT),
    Measure("is", "IS", "inception-score", inception, needs=frozenset({"network", "classifier"})),
    Measure(
        "class_map", "class mAP", "class-map", class_map, PERCENT, needs=frozenset({"network", "labels"})
    ),
    Measure(
        "class_accuracy",
        "class accuracy",
        "class-accuracy",
        class_accuracy,
        PERCENT,
        needs=frozenset({"network", "classifier", "classes", "labels"}),
        summary=False,  # an empty column for zero-shot sets
    ),
)
"""Of drawn pictures, in the feature space of a network."""
VARIETY: tuple[Measure[VarietyFeatures], ...] = (
    Measure("condition_recall", "recall of conditions", "variety", condition_recall, PERCENT, charted=False),
    Measure("picture_recall", "recall of pictures", "variety", picture_recall, PERCENT, charted=False),
    Measure("distance", "distance between pictures of one condition", "variety", mean_distance),
)
"""Of pictures drawn from features, from the prior's samples and from speech."""
COLOURS: tuple[Measure[ColourHits], ...] = (
    Measure("agreement", "colour", "colours", agreement, PERCENT, needs=NOTHING),
)
"""Of the colours read in pictures."""
RETRIEVAL: tuple[Measure[Ranking], ...] = (
    *(
        Measure(
            f"R@{k}",
            f"R@{k}",
            "retrieval",
            recall_at(k),
            PERCENT,
            False,
            NOTHING,
            charted=k == 10,
            summary=k == 10,
        )
        for k in KS
    ),
    Measure("mAP", "mAP", "retrieval", class_mean_average_precision, PERCENT, needs=NOTHING),
)
"""Of photographs found by speech, in the teacher's feature space."""
_TRANSCRIPTS: frozenset[Need] = frozenset({"transcripts"})
WORDS: tuple[Measure[Transcripts], ...] = (
    Measure("wer", "WER", "words", wer, PERCENT, True, _TRANSCRIPTS, summary=False),
    Measure("content_wer", "content WER", "words", content_wer, PERCENT, True, _TRANSCRIPTS, summary=False),
)
"""Of what a recognizer wrote down."""
REFUSED: Measure[Refusals] = Measure(
    "missed", "refused", "robustness", refused_share, PERCENT, True, NOTHING, summary=False
)
ROBUSTNESS: tuple[Measure, ...] = (*(m for m in RETRIEVAL if m.summary), *COLOURS, REFUSED)
"""Of speech under difficult conditions."""
TABLES: dict[str, tuple[Measure, ...]] = {
    "pictures": PICTURES,
    "variety": VARIETY,
    "colours": COLOURS,
    "retrieval": RETRIEVAL,
    "words": WORDS,
    "robustness": ROBUSTNESS,
}
"""Table of a report -> its measures."""
OPTIONS = tuple(
    dict.fromkeys(
        m.option for measures in (RETRIEVAL, COLOURS, PICTURES, VARIETY, WORDS, ROBUSTNESS) for m in measures
    )
)
"""What `--measures` takes."""
