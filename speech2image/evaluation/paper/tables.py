"""The paper's tables under this evaluator: a row for each model of a folder, on one data set or several.

    MODELS/<row>                 a model folder (model.json), or
    MODELS/<row>/model           what `speech2image train direct --out MODELS/<row>` leaves, or
    MODELS/<row>/speech_encoder/checkpoint.safetensors and MODELS/<row>/generator/checkpoint.safetensors

Rows and published figures stand in `tables.toml`; the latter come from other evaluators, so they stand beside
ours for orientation alone.
"""

import json
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from itertools import combinations
from pathlib import Path
from typing import Literal

from speech2image.evaluation.report.html import page
from speech2image.evaluation.report.markdown import facts
from speech2image.evaluation.report.markdown import table as markdown_table
from speech2image.evaluation.report.sections import (
    NOISE_FLOOR,
    SUMMARY,
    SUMMARY_HEAD,
    Section,
    against_noise,
    charts_of,
    spoken_by,
    summary,
    summary_figures,
)
from speech2image.evaluation.results import CEILING, NOISE, SHUFFLED, Results, label, main_group
from speech2image.evaluation.run import check_out, report, write_files
from speech2image.evaluation.settings import EvaluationSettings, TableNumber
from speech2image.evaluation.utterances import KEPT_OUT
from speech2image.files import writing
from speech2image.metrics.registry import PICTURES, Measure
from speech2image.pipeline.registry import CARD
from speech2image.training.core.checkpoint import read_facts

SPECIFICATION: Results = tomllib.loads(
    files("speech2image.evaluation.paper").joinpath("tables.toml").read_text(encoding="utf-8")
)
"""What `tables.toml` holds."""
LEAST_PICTURES = 2000
"""Pictures of each set in a table: with fewer than the features have numbers, FID is of singular
covariances."""
BOUNDS = (CEILING, SHUFFLED, NOISE)
"""Rows of ceiling and floors."""
SCALES = """The published figures are not on one scale with ours. Theirs come from the last pool of
Inception-v3 (2048 numbers) and from an Inception Score whose classifier was fitted to the data set, over
many more pictures; ours from the layer and the classifier that each report names, over as many pictures
as it counts; both measures depend on all of these. Their models were trained on the published captions,
ten a picture, for 100,000 and 220,000 steps; ours on this project's captions, two a picture, for as many
steps as docs/recipes.md says. So compare the rows of one table with each other and with the ceiling and
the floors measured beside them, and their order with the published order; never a figure of ours with a
published one."""


NO_WHISPER = "no off-the-shelf recognizer was given; name a folder of faster-whisper's model with --whisper"
"""Why a row is skipped that would hear with one."""


@dataclass(frozen=True)
class PaperRow:
    """A row of a table of the paper.

    Attributes:
        row: folder in `--models`.
        label: what the table calls it.
        published: figures of the paper, for orientation.
        captions: draw from captions, not from speech.
        same_as: another row, whose model serves where this one has none of its own.
        recognizer: "own" (the model's), or "whisper", the one that `--whisper` names.
        optional: left out of the table where there is no model of it.
        joint_embedding, distribution: weights of the encoder's loss, in Table IV.
        balanced: choose these weights so that all items' gradients are of one size.
        branches: scales of the generator, in Table V.
    """

    row: str
    label: str
    published: str = ""
    captions: bool = False
    same_as: str = ""
    recognizer: Literal["own", "whisper"] = "own"
    optional: bool = False
    joint_embedding: int = 1
    distribution: int = 1000
    balanced: bool = False
    branches: int = 3


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper."""

    number: TableNumber
    title: str
    rows: tuple[PaperRow, ...]

    @property
    def of_one_seed(self) -> bool:
        """Whether it compares routes, of which one seed is trained."""
        return self.number in (2, 3)

    def missing(self, row: PaperRow, data: Path, models: Path) -> str:
        """What to do to get a row."""
        out = models.parent if models.name.startswith("seed-") else models
        flags = f"--budget paper --tables {self.number} --data {data} --out {out}"
        return (
            f"{models}/{row.same_as or row.row} is missing; train all rows, into {out}/seed-0, with: "
            f"speech2image tables train {flags}"
        )


TABLES = {
    own["number"]: PaperTable(
        own["number"],
        own["title"],
        tuple(PaperRow(**row) for row in own["rows"]),
    )
    for own in SPECIFICATION["tables"]
}
"""Number of the table -> the table."""


def table(settings: EvaluationSettings) -> Results:
    """Measure every model there is and write the table; each model's own report lies in `out/<row>`.

    Raises:
        OutputError: `out` cannot be written.
        CheckpointError, DataError: as for one model.
    """
    number, models = settings.table, settings.models
    assert number is not None and models is not None
    check_out(settings.out)
    own = TABLES[number]
    rows = [
        _measure(own, row, settings, models)
        for row in own.rows
        if not row.optional or find_row(models / row.row) is not None
    ]
    results = {"format": "speech2image table 1", "table": number, "title": own.title, "rows": rows}
    _write(results, settings.out)
    return results


def _measure(own: PaperTable, row: PaperRow, settings: EvaluationSettings, models: Path) -> Results:
    folder = models / row.row
    if find_row(folder) is None and row.same_as:
        folder = models / row.same_as
    found = find_row(folder)
    made: Results = {"row": row.row, "label": row.label, "published": row.published}
    if row.recognizer == "whisper" and settings.whisper is None:
        return made | {"missing": f"{row.row} is skipped: {NO_WHISPER}", "trained": {}, "results": None}
    if found is None:
        missing = own.missing(row, settings.data, models)
        return made | {"missing": missing, "trained": {}, "results": None}
    made["trained"], going_on = _trainings(folder)
    if going_on:
        return made | {"missing": going_on, "results": None}
    one = replace(settings, table=None, models=None, whisper=None, out=settings.out / row.row, **found)
    if row.recognizer == "whisper":
        one = replace(one, recognizer=f"whisper:{settings.whisper}")
    least = LEAST_PICTURES if settings.least_pictures is None else settings.least_pictures
    one = replace(one, captions=row.captions, least_pictures=least)
    return made | {"missing": None, "results": report(one)}


def find_row(folder: Path) -> Results | None:
    """Settings that name a row's model, None if there is none."""
    for place in (folder, folder / "model"):
        if (place / CARD).is_file():
            return {"model": str(place), "speech_encoder": None, "generator": None}
    pair = [folder / name / "checkpoint.safetensors" for name in ("speech_encoder", "generator")]
    if all(path.is_file() for path in pair):
        return {"speech_encoder": pair[0], "generator": pair[1]}
    return None


def _trainings(folder: Path) -> tuple[dict[str, dict[str, float]], str]:
    """Steps and minutes of each training in a row's folder, and which has not come to its end.

    Nothing where a model alone lies there. A training given minutes, not steps, has come to its end.

    Raises:
        CheckpointError: a checkpoint is damaged.
    """
    found, going_on = {}, ""
    for path in sorted(folder.glob("*/checkpoint.safetensors")):
        stored = read_facts(path)
        step, steps = stored["step"], stored["settings"].get("steps", 0)
        found[path.parent.name] = {"steps": step, "minutes": round(stored["seconds"] / 60, 1)}
        if stored["settings"].get("minutes") is None and step < steps:
            going_on = f"{path} is at step {step} of {steps}; let its training end (or give it fewer)"
    return found, going_on


def _write(results: Results, out: Path) -> None:
    rows = results["rows"]
    lines = {row["label"]: summary_figures(row["results"]) for row in rows if row["results"]}
    charts = charts_of((measure for _, measure in SUMMARY), lines)
    section = Section(results["title"], _text(results), _head(rows), _cells(rows), charts)
    measured = [row for row in rows if row["results"]]
    how = facts(measured[0]["results"]) if measured else []
    gaps = [f"{row['label']}: {row['missing']}" for row in rows if row["missing"]]
    reports = [f"{row['label']}: `{row['row']}/report.html`" for row in measured]
    text = "\n\n".join(
        [
            f"# {results['title']}",
            section.text,
            markdown_table(section.head, section.rows),
            *(
                "\n".join(f"- {line}" for line in group)
                for group in (floors([results]), gaps, reports, how)
                if group
            ),
        ]
    )
    html = page(results["title"], [*floors([results]), *gaps, *reports, *how], [section], {})
    write_files(out, results, text + "\n", html, {})


def _text(results: Results) -> str:
    voices = next(
        (spoken_by(row["results"]) for row in results["rows"] if row["results"]), "kept out of training"
    )
    text = f"Pictures drawn from test utterances in voices {voices}, one evaluator for all rows."
    if any(row["row"].endswith("-text") for row in results["rows"]):
        text += " Rows on text are drawn from the captions: what a recognizer without errors would reach."
    if any(row["published"] for row in results["rows"]):
        text += " Published: Inception Score / FID, by other evaluators; for orientation alone."
    return text


def _head(rows: Sequence[Results]) -> tuple[str, ...]:
    published = ("published IS / FID",) if any(row["published"] for row in rows) else ()
    return ("row", *SUMMARY_HEAD[1:], *published)


def _cells(rows: Sequence[Results]) -> list[list[str]]:
    width, cells = len(_head(rows)), []
    for row in rows:
        own = ["missing"] + ["-"] * (len(SUMMARY_HEAD) - 2) if row["missing"] else summary(row["results"])[1:]
        published = [row["published"]] if width > len(SUMMARY_HEAD) else []
        cells.append([row["label"], *own, *published])
    first = next((row["results"] for row in rows if row["results"]), None)
    bounds = []
    if first is not None:
        bounds = [[label("pictures", id, main_group(first)), *summary(first, id)[1:]] for id in BOUNDS]
    return cells + [cell + [""] * (width - len(cell)) for cell in bounds]


def build(
    models: Sequence[Path],
    data: Sequence[Path],
    network: Path | None,
    out: Path,
    tables: Sequence[TableNumber],
    limit: int | None = None,
    resamples: int = 1000,
    threads: int | None = None,
    whisper: Path | None = None,
    least_pictures: int = LEAST_PICTURES,
) -> Path:
    """Measure what is there of several tables, on several data sets, and write `tables.md` and `tables.json`.

    Args:
        models: folders of models, one a seed; Tables II and III are of the first alone.
        data: shards folders; a model of several sets is measured on each.
        network: Inception file; without it there is no FID.
        out: folder to write; `out/<set>/table-<number>-seed-<place>/` has each model's own report.
        tables: numbers of the paper's tables.
        limit, resamples, threads, whisper, least_pictures: as of `speech2image evaluate`.

    Returns:
        `tables.md`.

    Raises:
        Speech2ImageError: as `speech2image evaluate`.
    """
    own = EvaluationSettings(
        data=data[0],
        out=out,
        network=network,
        limit=limit,
        resamples=resamples,
        threads=threads,
        least_pictures=least_pictures,
        measures=("retrieval", "colours", "fid", "kid", "inception-score"),
        drawn=(KEPT_OUT,),
        only_drawn=True,
        whisper=whisper,
    )
    results: dict[str, dict[str, list[Results]]] = {}
    for number in tables:
        of_table = results[TABLES[number].title] = {}
        for folder in data:
            seeds = models[:1] if TABLES[number].of_one_seed else models
            places = [out / folder.name / f"table-{number}-seed-{seed}" for seed in range(len(seeds))]
            of_table[folder.name] = [
                table(replace(own, data=folder, table=number, models=of_seed, out=place))
                for of_seed, place in zip(seeds, places, strict=True)
            ]
    for name, content in (
        ("tables.md", document(results)),
        ("tables.json", json.dumps(results, indent=1) + "\n"),
    ):
        with writing(out / name) as temporary:
            temporary.write_text(content, encoding="utf-8")
    return out / "tables.md"


def document(results: dict[str, dict[str, list[Results]]]) -> str:
    """Markdown of title of a table -> data set -> the table for each seed."""
    parts = ["# The paper's tables under one evaluator", " ".join(SCALES.split())]
    for title, sets in results.items():
        parts.append(f"## {title}")
        for name, seeds in sets.items():
            measures = _columns(seeds)
            heads = (measure.head for measure in measures)
            head = ("row", "seed", "steps, minutes", *heads, "published IS / FID")
            rows = [line for seed, one in enumerate(seeds) for line in _lines(one, seed, measures)]
            rows += _bounds(seeds, measures)
            below = floors(seeds)
            listed = ["\n".join(f"- {line}" for line in below)] if below else []
            parts += [f"### {name}", markdown_table(head, rows), *listed, *orders(seeds), *alike(seeds)]
    return "\n\n".join(parts) + "\n"


def _columns(seeds: Sequence[Results]) -> list[Measure]:
    """The measures that some row has, or all of them where there is none."""
    found = {
        key
        for one in seeds
        for row in one["rows"]
        if row["results"]
        for key in summary_figures(row["results"])
    }
    return [measure for _, measure in SUMMARY if not found or measure.key in found]


def _lines(one: Results, seed: int, measures: Sequence[Measure]) -> list[list[str]]:
    """A line for every row of a table."""
    lines = []
    for row in one["rows"]:
        cells = ["missing", *["-"] * (len(measures) - 1)]
        if row["results"] is not None:
            cells = _figures(row["results"], None, measures)
        lines.append([row["label"], str(seed), _trained(row["trained"]), *cells, row["published"] or "-"])
    return lines


def _trained(trainings: dict[str, dict[str, float]]) -> str:
    """How long a row's generator was trained, each of its stages."""
    own = [trainings[name] for name in ("stage_one", "generator") if name in trainings]
    return " + ".join(f"{one['steps']:.0f}, {one['minutes']:.0f}" for one in own) or "-"


def _bounds(seeds: Sequence[Results], measures: Sequence[Measure]) -> list[list[str]]:
    """Ceiling and floors, of the first model that was measured."""
    first = next((row["results"] for one in seeds for row in one["rows"] if row["results"]), None)
    if first is None:
        return []
    called = {id: label("pictures", id, main_group(first)) for id in BOUNDS}
    return [[called[id], "-", "-", *_figures(first, id, measures), "-"] for id in BOUNDS]


def _figures(results: Results, id: str | None, measures: Sequence[Measure]) -> list[str]:
    found = summary_figures(results, id)
    return [measure.format.estimate(found.get(measure.key)) for measure in measures]


def orders(seeds: Sequence[Results]) -> list[str]:
    """How each measure orders the rows, and which of them it orders alike in all seeds.

    Nothing for one seed or a row missing.
    """
    if len(seeds) < 2 or any(row["results"] is None for one in seeds for row in one["rows"]):
        return []
    lines = []
    for _, measure in SUMMARY:
        found = [_order(one, measure) for one in seeds]
        if not all(found):
            continue
        same = all(order == found[0] for order in found)
        each = (f"seed {seed}: {' > '.join(order)}" for seed, order in enumerate(found))
        differing = f"{'; '.join(each)}; in all seeds: {' and '.join(_agreed(found)) or 'none'}"
        lines.append(f"{measure.head}: " + (f"the same, {' > '.join(found[0])}" if same else differing))
    head = "Order of the rows, best first:"
    return ["\n".join([head, "", *(f"- {line}" for line in lines)])] if lines else []


def floors(seeds: Sequence[Results]) -> list[str]:
    """Where each row stands to its model's pictures from noise, by FID and KID, a sentence a row and seed."""
    lines = []
    for seed, one in enumerate(seeds):
        of_seed = f", seed {seed}" if len(seeds) > 1 else ""
        for row in one["rows"]:
            if row["results"] and (floor := against_noise(row["results"])):
                lines.append(f"{row['label']}{of_seed}: {floor}")
    return [f"{line} ({NOISE_FLOOR})" if k == 0 else line for k, line in enumerate(lines)]


def alike(seeds: Sequence[Results]) -> list[str]:
    """Pairs of rows that FID and KID order alike in all seeds: what a table says about pictures.

    Nothing where a row or one of the measures is missing, or all rows have the same.
    """
    if any(row["results"] is None for one in seeds for row in one["rows"]):
        return []
    measures = [measure for measure in PICTURES if measure.key in ("fid", "kid")]
    found = [_order(one, measure) for one in seeds for measure in measures]
    if not all(found):
        return []
    pairs = " and ".join(_agreed(found)) or "no two rows"
    return [f"By FID and KID alike{', in all seeds' if len(seeds) > 1 else ''}: {pairs}."]


def _agreed(orders: Sequence[Sequence[str]]) -> list[str]:
    """Pairs of rows that stand in the same order everywhere."""
    return [
        f"{first} > {second}"
        for first, second in combinations(orders[0], 2)
        if all(order.index(first) < order.index(second) for order in orders)
    ]


def _order(one: Results, measure: Measure) -> list[str]:
    """The rows of a table by a measure; none if a row lacks it or all have the same."""
    values = {}
    for row in one["rows"]:
        found = summary_figures(row["results"]).get(measure.key)
        if found is None:
            return []
        values[row["label"]] = found.value
    if len(set(values.values())) == 1:
        return []
    return sorted(values, key=lambda name: values[name], reverse=not measure.lower_is_better)
