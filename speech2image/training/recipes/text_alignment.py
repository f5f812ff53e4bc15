"""Brings a text encoder into the space of a speech encoder, so that one generator draws for both.

Its last, linear layer is replaced by the least-squares one from what it reads in a caption to where the
speech encoder puts the spoken caption. What comes before it stays as `train text-encoder` left it.
"""

import os
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from speech2image.data.joined import TrainingArrays
from speech2image.errors import DataError
from speech2image.models.condition_prior import unit
from speech2image.models.text_encoder import TextEncoder, characters
from speech2image.training.core.checkpoint import averaged_weights, load_checkpoint, save_checkpoint
from speech2image.training.core.checkpoint_checks import building_from
from speech2image.training.recipes.text_encoder import KIND, load_text_encoder


def align(checkpoint: str | os.PathLike[str], arrays: TrainingArrays, out: str | os.PathLike[str]) -> Path:
    """Write a text encoder's checkpoint whose embeddings are those of the training captions when spoken.

    Args:
        checkpoint: of a text-encoder training.
        arrays: prepared data with captions and speech embeddings [U, size].
        out: checkpoint to write.

    Raises:
        DataError: fewer spoken captions of the training part than a linear layer needs, or embeddings of
            another length than the text encoder's.
        CheckpointError, OutputError: the checkpoint cannot be read or written.
    """
    encoder = load_text_encoder(checkpoint)
    width, size = encoder.projection.in_features, encoder.projection.out_features
    given = arrays.embeddings.shape[1]
    if given != size:
        raise DataError(f"the text encoder gives {size} numbers, the speech embeddings have {given}")
    captions, spoken = spoken_captions(arrays, encoder.teacher_mean.numpy())
    if len(captions) <= width:
        raise DataError(
            f"a text encoder that reads {width} numbers needs more than {width} spoken training captions, "
            f"there are {len(captions)}"
        )
    weight, bias = least_squares(_read(encoder, captions), spoken)
    state = load_checkpoint(checkpoint, KIND)
    with building_from(checkpoint):
        averaged = averaged_weights(state)
        averaged["projection.weight"] = torch.from_numpy(weight)
        averaged["projection.bias"] = torch.from_numpy(bias)
    save_checkpoint(out, state)
    return Path(out)


def spoken_captions(
    arrays: TrainingArrays, teacher_mean: NDArray[np.float32]
) -> tuple[list[str], NDArray[np.float32]]:
    """The training captions that are spoken, each once, and where its utterances lie, [n, size].

    That is the mean direction of their embeddings from the mean feature of the image teacher, [size], at the
    length that embeddings have from there: retrieval and the condition prior read directions alone.
    """
    utterances = arrays.utterances_of("train")
    utterances = utterances[arrays.utterance_caption[utterances] >= 0]
    places = np.stack([arrays.utterance_sample[utterances], arrays.utterance_caption[utterances]], axis=1)
    kinds, which = np.unique(places, axis=0, return_inverse=True)
    captions = [arrays.captions[sample][caption] for sample, caption in kinds]
    embeddings = np.asarray(arrays.embeddings[utterances], np.float32) - teacher_mean
    length = np.linalg.norm(embeddings, axis=1).mean()
    means = np.zeros((len(captions), embeddings.shape[1]), np.float32)
    np.add.at(means, which.ravel(), unit(embeddings))
    means *= length / np.bincount(which.ravel(), minlength=1)[:, None]
    return captions, means


def least_squares(
    inputs: NDArray[np.float32], outputs: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weight [e, d] and bias [e] of the linear layer that brings inputs [n, d] nearest to outputs [n, e]."""
    centre, target = inputs.mean(axis=0), outputs.mean(axis=0)
    solution = np.linalg.lstsq(inputs - centre, outputs - target, rcond=None)[0]
    weight: NDArray[np.float32] = np.ascontiguousarray(solution.T, np.float32)
    return weight, target - weight @ centre


@torch.inference_mode()
def _read(encoder: TextEncoder, captions: list[str], batch_size: int = 256) -> NDArray[np.float32]:
    parts = [captions[start : start + batch_size] for start in range(0, len(captions), batch_size)]
    return np.concatenate([encoder.read(characters(part)).numpy() for part in parts])
