"""Trains the text encoder to put a caption where the frozen teacher puts the described picture.

Command: `speech2image train text-encoder --data SHARDS --out RUN`. Source: Reed et al., "Learning Deep
Representations of Fine-grained Visual Descriptions" (CVPR 2016); the network and loss behind StackGAN's
published embeddings.
"""

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from speech2image.data.joined import TrainingArrays
from speech2image.errors import DataError
from speech2image.losses.joint_embedding import symmetric_joint_embedding_loss
from speech2image.metrics.retrieval import Retrieval, picture_features, retrieval
from speech2image.models.text_encoder import PRESETS as ENCODERS
from speech2image.models.text_encoder import TextEncoder, TextEncoderSettings, characters
from speech2image.training.checkpoint import load_checkpoint, stored_settings
from speech2image.training.ema import Ema
from speech2image.training.run import Run, make_fabric, step_rng, step_torch_rng
from speech2image.training.speech_batches import mean_teacher_feature

KIND = "text_encoder"


@dataclass(frozen=True)
class Settings:
    """Everything that decides a training.

    Attributes:
        encoder: its shape.
        margin: of the hinge.
        steps: optimiser steps; the learning rate falls linearly to a hundredth.
        minutes: stop after so many minutes, or None.
        batch_size: pictures a step and process, one caption each.
        learning_rate: Adam's.
        clip: largest norm of the gradient.
        ema_decay: of the averaged weights; 0 follows the live ones.
        evaluation_captions: of unseen classes, whose retrieval is logged at every checkpoint; 0 for none.
        seed: of everything random.
        precision: "auto", "32-true" or "bf16-mixed".
        log_every: steps between two lines of the log.
        checkpoint_minutes: minutes between two checkpoints.
    """

    encoder: TextEncoderSettings = ENCODERS["paper"]
    margin: float = 1.0
    steps: int = 50_000
    minutes: float | None = None
    batch_size: int = 40
    learning_rate: float = 7e-4
    clip: float = 5.0
    ema_decay: float = 0.0
    evaluation_captions: int = 1000
    seed: int = 0
    precision: str = "auto"
    log_every: int = 50
    checkpoint_minutes: float = 10.0


PRESETS = {
    # 300 epochs of CUB's 8,855 training pictures in batches of 40
    "paper": Settings(steps=66_000),
    "cpu": Settings(
        encoder=dataclasses.replace(ENCODERS["paper"], dropout=0.3),
        steps=12_000,
        batch_size=64,
        ema_decay=0.999,
        checkpoint_minutes=4.0,
    ),
    "toy": Settings(
        encoder=ENCODERS["toy"], steps=300, batch_size=32, learning_rate=3e-3, evaluation_captions=200
    ),
}


class TextBatch(NamedTuple):
    """Characters of captions [b, 201], teacher features of their pictures [b, 1024], classes [b]."""

    letters: Tensor
    image: Tensor
    labels: Tensor


class TextBatches:
    """Batches for step 0, 1, 2, ...: one random caption and one random crop of each picture.

    Args:
        arrays: the data set, with teacher features.
        items: pictures to train on; those without captions are left out.
        batch_size: pictures a step and rank.
        seed: of the order and the draws.
        rank, world_size: this process's place among those that share every step.

    Raises:
        DataError: fewer than two pictures with captions.
    """

    def __init__(
        self,
        arrays: TrainingArrays,
        items: NDArray[np.int64],
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.arrays, self.batch_size, self.seed = arrays, batch_size, seed
        self.rank, self.world_size, self.teacher = rank, world_size, arrays.teacher
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
        letters = characters([caption[rng.integers(len(caption))] for caption in captions])
        crops = rng.integers(0, self.teacher.shape[1], len(chosen))
        image = np.stack([self.teacher[i, c] for i, c in zip(chosen, crops, strict=True)]).astype(np.float32)
        return TextBatch(letters, torch.from_numpy(image), torch.from_numpy(self.arrays.labels[chosen]))

    def _order(self, epoch: int) -> NDArray[np.int64]:
        order: NDArray[np.int64] = np.random.default_rng((self.seed, epoch)).permutation(self.items)
        return order


class Matching(nn.Module):
    """The encoder with its loss."""

    def __init__(self, encoder: TextEncoder, margin: float) -> None:
        super().__init__()
        self.encoder, self.margin = encoder, margin

    def forward(self, letters: Tensor, image: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of a batch, and how often a caption fits its own picture best."""
        text = self.encoder(letters).float()
        right = ((text @ image.T).argmax(1) == torch.arange(len(text), device=text.device)).float().mean()
        return symmetric_joint_embedding_loss(text, image, labels, self.margin), right.detach()


def train(settings: Settings, arrays: TrainingArrays, folder: str | os.PathLike[str]) -> Path:
    """Trains, or goes on with the training in `folder` as if it had never stopped.

    Args:
        settings: see Settings and PRESETS.
        arrays: the prepared data set with captions; the teacher's features must be there.
        folder: takes the checkpoint and the log.

    Returns:
        The checkpoint (kind `text_encoder`; read it with `load_text_encoder`).
    """
    fabric = make_fabric(settings.precision, settings.seed)
    run = Run(folder, KIND, settings, fabric)
    batches = TextBatches(
        arrays,
        arrays.samples_of("train"),
        settings.batch_size,
        settings.seed,
        fabric.global_rank,
        fabric.world_size,
    )
    matching = Matching(TextEncoder(settings.encoder), settings.margin)
    adam = torch.optim.Adam(matching.parameters(), settings.learning_rate)
    ema = Ema(matching.encoder, settings.ema_decay)
    state, step = run.restore(), 0
    if state is not None:
        matching.load_state_dict(state["model"])
        adam.load_state_dict(state["optimizer"])
        ema.load_state_dict(state["ema"])
        step = int(state["step"])
    model, optimizer = fabric.setup(matching, adam)
    ema.module.to(fabric.device)

    def save() -> None:
        networks = {"model": matching.state_dict(), "ema": ema.state_dict(), "optimizer": adam.state_dict()}
        run.save({"step": step, **networks})
        _log_retrieval(run, step, ema, arrays, settings.evaluation_captions)

    while not run.finished(step):
        torch.manual_seed(step_torch_rng(settings.seed, step, fabric.global_rank).initial_seed())  # dropout
        rate = settings.learning_rate * (1 - 0.99 * min(1.0, step / settings.steps))
        adam.param_groups[0]["lr"] = rate
        loss, right = model(*(tensor.to(fabric.device) for tensor in batches(step)))
        fabric.backward(loss)
        norm = fabric.clip_gradients(model, optimizer, max_norm=settings.clip, error_if_nonfinite=False)
        optimizer.step()
        optimizer.zero_grad()
        ema.update(matching.encoder)
        step += 1
        run.log(step, {"loss": loss, "own first": right, "gradient_norm": norm, "learning_rate": rate})
        if run.checkpoint_due():
            save()
    save()
    run.close()
    return run.checkpoint


def load_text_encoder(path: str | os.PathLike[str]) -> TextEncoder:
    """The trained (averaged) encoder of a checkpoint, in evaluation mode.

    Raises:
        CheckpointError: the file is damaged or holds something else.
    """
    state = load_checkpoint(path, KIND)
    encoder = TextEncoder(TextEncoderSettings(**stored_settings(state, "encoder")))
    encoder.load_state_dict(state["ema"]["module"])
    return encoder.eval()


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

    Scores are cosines of embeddings with features from which the mean is taken away: embeddings are trained
    by dot products, to which a mean adds a constant.

    Returns:
        None where there is no caption.
    """
    gallery = arrays.samples_of(split)
    pairs = [(place, text) for place, item in enumerate(gallery) for text in arrays.captions[item]]
    if not pairs:
        return None
    chosen = np.random.default_rng(0).permutation(len(pairs))[:limit]
    places = np.array([pairs[i][0] for i in chosen])
    mean = mean_teacher_feature(arrays)
    return retrieval(
        embed_captions(encoder, [pairs[i][1] for i in chosen]) + mean,
        picture_features(np.asarray(arrays.teacher[gallery])),
        places,
        arrays.labels[gallery],
        mean,
    )


def _log_retrieval(run: Run, step: int, ema: Ema, arrays: TrainingArrays, limit: int) -> None:
    encoder = ema.module
    assert isinstance(encoder, TextEncoder)
    if run.fabric.is_global_zero and limit:
        for split, classes in {"test": "unseen", "val": "seen"}.items():
            found = evaluate(encoder, arrays, split, limit)
            if found is not None:
                run.log(step, {f"{classes} classes/{k}": v for k, v in found.as_dict().items()}, now=True)


def preset(name: str, **changes: Any) -> Settings:
    """A preset with some settings changed: `preset("cpu", minutes=60.0)`."""
    return dataclasses.replace(PRESETS[name], **changes)
