"""Artefacts of the two-step system: pictures of both stages, word error rates over the recognizer's training.

`stages.png` has a row for each caption of an unseen class: the photograph, what Stage I draws of it under
some noises, and what Stage II makes of each. `word-errors.svg` and `word-errors.json` have the word error
rates that the recognizer's training measured, over its steps.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from speech2image.data.training_sets import CaptionPairs
from speech2image.errors import DataError, SettingsError, require
from speech2image.evaluation.drawing import sheet
from speech2image.evaluation.utterances import caption_of
from speech2image.files import check_writable, writing
from speech2image.models.gan.stackgan_v1 import StageTwo
from speech2image.pipeline.images import save, to_image
from speech2image.training.core.networks import load_stage
from speech2image.training.recipes.stackgan import central_crops

ENDING = "/WER"
"""How a word error rate's name ends in `log.jsonl`; what stands before names the utterances."""


@torch.inference_mode()
def draw_stages(data: Path, stage_two: Path, out: Path, captions: int = 8, noises: int = 3) -> Path:
    """Write `stages.png`.

    Args:
        data: shards with text embeddings (`speech2image train text-embeddings`).
        stage_two: checkpoint of Stage II, which holds Stage I.
        out: folder to write.
        captions: of different pictures of unseen classes, one a row.
        noises: pictures of each stage.

    Returns:
        The file.

    Raises:
        DataError: no text embeddings, or no caption of an unseen class.
        CheckpointError, SettingsError: the checkpoint cannot be read, or is Stage I.
    """
    check_writable(out / "stages.png")
    generator = load_stage(stage_two)
    architecture = generator.architecture
    if not isinstance(generator, StageTwo):
        raise SettingsError(f"{stage_two} is Stage I; give the checkpoint of Stage II, which holds both")
    arrays = CaptionPairs.open(data)
    unseen = arrays.utterances_of("test")
    _, first_of_picture = np.unique(arrays.utterance_sample[unseen], return_index=True)
    if not len(first_of_picture):
        raise DataError(f"{data} has no caption of an unseen class (part 'test')")
    rng = np.random.default_rng(0)
    chosen = unseen[rng.permutation(first_of_picture)[:captions]]
    noise = torch.from_numpy(rng.standard_normal((noises, architecture.noise), np.float32))
    photographs = central_crops(arrays, arrays.utterance_sample[chosen], architecture.size)
    rows, labels = [], []
    for utterance, photograph in zip(chosen, photographs, strict=True):
        condition = torch.from_numpy(np.asarray(arrays.embeddings[utterance], np.float32))
        small, large = generator(condition.expand(noises, -1), noise).pictures
        stages = [to_image(picture.numpy()) for stage in (small, large) for picture in stage]
        size = (architecture.size, architecture.size)
        rows.append(
            [to_image(photograph), *(picture.resize(size, Image.Resampling.NEAREST) for picture in stages)]
        )
        labels.append(caption_of(arrays, int(utterance)))
    heads = ["photograph", *["Stage I"] * noises, *["Stage II"] * noises]
    return save(sheet(rows, labels, heads), out / "stages.png")


def draw_curve(recognizer: Path, out: Path) -> Path:
    """Write `word-errors.svg` and `word-errors.json`.

    Args:
        recognizer: folder of the training, which holds `log.jsonl`.
        out: folder to write.

    Returns:
        The SVG file.

    Raises:
        DataError: there is no log, or no word error rate in it.
    """
    matplotlib, figures = require("matplotlib", "train"), require("matplotlib.figure", "train")
    curves = word_error_rates(recognizer)
    check_writable(out / "word-errors.svg")
    with writing(out / "word-errors.json") as temporary:
        temporary.write_text(json.dumps(curves, indent=1) + "\n", encoding="utf-8")
    drawing = figures.Figure(figsize=(7, 4), layout="constrained")
    axes = drawing.subplots()
    for name, points in curves.items():
        steps, rates = zip(*points, strict=True)
        axes.plot(steps, [100 * rate for rate in rates], marker=".", label=name)
    axes.set(xlabel="optimiser step", ylabel="word error rate, %", ylim=(0, 105))
    axes.grid(alpha=0.3)
    axes.legend()
    with (
        writing(out / "word-errors.svg") as temporary,
        matplotlib.rc_context({"svg.hashsalt": "speech2image"}),
    ):
        drawing.savefig(temporary, format="svg", metadata={"Date": None})
    return out / "word-errors.svg"


def word_error_rates(recognizer: Path) -> dict[str, list[tuple[int, float]]]:
    """Kind of utterances -> (step, word error rate) in the order of the steps; a step done again counts last.

    Raises:
        DataError: there is no log, or no word error rate in it.
    """
    log = recognizer / "log.jsonl"
    if not log.is_file():
        raise DataError(f"{log} is not there; give the folder of a `train speech-recognizer`")
    curves: dict[str, dict[int, float]] = {}
    for line in log.read_text(encoding="utf-8").splitlines():
        for name, step, rate in _rates(json.loads(line)):
            curves.setdefault(name, {})[step] = rate
    if not curves:
        raise DataError(f"{log} holds no word error rate; the training writes one at each of its checkpoints")
    return {name: sorted(points.items()) for name, points in curves.items()}


def _rates(record: dict[str, float]) -> Iterator[tuple[str, int, float]]:
    for key, value in record.items():
        if key.endswith(ENDING):
            yield key.removesuffix(ENDING), int(record["step"]), float(value)
