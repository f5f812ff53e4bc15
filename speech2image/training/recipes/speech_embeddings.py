"""Speech embeddings of a data set, from a trained encoder, and their retrieval scores."""

import hashlib
import os
from collections.abc import Collection, Iterator
from dataclasses import replace
from itertools import product, zip_longest
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from speech2image.data.features import weights_digest, with_cached_states
from speech2image.data.processes import first_alone, gpu, rank_and_count, share, wait
from speech2image.data.progress import track
from speech2image.data.shards.array_files import create_array
from speech2image.data.shards.arrays import PairArrays
from speech2image.data.shards.training_shards import (
    read_training_header,
    read_training_shard,
    training_shard,
    write_training_shard,
)
from speech2image.data.speech.word_bank import VOICE_PREFIX
from speech2image.data.streams import Stream, StreamedArrays
from speech2image.data.training_sets import parts_of
from speech2image.errors import DataError
from speech2image.files import check_writable
from speech2image.metrics.retrieval import Retrieval, picture_features, retrieval
from speech2image.models.pretrained_speech_encoder import PretrainedSpeechEncoder
from speech2image.training.core.networks import load_speech_encoder, space_of
from speech2image.training.core.run import Run
from speech2image.training.core.speech_batches import SpeechArrays, by_length

UTTERANCES_AT_ONCE = 1024


class Encoder(Protocol):
    """Any speech encoder: frames and their numbers in, embeddings out.

    Attributes:
        embed_dim: length of the embedding.
    """

    embed_dim: int

    def __call__(self, frames: Tensor, n_frames: Tensor) -> Tensor: ...

    def eval(self) -> object: ...

    def parameters(self) -> Iterator[nn.Parameter]: ...


class EvaluationSettings(Protocol):
    """What `log_retrieval` reads of a training's settings."""

    @property
    def held_out_voices(self) -> tuple[str, ...]: ...

    @property
    def evaluation_utterances(self) -> int: ...


@torch.inference_mode()
def embed(
    encoder: Encoder, arrays: SpeechArrays, utterances: NDArray[np.int64], batch_size: int = 64
) -> NDArray[np.float32]:
    """Embeddings of some utterances, float32 [n, 1024], in their order; clips of one length go together.

    `arrays` must give the frames that the encoder takes.
    """
    encoder.eval()
    device = next(encoder.parameters()).device
    out = np.empty((len(utterances), encoder.embed_dim), dtype=np.float32)
    for rows, log_mel, n_frames in by_length(arrays, utterances, batch_size):
        out[rows] = encoder(log_mel.to(device), n_frames.to(device)).float().cpu().numpy()
    return out


def store_embeddings(arrays: PairArrays, checkpoint: str | os.PathLike[str]) -> Path:
    """Cache a trained encoder's embedding of every utterance beside the shards; generators train on them.

    Where a frozen backbone's states lie there already, only the head runs.
    """
    encoder = load_speech_encoder(checkpoint).to(gpu() if torch.cuda.is_available() else "cpu")
    speech = replace(arrays, front_end=encoder.front_end)
    network: Encoder = encoder
    if isinstance(encoder, PretrainedSpeechEncoder):
        states = with_cached_states(speech, encoder)
        if states is not None:
            speech, network = states, encoder.head
    total = len(arrays.utterance_sample)
    starts = share(range(0, max(1, total), UTTERANCES_AT_ONCE))
    mine = [np.arange(start, min(start + UTTERANCES_AT_ONCE, total)) for start in starts]
    speech.n_frames()  # builds frames that are missing, which all processes have to do together
    rows = [embed(network, speech, part) for part in track(mine, "speech embeddings", len(mine))]
    return _save(arrays, rows, space_of(checkpoint, encoder))


def embed_stream(
    stream: Stream, checkpoint: str | os.PathLike[str], out: str | os.PathLike[str]
) -> list[Path]:
    """Write a stream's shards once more, with a trained encoder's embedding of every utterance.

    Processes of one training share the shards; one that is there already, from the same shard and encoder, is
    kept.

    Args:
        stream: opened with the encoder's front end.
        checkpoint: of the encoder.
        out: folder to write; shards are numbered in the stream's order.

    Raises:
        DataError: a shard cannot be read, or one in `out` is of something else.
        OutputError: `out` cannot be written.
    """
    encoder = load_speech_encoder(checkpoint).to(gpu() if torch.cuda.is_available() else "cpu")
    digest, folder = weights_digest(encoder), Path(out)
    check_writable(training_shard(folder, 0))
    todo = share(list(range(len(stream.shards))))
    for place in track(todo, "speech embeddings", len(todo)):
        url, path = stream.shards[place].url, training_shard(folder, place)
        header = read_training_header(url)
        made_from = hashlib.sha256(f"{header.content} {digest}".encode()).hexdigest()[:16]
        if path.exists():
            if read_training_header(str(path)).digest == made_from:
                continue
            raise DataError(f"{path} was made from other shards or by another encoder; choose another --out")
        samples = read_training_shard(url)
        arrays = StreamedArrays([samples], stream.class_numbers, stream.front_end)
        rows = embed(encoder, arrays, np.arange(len(arrays.utterance_sample))).astype(np.float16)
        ends = np.cumsum([len(sample.spoken) for sample in samples])[:-1]
        embedded = [
            replace(sample, embeddings=own if len(own) else None)
            for sample, own in zip(samples, np.split(rows, ends), strict=True)
        ]
        write_training_shard(path, embedded, header.front_end, made_from)
    wait()
    return [training_shard(folder, place) for place in range(len(stream.shards))]


def _save(arrays: PairArrays, rows: list[NDArray[np.float32]], space: str) -> Path:
    """Store what all processes computed, of which each made every so-many-th part."""
    rank, count = rank_and_count()
    if count == 1:
        return arrays.save_embeddings(np.concatenate(rows), space)
    path = arrays.folder / "arrays" / arrays.embeddings_file
    paths = [path.with_name(f"{path.stem}-of-process-{other}.npy") for other in range(count)]
    own = np.concatenate(rows) if rows else np.zeros((0, 0), np.float32)
    create_array(paths[rank], own.shape, np.float32, own)
    wait()
    with first_alone() as is_first:
        if is_first:
            made = [np.load(path) for path in paths]
            parts = [np.split(a, range(UTTERANCES_AT_ONCE, len(a), UTTERANCES_AT_ONCE)) for a in made]
            turns = [part for turn in zip_longest(*parts) for part in turn if part is not None]
            arrays.save_embeddings(np.concatenate([part for part in turns if part.size]), space)
    paths[rank].unlink()
    return path


def evaluate(
    encoder: Encoder,
    arrays: SpeechArrays,
    split: str = "test",
    voices: Collection[str] | None = None,
    limit: int | None = None,
) -> Retrieval | None:
    """Retrieval of a split's pictures by its utterances.

    Args:
        encoder: trained.
        arrays: the data set.
        split: "test", "val" (training classes, other pictures) or "train".
        voices: only these voices; None for all.
        limit: a fixed random choice of so many utterances.

    Returns:
        None where there is no such utterance.
    """
    utterances = arrays.utterances_of(split, voices)
    if limit is not None:
        utterances = np.random.default_rng(0).permutation(utterances)[:limit]
    if not len(utterances):
        return None
    gallery = arrays.samples_of(split)
    place = np.zeros(len(arrays.labels), dtype=np.int64)
    place[gallery] = np.arange(len(gallery))
    return retrieval(
        embed(encoder, arrays, utterances),
        picture_features(arrays.teacher[gallery]),
        place[arrays.utterance_sample[utterances]],
        arrays.labels[gallery],
    )


def training_and_other_voices(arrays: SpeechArrays, held_out: Collection[str]) -> tuple[list[str], list[str]]:
    """Voices of the training speech, and all others."""
    heard = set(arrays.utterance_voice[arrays.utterances_of("train", exclude_voices=held_out)].tolist())
    return sorted(heard), sorted(set(arrays.utterance_voice.tolist()) - heard)


def log_retrieval(
    run: Run, step: int, averaged: Encoder, arrays: SpeechArrays, settings: EvaluationSettings
) -> None:
    """Logs retrieval of the pictures of "test" and of "val", by heard and unheard voices."""
    if not run.fabric.is_global_zero or not settings.evaluation_utterances:
        return
    heard, unheard = training_and_other_voices(arrays, settings.held_out_voices)
    groups = {
        "heard voices": heard,
        "unheard voices": [voice for voice in unheard if not voice.startswith(VOICE_PREFIX)],
        "unheard readers": [voice for voice in unheard if voice.startswith(VOICE_PREFIX)],
    }
    sets = parts_of(arrays)  # type: ignore[arg-type]
    kept_out: list[float] = []  # of training pictures' classes: what may choose a checkpoint
    for part, split, (group, voices) in product(sets, ("test", "val"), groups.items()):
        found = evaluate(averaged, part, split, voices, settings.evaluation_utterances) if voices else None
        if found is not None:
            name = f"{part.classes_of(split)}, {group}"
            name = f"{part.folder.name}: {name}" if len(sets) > 1 else name
            run.log(step, {f"{name}/{k}": v for k, v in found.as_dict().items()}, now=True)
            if (split, group) == ("val", "heard voices"):
                kept_out.append(found.as_dict()["mAP"])
    if kept_out:
        run.judge(step, "mAP of validation pictures", sum(kept_out) / len(kept_out))
