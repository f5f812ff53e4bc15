"""Rows of result tables: stable ids and estimates, and the form they have in results.json.

Labels are looked up where rows are printed or written. Files of before rows had ids are read, too: their ids
follow from the labels they hold.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from speech2image.metrics.estimate import Estimate
from speech2image.metrics.registry import TABLES

Results = dict[str, Any]
"""What results.json holds."""

CEILING, SHUFFLED, NOISE = "ceiling", "shuffled", "noise"
TRUE_WORDS = "true words"
FEATURES, PRIOR_SAMPLES, SPEECH = "features", "prior samples", "speech"
LABELS: dict[str, dict[str, str]] = {
    "pictures": {
        CEILING: "real against real: two halves (ceiling)",
        "kept out": "drawn from voices kept out",
        "kept out, natural voices": "drawn from natural voices kept out",
        "kept out, people": "drawn from people kept out",
        "heard": "drawn from voices heard in training",
        "heard, natural voices": "drawn from natural voices heard in training",
        "heard, people": "drawn from people heard in training",
        SHUFFLED: "kept out, utterances shuffled (floor)",
        NOISE: "drawn from noise (floor)",
    },
    "retrieval": {
        TRUE_WORDS: "the true words, no speech",
        CEILING: "another crop of the photograph (ceiling)",
        SHUFFLED: "kept out, utterances shuffled (floor)",
        NOISE: "noise for speech (floor)",
    },
}
LABELS["colours"] = LABELS["pictures"] | {
    CEILING: "real photographs (ceiling)",
    SHUFFLED: "kept out, captions shuffled (floor)",
}
"""Table -> id of a row -> what reports call it; ids without a label are called by themselves."""
LABELS["variety"] = {
    CEILING: "photographs (ceiling; alike: those of one class)",
    FEATURES: "drawn from the features of photographs",
    PRIOR_SAMPLES: "drawn from a sample of the condition prior",
    SPEECH: "drawn from speech",
}
LABEL_FIELDS = {"pictures": "pictures", "colours": "pictures", "variety": "pictures"}
"""The field of results.json that holds a row's label, by table; elsewhere it is `voices`."""


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        id: a group of voices, or one of the constants of this module.
        estimates: key of a measure -> its figure; what was not measured is missing.
        counts: how many pictures, queries ... it is of.
        facts: what else tells it from others: classes, voice, condition.
        chance: key of a measure -> what an order at random reaches.
    """

    id: str
    estimates: Mapping[str, Estimate] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    chance: Mapping[str, float] = field(default_factory=dict)

    def value(self, key: str) -> float | None:
        """A figure, None if it was not measured."""
        return self.estimates[key].value if key in self.estimates else None


def main_group(results: Results) -> str:
    """The group of voices that floors, sheet and the model's one row are of, "kept out" if there is one."""
    return str(results.get("main_group", "kept out"))


def label(table: str, id: str, main: str = "kept out") -> str:
    """What a table calls a row; `main` is the group of voices whose utterances the floor shuffles."""
    called = LABELS.get(table, {}).get(id, id)
    return called.replace("kept out", main) if id == SHUFFLED else called


def write_row(table: str, row: Row, main: str = "kept out") -> Results:
    """A row as results.json has it: flat, in the fields that each table has always had."""
    written: Results = {"id": row.id, LABEL_FIELDS.get(table, "voices"): label(table, row.id, main)}
    written |= {**row.facts, **row.counts}
    nested = table in ("retrieval", "voice_by_voice")
    for key in [measure.key for measure in TABLES["retrieval" if nested else table]]:
        estimate = row.estimates.get(key)
        if estimate is None and table == "pictures":
            continue  # no measure asked for
        written[key] = None if estimate is None else estimate.value
        if not nested and table != "words":
            written[_interval_field(table, key)] = _ends(estimate)
        written |= {} if estimate is None else estimate.details
    if nested:
        intervals = {key: _ends(estimate) for key, estimate in row.estimates.items()}
        written["intervals"] = intervals if all(intervals.values()) else None
        written["chance"] = dict(row.chance)
    return written


def read_row(table: str, written: Results) -> Row:
    """The row that `write_row` wrote, or that was written before rows had ids."""
    called = written[LABEL_FIELDS.get(table, "voices")]
    ids = {text: id for id, text in LABELS.get(table, {}).items()}
    nested = table in ("retrieval", "voice_by_voice")
    estimates = {}
    for key in [measure.key for measure in TABLES["retrieval" if nested else table]]:
        if written.get(key) is not None:
            ends = (written.get("intervals") or {}).get(key) or written.get(_interval_field(table, key))
            estimates[key] = Estimate(written[key], None if ends is None else (ends[0], ends[1]))
    facts = {name: value for name, value in written.items() if isinstance(value, str) and name != "id"}
    counts = {name: value for name, value in written.items() if isinstance(value, int)}
    id = str(written.get("id") or ids.get(called, called))
    return Row(id, estimates, counts, facts, written.get("chance") or {})


def _interval_field(table: str, key: str) -> str:
    return "interval" if table == "colours" and key == "agreement" else f"{key}_interval"


def _ends(estimate: Estimate | None) -> list[float] | None:
    return None if estimate is None or estimate.interval is None else list(estimate.interval)


def read_rows(results: Results, table: str) -> list[Row]:
    """The rows of a table of results; none in files from before there was such a table."""
    return [read_row(table, written) for written in results.get(table, [])]


def find(rows: Sequence[Row], id: str, **facts: str) -> Row:
    """The first row of an id and of these facts; one without figures if there is none."""
    found = (row for row in rows if row.id == id and facts.items() <= dict(row.facts).items())
    return next(found, Row(id))
