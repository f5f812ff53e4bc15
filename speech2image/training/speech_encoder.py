"""Trains the speech encoder to put a spoken description where the frozen teacher puts the described picture.

Presets: `paper` (the paper's encoder and teacher-student loss), `paper-cpu` (that loss, the small encoder),
`cpu` (the small encoder with InfoNCE: what is shipped), `toy`. No text takes part.
"""

import dataclasses
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from speech2image.losses.distillation import (
    ContrastiveWeights,
    TeacherStudentWeights,
    contrastive_loss,
    teacher_student_loss,
)
from speech2image.models.speech_encoder import PRESETS as ENCODERS
from speech2image.models.speech_encoder import SpeechEncoder, SpeechEncoderSettings
from speech2image.training.ema import Ema
from speech2image.training.run import Run, make_fabric, step_torch_rng
from speech2image.training.speech_augmentation import SpeechAugmentation
from speech2image.training.speech_batches import (
    SpeechArrays,
    SpeechBatch,
    SpeechBatches,
    mean_teacher_feature,
)
from speech2image.training.speech_embeddings import evaluate, split_voices

KIND = "speech_encoder"


@dataclass(frozen=True)
class Settings:
    """Everything that decides a training.

    Attributes:
        encoder: its shape.
        loss: the paper's teacher-student loss or the InfoNCE alternative, with their weights.
        augmentation: changes to the training speech; None for none.
        augmentation_ramp: steps over which the augmentation grows to its full strength; at full strength from
            the start, a short training never leaves the plateau at chance.
        held_out_voices: voices kept out of training, to test on.
        steps: optimiser steps; the learning rate falls along a half cosine until the last.
        minutes: stop after so many minutes, or None.
        batch_size: utterances a step and process.
        learning_rate: Adam's, after the warm-up.
        final_rate: share of it left at the last step; 1 keeps it constant.
        warm_up: steps over which it rises from 0.
        weight_decay: Adam's L2 penalty.
        clip: largest norm of the gradient.
        ema_decay: of the averaged weights that are evaluated and shipped; 0 follows the live ones.
        evaluation_utterances: spoken test captions whose retrieval is logged at every checkpoint.
        seed: of everything random.
        precision: "auto", "32-true" or "bf16-mixed".
        log_every: steps between two lines of the log.
        checkpoint_minutes: minutes between two checkpoints.
    """

    encoder: SpeechEncoderSettings = ENCODERS["small"]
    loss: ContrastiveWeights | TeacherStudentWeights = field(default_factory=ContrastiveWeights)
    augmentation: SpeechAugmentation | None = field(default_factory=SpeechAugmentation)
    augmentation_ramp: int = 0
    held_out_voices: tuple[str, ...] = ()
    steps: int = 10_000
    minutes: float | None = None
    batch_size: int = 64
    learning_rate: float = 1e-3
    final_rate: float = 0.02
    warm_up: int = 200
    weight_decay: float = 0.0
    clip: float = 5.0
    ema_decay: float = 0.999
    evaluation_utterances: int = 500
    seed: int = 0
    precision: str = "auto"
    log_every: int = 20
    checkpoint_minutes: float = 3.0


PRESETS = {
    # 11,000 steps: 100 epochs of Oxford-102's 7,034 training pictures, one caption and one crop each a time
    "paper": Settings(
        encoder=ENCODERS["paper"],
        loss=TeacherStudentWeights(),
        augmentation=None,
        steps=11_000,
        batch_size=64,
        learning_rate=1e-3,
        final_rate=1.0,
        warm_up=0,
        weight_decay=1e-5,
        ema_decay=0.0,
    ),
    "paper-cpu": Settings(loss=TeacherStudentWeights(), weight_decay=1e-5, augmentation_ramp=1500),
    "cpu": Settings(augmentation_ramp=1500),
    "toy": Settings(
        encoder=ENCODERS["toy"],
        loss=ContrastiveWeights(extra_pictures=0),
        augmentation=SpeechAugmentation(response_db=2.0, noise_probability=0.3, time_masks=0, band_masks=0),
        steps=300,
        batch_size=32,
        learning_rate=3e-3,
        warm_up=10,
        ema_decay=0.98,
        evaluation_utterances=100,
    ),
}


class Distillation(nn.Module):
    """The encoder with its loss, so that all trained parameters (the temperature too) are in one module."""

    def __init__(self, settings: Settings, teacher_mean: Tensor) -> None:
        super().__init__()
        self.encoder = SpeechEncoder(settings.encoder)
        self.encoder.set_teacher_mean(teacher_mean)
        self.loss = settings.loss
        self.log_temperature: nn.Parameter | None = None
        if isinstance(self.loss, ContrastiveWeights) and self.loss.learn_temperature:
            self.log_temperature = nn.Parameter(torch.tensor(math.log(self.loss.temperature)))

    def forward(self, batch: SpeechBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch and its items for the log."""
        speech = self.encoder(batch.log_mel, batch.n_frames)
        with torch.autocast(speech.device.type, enabled=False):
            speech, image = speech.float(), batch.image.float()
            if isinstance(self.loss, TeacherStudentWeights):
                n = len(speech)
                return teacher_student_loss(speech, image[:n], batch.labels[:n], self.loss)
            mean = self.encoder.teacher_mean
            return contrastive_loss(
                speech, image, mean, batch.labels, batch.pictures, self.loss, self.log_temperature
            )


def train(
    settings: Settings, arrays: SpeechArrays, folder: str | os.PathLike[str], fabric: Fabric | None = None
) -> Path:
    """Trains, or goes on with the training in `folder` as if it had never stopped.

    Args:
        settings: see Settings and PRESETS.
        arrays: the prepared data set; the teacher's features must be there.
        folder: takes the checkpoint and the log.
        fabric: devices and precision; made from the settings if absent.

    Returns:
        The checkpoint (kind `speech_encoder`; read it with `speech_embeddings.load_speech_encoder`).
    """
    fabric = fabric or make_fabric(settings.precision, settings.seed)
    run = Run(folder, KIND, settings, fabric)
    batches = training_batches(settings, arrays, fabric)
    distillation = Distillation(settings, torch.from_numpy(mean_teacher_feature(arrays)))
    adam = torch.optim.Adam(
        distillation.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
    )
    ema = Ema(distillation.encoder, settings.ema_decay)
    step = _restore(run.restore(), distillation, adam, ema)
    model, optimizer = fabric.setup(distillation, adam)
    ema.module.to(fabric.device)

    def save() -> Path:
        networks = {
            "model": distillation.state_dict(),
            "ema": ema.state_dict(),
            "optimizer": adam.state_dict(),
        }
        return run.save({"step": step, **networks})

    while not run.finished(step):
        torch.manual_seed(
            step_torch_rng(settings.seed, step, fabric.global_rank).initial_seed()
        )  # for dropout
        rate = learning_rate(settings, step)
        adam.param_groups[0]["lr"] = rate
        loss, items = model(batches(step).to(fabric.device))
        fabric.backward(loss)
        norm = fabric.clip_gradients(model, optimizer, max_norm=settings.clip, error_if_nonfinite=False)
        optimizer.step()
        optimizer.zero_grad()
        ema.update(distillation.encoder)
        step += 1
        run.log(
            step,
            {"loss": loss, **items, "gradient_norm": norm, "learning_rate": rate, **_scale(distillation)},
        )
        if run.checkpoint_due():
            save()
            _log_retrieval(run, step, ema, arrays, settings)
    save()
    _log_retrieval(run, step, ema, arrays, settings)
    run.close()
    return run.checkpoint


def training_batches(settings: Settings, arrays: SpeechArrays, fabric: Fabric) -> SpeechBatches:
    """This process's batches; test classes and held-out voices are never among them."""
    utterances = arrays.utterances_of("train", exclude_voices=settings.held_out_voices)
    extra = settings.loss.extra_pictures if isinstance(settings.loss, ContrastiveWeights) else 0
    return SpeechBatches(
        arrays,
        utterances,
        settings.batch_size,
        settings.seed,
        settings.augmentation,
        extra,
        settings.augmentation_ramp,
        fabric.global_rank,
        fabric.world_size,
    )


def learning_rate(settings: Settings, step: int) -> float:
    """The rate of step 0, 1, ...: a linear warm-up, then half a cosine down to `final_rate`."""
    if step < settings.warm_up:
        return settings.learning_rate * (step + 1) / settings.warm_up
    done = min(1.0, (step - settings.warm_up) / max(1, settings.steps - settings.warm_up))
    share = settings.final_rate + (1 - settings.final_rate) * (1 + math.cos(math.pi * done)) / 2
    return settings.learning_rate * share


def _restore(state: dict[str, Any] | None, model: nn.Module, adam: torch.optim.Optimizer, ema: Ema) -> int:
    """Loads what a checkpoint holds; returns the steps done."""
    if state is None:
        return 0
    model.load_state_dict(state["model"])
    adam.load_state_dict(state["optimizer"])
    ema.load_state_dict(state["ema"])
    return int(state["step"])


def _scale(distillation: Distillation) -> dict[str, Tensor]:
    temperature = distillation.log_temperature
    return {} if temperature is None else {"temperature": temperature.detach().exp()}


def _log_retrieval(run: Run, step: int, ema: Ema, arrays: SpeechArrays, settings: Settings) -> None:
    """Logs retrieval of pictures of unseen and of seen classes, by heard and unheard voices."""
    if not run.fabric.is_global_zero or not settings.evaluation_utterances:
        return
    averaged = ema.module
    assert isinstance(averaged, SpeechEncoder)
    heard, unheard = split_voices(arrays, settings.held_out_voices)
    for split, classes in {"test": "unseen", "val": "seen"}.items():
        for name, voices in {"heard": heard, "unheard": unheard}.items():
            found = evaluate(averaged, arrays, split, voices, settings.evaluation_utterances)
            if found is not None:
                values = {f"{classes} classes, {name} voices/{k}": v for k, v in found.as_dict().items()}
                run.log(step, values, now=True)


def preset(name: str, **changes: Any) -> Settings:
    """A preset with some settings changed: `preset("cpu", minutes=60.0)`."""
    return dataclasses.replace(PRESETS[name], **changes)
