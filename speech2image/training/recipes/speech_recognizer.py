"""Speech-recognizer training on recordings of people and spoken captions of training classes.

Command: `speech2image train speech-recognizer --preset cpu --data SHARDS --recordings FOLDER --out RUN`. The
loss joins the decoder's cross-entropy with CTC on the encoder (Kim et al. 2017). Word error rates on captions
of unseen classes and on held-out recordings are logged at every checkpoint.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from speech2image.asr.text import END, Vocabulary, learn_pieces
from speech2image.data.augment.log_mel import LogMelAugmentation
from speech2image.data.shards.recordings import JoinedSpeech, SpokenCaptions, TranscribedSpeech, kept_out
from speech2image.data.training_sets import TrainingArrays
from speech2image.errors import DataError
from speech2image.losses.transcription import ctc_loss
from speech2image.models.speech_recognizer import PRESETS as RECOGNIZERS
from speech2image.models.speech_recognizer import SpeechRecognizer, SpeechRecognizerSettings
from speech2image.training.core.learner import Learner
from speech2image.training.core.networks import SPEECH_RECOGNIZER, load_recognizer
from speech2image.training.core.run import LogItems, Run, RunSettings, make_fabric
from speech2image.training.core.schedules import cosine, inverse_sqrt
from speech2image.training.core.speech_batches import TranscribedBatch, TranscribedBatches
from speech2image.training.recipes.transcripts import greedy, log_word_errors, transcripts

IGNORED = -100


@dataclass(frozen=True)
class RecognizerTraining(RunSettings):
    """Everything that decides a training.

    Attributes:
        recognizer: its shape; its number of tokens follows from the vocabulary.
        pieces: size of the vocabulary: 0 for characters, else so many groups of characters, learnt from the
            training's texts.
        augmentation: changes to the training speech; None for none.
        augmentation_ramp: steps over which the augmentation grows to its full strength.
        held_out_voices: voices of spoken captions kept out of training, to test on; "reader/NAME" keeps out
            that speaker's recordings too, and then no others of that corpus.
        recordings_repeated: how often each recording comes in an epoch; captions come once.
        longest_frames: longer utterances are left out (a frame is 10 ms).
        frames: the most frames a step and process holds, padding counted.
        steps: optimiser steps.
        learning_rate: Adam's highest.
        warm_up: steps over which it rises from 0.
        decay: how it falls then: with the inverse root of the step (Vaswani et al. 2017), or along half a
            cosine until the last step.
        betas: Adam's.
        ctc_weight: share of CTC in the loss.
        label_smoothing: share of the decoder's target spread over all tokens.
        clip: largest norm of the gradient.
        ema_decay: of the averaged weights that are evaluated and shipped; 0 follows the live ones.
        evaluation_utterances: of each kind, whose word errors are logged at every checkpoint; 0 for none.
    """

    recognizer: SpeechRecognizerSettings = RECOGNIZERS["cpu"]
    pieces: int = 0
    augmentation: LogMelAugmentation | None = field(default_factory=LogMelAugmentation)
    augmentation_ramp: int = 0
    held_out_voices: tuple[str, ...] = ()
    recordings_repeated: int = 1
    longest_frames: int = 2000
    frames: int = 12_000
    steps: int = 20_000
    learning_rate: float = 1e-3
    warm_up: int = 1000
    decay: Literal["inverse-sqrt", "cosine"] = "cosine"
    betas: tuple[float, float] = (0.9, 0.98)
    ctc_weight: float = 0.3
    label_smoothing: float = 0.1
    clip: float = 5.0
    ema_decay: float = 0.999
    evaluation_utterances: int = 150


PRESETS = {
    "paper": RecognizerTraining(
        recognizer=RECOGNIZERS["paper"],
        frames=48_000,
        steps=100_000,
        warm_up=4000,
        decay="inverse-sqrt",
        clip=5.0,  # not published; the one departure from float32 without clipping among these presets
        precision="32-true",
        checkpoint_minutes=15.0,
    ),
    "cpu": RecognizerTraining(pieces=256, augmentation_ramp=3000),
    "toy": RecognizerTraining(
        recognizer=RECOGNIZERS["toy"],
        augmentation=None,
        frames=4000,
        steps=400,
        learning_rate=3e-3,
        warm_up=20,
        ema_decay=0.98,
        evaluation_utterances=50,
        checkpoint_minutes=3.0,
    ),
}


class Recognition(nn.Module):
    """The recognizer with its loss."""

    def __init__(self, recognizer: SpeechRecognizer, ctc_weight: float, label_smoothing: float) -> None:
        super().__init__()
        self.recognizer = recognizer
        self.ctc_weight, self.label_smoothing = ctc_weight, label_smoothing

    def forward(self, batch: TranscribedBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch and its items for the log, each per token."""
        inputs, targets = shifted(batch.tokens, batch.n_tokens)
        encoded, written = self.recognizer(batch.log_mel, batch.n_frames, inputs)
        with torch.autocast(written.device.type, enabled=False):
            attention = smoothed_cross_entropy(written, targets, self.label_smoothing)
            ctc = ctc_loss(encoded.ctc, encoded.n_steps, batch.tokens, batch.n_tokens)
        # CTC aligns text and speech long before the decoder's attention does, and teaches the encoder so
        loss = self.ctc_weight * ctc + (1 - self.ctc_weight) * attention
        right = (written.argmax(2) == targets).sum() / (targets != IGNORED).sum()
        return loss, {"attention": attention.detach(), "ctc": ctc.detach(), "tokens right": right}


def shifted(tokens: Tensor, n_tokens: Tensor) -> tuple[Tensor, Tensor]:
    """The decoder's inputs (END, then the tokens) and targets (the tokens, then END), [batch, length + 1]."""
    edge = torch.full_like(tokens[:, :1], END)
    targets = torch.cat([tokens, edge], dim=1)
    place = torch.arange(targets.shape[1], device=tokens.device)
    targets = targets.masked_fill(place == n_tokens[:, None], END)
    return torch.cat([edge, tokens], dim=1), targets.masked_fill(place > n_tokens[:, None], IGNORED)


def smoothed_cross_entropy(log_probabilities: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    """Cross-entropy to targets of which `smoothing` is spread over all tokens (Szegedy et al. 2016)."""
    return F.cross_entropy(
        log_probabilities.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, label_smoothing=smoothing
    )


@dataclass(frozen=True)
class TranscribedMaterial:
    """Transcribed speech to train on, and to test on by name."""

    training: TranscribedSpeech
    tests: Mapping[str, TranscribedSpeech]


class MaterialSettings(Protocol):
    """What `gather_transcribed` reads of a training's settings."""

    @property
    def held_out_voices(self) -> tuple[str, ...]: ...

    @property
    def recordings_repeated(self) -> int: ...


def left_out(speakers: NDArray[np.str_], held_out: Sequence[str]) -> NDArray[np.bool_]:
    """Which recordings of a corpus are for testing: those of the speakers held out as "reader/NAME", else
    `kept_out`."""
    out = np.isin(speakers, [voice.removeprefix("reader/") for voice in held_out])
    return out if out.any() else kept_out(speakers)


def gather_transcribed(
    settings: MaterialSettings,
    arrays: TrainingArrays | None,
    recordings: Mapping[str, TranscribedSpeech],
) -> TranscribedMaterial:
    """Spoken captions and recordings, parted into training and test.

    Test classes, held-out voices, and of every corpus of recordings the held-out readers (without such a part
    of it, `kept_out`) are not trained on.

    Args:
        settings: of the training.
        arrays: spoken captions, or None.
        recordings: corpora by name.

    Raises:
        DataError: there is no speech.
    """
    training: list[tuple[TranscribedSpeech, NDArray[np.int64]]] = []
    tests: dict[str, TranscribedSpeech] = {}
    if arrays is not None:
        held_out = settings.held_out_voices
        captions = SpokenCaptions(arrays, arrays.utterances_of("train", exclude_voices=held_out))
        training.append((captions, np.arange(len(captions.texts))))
        heard = SpokenCaptions(arrays, arrays.utterances_of("test", set(captions.speakers.tolist())))
        unheard = SpokenCaptions(
            arrays, arrays.utterances_of("test", exclude_voices=set(captions.speakers.tolist()))
        )
        classes = arrays.classes_of("test")
        tests |= {f"{classes}, heard voices": heard, f"{classes}, unheard voices": unheard}
    for name, corpus in recordings.items():
        out = left_out(corpus.speakers, settings.held_out_voices)
        training.append((corpus, np.tile(np.flatnonzero(~out), settings.recordings_repeated)))
        tests[name] = JoinedSpeech([(corpus, np.flatnonzero(out))])
    if not training:
        raise DataError("nothing to train on; give prepared data with speech, recordings, or both")
    return TranscribedMaterial(
        JoinedSpeech(training), {name: test for name, test in tests.items() if len(test.texts)}
    )


def train(
    settings: RecognizerTraining,
    arrays: TrainingArrays | None,
    recordings: Mapping[str, TranscribedSpeech],
    folder: str | os.PathLike[str],
    fabric: Fabric | None = None,
    start_from: str | os.PathLike[str] | None = None,
) -> Path:
    """Trains, or goes on with the training in `folder` as if it had never stopped.

    Args:
        settings: see RecognizerTraining and PRESETS.
        arrays: prepared data whose captions are spoken, or None.
        recordings: further corpora by name (`shards.recordings.Recordings`).
        folder: takes the checkpoint, the log and `transcripts.txt` (references and transcripts).
        fabric: devices and precision; made from the settings if absent.
        start_from: checkpoint of another training; its recognizer and pieces of text are taken when this run
            starts (not when it resumes).

    Returns:
        The checkpoint (kind `speech_recognizer`; read it with `core.networks.load_recognizer`).
    """
    fabric = fabric or make_fabric(settings.precision, settings.seed)
    run = Run(folder, SPEECH_RECOGNIZER, settings, fabric)
    material = gather_transcribed(settings, arrays, recordings)
    state = run.restore()
    started = None if start_from is None or state else load_recognizer(start_from)
    if state:
        vocabulary = Vocabulary(tuple(state["pieces"]))
    elif started:
        vocabulary = started[1]
    else:
        vocabulary = Vocabulary(learn_pieces(material.training.texts, settings.pieces))
    batches = training_batches(settings, material.training, vocabulary, fabric)
    shape = replace(settings.recognizer, tokens=len(vocabulary))
    recognition = Recognition(SpeechRecognizer(shape), settings.ctc_weight, settings.label_smoothing)
    adam = torch.optim.Adam(recognition.parameters(), settings.learning_rate, settings.betas, eps=1e-9)
    learner = Learner(recognition, recognition.recognizer, adam, settings.ema_decay)
    if started and start_from is not None:
        learner.start_from(started[0].state_dict(), start_from)
    step = learner.begin(fabric, state)

    next_batch = run.read_ahead(batches)

    def loss_of(step: int) -> tuple[Tensor, LogItems]:
        loss, items = learner(next_batch(step).to(fabric.device))
        return loss, {**items, "epoch": batches.epoch_of(step)}

    def transcribe(speech: TranscribedSpeech, utterances: NDArray[np.int64]) -> list[str]:
        averaged = learner.ema.module
        assert isinstance(averaged, SpeechRecognizer)
        return transcripts(partial(greedy, averaged), vocabulary, speech, utterances)

    def save(step: int) -> None:
        run.save({"step": step, "pieces": list(vocabulary.pieces), **learner.state_dict()})
        log_word_errors(run, step, material.tests, settings.evaluation_utterances, transcribe)

    return learner.fit(run, step, loss_of, partial(learning_rate, settings), settings.clip, save)


def training_batches(
    settings: RecognizerTraining, speech: TranscribedSpeech, vocabulary: Vocabulary, fabric: Fabric
) -> TranscribedBatches:
    """This process's batches."""
    return TranscribedBatches(
        speech,
        vocabulary,
        settings.frames,
        settings.seed,
        longest_frames=settings.longest_frames,
        augmentation=settings.augmentation,
        ramp=settings.augmentation_ramp,
        rank=fabric.global_rank,
        world_size=fabric.world_size,
    )


def learning_rate(settings: RecognizerTraining, step: int) -> float:
    """The rate of step 0, 1, ...: a linear warm-up, then `settings.decay`."""
    if settings.decay == "inverse-sqrt":
        return settings.learning_rate * inverse_sqrt(step, settings.warm_up)
    return settings.learning_rate * cosine(step, settings.steps, settings.warm_up, final=0.02)
