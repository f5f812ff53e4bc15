"""Domain-head training: whether a clip describes one of the model's domains or something else.

Command: `speech2image train domain-head --encoder CHECKPOINT --data FLOWERS BIRDS --domains flower bird
--other FOLDER ... --out RUN`. Everything but the head is frozen, and the backbone's states come from the
cache. The threshold of "other" is chosen on validation speech: the smallest at which at most `turned_away` of
the descriptions are rejected. Both kinds of error are logged and kept in the checkpoint, on validation speech
and on test speech: test captions, held-out voices, sentences of the split "test".

Step `t` of rank `r` is a pure function of (seed, r, t).
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn

from speech2image.data.features import recordings_with_states, with_states
from speech2image.data.shards.arrays import PairArrays
from speech2image.data.shards.recordings import Recordings, kept_out
from speech2image.data.speech.word_bank import VOICE_PREFIX
from speech2image.errors import DataError, SettingsError
from speech2image.models.pretrained_speech_encoder import (
    DomainHead,
    DomainSettings,
    PretrainedEncoderSettings,
    PretrainedSpeechEncoder,
    with_new_head,
)
from speech2image.pipeline.domains import OTHER, check_domains
from speech2image.pipeline.registry import DOMAIN_ERRORS, DOMAINS, OTHER_THRESHOLD
from speech2image.training.core.checkpoint import State
from speech2image.training.core.learner import Learner
from speech2image.training.core.networks import SPEECH_ENCODER, load_pretrained, stated_facts, stated_space
from speech2image.training.core.run import Run, RunSettings, make_fabric
from speech2image.training.core.schedules import cosine_rate
from speech2image.training.core.speech_batches import Clips, by_length, padded

VALIDATION_SHARE = 0.1
"""Share of training speech without a validation split that is held back to choose the threshold on."""


@dataclass(frozen=True)
class Source:
    """Speech about one domain.

    Attributes:
        name: for the log.
        domain: number of the domain.
        states: all of its speech.
        training, validation: which utterances are trained on, and the threshold chosen on.
        tests: which are measured alone, by name.
    """

    name: str
    domain: int
    states: Clips
    training: NDArray[np.int64]
    validation: NDArray[np.int64]
    tests: Mapping[str, NDArray[np.int64]]


class DomainBatch(NamedTuple):
    """One step's material; `b` utterances.

    Attributes:
        states: [b, width, steps], padded on the right.
        n_steps: valid steps [b].
        domains: number of each one's domain [b].
    """

    states: Tensor
    n_steps: Tensor
    domains: Tensor

    def to(self, device: torch.device) -> "DomainBatch":
        """The same on another device."""
        return DomainBatch(*(tensor.to(device) for tensor in self))


class DomainBatches:
    """Batches for step 0, 1, 2, ...: all domains alike often, and in each all of its sources.

    Args:
        sources: speech of all domains.
        batch_size: utterances of a batch.
        longest_states: of an utterance; a longer one is cut to a random stretch.
        seed: of all draws.
        rank: of this process.

    Raises:
        DataError: a domain has nothing to train on.
    """

    def __init__(
        self, sources: Sequence[Source], batch_size: int, longest_states: int, seed: int, rank: int = 0
    ) -> None:
        self.batch_size, self.longest_states, self.seed, self.rank = batch_size, longest_states, seed, rank
        count = max(source.domain for source in sources) + 1
        self.groups = [[s for s in sources if s.domain == d and len(s.training)] for d in range(count)]
        empty = [s.name for s in sources if not self.groups[s.domain]]
        if empty:
            raise DataError(
                f"no speech to train on in {', '.join(empty)}: captions of the split train must be spoken, "
                "by voices that are not held out, and recordings of one text are not enough"
            )

    def __call__(self, step: int) -> DomainBatch:
        """The batch of `step` (0, 1, ...)."""
        rng = np.random.default_rng((self.seed, self.rank, step))
        # which domain comes first; so none gets more on average where they do not divide the batch
        first = int(rng.integers(len(self.groups)))
        domains = [(first + i) % len(self.groups) for i in range(self.batch_size)]
        states, n_steps = padded([self._utterance(domain, rng) for domain in domains])
        return DomainBatch(states, n_steps, torch.tensor(domains))

    def _utterance(self, domain: int, rng: np.random.Generator) -> NDArray[np.float32]:
        source = self.groups[domain][rng.integers(len(self.groups[domain]))]
        states = source.states.log_mel(int(source.training[rng.integers(len(source.training))]))
        start = int(rng.integers(max(1, states.shape[1] - self.longest_states + 1)))
        return states[:, start : start + self.longest_states]


def described(arrays: PairArrays, states: Clips, domain: int, held_out: Sequence[str]) -> Source:
    """A data set's spoken captions as a source.

    Training takes the split train, validation the split val (without one, a tenth of the training pictures),
    tests the split test, by voices of the training and others. Held-out voices are in tests alone.
    """
    training = arrays.utterances_of("train", exclude_voices=held_out)
    validation = arrays.utterances_of("val", exclude_voices=held_out)
    if not len(validation):
        share = np.random.default_rng(0).random(len(arrays.labels)) < VALIDATION_SHARE
        held_back = share[arrays.utterance_sample[training]]
        training, validation = training[~held_back], training[held_back]
    heard = set(arrays.utterance_voice[training].tolist())
    name, classes = arrays.folder.name, arrays.classes_of("test")
    tests = {
        f"{name}: {classes}, heard voices": arrays.utterances_of("test", heard),
        f"{name}: {classes}, unheard voices": arrays.utterances_of("test", exclude_voices=heard),
    }
    return _usable(Source(name, domain, states, training, validation, tests))


def about_other_things(recordings: Recordings, domain: int, held_out: Sequence[str]) -> Source:
    """Recordings about something else, as a source.

    Held-out voices and whole folders of the split test are in tests alone; of a corpus without held-out
    readers, those that `kept_out` chooses. Validation takes a tenth of the texts of the rest.
    """
    speakers, name = recordings.speakers, recordings.folder.name
    out = np.isin(speakers, [*held_out, *(voice.removeprefix(VOICE_PREFIX) for voice in held_out)])
    if recordings.split is None and not out.any():
        out = kept_out(speakers)
    tests = {f"{name}: held-out voices": np.flatnonzero(out)}
    if recordings.split == "test":
        tests[f"{name}: other voices"] = np.flatnonzero(~out)
        out = np.ones(len(speakers), dtype=np.bool_)
    validation = np.array([_is_validation(text) for text in recordings.texts], dtype=np.bool_)
    return _usable(
        Source(
            name,
            domain,
            recordings,
            np.flatnonzero(~out & ~validation),
            np.flatnonzero(~out & validation),
            tests,
        )
    )


def _is_validation(text: str) -> bool:
    """Whether a sentence is held back from training, whoever speaks it (by its hash, so on every machine)."""
    return hashlib.sha256(text.encode()).digest()[0] < VALIDATION_SHARE * 256


def _usable(source: Source) -> Source:
    """Without utterances that were left out as bad, and without empty tests."""
    there = source.states.n_frames() > 0
    tests = {name: chosen[there[chosen]] for name, chosen in source.tests.items()}
    return replace(
        source,
        training=source.training[there[source.training]],
        validation=source.validation[there[source.validation]],
        tests={name: chosen for name, chosen in tests.items() if len(chosen)},
    )


BATCH = 32


@dataclass(frozen=True)
class DomainHeadTraining(RunSettings):
    """Everything that decides a training.

    Attributes:
        encoder: its shape, of which the domain head's counts; its number of domains follows from their names,
            the rest from the encoder given.
        domains: what each of the data sets shows, in their order, such as flower and bird; sets of one name
            are one domain. "other" comes by itself.
        held_out_voices: voices kept out of training and of the choice of the threshold, to test on;
            "reader/NAME" keeps out that speaker's recordings, too.
        turned_away: the share of the descriptions of each domain that may count as "other" in validation.
        longest_states: of an utterance in training, one every 40 ms; a longer one is cut to a random
            stretch, so that its length does not tell what it is about.
        steps: optimiser steps; the learning rate falls along a half cosine until the last.
        batch_size: utterances a step and process; all domains come alike often.
        learning_rate: AdamW's, after the warm-up.
        final_rate: share of it left at the last step.
        warm_up: steps over which it rises from 0.
        weight_decay: AdamW's.
        clip: largest norm of the gradient.
        ema_decay: of the averaged weights that are evaluated and shipped.
        evaluation_utterances: at most so many of each group that is measured at a checkpoint.
    """

    encoder: PretrainedEncoderSettings = field(
        default_factory=lambda: PretrainedEncoderSettings(domain=DomainSettings())
    )
    domains: tuple[str, ...] = ()
    held_out_voices: tuple[str, ...] = ()
    turned_away: float = 0.02
    longest_states: int = 200
    steps: int = 1_500
    batch_size: int = 96
    learning_rate: float = 1e-3
    final_rate: float = 0.02
    warm_up: int = 100
    weight_decay: float = 0.01
    clip: float = 5.0
    ema_decay: float = 0.99
    evaluation_utterances: int = 2_000
    checkpoint_minutes: float = 5.0


PRESETS = {
    "cpu": DomainHeadTraining(),
    "toy": DomainHeadTraining(
        encoder=PretrainedEncoderSettings(domain=DomainSettings(width=32)),
        steps=100,
        batch_size=24,
        learning_rate=3e-3,
        warm_up=10,
        ema_decay=0.9,
    ),
}


class Classification(nn.Module):
    """An encoder whose domain head alone is trained, with the loss."""

    def __init__(self, encoder: PretrainedSpeechEncoder) -> None:
        super().__init__()
        self.encoder = encoder.requires_grad_(False)
        assert encoder.domain is not None
        encoder.domain.requires_grad_(True)

    def forward(self, batch: DomainBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy of a batch of states, and items for the log."""
        assert self.encoder.domain is not None
        found = self.encoder.domain(batch.states, batch.n_steps)
        right = (found.argmax(dim=1) == batch.domains).float().mean()
        return nn.functional.nll_loss(found, batch.domains), {"right": right}


def train(
    settings: DomainHeadTraining,
    encoder: str | os.PathLike[str],
    data: Sequence[PairArrays],
    other: Sequence[Recordings],
    folder: str | os.PathLike[str],
    fabric: Fabric | None = None,
) -> Path:
    """Trains, or goes on with the training in `folder` as if it had never stopped.

    Args:
        settings: see DomainHeadTraining and PRESETS.
        encoder: checkpoint of an encoder on a pretrained backbone.
        data: prepared data whose captions are spoken, opened with the encoder's front end, one for each of
            `settings.domains`.
        other: recordings of that front end that are about something else.
        folder: takes the checkpoint and the log.
        fabric: devices and precision; made from the settings if absent.

    Returns:
        The checkpoint (kind `speech_encoder`): the encoder, and now its domain head.

    Raises:
        SettingsError: there are not as many domains as data sets, or no other recordings; a setting is out of
            range; or the encoder has no pretrained backbone.
        CheckpointError, DataError: something given is damaged, or there is no speech.
    """
    names = _checked_names(settings, data, other)
    fabric = fabric or make_fabric(settings.precision, settings.seed)
    embedding = load_pretrained(encoder).to(fabric.device)
    sources = gather_domain_speech(settings, data, other, embedding)
    facts = stated_facts(encoder) | {DOMAINS: [*names, OTHER]}
    head = replace(settings.encoder.domain or DomainSettings(), domains=len(names) + 1)
    whole = with_new_head(embedding, domain=head)
    settings = replace(settings, encoder=whole.settings)
    run = Run(folder, SPEECH_ENCODER, settings, fabric, stated_space(encoder))
    classification = Classification(whole)
    trained = [parameter for parameter in classification.parameters() if parameter.requires_grad]
    adam = torch.optim.AdamW(trained, settings.learning_rate, weight_decay=settings.weight_decay)
    learner = Learner(classification, whole, adam, settings.ema_decay)
    batches = DomainBatches(
        sources, settings.batch_size, settings.longest_states, settings.seed, fabric.global_rank
    )
    step = learner.begin(fabric, run.restore())

    next_batch = run.read_ahead(batches)

    def loss_of(step: int) -> tuple[Tensor, dict[str, Tensor]]:
        loss, items = learner(next_batch(step).to(fabric.device))
        return loss, items

    def save(step: int) -> None:
        averaged = learner.ema.module
        assert isinstance(averaged, PretrainedSpeechEncoder) and averaged.domain is not None
        found = measure(averaged.domain, sources, settings)
        check_domains(facts[DOMAINS], found[OTHER_THRESHOLD], "this training")
        run.save({"step": step, **facts, **found, **learner.state_dict()})
        _log(run, step, found)

    return learner.fit(run, step, loss_of, partial(cosine_rate, settings), settings.clip, save)


def _checked_names(
    settings: DomainHeadTraining, data: Sequence[PairArrays], other: Sequence[Recordings]
) -> tuple[str, ...]:
    """The domains, each once.

    Raises:
        SettingsError: as `train`.
    """
    if not settings.domains or len(settings.domains) != len(data) or OTHER in settings.domains:
        raise SettingsError(
            f"--domains is {' '.join(settings.domains) or 'missing'}, must name what each of the {len(data)} "
            f"data sets shows, for instance flower bird; '{OTHER}' comes by itself"
        )
    if not other:
        raise SettingsError("--other is missing: recordings about something else (prepare other)")
    if not 0 <= settings.turned_away < 1:
        raise SettingsError(f"--turned-away is {settings.turned_away}, must be at least 0 and below 1")
    if settings.longest_states < 1 or settings.batch_size < 1:
        raise SettingsError("--longest-states and --batch-size must be at least 1")
    folders = [*(arrays.folder.name for arrays in data), *(one.folder.name for one in other)]
    twice = sorted({name for name in folders if folders.count(name) > 1})
    if twice:
        raise SettingsError(
            f"several folders are called {', '.join(twice)}; figures would not tell them apart"
        )
    return tuple(dict.fromkeys(settings.domains))


def gather_domain_speech(
    settings: DomainHeadTraining,
    data: Sequence[PairArrays],
    other: Sequence[Recordings],
    encoder: PretrainedSpeechEncoder,
) -> list[Source]:
    """All speech as states, parted into training, validation and tests.

    Raises:
        DataError: a domain has no validation speech, or something is damaged.
    """
    names = tuple(dict.fromkeys(settings.domains))
    sources = [
        described(arrays, with_states(arrays, encoder), names.index(name), settings.held_out_voices)
        for arrays, name in zip(data, settings.domains, strict=True)
    ]
    sources += [
        about_other_things(recordings_with_states(one, encoder), len(names), settings.held_out_voices)
        for one in other
    ]
    for number, name in enumerate((*names, OTHER)):
        if not any(len(source.validation) for source in sources if source.domain == number):
            raise DataError(f"'{name}' has no speech to choose the threshold on; prepare more")
    return sources


def measure(head: DomainHead, sources: Sequence[Source], settings: DomainHeadTraining) -> State:
    """The threshold, chosen on validation speech, and both kinds of mistake with it.

    Returns:
        What the checkpoint states: `other_threshold`, and `domain_errors`: for "validation" and "test", by
        group, the number of utterances and the shares of descriptions that count as other ("called other") or
        as another domain ("other domain"), of other speech what counts as a domain ("called described").
    """
    limit = settings.evaluation_utterances
    validation = {source.name: chances(head, source.states, source.validation, limit) for source in sources}
    other = max(source.domain for source in sources)
    described_chances = [
        np.concatenate([validation[s.name][:, other] for s in sources if s.domain == domain])
        for domain in range(other)
    ]
    threshold = max(choose_threshold(found, settings.turned_away) for found in described_chances)
    errors: dict[str, dict[str, dict[str, float]]] = {"validation": {}, "test": {}}
    for source in sources:
        if len(source.validation):
            errors["validation"][source.name] = mistakes(validation[source.name], source.domain, threshold)
        for name, chosen in source.tests.items():
            found = chances(head, source.states, chosen, limit)
            errors["test"][name] = mistakes(found, source.domain, threshold)
    return {OTHER_THRESHOLD: threshold, DOMAIN_ERRORS: errors}


@torch.inference_mode()
def chances(
    head: DomainHead, states: Clips, utterances: NDArray[np.int64], limit: int
) -> NDArray[np.float64]:
    """Probabilities of the domains [n, domains] of at most `limit` utterances, a fixed random choice."""
    chosen = np.random.default_rng(0).permutation(utterances)[:limit]
    device, found = next(head.parameters()).device, [np.zeros((0, head.decide.out_features))]
    for _, batch, n_steps in by_length(states, chosen, BATCH):
        found.append(head.eval()(batch.to(device), n_steps.to(device)).double().exp().cpu().numpy())
    return np.concatenate(found)


def choose_threshold(other: NDArray[np.float64], turned_away: float) -> float:
    """The smallest probability of "other" from which on at most a share of descriptions is turned away.

    Args:
        other: that probability of each description, [n], n above 0.
        turned_away: the share.

    Returns:
        Above 0 to 1.
    """
    falling = np.sort(other)[::-1]
    first_kept = falling[int(turned_away * len(falling))]
    return float(min(1.0, np.nextafter(first_kept, np.inf)))


def mistakes(found: NDArray[np.float64], domain: int, threshold: float) -> dict[str, float]:
    """Shares of utterances of one domain that are taken for something else, and their number (`measure`)."""
    called_other = found[:, -1] >= threshold
    if domain == found.shape[1] - 1:
        return {"utterances": len(found), "called described": float((~called_other).mean())}
    another = ~called_other & (found[:, :-1].argmax(axis=1) != domain)
    return {
        "utterances": len(found),
        "called other": float(called_other.mean()),
        "other domain": float(another.mean()),
    }


def _log(run: Run, step: int, found: State) -> None:
    run.log(step, {OTHER_THRESHOLD: found[OTHER_THRESHOLD]}, now=True)
    for when, groups in found[DOMAIN_ERRORS].items():
        for name, group in groups.items():
            run.log(step, {f"{when}, {name}/{key}": value for key, value in group.items()}, now=True)
