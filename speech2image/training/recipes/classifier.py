"""Classifier training: the paper's baseline encoder, which learns which training class a caption describes.

Command: `speech2image train classifier --data SHARDS --out RUN`. Li et al. 2020, section IV: the same encoder
with a linear layer over the training classes and cross-entropy; the layer is dropped afterwards, and the
feature below it conditions the same generator (`train embeddings --conditions classifier`, then `train
stackgan-v2 --conditions classifier`).
"""

import math
import os
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from speech2image.data.augment.log_mel import LogMelAugmentation
from speech2image.errors import DataError
from speech2image.models.speech_encoder import PRESETS as ENCODERS
from speech2image.models.speech_encoder import SpeechEncoder, SpeechEncoderSettings
from speech2image.training.core.learner import Learner
from speech2image.training.core.networks import CLASSIFIER
from speech2image.training.core.run import Run, RunSettings, belonging, make_fabric
from speech2image.training.core.schedules import linear
from speech2image.training.core.speech_batches import (
    SpeechArrays,
    SpeechBatches,
    mean_teacher_feature,
    padded,
)
from speech2image.training.recipes.speech_encoder import PRESETS as DIRECT


@dataclass(frozen=True)
class ClassifierTraining(RunSettings):
    """Everything that decides a training.

    Attributes:
        encoder: its shape; give it no output layer beyond what the paper has to keep to the paper.
        augmentation: changes to the training speech; None for none.
        augmentation_ramp: steps over which the augmentation grows to its full strength.
        held_out_voices: voices kept out of training, to test on.
        steps: optimiser steps.
        batch_size: utterances a step and process.
        learning_rate: Adam's, at the start.
        final_rate: share of it left at the last step, along a straight line; 1 keeps it constant.
        weight_decay: Adam's L2 penalty.
        clip: largest norm of the gradient.
        ema_decay: of the averaged weights that are used afterwards; 0 follows the live ones.
        evaluation_utterances: of seen classes kept out of training, whose accuracy is logged; 0 for none.
    """

    encoder: SpeechEncoderSettings = ENCODERS["small"]
    augmentation: LogMelAugmentation | None = field(default_factory=LogMelAugmentation)
    augmentation_ramp: int = 0
    held_out_voices: tuple[str, ...] = ()
    steps: int = 10_000
    batch_size: int = 64
    learning_rate: float = 1e-3
    final_rate: float = 0.01
    weight_decay: float = 1e-5
    clip: float = 5.0
    ema_decay: float = 0.999
    evaluation_utterances: int = 500
    checkpoint_minutes: float = 4.0


# the settings of the direct route's encoder, so that the two routes differ in what they learn alone
PAPER = ClassifierTraining(
    encoder=ENCODERS["paper"],
    augmentation=None,
    steps=DIRECT["paper"].steps,
    final_rate=1.0,
    clip=math.inf,
    ema_decay=0.0,
    precision="32-true",
)
PRESETS = {
    "paper": PAPER,
    "paper-oxford102": replace(PAPER, steps=DIRECT["paper-oxford102"].steps),
    "paper-places": replace(PAPER, steps=DIRECT["paper-places"].steps),
    "cpu": ClassifierTraining(augmentation_ramp=1500),
    "toy": ClassifierTraining(
        encoder=ENCODERS["toy"],
        augmentation=None,
        steps=300,
        batch_size=32,
        learning_rate=3e-3,
        ema_decay=0.98,
        evaluation_utterances=100,
    ),
}


class Classifier(nn.Module):
    """The encoder with a linear layer over classes.

    Args:
        settings: of the encoder.
        classes: the training classes, sorted.
        teacher_mean: kept in the encoder as everywhere; no feature of the teacher takes part here.
    """

    classes: Tensor

    def __init__(
        self, settings: SpeechEncoderSettings, classes: NDArray[np.int64], teacher_mean: NDArray[np.float32]
    ) -> None:
        super().__init__()
        self.encoder = SpeechEncoder(settings)
        self.encoder.teacher_mean.copy_(torch.from_numpy(teacher_mean))
        self.layer = nn.Linear(settings.size, len(classes))
        self.register_buffer("classes", torch.from_numpy(classes))

    def forward(self, log_mel: Tensor, n_frames: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Cross-entropy of a batch, and the share of right answers."""
        logits = self.layer(self.encoder(log_mel, n_frames)).float()
        targets = torch.searchsorted(self.classes, labels)
        return F.cross_entropy(logits, targets), (logits.argmax(1) == targets).float().mean().detach()


def train(settings: ClassifierTraining, arrays: SpeechArrays, folder: str | os.PathLike[str]) -> Path:
    """Trains, or goes on with the training in `folder` as if it had never stopped.

    Args:
        settings: see ClassifierTraining and PRESETS.
        arrays: the prepared data set; the teacher's features must be there, as for the direct route.
        folder: takes the checkpoint and the log.

    Returns:
        The checkpoint; `core.networks.load_speech_encoder` reads the encoder without the classes.

    Raises:
        DataError: fewer than two training classes are spoken of.
    """
    fabric = make_fabric(settings.precision, settings.seed)
    run = Run(folder, CLASSIFIER, settings, fabric, belonging(arrays))
    utterances = arrays.utterances_of("train", exclude_voices=settings.held_out_voices)
    batches = SpeechBatches(
        arrays,
        utterances,
        settings.batch_size,
        settings.seed,
        settings.augmentation,
        ramp=settings.augmentation_ramp,
        rank=fabric.global_rank,
        world_size=fabric.world_size,
    )
    classes = np.unique(arrays.labels[arrays.utterance_sample[utterances]])
    if len(classes) < 2:
        raise DataError(f"the training speech is of {len(classes)} class; telling classes apart needs two")
    classifier = Classifier(settings.encoder, classes, mean_teacher_feature(arrays))
    adam = torch.optim.Adam(
        classifier.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
    )
    learner = Learner(classifier, classifier.encoder, adam, settings.ema_decay)
    step = learner.begin(fabric, run.restore())

    next_batch = run.read_ahead(batches)

    def loss_of(step: int) -> tuple[Tensor, dict[str, Tensor]]:
        batch = next_batch(step).to(fabric.device)
        loss, right = learner(batch.log_mel, batch.n_frames, batch.labels)
        return loss, {"right": right}

    def rate_of(step: int) -> float:
        return settings.learning_rate * linear(step, settings.steps, settings.final_rate)

    def save(step: int) -> None:
        run.save({"step": step, **learner.state_dict()})
        if fabric.is_global_zero and settings.evaluation_utterances:
            right = accuracy(classifier, arrays, settings)
            if right is not None:
                run.log(step, {"seen classes, kept out/right": right}, now=True)

    return learner.fit(run, step, loss_of, rate_of, settings.clip, save)


@torch.no_grad()
def accuracy(classifier: Classifier, arrays: SpeechArrays, settings: ClassifierTraining) -> float | None:
    """Share of right answers on kept-out utterances of seen classes: those of the split "val", and those of
    training pictures by held-out voices; None if there are none."""
    known = classifier.classes.cpu().numpy()
    held_out = arrays.utterances_of("train", settings.held_out_voices)
    utterances = np.concatenate([arrays.utterances_of("val"), held_out])
    utterances = utterances[np.isin(arrays.labels[arrays.utterance_sample[utterances]], known)]
    utterances = np.random.default_rng(0).permutation(utterances)[: settings.evaluation_utterances]
    if not len(utterances):
        return None
    classifier.eval()
    right = []
    for part in np.array_split(utterances, -(-len(utterances) // 32)):
        log_mel, n_frames = padded([arrays.log_mel(int(u)) for u in part])
        labels = torch.from_numpy(arrays.labels[arrays.utterance_sample[part]])
        device = classifier.classes.device
        _, share = classifier(log_mel.to(device), n_frames.to(device), labels.to(device))
        right.append(float(share) * len(part))
    classifier.train()
    return sum(right) / len(utterances)
