"""The paper's figures: what stands in each row, against the same model used by hand."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from exported import write_with_prior
from PIL import Image
from tiny_model import SIZE

import speech2image
from speech2image import audio
from speech2image.data.shards.arrays import PairArrays
from speech2image.evaluation import EvaluationSettings, evaluate
from speech2image.evaluation.drawing import sheet
from speech2image.evaluation.embeddings import recordings
from speech2image.evaluation.paper import figures
from speech2image.evaluation.utterances import describe_utterance

Rows = list[list[Image.Image]]


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> Rows:
    """The pictures of each row, as they go onto the sheet."""
    seen: Rows = []

    def keep(pictures: Sequence[Sequence[Image.Image]], labels: Sequence[str]) -> Image.Image:
        seen.extend(list(row) for row in pictures)
        return sheet(pictures, labels)

    monkeypatch.setattr(figures, "sheet", keep)
    return seen


@pytest.fixture(scope="module")
def with_prior(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "with-prior"
    write_with_prior(folder)
    return folder


def drawn(data: Path, model: Path, out: Path, number: int) -> list[bytes]:
    """Draws a figure; the recordings of its rows, in their order."""
    results = evaluate(EvaluationSettings(data=data, out=out, model=str(model), threads=1, figure=number))
    arrays = PairArrays.open(data)
    said = {
        tuple(describe_utterance(arrays, u).values()): encoded
        for u, encoded in recordings(arrays, arrays.utterances_of("test"))
    }
    return [said[tuple(row.values())] for row in results["rows"]]


def same(one: Image.Image, other: Image.Image) -> bool:
    return one.size == other.size and one.tobytes() == other.tobytes()


@pytest.mark.parametrize("number", [3, 4])
def test_eight_noises(shards: Path, model: Path, tmp_path: Path, rows: Rows, number: int) -> None:
    spoken = drawn(shards, model, tmp_path / "out", number)
    route = speech2image.load(str(model))
    assert len(rows) == len(spoken) == 6
    for row, recording in zip(rows, spoken, strict=True):
        assert same(row[0], figures.waveform(audio.load(recording), SIZE))
        expected = route.translate(recording, n=8, seed=0).images
        assert all(map(same, row[1:], expected)) and len(row) == 9
        assert len({picture.tobytes() for picture in row[1:]}) == 8, "eight noises, not one eight times"
    with Image.open(tmp_path / "out" / f"figure{number}.png") as picture:
        assert picture.width == 230 + 9 * (SIZE + 2) - 2
    assert "data:image/png" in (tmp_path / "out" / "report.html").read_text()
    assert f"figure{number}.png" in (tmp_path / "out" / "results.md").read_text()


@pytest.mark.parametrize("prior", [False, True])
def test_a_walk_is_what_interpolate_draws(
    shards: Path, model: Path, with_prior: Path, tmp_path: Path, rows: Rows, prior: bool
) -> None:
    """With a condition prior, too: its outputs are mixed, not the embeddings it takes."""
    drawing = with_prior if prior else model
    spoken = drawn(shards, drawing, tmp_path / "out", 5)
    route = speech2image.load(str(drawing))
    assert len(spoken) == 2 * len(rows) == 12
    for row, first, second in zip(rows, spoken[::2], spoken[1::2], strict=True):
        walk = route.interpolate(first, second, steps=9, seed=0).images
        assert all(map(same, row[1:-1], walk)) and len(row) == 11
        assert not same(row[1], row[5]) and not same(row[5], row[-2]), "it goes from one to the other"
        ends = [figures.waveform(audio.load(one), row[1].size[0]) for one in (first, second)]
        assert same(row[0], ends[0]) and same(row[-1], ends[1])
    if prior:
        halves = [
            (route.embed(a) + route.embed(b)) / 2 for a, b in zip(spoken[::2], spoken[1::2], strict=True)
        ]
        mixed_before = [route.generate(half, 1, 0)[0] for half in halves]
        assert not all(same(row[5], other) for row, other in zip(rows, mixed_before, strict=True))


def test_a_waveform_shows_loud_and_silent_stretches() -> None:
    time = np.arange(16_000) / 16_000
    samples = (0.3 * np.sin(2 * np.pi * 200 * time)).astype(np.float32)
    samples[8000:] = 0
    picture = np.asarray(figures.waveform(samples, 32))
    ink = (picture == figures._INK).all(2)
    assert ink[:, :16].all(), "the loudest sample reaches the edges"
    assert ink[:, 17:].sum(0).max() <= 2, "silence is a line in the middle"
    assert figures.waveform(np.zeros(5, np.float32), 16).size == (16, 16)
