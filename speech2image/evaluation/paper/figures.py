"""The paper's figures drawn by a model: one utterance under eight noises (3; 4, of rooms), a walk (5).

As printed, each row has the waveform of what is said on its left; a walk has that of its end on the right.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from speech2image import audio
from speech2image.data.shards.arrays import PairArrays
from speech2image.errors import DataError
from speech2image.evaluation import provenance
from speech2image.evaluation.drawing import sheet
from speech2image.evaluation.embeddings import Embeddings, embed, recordings
from speech2image.evaluation.measuring import check_route
from speech2image.evaluation.report.html import page
from speech2image.evaluation.report.markdown import table
from speech2image.evaluation.report.sections import Section
from speech2image.evaluation.results import Results
from speech2image.evaluation.run import check_out, finish_work, open_work, opened_route, write_files
from speech2image.evaluation.settings import EvaluationSettings
from speech2image.evaluation.utterances import (
    choose_utterances,
    describe_utterance,
    main_voices,
    split_evaluation_voices,
)
from speech2image.pipeline.base import Route

ROWS, NOISES, STEPS = 6, 8, 9
_NOISES = (
    f"Each row is one test utterance, its waveform on the left, under {NOISES} noises, the same in every row."
)
_TEXTS = {
    3: _NOISES,
    4: f"{_NOISES} (The paper's Figure 4 is of Places-subset: give such data.)",
    5: f"Each row goes from one utterance to another, whose waveforms stand at its ends, in {STEPS} steps, "
    f"f = alpha f1 + (1 - alpha) f2 with alpha from 1 to 0, under one noise.",
}
_INK, _AXIS = (31, 78, 140), (200, 200, 200)


def figure(settings: EvaluationSettings) -> Results:
    """Draw a figure and write `figure3.png` (4, 5), results.json, results.md and report.html.

    Raises:
        DataError: the data has no test utterance, or fewer than two pictures spoken of.
    """
    number = settings.figure
    assert number is not None
    check_out(settings.out)
    arrays = PairArrays.open(settings.data)
    _, voices = main_voices(arrays, *split_evaluation_voices(arrays, settings.held_out_voices))
    shown = choose_utterances(arrays, arrays.utterances_of("test", voices), _needed(number), settings.seed)
    if number == 5 and len(shown) < 2:
        raise DataError(f"{arrays.folder} has fewer than two test pictures spoken of: nothing to go to")
    with opened_route(settings) as route:
        check_route(settings, route)
        model, data = provenance.describe_model(route), provenance.describe_data(arrays)
        work = open_work(settings.out, provenance.identity(settings, model, data) | {"figure": number})
        speech = embed(route, arrays, np.sort(shown), work, settings.captions)
        rows = [describe_utterance(arrays, int(u)) for u in shown]
        waves = waveforms(arrays, shown, route.picture_size)
        draw = _walks if number == 5 else _noises
        labels, pictures = draw(route, shown, speech, waves, rows, settings.seed)
    results = {
        "format": provenance.FORMAT,
        "figure": number,
        "versions": provenance.versions(),
        "settings": provenance.describe_settings(settings),
        "model": model,
        "data": data,
        "rows": rows,
    }
    _write(settings, results, sheet(pictures, labels))
    finish_work(work)
    return results


def _needed(number: int) -> int:
    return 2 * ROWS if number == 5 else ROWS


def _noises(
    route: Route,
    shown: NDArray[np.int64],
    speech: Embeddings,
    waves: Mapping[int, Image.Image],
    rows: list[Results],
    seed: int,
) -> tuple[list[str], list[list[Image.Image]]]:
    vectors = zip(shown.tolist(), speech.of(shown), strict=True)
    drawn = [[waves[u], *route.generate(vector, NOISES, seed)] for u, vector in vectors]
    return [row["caption"] or row["id"] for row in rows], drawn


def _walks(
    route: Route,
    shown: NDArray[np.int64],
    speech: Embeddings,
    waves: Mapping[int, Image.Image],
    rows: list[Results],
    seed: int,
) -> tuple[list[str], list[list[Image.Image]]]:
    labels, drawn = [], []
    for first in range(0, len(shown) - 1, 2):
        left, right = shown[first : first + 2].tolist()
        f1, f2 = speech.of(shown[first : first + 2])
        drawn.append([waves[left], *route.walk(f1, f2, STEPS, seed), waves[right]])
        labels.append(" -> ".join(row["caption"] or row["id"] for row in rows[first : first + 2]))
    return labels, drawn


def waveforms(arrays: PairArrays, utterances: NDArray[np.int64], side: int) -> dict[int, Image.Image]:
    """Utterance -> its waveform as a square picture of `side` pixels."""
    spoken = recordings(arrays, np.sort(utterances))
    return {u: waveform(audio.load(encoded), side) for u, encoded in spoken}


def waveform(samples: NDArray[np.float32], side: int) -> Image.Image:
    """Samples [n] as a square picture: time to the right, the loudest sample at the edge.

    Each column of pixels shows the lowest and the highest of its samples.
    """
    picture = Image.new("RGB", (side, side), "white")
    pen, middle = ImageDraw.Draw(picture), (side - 1) / 2
    pen.line([(0, middle), (side - 1, middle)], fill=_AXIS)
    scale = middle / max(float(np.abs(samples).max()), 1e-6)
    for x, column in enumerate(np.array_split(samples, side)):
        if len(column):
            ends = [(x, middle - scale * float(y)) for y in _ends(column)]
            pen.line(ends, fill=_INK)
    return picture


def _ends(column: NDArray[np.float32]) -> Sequence[np.float32]:
    return [column.min(), column.max()]


def _write(settings: EvaluationSettings, results: Results, picture: Image.Image) -> None:
    number, model = results["figure"], results["model"]["name"]
    title = f"Figure {number} of Li et al. (2020), drawn by {model} on {results['data']['name']}"
    head = ("spoken", "voice", "class of the photograph described")
    cells = [(row["caption"], row["voice"], row["class"]) for row in results["rows"]]
    text = f"# {title}\n\n{_TEXTS[number]}\n\n![figure](figure{number}.png)\n\n{table(head, cells)}\n"
    facts = [f"Noise seed {settings.seed}", *(f"{n} {v}" for n, v in results["versions"].items())]
    section = Section("Utterances", _TEXTS[number], head, cells)
    html = page(title, facts, [section], {f"figure {number}": picture})
    write_files(settings.out, results, text, html, {f"figure{number}": picture})
