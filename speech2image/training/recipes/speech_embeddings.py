"""Speech embeddings of a data set, from a trained encoder, and their retrieval scores."""

import os
from collections.abc import Collection, Iterator
from itertools import product
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from speech2image.data.speech.word_bank import VOICE_PREFIX
from speech2image.data.training_sets import parts_of
from speech2image.errors import SettingsError
from speech2image.metrics.retrieval import Retrieval, picture_features, retrieval
from speech2image.models.pretrained_speech_encoder import PretrainedEncoderSettings, PretrainedSpeechEncoder
from speech2image.models.speech_encoder import SpeechEncoder, SpeechEncoderSettings
from speech2image.pipeline.registry import DECODER_PIECES, DOMAIN_ERRORS, DOMAINS, OTHER_THRESHOLD, PIECES
from speech2image.training.core.checkpoint import (
    averaged_weights,
    building_from,
    load_checkpoint,
    read_facts,
    stored_settings,
)
from speech2image.training.core.run import Run
from speech2image.training.core.speech_batches import SpeechArrays, padded

SPLITS = {"test": "unseen classes", "val": "seen classes"}
FACTS = ("backbone", PIECES, DECODER_PIECES, DOMAINS, OTHER_THRESHOLD, DOMAIN_ERRORS)
"""What a speech encoder's checkpoint and its model's card state besides: the published weights its backbone
began with, the pieces of text that its words head and its decoder write in, and of its domain head the
names, the threshold and the mistakes."""


class Encoder(Protocol):
    """A speech encoder as all but its own training sees it: frames and their numbers in, embeddings out.

    Attributes:
        embed_dim: length of the embedding.
    """

    embed_dim: int

    def __call__(self, frames: Tensor, n_frames: Tensor) -> Tensor: ...

    def eval(self) -> Any: ...

    def parameters(self) -> Iterator[nn.Parameter]: ...


class EvaluationSettings(Protocol):
    """What `log_retrieval` reads of a training's settings."""

    @property
    def held_out_voices(self) -> tuple[str, ...]: ...

    @property
    def evaluation_utterances(self) -> int: ...


def load_speech_encoder(path: str | os.PathLike[str]) -> SpeechEncoder | PretrainedSpeechEncoder:
    """The trained (averaged) encoder of a checkpoint, in evaluation mode.

    Raises:
        CheckpointError: the file is damaged or holds something else.
    """
    state = load_checkpoint(path, "speech_encoder")
    encoder: SpeechEncoder | PretrainedSpeechEncoder
    with building_from(path):
        stored = stored_settings(state, "encoder")
        if "backbone" in stored:
            encoder = PretrainedSpeechEncoder(PretrainedEncoderSettings.from_stored(stored))
        else:
            encoder = SpeechEncoder(SpeechEncoderSettings(**stored))
        encoder.load_state_dict(averaged_weights(state))
    return encoder.eval()


def load_pretrained(path: str | os.PathLike[str]) -> PretrainedSpeechEncoder:
    """`load_speech_encoder` for an encoder on a pretrained backbone.

    Raises:
        SettingsError: it has none.
        CheckpointError: the file is damaged or holds something else.
    """
    encoder = load_speech_encoder(path)
    if not isinstance(encoder, PretrainedSpeechEncoder):
        raise SettingsError(f"the encoder in {path} has no pretrained backbone; name another checkpoint")
    return encoder


def stated_facts(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Those of `FACTS` that the checkpoint of a speech encoder states."""
    facts = read_facts(path)
    return {key: facts[key] for key in FACTS if key in facts}


@torch.inference_mode()
def embed(
    encoder: Encoder, arrays: SpeechArrays, utterances: NDArray[np.int64], batch_size: int = 64
) -> NDArray[np.float32]:
    """Embeddings of some utterances, float32 [n, 1024], in their order; clips of one length go together.

    `arrays` must give the frames that the encoder takes.
    """
    encoder.eval()
    device = next(encoder.parameters()).device
    order = np.argsort(arrays.n_frames()[utterances], kind="stable")
    out = np.empty((len(utterances), encoder.embed_dim), dtype=np.float32)
    for rows in np.split(order, range(batch_size, len(order), batch_size)):
        log_mel, n_frames = padded([arrays.log_mel(int(u)) for u in utterances[rows]])
        out[rows] = encoder(log_mel.to(device), n_frames.to(device)).float().cpu().numpy()
    return out


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
        split: "test" (unseen classes), "val" (seen classes, unseen pictures) or "train".
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


def split_voices(arrays: SpeechArrays, held_out: Collection[str]) -> tuple[list[str], list[str]]:
    """Voices heard in training, and the others."""
    heard = set(arrays.utterance_voice[arrays.utterances_of("train", exclude_voices=held_out)].tolist())
    return sorted(heard), sorted(set(arrays.utterance_voice.tolist()) - heard)


def log_retrieval(
    run: Run, step: int, averaged: Encoder, arrays: SpeechArrays, settings: EvaluationSettings
) -> None:
    """Logs retrieval of pictures of unseen and of seen classes, by heard and unheard voices."""
    if not run.fabric.is_global_zero or not settings.evaluation_utterances:
        return
    heard, unheard = split_voices(arrays, settings.held_out_voices)
    groups = {
        "heard voices": heard,
        "unheard voices": [voice for voice in unheard if not voice.startswith(VOICE_PREFIX)],
        "unheard readers": [voice for voice in unheard if voice.startswith(VOICE_PREFIX)],
    }
    sets = parts_of(arrays)  # type: ignore[arg-type]
    for part, (split, classes), (group, voices) in product(sets, SPLITS.items(), groups.items()):
        found = evaluate(averaged, part, split, voices, settings.evaluation_utterances) if voices else None
        if found is not None:
            name = f"{part.folder.name}: {classes}, {group}" if len(sets) > 1 else f"{classes}, {group}"
            run.log(step, {f"{name}/{k}": v for k, v in found.as_dict().items()}, now=True)
