"""Words-head training: transcription by CTC from the states of a speech encoder on Whisper's.

Command: `speech2image train words-head --encoder CHECKPOINT --data SHARDS --recordings FOLDER --out RUN`. The
backbone stays frozen and its states come from the cache, so that the encoder embeds as before; the checkpoint
holds the whole encoder with both heads. Word error rates of captions of unseen classes and of held-out
recordings are logged at every checkpoint. `train pretrained-speech-encoder --preset tune` then trains all
together.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn

from speech2image.asr.ctc import best_path
from speech2image.asr.text import Vocabulary, learn_pieces
from speech2image.data.features import recordings_with_states, with_states
from speech2image.data.shards.recordings import Recordings, TranscribedSpeech
from speech2image.data.training_sets import TrainingArrays
from speech2image.losses.transcription import ctc_loss
from speech2image.models.pretrained_speech_encoder import (
    PretrainedEncoderSettings,
    PretrainedSpeechEncoder,
    WordsHead,
    WordsSettings,
    with_new_head,
)
from speech2image.training.core.learner import Learner
from speech2image.training.core.networks import SPEECH_ENCODER, load_pretrained, stated_facts, stated_space
from speech2image.training.core.run import Run, RunSettings, belonging, make_fabric
from speech2image.training.core.schedules import cosine_rate
from speech2image.training.core.speech_batches import TranscribedBatch, TranscribedBatches
from speech2image.training.recipes.speech_recognizer import gather_transcribed
from speech2image.training.recipes.transcripts import log_word_errors, transcripts

BATCH = 32


@dataclass(frozen=True)
class WordsHeadTraining(RunSettings):
    """Everything that decides a training.

    Attributes:
        encoder: its shape, of which the words head's counts; its number of tokens follows from the
            vocabulary, the rest from the encoder given.
        pieces: size of the vocabulary: 0 for characters, else so many groups of characters, learnt from the
            training's texts.
        held_out_voices: voices of spoken captions kept out of training, to test on; "reader/NAME" keeps out
            that speaker's recordings too, and then no others of that corpus.
        recordings_repeated: how often each recording comes in an epoch; captions come once.
        longest_frames: longer utterances are left out (a frame here is a state of 40 ms).
        frames: the most states a step and process holds, padding counted.
        steps: optimiser steps; the learning rate falls along a half cosine until the last.
        learning_rate: AdamW's, after the warm-up.
        final_rate: share of it left at the last step.
        warm_up: steps over which it rises from 0.
        weight_decay: AdamW's.
        clip: largest norm of the gradient.
        ema_decay: of the averaged weights that are evaluated and shipped.
        evaluation_utterances: of each test whose words are counted at every checkpoint.
    """

    encoder: PretrainedEncoderSettings = field(
        default_factory=lambda: PretrainedEncoderSettings(words=WordsSettings())
    )
    pieces: int = 256
    held_out_voices: tuple[str, ...] = ()
    recordings_repeated: int = 1
    longest_frames: int = 500
    frames: int = 8_000
    steps: int = 4_000
    learning_rate: float = 2e-3
    final_rate: float = 0.02
    warm_up: int = 200
    weight_decay: float = 0.01
    clip: float = 5.0
    ema_decay: float = 0.998
    evaluation_utterances: int = 200
    checkpoint_minutes: float = 5.0


PRESETS = {
    "cpu": WordsHeadTraining(),
    "toy": WordsHeadTraining(
        encoder=PretrainedEncoderSettings(words=WordsSettings(width=32, heads=2)),
        pieces=0,
        frames=1_000,
        steps=100,
        warm_up=10,
    ),
}


class Recognition(nn.Module):
    """An encoder whose words head alone is trained, with CTC's loss.

    CTC needs no alignment of words and states, and reads the states that are computed for the embedding
    anyway, so transcripts cost one small head.
    """

    def __init__(self, encoder: PretrainedSpeechEncoder) -> None:
        super().__init__()
        self.encoder = encoder.requires_grad_(False)
        assert encoder.words is not None
        encoder.words.requires_grad_(True)

    def forward(self, batch: TranscribedBatch) -> Tensor:
        """CTC's loss per token of a batch of states."""
        assert self.encoder.words is not None
        written = self.encoder.words(batch.log_mel, batch.n_frames)
        with torch.autocast(written.device.type, enabled=False):
            return ctc_loss(written.float(), batch.n_frames, batch.tokens, batch.n_tokens)


def train(
    settings: WordsHeadTraining,
    encoder: str | os.PathLike[str],
    arrays: TrainingArrays | None,
    recordings: Mapping[str, Recordings],
    folder: str | os.PathLike[str],
    fabric: Fabric | None = None,
) -> Path:
    """Trains, or goes on with the training in `folder` as if it had never stopped.

    Args:
        settings: see WordsHeadTraining and PRESETS.
        encoder: checkpoint of a pretrained-speech-encoder training.
        arrays: prepared data whose captions are spoken, opened with the encoder's front end; or None.
        recordings: further corpora by name, of that front end.
        folder: takes the checkpoint, the log and `transcripts.txt` (references and transcripts).
        fabric: devices and precision; made from the settings if absent.

    Returns:
        The checkpoint (kind `speech_encoder`): the encoder, and now its words head.

    Raises:
        SettingsError: the encoder has no pretrained backbone.
        CheckpointError, DataError: something given is damaged, or there is no speech.
    """
    fabric = fabric or make_fabric(settings.precision, settings.seed)
    embedding = load_pretrained(encoder).to(fabric.device)
    material = gather_transcribed(
        settings,
        None if arrays is None else with_states(arrays, embedding),
        {name: recordings_with_states(corpus, embedding) for name, corpus in recordings.items()},
    )
    stored = Path(folder) / "checkpoint.safetensors"
    facts = stated_facts(stored if stored.exists() else encoder)
    if not stored.exists():
        facts["pieces"] = list(learn_pieces(material.training.texts, settings.pieces))
    vocabulary = Vocabulary(tuple(facts["pieces"]))
    shape = settings.encoder.words or WordsSettings()
    whole = with_new_head(embedding, words=replace(shape, tokens=len(vocabulary)))
    settings = replace(settings, encoder=whole.settings)
    run = Run(folder, SPEECH_ENCODER, settings, fabric, belonging(arrays) | stated_space(encoder))
    recognition = Recognition(whole)
    trained = [parameter for parameter in recognition.parameters() if parameter.requires_grad]
    adam = torch.optim.AdamW(trained, settings.learning_rate, weight_decay=settings.weight_decay)
    learner = Learner(recognition, whole, adam, settings.ema_decay)
    batches = training_batches(settings, material.training, vocabulary, fabric)
    step = learner.begin(fabric, run.restore())

    next_batch = run.read_ahead(batches)

    def loss_of(step: int) -> tuple[Tensor, dict[str, Tensor]]:
        ctc = learner(next_batch(step).to(fabric.device))
        return ctc, {"ctc": ctc}

    def transcribe(speech: TranscribedSpeech, utterances: NDArray[np.int64]) -> list[str]:
        averaged = learner.ema.module
        assert isinstance(averaged, PretrainedSpeechEncoder) and averaged.words is not None
        return transcripts(partial(best_paths, averaged.words), vocabulary, speech, utterances, BATCH)

    def save(step: int) -> None:
        run.save({"step": step, **facts, **learner.state_dict()})
        log_word_errors(run, step, material.tests, settings.evaluation_utterances, transcribe)

    return learner.fit(run, step, loss_of, partial(cosine_rate, settings), settings.clip, save)


def training_batches(
    settings: WordsHeadTraining, speech: TranscribedSpeech, vocabulary: Vocabulary, fabric: Fabric
) -> TranscribedBatches:
    """This process's batches of states with their tokens."""
    return TranscribedBatches(
        speech,
        vocabulary,
        settings.frames,
        settings.seed,
        longest_frames=settings.longest_frames,
        rank=fabric.global_rank,
        world_size=fabric.world_size,
    )


def best_paths(words: WordsHead, states: Tensor, n_steps: Tensor) -> list[list[int]]:
    """The tokens of each clip's likeliest CTC path; arguments as of `WordsHead`."""
    device = next(words.parameters()).device
    written = words.eval()(states.to(device), n_steps.to(device)).cpu().numpy()
    return [best_path(ctc[:n]) for ctc, n in zip(written, n_steps.tolist(), strict=True)]
