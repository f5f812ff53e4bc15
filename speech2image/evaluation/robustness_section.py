"""The report's section on speech under difficult conditions."""

from collections.abc import Sequence
from typing import Any

from speech2image.evaluation import colours
from speech2image.evaluation import retrieval as spoken_retrieval
from speech2image.evaluation.report_parts import Chart, Row, Section, bracketed, chart, share, share_span

_HEAD = ("voices", "condition", "utterances", "R@10 (95 %)", "mAP (95 %)", "colour (95 %)", "refused (95 %)")
_BOUNDS = (
    ("ceiling", spoken_retrieval.CEILING, colours.PHOTOGRAPHS),
    ("the true words, no speech", spoken_retrieval.WORDS, None),
    ("floor: utterances shuffled", spoken_retrieval.SHUFFLED, colours.SHUFFLED),
)
"""What the row is called, and its rows in the tables of retrieval and of colours."""


def robustness_section(results: dict[str, Any]) -> Section | None:
    """The table and charts of `results["robustness"]`; None if there are none."""
    rows = results.get("robustness")
    if not rows:
        return None
    text = (
        "Unseen classes, in %; the same utterances in every condition, prepared without change where there "
        "are such. Natural voices are Kokoro's and Piper's, synthesizers other speaking programs; people are "
        "readers whose recorded words were put together. Whole gallery. Refused: the speech detector hears "
        "too little speech, so a user gets no picture; the other figures count these utterances too, as the "
        "encoder hears them."
    )
    if all(row["missed"] is None for row in rows):
        text += " This model has no speech detector: it refuses nothing."
    cells = [_cells(row) for row in rows] + _bounds(results)
    return Section("Difficult conditions", text, _HEAD, cells, _charts(rows))


def _cells(row: Row) -> list[str]:
    return [
        row["voices"],
        row["condition"],
        str(row["utterances"]),
        *(_figure(row, key) for key in ("R@10", "mAP", "agreement", "missed")),
    ]


def _figure(row: Row, key: str) -> str:
    return bracketed(share(row[key]), share_span(row[f"{key}_interval"]))


def _bounds(results: dict[str, Any]) -> list[list[str]]:
    """Ceiling and floor, from the report's other tables."""
    found = []
    for label, spoken, colour in _BOUNDS:
        retrieval = next((row for row in results["retrieval"] if row["voices"] == spoken), None)
        read = next((row for row in results["colours"] if row["pictures"] == colour), None)
        if retrieval is not None or read is not None:
            cells = [_bound(retrieval, "R@10"), _bound(retrieval, "mAP"), _agreement(read), "-"]
            found.append([label, "-", str((retrieval or read or {}).get("queries", "-")), *cells])
    return found


def _bound(row: Row | None, key: str) -> str:
    if row is None:
        return "-"
    return bracketed(share(row[key]), share_span(row["intervals"] and row["intervals"][key]))


def _agreement(row: Row | None) -> str:
    return "-" if row is None else bracketed(share(row["agreement"]), share_span(row["interval"]))


def _charts(rows: Sequence[Row]) -> list[Chart]:
    charts = []
    for voices in dict.fromkeys(row["voices"] for row in rows if row["voices"].startswith("kept out")):
        own = [row for row in rows if row["voices"] == voices]
        for title, key in (("colour agreement", "agreement"), ("R@10", "R@10")):
            charts.append(
                chart(f"{title}, voices {voices}, %", own, key, f"{key}_interval", 100, label="condition")
            )
    return [drawn for drawn in charts if drawn.bars]
