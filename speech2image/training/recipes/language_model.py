"""Language-model training: what captions and transcripts usually say, for a speech encoder's decoder.

Command: `speech2image train language-model --model MODEL --data SHARDS --recordings FOLDER --out RUN`; then
`speech2image export language-model` puts it into the model, whose decoder adds a share of its
log-probabilities to its own (shallow fusion, Gulcehre et al. 2015). It reads texts alone: the captions of the
training split, spoken or not, and what readers read who are not held out. Perplexities of unseen classes and
of held-out readers are logged at every checkpoint.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn

from speech2image.asr.text import END, Vocabulary, transcript
from speech2image.data.shards.recordings import Recordings
from speech2image.data.training_sets import TrainingArrays
from speech2image.errors import DataError, SettingsError
from speech2image.models.language_model import LanguageModel, LanguageModelSettings
from speech2image.pipeline.registry import DECODER_PIECES, Model
from speech2image.training.core.learner import Learner
from speech2image.training.core.networks import LANGUAGE_MODEL
from speech2image.training.core.run import Run, RunSettings, belonging, make_fabric, step_rng
from speech2image.training.core.schedules import cosine_rate
from speech2image.training.recipes.speech_recognizer import left_out

MEASURED = 4_096
"""Contexts a call when perplexities are measured."""


@dataclass(frozen=True)
class LanguageModelTraining(RunSettings):
    """Everything that decides a training.

    Attributes:
        language_model: its shape; its number of tokens follows from the model's pieces of text.
        held_out_voices: "reader/NAME" leaves out what that speaker of a corpus reads, and then no others of
            it; other voices, which read the same captions, change nothing.
        recordings_repeated: how often the text of each recording comes; captions come once.
        steps: optimiser steps; the learning rate falls along a half cosine until the last.
        batch_size: tokens to foretell, a step and process.
        learning_rate: AdamW's, after the warm-up.
        final_rate: share of it left at the last step.
        warm_up: steps over which it rises from 0.
        weight_decay: AdamW's.
        clip: largest norm of the gradient.
        ema_decay: of the averaged weights that are evaluated and shipped.
        evaluation_texts: of each test whose perplexity is logged at every checkpoint.
    """

    language_model: LanguageModelSettings = field(default_factory=LanguageModelSettings)
    held_out_voices: tuple[str, ...] = ()
    recordings_repeated: int = 2
    steps: int = 1_600
    batch_size: int = 512
    learning_rate: float = 2e-3
    final_rate: float = 0.02
    warm_up: int = 200
    weight_decay: float = 0.01
    clip: float = 5.0
    ema_decay: float = 0.998
    evaluation_texts: int = 500
    checkpoint_minutes: float = 2.0


PRESETS = {
    "cpu": LanguageModelTraining(),
    "toy": LanguageModelTraining(
        language_model=LanguageModelSettings(context=3, width=32, hidden=64),
        steps=200,
        batch_size=128,
        learning_rate=1e-2,
        warm_up=10,
        ema_decay=0.9,
    ),
}


class Foretelling(nn.Module):
    """The network with its loss: the cross entropy of the token behind each context."""

    def __init__(self, network: LanguageModel) -> None:
        super().__init__()
        self.network = network

    def forward(self, context: Tensor, following: Tensor) -> Tensor:
        """The mean over a batch: contexts [b, context], tokens [b], both int64."""
        return nn.functional.nll_loss(self.network(context).float(), following)


def texts_of(
    settings: LanguageModelTraining, arrays: TrainingArrays | None, recordings: Mapping[str, Recordings]
) -> tuple[list[str], dict[str, list[str]]]:
    """The sentences to learn from, and those of each test: as `text.transcript` gives them, none empty.

    Raises:
        DataError: there is none to learn from.
    """
    training: list[str] = []
    tests: dict[str, list[str]] = {}
    if arrays is not None:
        training = _captions(arrays, "train")
        tests[arrays.classes_of("test")] = _captions(arrays, "test")
    for name, corpus in recordings.items():
        out = left_out(corpus.speakers, settings.held_out_voices)
        training += _read(corpus, ~out) * settings.recordings_repeated
        tests[name] = _read(corpus, out)
    if not training:
        raise DataError("no text to learn from; give prepared data with captions, recordings, or both")
    return training, {name: texts for name, texts in tests.items() if texts}


def _captions(arrays: TrainingArrays, split: str) -> list[str]:
    rows = zip(arrays.captions, arrays.splits, strict=True)
    return list(filter(None, (transcript(text) for texts, own in rows if own == split for text in texts)))


def _read(corpus: Recordings, chosen: NDArray[np.bool_]) -> list[str]:
    return [corpus.texts[i] for i in np.flatnonzero(chosen) if corpus.texts[i]]


def contexts_of(
    texts: Sequence[str], vocabulary: Vocabulary, length: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All contexts [n, length] of sentences and the tokens [n] behind them; END before and behind a sentence.

    Raises:
        SettingsError: a text has a character that no piece begins with.
    """
    contexts, following = [], []
    for text in texts:
        tokens = np.array([END] * length + vocabulary.encode(f" {text}") + [END], dtype=np.int64)
        contexts.append(np.lib.stride_tricks.sliding_window_view(tokens[:-1], length))
        following.append(tokens[length:])
    return np.concatenate(contexts), np.concatenate(following)


def train(
    settings: LanguageModelTraining,
    model: Model,
    arrays: TrainingArrays | None,
    recordings: Mapping[str, Recordings],
    folder: str | os.PathLike[str],
    fabric: Fabric | None = None,
) -> Path:
    """Trains, or goes on with the training in `folder` as if it had never stopped.

    Args:
        settings: see LanguageModelTraining and PRESETS.
        model: whose decoder's pieces of text it foretells.
        arrays: prepared data, or None.
        recordings: further corpora by name.
        folder: takes the checkpoint and the log.
        fabric: devices and precision; made from the settings if absent.

    Returns:
        The checkpoint (kind `language_model`; read it with `core.networks.load_language_model`).

    Raises:
        SettingsError: the model has no decoder.
        DataError: there is no text.
    """
    if not model.decoder_pieces:
        raise SettingsError(
            f"model '{model.name}' has no decoder that a language model could help; name one that has "
            "(docs/recipes.md, section 2a)"
        )
    fabric = fabric or make_fabric(settings.precision, settings.seed)
    vocabulary = Vocabulary(model.decoder_pieces)
    network = LanguageModel(replace(settings.language_model, tokens=len(vocabulary)))
    settings = replace(settings, language_model=network.settings)
    run = Run(folder, LANGUAGE_MODEL, settings, fabric, belonging(arrays))
    training, tests_of = texts_of(settings, arrays, recordings)
    contexts, following = contexts_of(training, vocabulary, network.settings.context)
    tests = {
        name: contexts_of(texts[: settings.evaluation_texts], vocabulary, network.settings.context)
        for name, texts in tests_of.items()
    }
    foretelling = Foretelling(network)
    adam = torch.optim.AdamW(
        foretelling.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
    )
    learner = Learner(foretelling, network, adam, settings.ema_decay)
    step = learner.begin(fabric, run.restore())

    def loss_of(step: int) -> tuple[Tensor, dict[str, Tensor]]:
        rows = step_rng(settings.seed, step, fabric.global_rank).integers(
            len(following), size=settings.batch_size
        )
        batch = (torch.from_numpy(part[rows]).to(fabric.device) for part in (contexts, following))
        return learner(*batch), {}

    def save(step: int) -> None:
        run.save({"step": step, DECODER_PIECES: list(vocabulary.pieces), **learner.state_dict()})
        averaged = learner.ema.module
        assert isinstance(averaged, LanguageModel)
        if fabric.is_global_zero:
            found = {f"{name}/perplexity": perplexity(averaged, *test) for name, test in tests.items()}
            run.log(step, found, now=True)

    return learner.fit(run, step, loss_of, partial(cosine_rate, settings), settings.clip, save)


@torch.inference_mode()
def perplexity(network: LanguageModel, contexts: NDArray[np.int64], following: NDArray[np.int64]) -> float:
    """The exponential of the mean cross entropy of the tokens behind contexts."""
    device = next(network.parameters()).device
    total = 0.0
    for start in range(0, len(following), MEASURED):
        part = slice(start, start + MEASURED)
        chances = network.eval()(torch.from_numpy(contexts[part].copy()).to(device)).cpu()
        total -= float(chances.gather(1, torch.from_numpy(following[part])[:, None]).double().sum())
    return float(np.exp(total / len(following)))
