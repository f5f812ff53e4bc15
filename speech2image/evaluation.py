"""Measure a model on prepared data: retrieval, colour agreement (method.md section 4), a sheet of pictures.

Command: `speech2image evaluate --model flowers --data SHARDS --out FOLDER`. The model runs as users run it:
the encoded recordings of the shards go through `pipeline.DirectRoute`, so decoding, log-mel and ONNX are
measured too. A voice is kept out if it speaks no training utterance; a class is unseen if its pictures lie in
the split "test".
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from speech2image.data.arrays import PairArrays
from speech2image.data.pairs import read_header, speech_shards, stream_speech
from speech2image.data.progress import track
from speech2image.errors import CheckpointError, DataError, SettingsError, SpeechError
from speech2image.evaluation_colours import Heard, caption_of, choose_utterances, colour_rows
from speech2image.evaluation_report import check_folder, provenance, sheet, write_report
from speech2image.metrics.retrieval import chance, picture_features, retrieval
from speech2image.metrics.text_baseline import text_baseline
from speech2image.pipeline import DirectRoute
from speech2image.pretrained import DEFAULT_MODEL, load
from speech2image.runtime import check_count, check_seed

CLASSES = {"seen": "val", "unseen": "test"}
"""Classes -> the split that shows them without having been trained on."""

VOICES = ("heard", "kept out")
SHEET_ROWS, SHEET_NOISES = 8, 4


@dataclass(frozen=True)
class Settings:
    """Measure a model on prepared data; write results.json, results.md and grid.png.

    Attributes:
        data: shards folder that prepare wrote, with the teacher's features.
        out: folder to write.
        model: name of a shipped model, or a model folder.
        held_out_voices: voices the model was not trained on although training utterances in them are there
            (what the training was told); those in test utterances alone count as kept out anyway.
        seed: of the noise, the shuffling, the intervals and the choice of the sheet's utterances.
        pictures_per_utterance: pictures drawn of each utterance to read their colours.
        limit: measure so many utterances of each kind alone, spread evenly; galleries stay whole.
        threads: processor threads of the model (default: all).
    """

    data: Path
    out: Path
    model: str = DEFAULT_MODEL
    held_out_voices: tuple[str, ...] = ()
    seed: int = 0
    pictures_per_utterance: int = 1
    limit: int | None = None
    threads: int | None = None


@dataclass(frozen=True)
class Cell:
    """Utterances of one kind: classes "seen" or "unseen", voices "heard" or "kept out", their indices."""

    classes: str
    voices: str
    utterances: NDArray[np.int64]


@dataclass(frozen=True)
class Embeddings:
    """Speech embeddings [n, size] of the utterances numbered `utterances` [n], which are sorted."""

    utterances: NDArray[np.int64]
    vectors: NDArray[np.float32]

    def of(self, utterances: NDArray[np.int64]) -> NDArray[np.float32]:
        """Embeddings of some of them, in the order given."""
        return self.vectors[np.searchsorted(self.utterances, utterances)]


def evaluate(settings: Settings) -> dict[str, Any]:
    """Measure a model and write the report.

    Returns:
        What `results.json` holds; shares are in [0, 1].

    Raises:
        SettingsError: a setting is out of range, or a voice is named that is not there.
        CheckpointError: the model is unknown or damaged, or of another embedding size than the teacher.
        DataError: the data has no test or training pictures, no teacher features, or no kept-out voice.
        OutputError: `out` cannot be written.
    """
    _check(settings)
    check_folder(settings.out)
    route = load(settings.model, threads=settings.threads)
    arrays = PairArrays.open(settings.data)
    results, picture = measure(settings, arrays, route)
    results = provenance(settings, arrays, route) | results
    write_report(results, picture, settings.out)
    return results


def measure(settings: Settings, arrays: PairArrays, route: DirectRoute) -> tuple[dict[str, Any], Image.Image]:
    """All figures, and the sheet of pictures."""
    features = _features(arrays, route)
    heard, kept_out = split_voices(arrays, settings.held_out_voices)
    cells = _cells(arrays, heard, kept_out, settings.limit)
    shown = choose_utterances(arrays, arrays.utterances_of("test", kept_out), SHEET_ROWS, settings.seed)
    wanted = np.unique(np.concatenate([shown, *(cell.utterances for cell in cells)]))
    embeddings = embed(route, arrays, wanted)
    voices = {"heard": heard, "kept out": kept_out}
    results: dict[str, Any] = {"voices": voices}
    results["retrieval"] = retrieval_rows(arrays, cells, embeddings, features)
    results["voice_by_voice"] = _rows_by_voice(arrays, cells, embeddings, features)
    speech = {
        cell.voices: Heard(cell.utterances, embeddings.of(cell.utterances))
        for cell in cells
        if cell.classes == "unseen"
    }
    results["colours"] = colour_rows(arrays, route, speech, settings.pictures_per_utterance, settings.seed)
    drawn = [route.generate(vector, SHEET_NOISES, settings.seed) for vector in embeddings.of(shown)]
    told = [_told(arrays, int(u)) for u in shown]
    results["sheet"] = {"noises": SHEET_NOISES, "noise_seed": settings.seed, "rows": told}
    return results, sheet(drawn, [row["caption"] or row["id"] for row in told])


def _told(arrays: PairArrays, u: int) -> dict[str, Any]:
    sample = int(arrays.utterance_sample[u])
    return {
        "caption": caption_of(arrays, u),
        "voice": str(arrays.utterance_voice[u]),
        "class": arrays.class_names[int(arrays.labels[sample])],
        "id": arrays.ids[sample],
    }


def _check(settings: Settings) -> None:
    check_seed(settings.seed)
    check_count(settings.pictures_per_utterance, "pictures_per_utterance")
    if settings.limit is not None and settings.limit < 2:
        raise SettingsError(f"limit must be a whole number from 2 (utterances), not {settings.limit!r}")


def _features(arrays: PairArrays, route: DirectRoute) -> NDArray[np.float32]:
    """The teacher's feature of every picture, the mean of its crops: [N, size]."""
    for split, use in (
        ("train", "to fit the colour reader and the text baseline on"),
        ("test", "to test on"),
    ):
        if not len(arrays.samples_of(split)):
            raise DataError(
                f"{arrays.folder} has no pictures in split '{split}' {use}; prepare a set with both"
            )
    teacher = arrays.teacher
    size = route.model.card["embedding_size"]
    if teacher.shape[-1] != size:
        raise CheckpointError(
            f"the model's speech embeddings have {size} numbers, the teacher features of {arrays.folder} "
            f"{teacher.shape[-1]}: the model was trained with another teacher"
        )
    starts = range(0, len(teacher), 256)
    return np.concatenate([picture_features(np.asarray(teacher[start : start + 256])) for start in starts])


def split_voices(arrays: PairArrays, held_out: Sequence[str] = ()) -> tuple[list[str], list[str]]:
    """Voices heard in training, and those kept out of it: `held_out`, and all without a training utterance.

    Raises:
        SettingsError: a voice of `held_out` is not there.
        DataError: there is no speech, or no voice of the test utterances is kept out.
    """
    if not arrays.voices:
        raise DataError(f"no speech in {arrays.folder}; speak the captions with: speech2image prepare")
    unknown = sorted(set(held_out) - set(arrays.voices))
    if unknown:
        there = ", ".join(arrays.voices)
        raise SettingsError(f"no utterance by {', '.join(unknown)} (--held-out-voices); voices: {there}")
    trained = arrays.utterances_of("train", exclude_voices=held_out)
    heard = sorted(set(arrays.utterance_voice[trained].tolist()))
    kept_out = sorted(set(arrays.voices) - set(heard))
    if not len(arrays.utterances_of("test", kept_out)):
        raise DataError(
            f"no test utterance in {arrays.folder} is by a voice kept out of training (training hears: "
            f"{', '.join(heard)}); add some with: speech2image prepare ... --held-out-voices NAME --part NAME"
        )
    return heard, kept_out


def _cells(arrays: PairArrays, heard: list[str], kept_out: list[str], limit: int | None) -> list[Cell]:
    """Utterances of every kind there is."""
    cells = [
        Cell(classes, kind, evenly(arrays.utterances_of(split, voices), limit))
        for classes, split in CLASSES.items()
        for kind, voices in zip(VOICES, (heard, kept_out), strict=True)
    ]
    return [cell for cell in cells if len(cell.utterances)]


def evenly(indices: NDArray[np.int64], limit: int | None) -> NDArray[np.int64]:
    """At most `limit` of `indices`, evenly spread, first and last among them."""
    if limit is None or len(indices) <= limit:
        return indices
    return indices[np.linspace(0, len(indices) - 1, limit).round().astype(np.int64)]


def embed(route: DirectRoute, arrays: PairArrays, utterances: NDArray[np.int64]) -> Embeddings:
    """Speech embeddings of some utterances (sorted), through the model users run.

    Raises:
        DataError: a recording cannot be used, or the shards changed since they were opened.
        CheckpointError: the model answers with numbers that are not finite.
    """
    vectors = np.empty((len(utterances), route.model.card["embedding_size"]), np.float32)
    spoken = track(recordings(arrays, utterances), "listening", len(utterances))
    for row, (u, audio) in enumerate(spoken):
        try:
            vectors[row] = route.embed(audio)
        except SpeechError as error:
            raise DataError(f"utterance {u} of {arrays.folder} cannot be used: {error}") from error
        if not np.isfinite(vectors[row]).all():
            raise CheckpointError(f"model '{route.name}' hears numbers that are not finite in utterance {u}")
    return Embeddings(utterances, vectors)


def recordings(arrays: PairArrays, utterances: NDArray[np.int64]) -> Iterator[tuple[int, bytes]]:
    """Index and encoded recording of some utterances (sorted), read shard after shard."""
    wanted, start = set(utterances.tolist()), 0
    for shard in speech_shards(arrays.folder):
        end = start + len(read_header(shard).rows)
        if not wanted.isdisjoint(range(start, end)):
            for u, spoken in enumerate(stream_speech([shard]), start):
                if u in wanted:
                    if spoken.sample != arrays.ids[arrays.utterance_sample[u]]:
                        raise DataError(f"speech was added to {arrays.folder} meanwhile; evaluate again")
                    yield u, spoken.utterance.audio
        start = end


def retrieval_rows(
    arrays: PairArrays, cells: list[Cell], embeddings: Embeddings, features: NDArray[np.float32]
) -> list[dict[str, Any]]:
    """Speech -> picture retrieval of every kind, and of the true words, each with chance."""
    rows = [
        {"classes": cell.classes, "voices": cell.voices}
        | _retrieve(arrays, cell.classes, cell.utterances, embeddings, features)
        for cell in cells
    ]
    train, test = arrays.samples_of("train"), arrays.samples_of("test")
    if any(arrays.captions[i] for i in train) and any(arrays.captions[i] for i in test):
        found = text_baseline(arrays.captions, features[:, None], arrays.labels, train, test)
        counts = {"queries": found.queries, "pictures": found.pictures}
        words = {"classes": "unseen", "voices": "the true words, no speech", **counts, **found.as_dict()}
        rows.append(words | {"chance": chance(arrays.labels[test]).as_dict()})
    return rows


def _retrieve(
    arrays: PairArrays,
    classes: str,
    utterances: NDArray[np.int64],
    embeddings: Embeddings,
    features: NDArray[np.float32],
) -> dict[str, Any]:
    gallery = arrays.samples_of(CLASSES[classes])
    labels = arrays.labels[gallery]
    targets = np.searchsorted(gallery, arrays.utterance_sample[utterances])
    mean = features[arrays.samples_of("train")].mean(axis=0)
    found = retrieval(embeddings.of(utterances), features[gallery], targets, labels, mean)
    counts = {"queries": found.queries, "pictures": found.pictures}
    return counts | found.as_dict() | {"chance": chance(labels).as_dict()}


def _rows_by_voice(
    arrays: PairArrays, cells: list[Cell], embeddings: Embeddings, features: NDArray[np.float32]
) -> list[dict[str, Any]]:
    """Retrieval of the unseen classes, voice by voice."""
    rows = []
    for cell in (cell for cell in cells if cell.classes == "unseen"):
        voices = arrays.utterance_voice[cell.utterances]
        for voice in sorted(set(voices.tolist())):
            found = _retrieve(arrays, "unseen", cell.utterances[voices == voice], embeddings, features)
            rows.append({"voice": voice, "voices": cell.voices} | found)
    return rows
