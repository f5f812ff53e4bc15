"""The paper's tables under this evaluator: a row for each model of a folder; missing rows say their command.

    MODELS/<row>                 a model folder (model.json), or
    MODELS/<row>/model           what `speech2image train direct --out MODELS/<row>` leaves, or
    MODELS/<row>/speech_encoder/checkpoint.safetensors and MODELS/<row>/generator/checkpoint.safetensors

Tables II to V of Li et al., "Direct Speech-to-Image Translation" (IEEE JSTSP 14(3), 2020). The published
figures stand beside ours for orientation alone: they come from other evaluators.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from speech2image.evaluation import colours, realism, spoken_retrieval
from speech2image.evaluation.drawing import NAMES
from speech2image.evaluation.model_report import report, write_files
from speech2image.evaluation.report_html import page
from speech2image.evaluation.report_markdown import ROW_HEAD, facts, figures, first_row, row_cells
from speech2image.evaluation.report_markdown import table as markdown_table
from speech2image.evaluation.report_parts import Bar, Chart, Section
from speech2image.evaluation.settings import EvaluationSettings
from speech2image.evaluation.work_dir import check_out
from speech2image.models.gan.layers import SIZES
from speech2image.pipeline.registry import CARD
from speech2image.training.core.checkpoint import read_facts

_DIRECT = "speech2image train direct --preset paper --data {data} --teacher GOOGLENET --out {models}/{row}"
_CLASSIFIER = (
    "speech2image train classifier --data {data} --out {models}/{row}/speech_encoder && "
    "speech2image train embeddings --conditions classifier --data {data} "
    "--encoder {models}/{row}/speech_encoder/checkpoint.safetensors && "
    "speech2image train stackgan-v2 --preset paper --conditions classifier --data {data} "
    "--out {models}/{row}/generator"
)
_TEXT_ENCODER = (
    "speech2image train text-encoder --preset paper --data {data} --out {models}/{row}/text_encoder && "
    "speech2image train text-embeddings --data {data} "
    "--encoder {models}/{row}/text_encoder/checkpoint.safetensors && "
)
_STACKGAN_V1 = (
    "speech2image train stackgan-v1 --preset paper --conditions text --data {data} "
    "--out {models}/{row}/stage_one && "
    "speech2image train stackgan-v1 --preset paper-stage2 --conditions text --data {data} "
    "--stage-one {models}/{row}/stage_one/checkpoint.safetensors --out {models}/{row}/generator && "
)
_STACKGAN_V2 = (
    "speech2image train stackgan-v2 --preset paper --conditions text --data {data} "
    "--out {models}/{row}/generator && "
)
_RECOGNIZER = (
    "speech2image train speech-recognizer --preset paper --data {data} --out {models}/{row}/recognizer && "
)
_EXPORT = (
    "speech2image export cascade --text-encoder {models}/{row}/text_encoder/checkpoint.safetensors "
    "--generator {models}/{row}/generator/checkpoint.safetensors --out {models}/{row}/model --name {row} "
    "--licence unstated --max-megabytes 1000"
)
_TWO_STEP = (
    _RECOGNIZER
    + _TEXT_ENCODER
    + _STACKGAN_V1
    + _EXPORT
    + " --recognizer {models}/{row}/recognizer/checkpoint.safetensors"
)


@dataclass(frozen=True)
class Planned:
    """A row of a table.

    Attributes:
        row: folder in `--models`.
        label: what the table calls it.
        command: trains it.
        published: figures of the paper, for orientation.
        captions: draw from captions, not from speech.
        same_as: another row, whose model serves where this one has none of its own.
    """

    row: str
    label: str
    command: str
    published: str = ""
    captions: bool = False
    same_as: str = ""

    def missing(self, settings: EvaluationSettings) -> str:
        """What to do to get the row."""
        command = self.command.format(data=settings.data, models=settings.models, row=self.row)
        return f"{settings.models}/{self.row} is missing; train it with: {command}"


BOUNDS = (
    (realism.REAL, spoken_retrieval.CEILING, colours.PHOTOGRAPHS),
    (realism.SHUFFLED, spoken_retrieval.SHUFFLED, colours.SHUFFLED),
    (NAMES["noise"], spoken_retrieval.NOISE, NAMES["noise"]),
)
"""Ceiling and floors: their rows in the tables of pictures, of retrieval and of colours."""

TITLES = {
    2: "Table II: routes",
    3: "Table III: routes, on Places-subset",
    4: "Table IV: items of the teacher-student loss",
    5: "Table V: scales of the pictures",
}
_LOSS = " --encoder.loss.joint-embedding {jel} --encoder.loss.distribution {kdl}"
LOSSES = {
    "loss-norm": (0, 0),
    "loss-norm-jel": (1, 0),
    "loss-norm-kdl": (0, 1000),
    "loss-all": (1, 1000),
}
"""Table IV's rows: weights of joint embedding and distillation."""
_LOSS_LABELS = ("norm", "norm + joint embedding", "norm + distillation", "all three")
_SCALE = " --generator.networks.branches "
_TWO_STEP_LABEL = "two-step: recognizer, then StackGAN-v1"
TABLES: dict[int, tuple[Planned, ...]] = {
    2: (
        Planned("direct", "direct", _DIRECT, "CUB 4.09 / 18.37; Oxford-102 3.23 / 54.76"),
        Planned("two-step", _TWO_STEP_LABEL, _TWO_STEP, "CUB - / 19.89; Oxford-102 3.23 / 57.73"),
        Planned("classifier", "classifier", _CLASSIFIER, "CUB 3.68 / 43.76; Oxford-102 3.30 / 64.75"),
        Planned(
            "stackgan-v1-text",
            "StackGAN-v1 on text",
            _TEXT_ENCODER + _STACKGAN_V1 + _EXPORT,
            "CUB 3.70 / 51.89; Oxford-102 3.20 / 55.28",
            captions=True,
            same_as="two-step",
        ),
        Planned(
            "stackgan-v2-text",
            "StackGAN-v2 on text",
            _TEXT_ENCODER + _STACKGAN_V2 + _EXPORT,
            "CUB 4.04 / 15.37; Oxford-102 3.26 / 48.68",
            captions=True,
        ),
    ),
    3: (
        Planned("two-step", _TWO_STEP_LABEL, _TWO_STEP, "Places - / 64.59"),
        Planned("direct", "direct", _DIRECT, "Places - / 83.06"),
        Planned("classifier", "classifier", _CLASSIFIER, "Places - / 232.39"),
    ),
    4: tuple(
        Planned(row, label, _DIRECT + _LOSS.replace("{jel}", str(jel)).replace("{kdl}", str(kdl)))
        for label, (row, (jel, kdl)) in zip(_LOSS_LABELS, LOSSES.items(), strict=True)
    ),
    5: tuple(
        Planned(
            f"scale-{side}",
            f"{side} x {side}, {n} discriminator{'s' if n > 1 else ''}",
            _DIRECT + _SCALE + str(n),
        )
        for n, side in enumerate(SIZES, 1)
    ),
}
"""Number of the table -> its rows."""


def table(settings: EvaluationSettings) -> dict[str, Any]:
    """Measure every model there is and write the table; each model's own report lies in `out/<row>`.

    Raises:
        OutputError: `out` cannot be written.
        CheckpointError, DataError: as for one model.
    """
    number_, models = settings.table, settings.models
    assert number_ is not None and models is not None
    check_out(settings.out)
    rows = [_measure(planned, settings, models) for planned in TABLES[number_]]
    results = {"format": "speech2image table 1", "table": number_, "title": TITLES[number_], "rows": rows}
    _write(results, settings.out)
    return results


def _measure(planned: Planned, settings: EvaluationSettings, models: Path) -> dict[str, Any]:
    folder = models / planned.row
    if find_row(folder) is None and planned.same_as:
        folder = models / planned.same_as
    found = find_row(folder)
    told: dict[str, Any] = {"row": planned.row, "label": planned.label, "published": planned.published}
    if found is None:
        return told | {"missing": planned.missing(settings), "trained": {}, "results": None}
    told["trained"], going_on = _trainings(folder)
    if going_on:
        return told | {"missing": going_on, "results": None}
    own = replace(settings, table=None, models=None, out=settings.out / planned.row, **found)
    own = replace(own, captions=planned.captions)
    return told | {"missing": None, "results": report(own)}


def find_row(folder: Path) -> dict[str, Any] | None:
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
        facts = read_facts(path)
        step, steps = facts["step"], facts["settings"].get("steps", 0)
        found[path.parent.name] = {"steps": step, "minutes": round(facts["seconds"] / 60, 1)}
        if facts["settings"].get("minutes") is None and step < steps:
            going_on = f"{path} is at step {step} of {steps}; let its training end (or give it fewer)"
    return found, going_on


def _write(results: dict[str, Any], out: Path) -> None:
    rows = results["rows"]
    section = Section(results["title"], _text(results), _head(rows), _cells(rows), _charts(rows))
    measured = [row for row in rows if row["results"]]
    lines = facts(measured[0]["results"]) if measured else []
    gaps = [f"{row['label']}: {row['missing']}" for row in rows if row["missing"]]
    reports = [f"{row['label']}: `{row['row']}/report.html`" for row in measured]
    text = "\n\n".join(
        [
            f"# {results['title']}",
            section.text,
            markdown_table(section.head, section.rows),
            *("\n".join(f"- {line}" for line in group) for group in (gaps, reports, lines) if group),
        ]
    )
    html = page(results["title"], [*gaps, *reports, *lines], [section], {})
    write_files(out, results, text + "\n", html, {})


def _text(results: dict[str, Any]) -> str:
    text = "Pictures drawn from unseen classes in voices kept out of training, one evaluator for all rows."
    if results["table"] == 2:
        text += " Rows on text are drawn from the captions: what a recognizer without errors would reach."
    if any(row["published"] for row in results["rows"]):
        text += " Published: Inception Score / FID, by other evaluators; for orientation alone."
    return text


def _head(rows: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    published = ("published IS / FID",) if any(row["published"] for row in rows) else ()
    return ("row", *ROW_HEAD[1:], *published)


def _cells(rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    width, cells = len(_head(rows)), []
    for row in rows:
        own = ["missing"] + ["-"] * (len(ROW_HEAD) - 2) if row["missing"] else row_cells(row["results"])[1:]
        published = [row["published"]] if width > len(ROW_HEAD) else []
        cells.append([row["label"], *own, *published])
    return cells + [cell + [""] * (width - len(cell)) for cell in _bounds(rows)]


def _bounds(rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Ceiling and floors: of the first model that was measured."""
    first = next((row["results"] for row in rows if row["results"]), None)
    if first is None:
        return []
    return [_bound(first, *names) for names in BOUNDS]


def _bound(first: dict[str, Any], pictures: str, spoken: str, colour: str) -> list[str]:
    """One of them: its row in each of the tables, in the columns of `ROW_HEAD`."""
    drawn = first_row(first["pictures"], pictures=pictures)
    found = first_row(first["retrieval"], voices=spoken)
    read = first_row(first["colours"], pictures=colour)
    return [pictures, *figures(first, drawn, found, read)]


def _charts(rows: Sequence[dict[str, Any]]) -> list[Chart]:
    fid, colour = [], []
    for row in (row for row in rows if row["results"]):
        for drawn in row["results"]["pictures"]:
            if drawn["pictures"] == "drawn from voices kept out" and "fid" in drawn:
                fid.append(Bar(row["label"], drawn["fid"], drawn["fid_interval"]))
        for read in row["results"]["colours"]:
            if read["pictures"] == "drawn from voices kept out" and read["agreement"] is not None:
                ends = [100 * end for end in read["interval"]]
                colour.append(Bar(row["label"], 100 * read["agreement"], ends))
    charts = [Chart("FID", fid, "lower is better"), Chart("colour agreement, %", colour)]
    return [chart for chart in charts if chart.bars]
