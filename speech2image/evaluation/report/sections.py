"""The figures as tables and bars, from which both reports are written."""

from collections.abc import Sequence
from typing import Any

from speech2image.evaluation.report_parts import (
    Row,
    Section,
    bracketed,
    chart,
    number,
    share,
    share_span,
    span,
)
from speech2image.evaluation.retrieval import NAMES
from speech2image.evaluation.robustness_section import robustness_section


def sections(results: dict[str, Any]) -> list[Section]:
    """All sections of a model's report."""
    made = [
        _pictures(results),
        _retrieval(results["retrieval"]),
        _voices(results["voice_by_voice"]),
        _colours(results),
        robustness_section(results),
        _words(results["words"]),
        _missing(results["not_measured"]),
        _sheet(results["sheet"]),
    ]
    return [section for section in made if section is not None]


def _pictures(results: dict[str, Any]) -> Section | None:
    rows = results["pictures"]
    if not rows:
        return None
    head = (
        "pictures",
        "n",
        "FID",
        "95 %",
        *_equal_head(rows),
        "KID x 1000",
        "precision",
        "recall",
        "IS",
        "95 %",
    )
    cells = [
        (
            row["pictures"],
            str(row["n"]),
            number(row.get("fid")),
            span(row.get("fid_interval")),
            *([number(row.get("fid_equal"))] if len(_equal_head(rows)) else []),
            bracketed(number(_thousand(row.get("kid"))), span(_thousands(row.get("kid_interval")))),
            bracketed(share(row.get("precision")), share_span(row.get("precision_interval"))),
            bracketed(share(row.get("recall")), share_span(row.get("recall_interval"))),
            _plus_minus(row.get("is"), row.get("is_spread")),
            span(row.get("is_interval")),
            bracketed(share(row.get("class_map")), share_span(row.get("class_map_interval"))),
        )
        for row in rows
    ]
    charts = [
        chart("FID", rows, "fid", "fid_interval", better="lower is better"),
        chart("FID, equal numbers of pictures", rows, "fid_equal", None, better="lower is better"),
        chart("class mAP, %", rows, "class_map", "class_map_interval", 100),
    ]
    return Section(
        "Pictures",
        _picture_text(results),
        (*head, "class mAP"),
        cells,
        [chart for chart in charts if chart.bars],
    )


def _equal_head(rows: Sequence[Row]) -> tuple[str, ...]:
    return (f"FID of {rows[0]['n_equal']}",) if "n_equal" in rows[0] else ()


def _picture_text(results: dict[str, Any]) -> str:
    rows, network, judge = results["pictures"], results["network"], results["classifier"]
    text = [
        f"Compared with the real set in the space of {network['name']} ({network['dim']} numbers). FID falls "
        f"with the number of pictures: the column of equal numbers compares rows with one another and with "
        f"the ceiling (all against the second half of the real set). KID does not depend on the number. "
        f"Precision and recall with k = 3, in %. In brackets: 95 % intervals."
    ]
    if any(row.get("singular") for row in rows):
        text.append(
            f"Rows with no more than {network['dim']} pictures on a side have a singular covariance: their "
            f"FID says less."
        )
    if judge is not None:
        right = judge.get("right_on_the_other_half")
        known = "" if right is None else f" (right for {share(right)} % of the half it was not fitted on)"
        text.append(f"Inception Score by: {judge['name']}{known}; its spread is over {_splits(rows)} splits.")
    text.append(
        "Class mAP (S2IGAN's protocol): photographs look for drawn pictures of their class. Shuffling "
        "changes it alone, since the other measures do not know what was said."
    )
    return " ".join(text)


def _splits(rows: Sequence[Row]) -> int:
    return next((row["is_splits"] for row in rows if "is_splits" in row), 0)


def _plus_minus(value: float | None, spread: float | None) -> str:
    return "-" if value is None or spread is None else f"{value:.2f} ± {spread:.2f}"


def _thousand(value: float | None) -> float | None:
    return None if value is None else 1000 * value


def _thousands(interval: Sequence[float] | None) -> list[float] | None:
    return None if interval is None else [1000 * end for end in interval]


def _retrieval(rows: Sequence[Row]) -> Section | None:
    if not rows:
        return None
    text = (
        "Share of utterances whose own picture is among the first k of the gallery, and mean average "
        "precision of its class, in %, by cosine in the teacher's space, speech and photographs each after "
        "their own mean was taken away; what an order at random reaches in brackets."
    )
    if {row["classes"] for row in rows} == {"unseen"}:
        text += ' No pictures of seen classes (split "val") with speech: prepare with --validation 0.05.'
    cells = [
        (
            row["classes"],
            row["voices"],
            str(row["queries"]),
            str(row["pictures"]),
            *(f"{share(row[name])} ({share(row['chance'][name])})" for name in NAMES),
            "-" if row["intervals"] is None else share_span(row["intervals"]["R@10"]),
        )
        for row in rows
    ]
    unseen = [
        row | {"low": row["intervals"] and row["intervals"]["R@10"]}
        for row in rows
        if row["classes"] == "unseen"
    ]
    bars = chart("R@10 of unseen classes, %", unseen, "R@10", "low", 100, label="voices")
    head = ("classes", "voices", "queries", "gallery", *NAMES, "R@10, 95 %")
    return Section("Speech to picture retrieval", text, head, cells, [bars])


def _voices(rows: Sequence[Row]) -> Section | None:
    if not rows:
        return None
    cells = [
        (row["voice"], row["voices"], str(row["queries"]), *(share(row[name]) for name in NAMES))
        for row in rows
    ]
    return Section("Voice by voice", "Unseen classes.", ("voice", "in training", "queries", *NAMES), cells)


def _colours(results: dict[str, Any]) -> Section | None:
    rows = results["colours"]
    if "colours" not in results["settings"]["measures"]:
        return None
    if not rows:
        text = "Not measured: the captions of the training pictures, or those spoken, name no main colour."
        return Section("Colour agreement", text)
    text = (
        "How often a reader fitted on the training photographs reads the caption's main colour off the "
        "picture, on unseen classes, in %."
    )
    cells = [
        (row["pictures"], str(row["n"]), share(row["agreement"]), share_span(row["interval"])) for row in rows
    ]
    bars = chart("colour agreement, %", rows, "agreement", "interval", 100)
    return Section("Colour agreement", text, ("pictures", "n", "agreement", "95 %"), cells, [bars])


def _words(rows: Sequence[Row]) -> Section | None:
    if not rows:
        return None
    cells = [
        (row["voices"], str(row["utterances"]), share(row["wer"]), share(row["content_wer"])) for row in rows
    ]
    text = "Word error rate of what was written down, and of content words (colours, parts) alone, in %."
    return Section("Words", text, ("voices", "utterances", "WER", "content WER"), cells)


def _missing(reasons: dict[str, str]) -> Section | None:
    if not reasons:
        return None
    return Section("Not measured", "", ("measure", "why"), list(reasons.items()))


def _sheet(shown: dict[str, Any]) -> Section:
    cells = [
        (str(number), row["caption"], row["voice"], row["class"])
        for number, row in enumerate(shown["rows"], 1)
    ]
    text = (
        f"`grid.png`: utterances of unseen classes in voices kept out of training, one a row, the same "
        f"{shown['noises']} noises in each."
    )
    return Section("Sheet", text, ("row", "spoken", "voice", "class of the photograph described"), cells)
