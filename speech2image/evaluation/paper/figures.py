"""The paper's figures drawn by a model: one utterance under eight noises (3), from one to another (5)."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from speech2image.data.shards.arrays import PairArrays
from speech2image.errors import DataError
from speech2image.evaluation import provenance
from speech2image.evaluation.drawing import sheet
from speech2image.evaluation.embeddings import Embeddings, embed
from speech2image.evaluation.measuring import check_route
from speech2image.evaluation.report.html import page
from speech2image.evaluation.report.markdown import table
from speech2image.evaluation.report.sections import Section
from speech2image.evaluation.results import Results
from speech2image.evaluation.run import check_out, finish_work, open_work, opened_route, write_files
from speech2image.evaluation.settings import EvaluationSettings
from speech2image.evaluation.utterances import choose_utterances, describe_utterance, split_evaluation_voices
from speech2image.pipeline.base import Route

ROWS, NOISES, STEPS = 6, 8, 9
_TEXTS = {
    3: f"Each row is one utterance of an unseen class in a voice kept out of training under {NOISES} noises, "
    f"the same in every row.",
    5: f"Each row goes from one utterance to another in {STEPS} steps, f = alpha f1 + (1 - alpha) f2 with "
    f"alpha from 1 to 0, under one noise.",
}


def figure(settings: EvaluationSettings) -> Results:
    """Draw a figure and write `figure3.png` or `figure5.png`, results.json, results.md and report.html.

    Raises:
        DataError: the data has no test utterance in a voice kept out, or fewer than two pictures spoken of.
    """
    number = settings.figure
    assert number is not None
    check_out(settings.out)
    arrays = PairArrays.open(settings.data)
    _, kept_out = split_evaluation_voices(arrays, settings.held_out_voices)
    shown = choose_utterances(arrays, arrays.utterances_of("test", kept_out), _needed(number), settings.seed)
    if number == 5 and len(shown) < 2:
        raise DataError(f"{arrays.folder} has fewer than two test pictures spoken of: nothing to go to")
    with opened_route(settings) as route:
        check_route(settings, route)
        model, data = provenance.describe_model(route), provenance.describe_data(arrays)
        work = open_work(settings.out, provenance.identity(settings, model, data) | {"figure": number})
        speech = embed(route, arrays, np.sort(shown), work, settings.captions)
        rows = [describe_utterance(arrays, int(u)) for u in shown]
        labels, pictures = (_noises if number == 3 else _walks)(route, shown, speech, rows, settings.seed)
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
    return ROWS if number == 3 else 2 * ROWS


def _noises(
    route: Route, shown: NDArray[np.int64], speech: Embeddings, rows: list[Results], seed: int
) -> tuple[list[str], list[list[Image.Image]]]:
    drawn = [route.generate(vector, NOISES, seed) for vector in speech.of(shown)]
    return [row["caption"] or row["id"] for row in rows], drawn


def _walks(
    route: Route, shown: NDArray[np.int64], speech: Embeddings, rows: list[Results], seed: int
) -> tuple[list[str], list[list[Image.Image]]]:
    labels, drawn = [], []
    for first in range(0, len(shown) - 1, 2):
        f1, f2 = speech.of(shown[first : first + 2])
        alphas = np.linspace(1, 0, STEPS, dtype=np.float32)[:, None]
        drawn.append([route.generate(f, 1, seed)[0] for f in alphas * f1 + (1 - alphas) * f2])
        labels.append(" -> ".join(row["caption"] or row["id"] for row in rows[first : first + 2]))
    return labels, drawn


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
