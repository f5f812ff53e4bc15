"""Speech embeddings of the measured utterances, through the model users run: decoding, log-mel, ONNX."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from speech2image.data.arrays import PairArrays
from speech2image.data.pairs import read_header, speech_shards, stream_speech
from speech2image.data.progress import track
from speech2image.errors import CheckpointError, DataError, SpeechError
from speech2image.evaluation.stored_rows import StoredRows
from speech2image.pipeline import DirectRoute


@dataclass(frozen=True)
class Embeddings:
    """Speech embeddings [n, size] on disk of the utterances numbered `utterances` [n], which are sorted."""

    utterances: NDArray[np.int64]
    vectors: NDArray[np.float32]

    def of(self, utterances: NDArray[np.int64]) -> NDArray[np.float32]:
        """Embeddings of some of them, in the order given."""
        return np.asarray(self.vectors[np.searchsorted(self.utterances, utterances)])


def embed(route: DirectRoute, arrays: PairArrays, utterances: NDArray[np.int64], work: Path) -> Embeddings:
    """Speech embeddings of some utterances (sorted), kept in `work`.

    Raises:
        DataError: a recording cannot be used, or the shards changed since they were opened.
        CheckpointError: the model answers with numbers that are not finite.
    """
    rows = StoredRows(
        work / "speech_embeddings.npy", len(utterances), route.model.card["embedding_size"], np.float32
    )
    rest = utterances[rows.done :]
    for u, audio in track(recordings(arrays, rest), "listening", len(rest)):
        rows.write(rows.done, _embed(route, arrays, u, audio)[None])
    if not rows.complete:
        raise DataError(f"the speech in {arrays.folder} changed meanwhile; evaluate again")
    return Embeddings(utterances, rows.array)


def _embed(route: DirectRoute, arrays: PairArrays, u: int, audio: bytes) -> NDArray[np.float32]:
    try:
        vector = route.embed(audio)
    except SpeechError as error:
        raise DataError(f"utterance {u} of {arrays.folder} cannot be used: {error}") from error
    if not np.isfinite(vector).all():
        raise CheckpointError(f"model '{route.name}' hears numbers that are not finite in utterance {u}")
    return vector


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
