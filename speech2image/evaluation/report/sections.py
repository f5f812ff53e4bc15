"""Sections of a report: results as tables and charts, from which HTML and Markdown are written."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from speech2image.data.shards.rows import UNSEEN
from speech2image.evaluation.results import (
    CEILING,
    NOISE,
    SHUFFLED,
    TRUE_WORDS,
    Results,
    Row,
    find,
    label,
    main_group,
    read_rows,
)
from speech2image.evaluation.utterances import KEPT_OUT
from speech2image.metrics.estimate import Estimate
from speech2image.metrics.registry import PICTURES, REFUSED, RETRIEVAL, TABLES, Measure

SUMMARY = tuple(
    (table, measure)
    for table in ("pictures", "colours", "retrieval")
    for measure in TABLES[table]
    if measure.summary
)
"""Table and measure of each figure in a model's one row."""
SEEN = "seen"
"""What a row of retrieval calls the classes of the split "val"; its others are of "test"."""
SUMMARY_HEAD = ("model", "data", "pictures", "network", *(measure.head for _, measure in SUMMARY))


@dataclass(frozen=True)
class Chart:
    """Figures of one measure.

    Attributes:
        title: above it.
        measure: says how figures are written and which way is better.
        series: name -> line -> figure; all series have lines of the same names.
    """

    title: str
    measure: Measure
    series: Mapping[str, Mapping[str, Estimate]]


@dataclass(frozen=True)
class Section:
    """A heading, what the table says, the table, its charts."""

    title: str
    text: str
    head: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    charts: Sequence[Chart] = field(default_factory=list)


def sections(results: Results) -> list[Section]:
    """All sections of a model's report."""
    made = [
        _pictures(results),
        _variety(results),
        _retrieval(results),
        _voices(results),
        _colours(results),
        _robustness(results),
        _words(results),
        _missing(results),
        _sheet(results),
    ]
    return [section for section in made if section is not None]


def summary(results: Results, id: str | None = None) -> list[str]:
    """One model's row of `SUMMARY_HEAD`: by default of pictures drawn from its `main_group` of voices."""
    id = main_group(results) if id is None else id
    drawn, found = find(read_rows(results, "pictures"), id), summary_figures(results, id)
    colours, network = find(read_rows(results, "colours"), id), results["network"]
    return [
        results["model"]["name"],
        results["data"]["name"],
        str(drawn.counts.get("n", colours.counts.get("n", "-"))),
        "-" if network is None else network["name"],
        *(
            measure.format.number(found[measure.key].value) if measure.key in found else "-"
            for _, measure in SUMMARY
        ),
    ]


def summary_figures(results: Results, id: str | None = None) -> dict[str, Estimate]:
    """Key of a measure of `SUMMARY` -> its figure in the rows of an id, by default of the `main_group`; what
    was not measured is missing."""
    id = main_group(results) if id is None else id
    rows = {
        table: find([row for row in read_rows(results, table) if row.facts.get("classes") != SEEN], id)
        for table in dict(SUMMARY)
    }
    found = ((measure.key, rows[table].estimates.get(measure.key)) for table, measure in SUMMARY)
    return {key: estimate for key, estimate in found if estimate is not None}


def charts_of(
    measures: Iterable[Measure], lines: Mapping[str, Mapping[str, Estimate]], title: str = "{}"
) -> list[Chart]:
    """A chart of each measure that is to have one and was measured: line -> key of a measure -> figure."""
    made = []
    for measure in measures:
        own = {name: figures[measure.key] for name, figures in lines.items() if measure.key in figures}
        if measure.charted and own:
            made.append(Chart(title.format(measure.head), measure, {"": own}))
    return made


def _pictures(results: Results) -> Section | None:
    rows = read_rows(results, "pictures")
    if not rows:
        return None
    measures = _measured(PICTURES, rows)
    head = ("pictures", "n", *(measure.head for measure in measures))
    called = {row.id: label("pictures", row.id, main_group(results)) for row in rows}
    cells = [(called[row.id], str(row.counts["n"]), *_figures(measures, row)) for row in rows]
    lines = {called[row.id]: row.estimates for row in rows}
    return Section("Pictures", _picture_text(results), head, cells, charts_of(measures, lines))


def _variety(results: Results) -> Section | None:
    rows, measures = read_rows(results, "variety"), TABLES["variety"]
    if not rows:
        return None
    text = (
        "Where variety goes. Every row describes the same photographs, one half of the real set, with one "
        "picture each, and is compared with the other half. Recall of conditions, in the teacher's space: "
        "the share of real features near those that are drawn from. Recall of pictures: the same of what was "
        "drawn, in the space of the network above. Distance: mean over pairs of pictures of one condition, "
        "between features of length 1; of photographs between those of one class. In brackets: 95 % "
        "intervals."
    )
    cells = [
        (
            label("variety", row.id),
            str(row.counts["n"]),
            str(row.counts["conditions"]),
            *_figures(measures, row),
        )
        for row in rows
    ]
    head = ("pictures", "n", "conditions", *(measure.head for measure in measures))
    lines = {label("variety", row.id): row.estimates for row in rows}
    return Section("Variety", text, head, cells, charts_of(measures, lines))


def _picture_text(results: Results) -> str:
    rows, network, classifier = results["pictures"], results["network"], results["classifier"]
    equal = next((row["n_equal"] for row in rows if "n_equal" in row), 0)
    accuracy = any("class_accuracy" in row for row in rows)
    text = [
        f"Compared with the real set in the space of {network['name']} ({network['dim']} numbers). FID falls "
        f"with the number of pictures: the column of equal numbers ({equal} pictures each) compares rows "
        f"with one another and with the ceiling (all against the second half of the real set). KID does not "
        f"depend on the number. Precision and recall with k = 3. In brackets: 95 % intervals."
    ]
    if any(row.get("singular") for row in rows):
        text.append(
            f"Rows with no more than {network['dim']} pictures on a side have a singular covariance: their "
            f"FID says less."
        )
    if classifier is not None:
        known = ""
        if (right := classifier.get("right_on_photographs_held_back")) is not None:
            known = f" (no test photograph among them; right for {100 * right:.1f} % of others held back)"
        elif (right := classifier.get("right_on_the_other_half")) is not None:  # before version 0.3
            known = f" (right for {100 * right:.1f} % of the half it was not fitted on)"
        splits = next((row["is_splits"] for row in rows if "is_splits" in row), 0)
        of_it = [f"Inception Score, mean over {splits} splits"] if splits else []
        if accuracy:
            of_it.append("class accuracy, the share of pictures given the class of the photograph described")
        told = " and ".join(of_it)
        text.append(f"{told[:1].upper()}{told[1:]}, by: {classifier['name']}{known}.")
    if floor := against_noise(results):
        text.append(f"Pictures of voices {spoken_by(results)} are {floor}: {NOISE_FLOOR}.")
    text.append(
        "Class mAP (S2IGAN's protocol): photographs look for drawn pictures of their class. Shuffling "
        f"changes it{' and class accuracy' if accuracy else ''} alone, since the other measures do not know "
        "what was said."
    )
    return " ".join(text)


NOISE_FLOOR = "what the model draws from noise in place of speech; below is nearer to the photographs"


def against_noise(results: Results) -> str:
    """Where the model's pictures stand to those it draws from noise, by FID and KID; "" if neither is known.

    Both have to agree before either is worth a word: FID of few pictures is biased, KID spreads.
    """
    rows = read_rows(results, "pictures")
    own, noise = find(rows, main_group(results)), find(rows, NOISE)
    places: dict[str, list[str]] = {}
    for key in ("fid", "kid"):
        value, floor = own.value(key), noise.value(key)
        if value is not None and floor is not None:
            places.setdefault("below" if value < floor else "above", []).append(key.upper())
    parts = [f"{place} the noise floor by {' and '.join(keys)}" for place, keys in places.items()]
    return ", but ".join(parts)


def _retrieval(results: Results) -> Section | None:
    rows = read_rows(results, "retrieval")
    if not rows:
        return None
    text = (
        "Share of utterances whose own picture is among the first k of the gallery, and mean average "
        "precision of its class, in %, by cosine in the teacher's space, speech and photographs each after "
        "their own mean was taken away; what an order at random reaches in brackets."
    )
    if all(row.facts["classes"] != SEEN for row in rows):
        text += ' No pictures of seen classes (split "val") with speech: prepare with --validation 0.05.'
    spread = [measure for measure in RETRIEVAL if measure.summary]
    cells = [
        (
            row.facts["classes"],
            label("retrieval", row.id, main_group(results)),
            str(row.counts["queries"]),
            str(row.counts["pictures"]),
            *(_with_chance(measure, row) for measure in RETRIEVAL),
            *(_interval(measure, row) for measure in spread),
        )
        for row in rows
    ]
    head = ("classes", "voices", "queries", "gallery", *(measure.label for measure in RETRIEVAL))
    tested = {
        label("retrieval", row.id, main_group(results)): row.estimates
        for row in rows
        if row.facts["classes"] != SEEN
    }
    charts = charts_of(RETRIEVAL, tested, f"{{}} of {_tested(results)}")
    bounds = [f"{measure.label}, 95 %" for measure in spread]
    return Section("Speech to picture retrieval", text, (*head, *bounds), cells, charts)


def _with_chance(measure: Measure, row: Row) -> str:
    text = measure.format.number(row.value(measure.key))
    return f"{text} ({measure.format.number(row.chance[measure.key])})" if measure.key in row.chance else text


def _interval(measure: Measure, row: Row) -> str:
    estimate = row.estimates.get(measure.key)
    return measure.format.span(None if estimate is None else estimate.interval)


def _voices(results: Results) -> Section | None:
    rows = read_rows(results, "voice_by_voice")
    if not rows:
        return None
    cells = [
        (
            row.facts["voice"],
            row.id,
            str(row.counts["queries"]),
            *(measure.format.number(row.value(measure.key)) for measure in RETRIEVAL),
        )
        for row in rows
    ]
    head = ("voice", "in training", "queries", *(measure.head for measure in RETRIEVAL))
    return Section("Voice by voice", f"{_tested(results).capitalize()}.", head, cells)


def _colours(results: Results) -> Section | None:
    rows, measures = read_rows(results, "colours"), TABLES["colours"]
    if "colours" not in results["settings"]["measures"]:
        return None
    if not rows:
        text = "Not measured: the captions of the training pictures, or those spoken, name no main colour."
        return Section("Colour agreement", text)
    text = (
        "How often a reader fitted on the training photographs reads the caption's main colour off the "
        f"picture, on {_tested(results)}. In brackets: 95 % intervals."
    )
    called = {row.id: label("colours", row.id, main_group(results)) for row in rows}
    cells = [(called[row.id], str(row.counts["n"]), *_figures(measures, row)) for row in rows]
    head = ("pictures", "n", *(measure.head for measure in measures))
    lines = {called[row.id]: row.estimates for row in rows}
    return Section("Colour agreement", text, head, cells, charts_of(measures, lines))


def _robustness(results: Results) -> Section | None:
    if not results.get("robustness"):
        return None
    rows = read_rows(results, "robustness")
    text = (
        f"{_tested(results).capitalize()}; the same utterances in every condition, prepared without change "
        "where there are such. Natural voices are Kokoro's and Piper's, synthesizers other speaking "
        "programs; people are readers whose recorded words were put together. Whole gallery. Refused: the "
        "speech detector finds too little speech, so a user gets no picture; the other figures count these "
        "utterances too, as the encoder embeds them. In brackets: 95 % intervals."
    )
    if all(REFUSED.key not in row.estimates for row in rows):
        text += " This model has no speech detector: it refuses nothing."
    measures = TABLES["robustness"]
    cells = [
        [row.id, row.facts["condition"], str(row.counts["utterances"]), *_figures(measures, row)]
        for row in rows
    ]
    head = ("voices", "condition", "utterances", *(measure.head for measure in measures))
    charts = []
    for measure in _measured(measures, rows):
        series: dict[str, dict[str, Estimate]] = {}
        for row in rows:
            if measure.key in row.estimates:
                series.setdefault(row.id, {})[row.facts["condition"]] = row.estimates[measure.key]
        charts.append(Chart(measure.head, measure, series))
    return Section("Difficult conditions", text, head, [*cells, *_robustness_bounds(results)], charts)


def _robustness_bounds(results: Results) -> list[list[str]]:
    """Ceiling and floor, from the report's other tables."""
    tables = {table: read_rows(results, table) for table in ("retrieval", "colours")}
    names = {
        CEILING: "ceiling",
        TRUE_WORDS: label("retrieval", TRUE_WORDS),
        SHUFFLED: "floor: utterances shuffled",
    }
    found = []
    for id, name in names.items():
        own = {table: find(rows, id) for table, rows in tables.items()}
        figures = {**own["colours"].estimates, **own["retrieval"].estimates}
        counts = {**own["colours"].counts, **own["retrieval"].counts}
        if figures:
            n = str(counts.get("queries", "-"))
            found.append([name, "-", n, *_figures(TABLES["robustness"], Row(id, figures))])
    return found


def _words(results: Results) -> Section | None:
    rows, measures = read_rows(results, "words"), TABLES["words"]
    if not rows:
        return None
    cells = [(row.id, str(row.counts["utterances"]), *_figures(measures, row)) for row in rows]
    text = "Word error rate of what was written down, and of content words (colours, parts) alone."
    head = ("voices", "utterances", *(measure.head for measure in measures))
    return Section("Words", text, head, cells)


def _missing(results: Results) -> Section | None:
    reasons = results["not_measured"]
    if not reasons:
        return None
    return Section("Not measured", "", ("measure", "why"), list(reasons.items()))


def _sheet(results: Results) -> Section:
    shown = results["sheet"]
    cells = [
        (str(number), row["caption"], row["voice"], row["class"])
        for number, row in enumerate(shown["rows"], 1)
    ]
    photograph = "the photograph described, then " if shown.get("photographs") else ""
    text = (
        f"`grid.png`: utterances of {_tested(results)} in voices {spoken_by(results)}, one a row, "
        f"{photograph}the same {shown['noises']} noises in each."
    )
    return Section("Sheet", text, ("row", "spoken", "voice", "class of the photograph described"), cells)


def spoken_by(results: Results) -> str:
    """Of which voices the model's one row, floors and sheet are, in words."""
    return "kept out of training" if main_group(results) == KEPT_OUT else "heard in training"


def _tested(results: Results) -> str:
    """Which classes the test pictures show; evaluations that do not say are of zero-shot splits."""
    return str(results.get("data", {}).get("test_classes", UNSEEN))


def _measured(measures: Sequence[Measure], rows: Sequence[Row]) -> list[Measure]:
    """The measures that some row has a figure of."""
    return [measure for measure in measures if any(measure.key in row.estimates for row in rows)]


def _figures(measures: Sequence[Measure], row: Row) -> list[str]:
    """Cells of a row: figures with their intervals."""
    return [measure.format.estimate(row.estimates.get(measure.key)) for measure in measures]
