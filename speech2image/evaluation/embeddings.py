"""Speech embeddings of the measured utterances, from the model as users run it: decoding, log-mel, ONNX."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speech2image.data.pairs import speech_shards, stream_speech
from speech2image.data.progress import track
from speech2image.data.shards.array_files import ResumableArray
from speech2image.data.shards.arrays import PairArrays
from speech2image.data.shards.header import read_header
from speech2image.errors import CheckpointError, DataError, SettingsError, SpeechError
from speech2image.evaluation.utterances import caption_of
from speech2image.pipeline.base import Route


@dataclass(frozen=True)
class Embeddings:
    """Speech embeddings [n, size] on disk of the utterances numbered `utterances` [n], which are sorted."""

    utterances: NDArray[np.int64]
    vectors: NDArray[np.float32]

    def of(self, utterances: NDArray[np.int64]) -> NDArray[np.float32]:
        """Embeddings of some of them, in the order given."""
        return np.asarray(self.vectors[np.searchsorted(self.utterances, utterances)])


def embed(
    route: Route, arrays: PairArrays, utterances: NDArray[np.int64], work: Path, captions: bool = False
) -> Embeddings:
    """Embeddings of what is said in some utterances (sorted), kept in `work`.

    Args:
        captions: embed the captions as they are written in place of the recordings, for routes through text.

    Raises:
        DataError: a recording or caption cannot be used, or the shards changed since they were opened.
        CheckpointError: the model answers with numbers that are not finite.
    """
    shape = len(utterances), route.model.card["embedding_size"]
    rows = ResumableArray(work / "speech_embeddings.npy", shape)
    rest = utterances[rows.done :]
    for u, said in track(_sayings(route, arrays, rest, work, captions), "listening", len(rest)):
        rows.write(rows.done, _embed(route, arrays, u, said)[None])
    if not rows.complete:
        raise DataError(f"the speech in {arrays.folder} changed meanwhile; evaluate again")
    return Embeddings(utterances, rows.array)


def _sayings(
    route: Route, arrays: PairArrays, utterances: NDArray[np.int64], work: Path, captions: bool
) -> Iterator[tuple[int, bytes | str]]:
    """What a route embeds: recordings; of a route through text what it writes down of them, or captions."""
    if captions:
        for u in utterances.tolist():
            if not caption_of(arrays, u):
                raise DataError(f"the words of utterance {u} of {arrays.folder} are not known (--captions)")
            yield u, caption_of(arrays, u)
    elif route.capabilities.text:
        yield from transcripts(route, arrays, utterances, work)
    else:
        yield from recordings(arrays, utterances)


def _embed(route: Any, arrays: PairArrays, u: int, said: bytes | str) -> NDArray[np.float32]:
    try:
        vector: NDArray[np.float32] = route.embed_text(said) if isinstance(said, str) else route.embed(said)
    except (SpeechError, SettingsError) as error:
        raise DataError(f"utterance {u} of {arrays.folder} cannot be used: {error}") from error
    if not np.isfinite(vector).all():
        raise CheckpointError(f"model '{route.name}' hears numbers that are not finite in utterance {u}")
    return vector


def transcripts(
    route: Any, arrays: PairArrays, utterances: NDArray[np.int64], work: Path
) -> Iterator[tuple[int, str]]:
    """Index and transcript of some utterances (sorted); what was written down once is kept in `work`.

    Raises:
        DataError: a recording cannot be used.
    """
    path = work / "transcripts.jsonl"
    written = _written(path)
    rest = np.array([u for u in utterances.tolist() if u not in written], dtype=np.int64)
    heard = recordings(arrays, rest)
    with open(path, "a", encoding="utf-8") as file:
        for u in utterances.tolist():
            if u not in written:
                _, audio = next(heard)
                try:
                    written[u] = route.transcribe(audio)
                except SpeechError as error:
                    raise DataError(f"utterance {u} of {arrays.folder} cannot be used: {error}") from error
                file.write(json.dumps([u, written[u]]) + "\n")
                file.flush()
            yield u, written[u]
    for _ in heard:  # reads the last shard to its end, which closes it
        pass


def _written(path: Path) -> dict[int, str]:
    """Transcripts of an earlier call; a last line that was not finished is taken away."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    whole = [line for line in lines if line.endswith("\n")]
    if len(whole) < len(lines):
        path.write_text("".join(whole), encoding="utf-8")
    return {int(u): text for u, text in map(json.loads, whole)}


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
