"""Text-encoder training: brings a caption to the teacher's feature of its picture; alignment with speech.

Command: `speech2image train text-encoder --data SHARDS --out RUN`. Source: Reed et al., "Learning Deep
Representations of Fine-grained Visual Descriptions" (CVPR 2016); the network and loss behind StackGAN's
published embeddings. `align` then moves its embeddings to where a speech encoder puts the same captions, so
that one generator serves both: the last, linear layer is replaced by a least-squares one.
"""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from speech2image.asr.text import words_of
from speech2image.data.training_sets import TrainingArrays
from speech2image.errors import DataError, SettingsError
from speech2image.losses.distillation import ContrastiveWeights, contrastive_loss, start_temperature
from speech2image.losses.joint_embedding import JointEmbeddingWeights, symmetric_joint_embedding_loss
from speech2image.metrics.retrieval import Retrieval, picture_features, retrieval
from speech2image.models.condition_prior import unit
from speech2image.models.text_encoder import PRESETS as ENCODERS
from speech2image.models.text_encoder import TextEncoder, TextEncoderSettings, characters
from speech2image.pipeline.registry import VOCABULARY
from speech2image.training.core.checkpoint import (
    averaged_weights,
    building_from,
    load_checkpoint,
    save_checkpoint,
)
from speech2image.training.core.ema import Ema
from speech2image.training.core.learner import Learner
from speech2image.training.core.networks import TEXT_ENCODER, load_text_encoder
from speech2image.training.core.run import Run, RunSettings, belonging, make_fabric, step_rng
from speech2image.training.core.schedules import linear
from speech2image.training.core.speech_batches import DescribedPictures, mean_teacher_feature


@dataclass(frozen=True)
class TextEncoderTraining(RunSettings):
    """Everything that decides a training.

    Attributes:
        encoder: its shape.
        loss: the published hinge, or the InfoNCE that the speech encoder is trained with.
        word_dropout: up to this share of a caption's words is left out at random, so that shorter texts and
            those with recognition errors are embedded well, too; not published.
        steps: optimiser steps; the learning rate falls linearly to a hundredth.
        batch_size: pictures a step and process, one caption each.
        learning_rate: Adam's.
        clip: largest norm of the gradient.
        ema_decay: of the averaged weights; 0 follows the live ones.
        evaluation_captions: of the split test, whose retrieval is logged at every checkpoint; 0 for none.
    """

    encoder: TextEncoderSettings = ENCODERS["paper"]
    loss: JointEmbeddingWeights | ContrastiveWeights = field(default_factory=JointEmbeddingWeights)
    word_dropout: float = 0.0
    steps: int = 50_000
    batch_size: int = 40
    learning_rate: float = 7e-4
    clip: float = 5.0
    ema_decay: float = 0.0
    evaluation_captions: int = 1000
    log_every: int = 50


PAPER = TextEncoderTraining(steps=66_400, clip=math.inf, precision="32-true")
PRESETS = {
    # 300 epochs of CUB's 8,855 training pictures in batches of 40, of Oxford-102's 7,034, of Places' 10,933
    "paper": PAPER,
    "paper-oxford102": replace(PAPER, steps=52_800),
    "paper-places": replace(PAPER, steps=82_000),
    "cpu": TextEncoderTraining(
        encoder=replace(ENCODERS["paper"], dropout=0.3),
        loss=ContrastiveWeights(same_class=0.3),
        word_dropout=0.5,
        steps=6_000,
        batch_size=64,
        ema_decay=0.999,
        checkpoint_minutes=4.0,
    ),
    "toy": TextEncoderTraining(
        encoder=ENCODERS["toy"], steps=300, batch_size=32, learning_rate=3e-3, evaluation_captions=200
    ),
}


class TextBatch(NamedTuple):
    """One step's material; `b` captions.

    Attributes:
        letters: characters of the captions [b, 201].
        image: teacher features [b + extra, 1024]; the first b are of the pictures described.
        labels, pictures: class and index of the picture of each row of `image`.
    """

    letters: Tensor
    image: Tensor
    labels: Tensor
    pictures: Tensor


class TextBatches:
    """Batches for step 0, 1, 2, ...: one random caption and one random crop of each picture.

    Args:
        arrays: the data set, with teacher features.
        items: pictures to train on; those without captions are left out.
        batch_size: pictures a step and rank.
        seed: of the order and the draws.
        word_dropout: the largest share of a caption's words that is left out.
        extra_pictures: further training pictures whose teacher features join each batch as negatives.
        rank, world_size: this process's place among those that share every step.

    Raises:
        SettingsError: `word_dropout` is no share below 1.
        DataError: fewer than two pictures with captions.
    """

    def __init__(
        self,
        arrays: TrainingArrays,
        items: NDArray[np.int64],
        batch_size: int,
        seed: int,
        word_dropout: float = 0.0,
        extra_pictures: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if not 0.0 <= word_dropout < 1.0:
            raise SettingsError(f"word_dropout is {word_dropout}; choose a share from 0 to below 1")
        self.arrays, self.batch_size, self.seed, self.word_dropout = arrays, batch_size, seed, word_dropout
        self.rank, self.world_size = rank, world_size
        self.pictures = DescribedPictures(arrays, extra_pictures)
        self.items = np.array([i for i in items if arrays.captions[i]], dtype=np.int64)
        if len(self.items) < 2:
            raise DataError("no captions to train on: the data set has none of its training pictures")

    def __call__(self, step: int) -> TextBatch:
        """The batch of `step` (0, 1, ...)."""
        rng = step_rng(self.seed, step, self.rank)
        first = (step * self.world_size + self.rank) * self.batch_size
        epochs, places = np.divmod(np.arange(first, first + self.batch_size), len(self.items))
        chosen = np.concatenate([self._order(int(e))[places[epochs == e]] for e in np.unique(epochs)])
        captions = [self.arrays.captions[i] for i in chosen]
        drawn = [caption[rng.integers(len(caption))] for caption in captions]
        if self.word_dropout:
            drawn = [without_words(caption, rng.uniform(0, self.word_dropout), rng) for caption in drawn]
        return TextBatch(characters(drawn), *self.pictures(chosen, rng))

    def _order(self, epoch: int) -> NDArray[np.int64]:
        order: NDArray[np.int64] = np.random.default_rng((self.seed, epoch)).permutation(self.items)
        return order


def without_words(caption: str, share: float, rng: np.random.Generator) -> str:
    """A caption whose words are each left out with the probability `share`, but for one."""
    words = caption.split()
    keep = rng.random(len(words)) >= share
    if not keep.any():
        keep[rng.integers(len(words))] = True
    return " ".join(word for word, kept in zip(words, keep, strict=True) if kept)


class Matching(nn.Module):
    """The encoder with its loss.

    Args:
        encoder: to train.
        loss: which, with its weights.
    """

    def __init__(self, encoder: TextEncoder, loss: JointEmbeddingWeights | ContrastiveWeights) -> None:
        super().__init__()
        self.encoder, self.loss = encoder, loss
        self.log_temperature = start_temperature(loss)

    def forward(self, batch: TextBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch and its items for the log."""
        text = self.encoder(batch.letters).float()
        mean, image, n = self.encoder.teacher_mean, batch.image, len(text)
        if isinstance(self.loss, ContrastiveWeights):
            return contrastive_loss(
                text, image, mean, batch.labels, batch.pictures, self.loss, self.log_temperature
            )
        loss = symmetric_joint_embedding_loss(text - mean, image[:n], batch.labels[:n], self.loss.margin)
        return loss, {}


def train(
    settings: TextEncoderTraining,
    arrays: TrainingArrays,
    folder: str | os.PathLike[str],
    start_from: str | os.PathLike[str] | None = None,
) -> Path:
    """Trains, or goes on with the training in `folder` as if it had never stopped.

    Args:
        settings: see TextEncoderTraining and PRESETS.
        arrays: the prepared data set with captions; the teacher's features must be there.
        folder: takes the checkpoint and the log.
        start_from: checkpoint of another training; its encoder is taken when this run starts (not when it
            resumes).

    Returns:
        The checkpoint (kind `text_encoder`; read it with `core.networks.load_text_encoder`).
    """
    fabric = make_fabric(settings.precision, settings.seed)
    run = Run(folder, TEXT_ENCODER, settings, fabric, belonging(arrays))
    batches = TextBatches(
        arrays,
        arrays.samples_of("train"),
        settings.batch_size,
        settings.seed,
        settings.word_dropout,
        settings.loss.extra_pictures if isinstance(settings.loss, ContrastiveWeights) else 0,
        fabric.global_rank,
        fabric.world_size,
    )
    vocabulary = sorted(words_of(caption for item in batches.items for caption in arrays.captions[item]))
    encoder = TextEncoder(settings.encoder)
    mean = torch.from_numpy(mean_teacher_feature(arrays))
    encoder.teacher_mean.copy_(mean)
    matching = Matching(encoder, settings.loss)
    adam = torch.optim.Adam(matching.parameters(), settings.learning_rate)
    learner = Learner(matching, matching.encoder, adam, settings.ema_decay)
    state = run.restore()
    if state is None and start_from is not None:
        learner.start_from(load_text_encoder(start_from).state_dict() | {"teacher_mean": mean}, start_from)
    step = learner.begin(fabric, state)

    next_batch = run.read_ahead(batches)

    def loss_of(step: int) -> tuple[Tensor, dict[str, Tensor]]:
        loss, items = learner(TextBatch(*(tensor.to(fabric.device) for tensor in next_batch(step))))
        return loss, items

    def rate_of(step: int) -> float:
        return settings.learning_rate * linear(step, settings.steps)

    def save(step: int) -> None:
        run.save({"step": step, VOCABULARY: vocabulary, **learner.state_dict()})
        _log_retrieval(run, step, learner.ema, arrays, settings.evaluation_captions)

    return learner.fit(run, step, loss_of, rate_of, settings.clip, save)


@torch.inference_mode()
def embed_captions(
    encoder: TextEncoder, captions: Sequence[str], batch_size: int = 256
) -> NDArray[np.float32]:
    """Embeddings of captions, float32 [n, size].

    Raises:
        SettingsError: a caption holds no known character.
    """
    encoder = encoder.eval()
    device = next(encoder.parameters()).device
    parts = [captions[start : start + batch_size] for start in range(0, len(captions), batch_size)]
    rows = [encoder(characters(part).to(device)).float().cpu().numpy() for part in parts]
    return np.concatenate(rows) if rows else np.zeros((0, encoder.settings.output), np.float32)


def evaluate(
    encoder: TextEncoder, arrays: TrainingArrays, split: str = "test", limit: int = 1000
) -> Retrieval | None:
    """Retrieval of a split's pictures by its captions: a fixed random choice of `limit`.

    Returns:
        None where there is no caption.
    """
    gallery = arrays.samples_of(split)
    pairs = [(place, text) for place, item in enumerate(gallery) for text in arrays.captions[item]]
    if not pairs:
        return None
    chosen = np.random.default_rng(0).permutation(len(pairs))[:limit]
    places = np.array([pairs[i][0] for i in chosen])
    return retrieval(
        embed_captions(encoder, [pairs[i][1] for i in chosen]),
        picture_features(np.asarray(arrays.teacher[gallery])),
        places,
        arrays.labels[gallery],
    )


def _log_retrieval(run: Run, step: int, ema: Ema, arrays: TrainingArrays, limit: int) -> None:
    encoder = ema.module
    assert isinstance(encoder, TextEncoder)
    if run.fabric.is_global_zero and limit:
        for split in ("test", "val"):
            found = evaluate(encoder, arrays, split, limit)
            if found is not None:
                classes = arrays.classes_of(split)
                run.log(step, {f"{classes}/{k}": v for k, v in found.as_dict().items()}, now=True)


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
    state = load_checkpoint(checkpoint, TEXT_ENCODER)
    with building_from(checkpoint):
        averaged = averaged_weights(state)
        averaged["projection.weight"] = torch.from_numpy(weight)
        averaged["projection.bias"] = torch.from_numpy(bias)
    if arrays.embedding_space:
        state["belongs"] = {**state.get("belongs", {}), "space": arrays.embedding_space}
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
