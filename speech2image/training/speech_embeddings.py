"""Uses of a trained speech encoder: embeddings of a data set's utterances, and their retrieval figures."""

import os
from collections.abc import Collection

import numpy as np
import torch
from numpy.typing import NDArray

from speech2image.metrics.retrieval import Retrieval, picture_features, retrieval
from speech2image.models.speech_encoder import SpeechEncoder, SpeechEncoderSettings
from speech2image.training.checkpoint import load_checkpoint, stored_settings
from speech2image.training.checkpoint_checks import building_from
from speech2image.training.speech_batches import SpeechArrays, padded


def load_speech_encoder(path: str | os.PathLike[str]) -> SpeechEncoder:
    """The trained (averaged) encoder of a checkpoint, in evaluation mode.

    Raises:
        CheckpointError: the file is damaged or holds something else.
    """
    state = load_checkpoint(path, "speech_encoder")
    with building_from(path):
        encoder = SpeechEncoder(SpeechEncoderSettings(**stored_settings(state, "encoder")))
        encoder.load_state_dict(state["ema"]["module"])
    return encoder.eval()


@torch.inference_mode()
def embed(
    encoder: SpeechEncoder, arrays: SpeechArrays, utterances: NDArray[np.int64], batch_size: int = 64
) -> NDArray[np.float32]:
    """Embeddings of some utterances, float32 [n, 1024], in their order; clips of one length go together."""
    encoder = encoder.eval()
    device = next(encoder.parameters()).device
    order = np.argsort(arrays.n_frames()[utterances], kind="stable")
    out = np.empty((len(utterances), encoder.settings.size), dtype=np.float32)
    for rows in np.split(order, range(batch_size, len(order), batch_size)):
        log_mel, n_frames = padded([arrays.log_mel(int(u)) for u in utterances[rows]])
        out[rows] = encoder(log_mel.to(device), n_frames.to(device)).float().cpu().numpy()
    return out


def evaluate(
    encoder: SpeechEncoder,
    arrays: SpeechArrays,
    split: str = "test",
    voices: Collection[str] | None = None,
    limit: int | None = None,
) -> Retrieval | None:
    """Retrieval of a split's pictures by its utterances.

    Args:
        encoder: trained.
        arrays: the data set.
        split: "test" (unseen classes) or "train".
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
