"""tables: thin; trains and measures the models of the paper's tables. Needs the `train` extra."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from speech2image.commands.flags import call
from speech2image.errors import SettingsError, require


def run(command: str, arguments: list[str]) -> None:
    """Do what the first word says."""
    part, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    if part in ("", "-h", "--help"):
        print("usage: speech2image tables PART [OPTIONS]\n\nparts:")
        for name, (_, text) in PARTS.items():
            print(f"  {name:10} {text}")
        print("\nexample: speech2image tables train --data shards/flowers --out models")
        if not part:
            raise SystemExit(2)
        return
    if part not in PARTS:
        raise SettingsError(f"unknown part '{part}'; there are: {', '.join(PARTS)}")
    call(PARTS[part][0], f"tables {part}", rest)


def train(
    data: tuple[Path, ...],
    out: Path,
    tables: tuple[Literal[2, 3, 4, 5], ...] = (2, 4, 5),
    seeds: tuple[int, ...] = (0,),
    budget: Literal[
        "paper",
        "paper-oxford102",
        "paper-places",
        "released-code",
        "released-code-oxford102",
        "cpu",
        "toy",
    ] = "cpu",
    encoder: Path | None = None,
    recognizer: Path | None = None,
    parallel: int = 1,
) -> None:
    """Train the models of the paper's tables, every row of a table under one budget.

    The same command goes on after an interruption, and with more tables or seeds.

    Example: speech2image tables train --data shards/flowers --out models

    Args:
        data: shards folder with teacher features; several are trained on as one. The paper trains each set
            alone.
        out: folder to write; `out/seed-SEED/ROW` holds each row's model, `out/logs` each step's output.
        tables: numbers of the tables; 3 has rows of 2 at 128 pixels, on rooms, and is trained alone.
        seeds: of Tables IV and V; Tables II and III are trained from the first alone.
        budget: flags of the trainings.
        encoder: checkpoint of another speech encoder, the shipped one say: a further row of Table II, named
            so. The other rows are trained on the data given, whatever is named here.
        recognizer: folder that `export recognizer` wrote, of another recognizer: likewise.
        parallel: trainings at a time.
    """
    trainings = require("speech2image.evaluation.paper.trainings", "train")
    plan = trainings.TrainingPlan(data, out, trainings.BUDGETS[budget], encoder, recognizer)
    trainings.train(plan, tables, seeds, parallel)


def build(
    models: tuple[Path, ...],
    data: tuple[Path, ...],
    out: Path,
    network: Path | None = None,
    tables: tuple[Literal[2, 3, 4, 5], ...] = (2, 4, 5),
    limit: int | None = None,
    resamples: int = 1000,
    threads: int | None = None,
    whisper: Path | None = None,
    least_pictures: int = 2000,
) -> None:
    """Measure the models of the paper's tables on every data set and write one document.

    `out/tables.md` has all tables, `out/tables.json` their figures. The same command goes on after an
    interruption; rows whose model is not there yet stay empty.

    Example: speech2image tables build --models models/seed-0 --data shards/flowers --out tables

    Args:
        models: folders of models, one a seed (docs/evaluation.md says what lies where).
        data: shards folders.
        out: folder to write.
        network: Inception-v3 of 2015-12-05, for FID.
        tables: numbers of the tables; 3 is of rooms.
        limit: measure so many utterances of each kind.
        resamples: of the bootstrap intervals.
        threads: processor threads.
        whisper: folder of an off-the-shelf recognizer (faster-whisper's), for the row that hears with it;
            without, that row is skipped.
        least_pictures: draw several of each utterance until every set has so many; FID of fewer pictures
            than its features have numbers says little.
    """
    own = require("speech2image.evaluation.paper.tables", "train")
    print(own.build(models, data, network, out, tables, limit, resamples, threads, whisper, least_pictures))


def two_step(
    out: Path,
    data: Path | None = None,
    stage_two: Path | None = None,
    captions: int = 8,
    noises: int = 3,
    recognizer: Path | None = None,
) -> None:
    """Draw what the two-step system leaves to look at: both stages' pictures, the recognizer's WER curve.

    Example: speech2image tables two-step --recognizer runs/recognizer --out artefacts

    Args:
        out: folder to write: stages.png, word-errors.svg and word-errors.json.
        data: shards folder with text embeddings.
        stage_two: checkpoint of Stage II.
        captions: rows of pictures.
        noises: pictures of each stage.
        recognizer: folder of the recognizer's training.
    """
    if (data is None) != (stage_two is None):
        raise SettingsError("pictures of both stages need --data and --stage-two")
    if data is None and recognizer is None:
        raise SettingsError("nothing to do; give --data and --stage-two, or --recognizer")
    module = require("speech2image.evaluation.paper.two_step", "train")
    if data is not None:
        print(module.draw_stages(data, stage_two, out, captions, noises))
    if recognizer is not None:
        print(module.draw_curve(recognizer, out))


PARTS: dict[str, tuple[Callable[..., None], str]] = {
    "train": (train, "train every row, all rows of a table under one budget"),
    "build": (build, "measure them on every data set and write one document"),
    "two-step": (two_step, "pictures and word errors of the two-step system"),
}
