"""Speech-encoder training: brings a spoken description to the teacher's feature of the described picture.

Presets: `paper` (the paper's encoder and teacher-student loss as printed, CUB), `paper-oxford102` and
`paper-places`, `released-code` (as in the authors' program, CUB), `paper-cpu` (that loss, the small encoder),
`cpu` (the small encoder with InfoNCE: the shipped one), `toy`. The captions' text is not used; transcripts of
other recordings may be, in a second task that teaches people's voices (`Transcription`).
"""

import fnmatch
import math
import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn

from speech2image.asr.text import LETTERS, Vocabulary
from speech2image.data.augment.log_mel import LogMelAugmentation, OtherVoices
from speech2image.data.shards.recordings import JoinedSpeech, Recordings
from speech2image.data.speech.word_bank import VOICE_PREFIX
from speech2image.data.streams import Stream, StreamedShard
from speech2image.errors import SettingsError
from speech2image.losses.distillation import (
    ContrastiveWeights,
    TeacherStudentWeights,
    contrastive_loss,
    start_temperature,
    teacher_student_loss,
)
from speech2image.losses.transcription import ctc_loss
from speech2image.models.speech_encoder import PRESETS as ENCODERS
from speech2image.models.speech_encoder import CharacterHead, SpeechEncoder, SpeechEncoderSettings
from speech2image.training.core.checkpoint import State
from speech2image.training.core.learner import Learner
from speech2image.training.core.networks import SPEECH_ENCODER, load_speech_encoder
from speech2image.training.core.run import Run, RunSettings, belonging, make_fabric
from speech2image.training.core.schedules import cosine, halving
from speech2image.training.core.sources import Part, Reading, source_of
from speech2image.training.core.speech_batches import (
    SpeechArrays,
    SpeechBatch,
    SpeechBatches,
    TranscribedBatch,
    TranscribedBatches,
)
from speech2image.training.recipes import gradient_balance
from speech2image.training.recipes.speech_embeddings import log_retrieval

CHARACTERS = Vocabulary(tuple(LETTERS))


@dataclass(frozen=True)
class Transcription:
    """The second task: writing down what people say in recordings that have nothing to do with pictures.

    Attributes:
        weight: of its CTC loss (per character).
        frames: of recordings a step and process, padding counted.
        longest_frames: longest recording used.
    """

    weight: float = 0.3
    frames: int = 9_000
    longest_frames: int = 1_500


@dataclass(frozen=True)
class SpeechEncoderTraining(RunSettings):
    """Everything that decides a training.

    Attributes:
        encoder: its shape.
        loss: the paper's teacher-student loss or the InfoNCE alternative, with their weights.
        balance: batches on which the weights of the teacher-student loss are chosen before the first step,
            so that all items' gradients are of one size; 0 takes them as they are given.
        augmentation: changes to the training speech; None for none.
        augmentation_ramp: steps over which the augmentation grows to its full strength; at full strength from
            the start, a short training never leaves the plateau at chance.
        held_out_voices: voices kept out of training, to test on; "reader/NAME" keeps that speaker's
            recordings out too.
        favoured_voices: names or patterns ("reader/*") of voices drawn `favour` times as often as others.
        favour: see there.
        transcription: the second task, if recordings are given.
        steps: optimiser steps; the learning rate falls along a half cosine until the last.
        batch_size: utterances a step and process.
        learning_rate: Adam's, after the warm-up.
        final_rate: share of it left at the last step; 1 keeps it constant.
        halve_every: steps after which it is halved, again and again; 0 for never.
        warm_up: steps over which it rises from 0.
        weight_decay: Adam's L2 penalty.
        clip: largest norm of the gradient.
        ema_decay: of the averaged weights that are evaluated and shipped; 0 follows the live ones.
        evaluation_utterances: spoken test captions whose retrieval is logged at every checkpoint.
    """

    encoder: SpeechEncoderSettings = ENCODERS["small"]
    loss: ContrastiveWeights | TeacherStudentWeights = field(default_factory=ContrastiveWeights)
    balance: int = 0
    augmentation: LogMelAugmentation | None = field(default_factory=LogMelAugmentation)
    augmentation_ramp: int = 0
    held_out_voices: tuple[str, ...] = ()
    favoured_voices: tuple[str, ...] = ()
    favour: int = 4
    transcription: Transcription = field(default_factory=Transcription)
    steps: int = 10_000
    batch_size: int = 64
    learning_rate: float = 1e-3
    final_rate: float = 0.02
    halve_every: int = 0
    warm_up: int = 200
    weight_decay: float = 0.0
    clip: float = 5.0
    ema_decay: float = 0.999
    evaluation_utterances: int = 500
    checkpoint_minutes: float = 3.0


TRAINING_PICTURES = {"cub": 8_855, "oxford102": 7_034, "places": 10_933}
"""Of the zero-shot splits; in an epoch each comes once, with one of its captions and one of its crops."""
BATCH = 64

# Paper: 100 epochs at a constant rate. Released code: its README's 1,000 epochs of CUB, the rate halved every
# 200. Both in float32, without clipping and without an average of the weights.
PAPER = SpeechEncoderTraining(
    encoder=ENCODERS["paper"],
    loss=TeacherStudentWeights(form="paper"),
    augmentation=None,
    steps=round(100 * TRAINING_PICTURES["cub"] / BATCH),
    batch_size=BATCH,
    learning_rate=1e-3,
    final_rate=1.0,
    warm_up=0,
    weight_decay=1e-5,
    clip=math.inf,
    ema_decay=0.0,
    precision="32-true",
)
PRESETS = {
    "paper": PAPER,
    "paper-oxford102": replace(PAPER, steps=round(100 * TRAINING_PICTURES["oxford102"] / BATCH)),
    "paper-places": replace(PAPER, steps=round(100 * TRAINING_PICTURES["places"] / BATCH)),
    "released-code": replace(
        PAPER,
        encoder=ENCODERS["released-code"],
        loss=TeacherStudentWeights(form="code"),
        steps=round(1000 * TRAINING_PICTURES["cub"] / BATCH),
        halve_every=round(200 * TRAINING_PICTURES["cub"] / BATCH),
    ),
    "paper-cpu": SpeechEncoderTraining(
        loss=TeacherStudentWeights(), weight_decay=1e-5, augmentation_ramp=1500
    ),
    # of every row of Table IV, from scratch, and of the encoder of Tables II, III and V
    "ablation": SpeechEncoderTraining(
        loss=TeacherStudentWeights(), augmentation=None, steps=6_000, final_rate=1.0, weight_decay=1e-5
    ),
    "cpu": SpeechEncoderTraining(augmentation_ramp=1500),
    "toy": SpeechEncoderTraining(
        encoder=ENCODERS["toy"],
        loss=ContrastiveWeights(extra_pictures=0),
        augmentation=LogMelAugmentation(
            response_db=2.0, noise_probability=0.3, time_masks=0, band_masks=0, surroundings=None
        ),
        steps=300,
        batch_size=32,
        learning_rate=3e-3,
        warm_up=10,
        ema_decay=0.98,
        evaluation_utterances=100,
    ),
}


class VoiceSettings(Protocol):
    """What `favoured` reads of a training's settings."""

    @property
    def held_out_voices(self) -> tuple[str, ...]: ...
    @property
    def favoured_voices(self) -> tuple[str, ...]: ...
    @property
    def favour(self) -> int: ...


class Distillation(nn.Module):
    """The encoder with its losses, so that all trained parameters (the temperature too) are in one module.

    Args:
        settings: of the training.
        teacher_mean: mean teacher feature, [1024].
        tokens: that transcripts are written in; 0 without the second task.
    """

    def __init__(self, settings: SpeechEncoderTraining, teacher_mean: Tensor, tokens: int = 0) -> None:
        super().__init__()
        self.encoder = SpeechEncoder(settings.encoder)
        self.encoder.set_teacher_mean(teacher_mean)
        self.loss, self.transcription_weight = settings.loss, settings.transcription.weight
        self.characters = CharacterHead(2 * settings.encoder.hidden, tokens) if tokens else None
        self.log_temperature = start_temperature(self.loss)

    def forward(
        self, batch: SpeechBatch, transcribed: TranscribedBatch | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch and its items for the log."""
        loss, items = self._distil(batch)
        if transcribed is None or self.characters is None:
            return loss, items
        states, n_steps = self.encoder.states(transcribed.log_mel, transcribed.n_frames)
        with torch.autocast(states.device.type, enabled=False):
            written, n_guesses = self.characters(states.float(), n_steps)
            ctc = ctc_loss(written, n_guesses, transcribed.tokens, transcribed.n_tokens)
        return loss + self.transcription_weight * ctc, {**items, "ctc": ctc.detach()}

    def _distil(self, batch: SpeechBatch) -> tuple[Tensor, dict[str, Tensor]]:
        speech = self.encoder(batch.log_mel, batch.n_frames)
        return distillation_loss(speech, batch, self.loss, self.encoder.teacher_mean, self.log_temperature)


def distillation_loss(
    speech: Tensor,
    batch: SpeechBatch,
    loss: ContrastiveWeights | TeacherStudentWeights,
    teacher_mean: Tensor,
    log_temperature: Tensor | None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The chosen loss of a batch's speech embeddings [n, 1024], in full precision, and its items."""
    with torch.autocast(speech.device.type, enabled=False):
        speech, image = speech.float(), batch.image.float()
        if isinstance(loss, TeacherStudentWeights):
            n = len(speech)
            return teacher_student_loss(speech, image[:n], batch.labels[:n], loss)
        return contrastive_loss(
            speech, image, teacher_mean, batch.labels, batch.pictures, loss, log_temperature
        )


def train(
    settings: SpeechEncoderTraining,
    arrays: SpeechArrays | Stream,
    folder: str | os.PathLike[str],
    fabric: Fabric | None = None,
    recordings: Sequence[Recordings] = (),
    start_from: str | os.PathLike[str] | None = None,
) -> Path:
    """Trains, or goes on with the training in `folder` as if it had never stopped.

    Args:
        settings: see SpeechEncoderTraining and PRESETS.
        arrays: the prepared data set, or a stream; the teacher's features must be there. On a stream no
            retrieval is measured.
        folder: takes the checkpoint and the log.
        fabric: devices and precision; made from the settings if absent.
        recordings: transcribed recordings of people for the second task, and to put behind other speech.
        start_from: checkpoint of another training; its encoder is taken when this run starts (not when it
            resumes).

    Returns:
        The checkpoint (kind `speech_encoder`; read it with `core.networks.load_speech_encoder`).
    """
    fabric = fabric or make_fabric(settings.precision, settings.seed)
    run = Run(folder, SPEECH_ENCODER, settings, fabric, belonging(arrays))
    people = training_recordings(recordings, settings.held_out_voices)
    source = source_of(arrays, settings, fabric)
    batches = source.batches(reading(settings, people))
    transcribed = transcribed_batches(settings, people, fabric)
    mean = torch.from_numpy(source.teacher_mean)
    distillation = Distillation(settings, mean, len(CHARACTERS) if transcribed else 0)
    adam = torch.optim.Adam(
        distillation.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
    )
    learner = Learner(distillation, distillation.encoder, adam, settings.ema_decay)
    state = run.restore()
    if state is None and start_from is not None:
        learner.start_from(load_speech_encoder(start_from).state_dict() | {"teacher_mean": mean}, start_from)
    step = learner.begin(fabric, state)
    if settings.balance and source.arrays is None:  # its first batches would be read twice
        raise SettingsError(
            "--balance needs prepared data, not a stream; set the weights by hand, --loss.norm ..."
        )
    if settings.balance:
        distillation.loss = balanced_weights(settings, distillation, batches, run, fabric, state)

    next_batch = run.read_ahead(batches)
    next_words = run.read_ahead(transcribed) if transcribed is not None else None

    def loss_of(step: int) -> tuple[Tensor, dict[str, Tensor]]:
        other = next_words(step).to(fabric.device) if next_words is not None else None
        loss, items = learner(next_batch(step).to(fabric.device), other)
        return loss, items | _scale(distillation)

    def rate_of(step: int) -> float:
        share = cosine(step, settings.steps, settings.warm_up, settings.final_rate)
        return settings.learning_rate * share * halving(step, settings.halve_every)

    def save(step: int) -> None:
        chosen = {"loss_weights": asdict(distillation.loss)} if settings.balance else {}
        run.save({"step": step, **chosen, **learner.state_dict()})
        averaged = learner.ema.module
        assert isinstance(averaged, SpeechEncoder)
        if source.arrays is not None:
            log_retrieval(run, step, averaged, source.arrays, settings)

    return learner.fit(run, step, loss_of, rate_of, settings.clip, save)


def balanced_weights(
    settings: SpeechEncoderTraining,
    distillation: Distillation,
    batches: Callable[[int], SpeechBatch],
    run: Run,
    fabric: Fabric,
    state: State | None,
) -> TeacherStudentWeights:
    """Weights that balance the items' gradients: measured at the start of a run, kept when it goes on.

    Raises:
        SettingsError: the loss is InfoNCE, or an item has no gradient.
    """
    weights = gradient_balance.check(settings.loss)
    if state is not None:
        return TeacherStudentWeights(**state["loss_weights"])
    found = gradient_balance.measure(distillation.encoder, batches, weights, settings.balance, settings.seed)
    chosen: TeacherStudentWeights = fabric.broadcast(found.balanced)
    run.log(0, {f"weight/{name}": getattr(chosen, name) for name in found.norms}, now=True)
    return chosen


def gradient_balance_of(
    settings: SpeechEncoderTraining,
    arrays: SpeechArrays,
    batches: int,
    encoder: str | os.PathLike[str] | None = None,
) -> gradient_balance.GradientBalance:
    """The balance of the loss's items in a training's first batches, without training.

    Args:
        settings: of the training; its loss is the teacher-student loss.
        arrays: the prepared data set.
        batches: over which the mean is taken.
        encoder: checkpoint of a trained one; None takes one at its start.

    Raises:
        SettingsError: the loss is InfoNCE, or `batches` is below 1.
    """
    weights = gradient_balance.check(settings.loss)
    fabric = make_fabric("32-true", settings.seed)
    source = source_of(arrays, settings, fabric)
    network: nn.Module = (
        Distillation(settings, torch.from_numpy(source.teacher_mean)).encoder
        if encoder is None
        else load_speech_encoder(encoder)
    )
    material = source.batches(reading(settings))
    return gradient_balance.measure(network.to(fabric.device), material, weights, batches, settings.seed)


def training_recordings(recordings: Sequence[Recordings], held_out: Collection[str]) -> JoinedSpeech | None:
    """The recordings of all speakers that are not held out (as "reader/NAME"); None without any."""
    left_out = [voice.removeprefix(VOICE_PREFIX) for voice in held_out if voice.startswith(VOICE_PREFIX)]
    parts = [(r, np.flatnonzero(~np.isin(r.speakers, left_out))) for r in recordings]
    return JoinedSpeech(parts) if parts else None


def transcribed_batches(
    settings: SpeechEncoderTraining, people: JoinedSpeech | None, fabric: Fabric
) -> TranscribedBatches | None:
    """This process's batches of the second task; None without recordings or with weight 0."""
    task = settings.transcription
    if people is None or not task.weight:
        return None
    return TranscribedBatches(
        people,
        CHARACTERS,
        task.frames,
        settings.seed,
        longest_frames=task.longest_frames,
        augmentation=settings.augmentation,
        ramp=settings.augmentation_ramp,
        rank=fabric.global_rank,
        world_size=fabric.world_size,
    )


def reading(settings: SpeechEncoderTraining, people: JoinedSpeech | None = None) -> Reading[SpeechBatch]:
    """How batches are made; test classes and held-out voices are never among them."""

    def items(shard: StreamedShard) -> int:
        counts = shard.utterances.get("train", {}).items()
        heard = ((voice, n) for voice, n in counts if voice not in settings.held_out_voices)
        return sum(n * (settings.favour if _is_favoured(voice, settings) else 1) for voice, n in heard)

    def make(arrays: SpeechArrays, part: Part) -> SpeechBatches:
        return training_batches(settings, arrays, part, people)

    return Reading(make, items, settings.batch_size, pictures=False, frames=True)


def training_batches(
    settings: SpeechEncoderTraining, arrays: SpeechArrays, part: Part, people: JoinedSpeech | None = None
) -> SpeechBatches:
    """This process's batches from arrays that lie here."""
    extra = settings.loss.extra_pictures if isinstance(settings.loss, ContrastiveWeights) else 0
    return SpeechBatches(
        arrays,
        favoured(settings, arrays),
        settings.batch_size,
        settings.seed,
        settings.augmentation,
        extra,
        settings.augmentation_ramp,
        part.rank,
        part.processes,
        None if people is None else OtherVoices(people),
        first_number=part.first_number,
    )


def favoured(settings: VoiceSettings, arrays: SpeechArrays) -> NDArray[np.int64]:
    """The utterances of an epoch: each once, those of favoured voices `favour` times."""
    utterances = arrays.utterances_of("train", exclude_voices=settings.held_out_voices)
    voices = arrays.utterance_voice[utterances]
    often = [voice for voice in set(voices.tolist()) if _is_favoured(voice, settings)]
    return np.repeat(utterances, np.where(np.isin(voices, often), settings.favour, 1))


def _is_favoured(voice: str, settings: VoiceSettings) -> bool:
    return any(fnmatch.fnmatchcase(voice, pattern) for pattern in settings.favoured_voices)


def _scale(distillation: Distillation) -> dict[str, Tensor]:
    temperature = distillation.log_temperature
    return {} if temperature is None else {"temperature": temperature.detach().exp()}
