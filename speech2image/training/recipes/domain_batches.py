"""Speech of each domain, for a domain head: what is trained on, validated on and measured; and batches.

Step `t` of rank `r` is a pure function of (seed, r, t): a resumed training sees what an uninterrupted one
would have seen.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from speech2image.data.arrays import PairArrays
from speech2image.data.recordings import Recordings, kept_out
from speech2image.data.word_bank import VOICE_PREFIX
from speech2image.errors import DataError
from speech2image.training.core.speech_batches import padded

VALIDATION_SHARE = 0.1
"""Of training speech without a validation split, what is held back to choose the threshold on."""


class States(Protocol):
    """Utterances as the backbone's states."""

    def log_mel(self, u: int) -> NDArray[np.float32]:
        """States of utterance `u`, [width, steps]."""

    def n_frames(self) -> NDArray[np.int64]:
        """Number of states of every utterance."""


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
    states: States
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
        first = int(rng.integers(len(self.groups)))  # whose turn it is where they do not divide the batch
        domains = [(first + i) % len(self.groups) for i in range(self.batch_size)]
        states, n_steps = padded([self._utterance(domain, rng) for domain in domains])
        return DomainBatch(states, n_steps, torch.tensor(domains))

    def _utterance(self, domain: int, rng: np.random.Generator) -> NDArray[np.float32]:
        source = self.groups[domain][rng.integers(len(self.groups[domain]))]
        states = source.states.log_mel(int(source.training[rng.integers(len(source.training))]))
        start = int(rng.integers(max(1, states.shape[1] - self.longest_states + 1)))
        return states[:, start : start + self.longest_states]


def described(arrays: PairArrays, states: States, domain: int, held_out: Sequence[str]) -> Source:
    """A data set's spoken captions: trained on are the split train's, validated on are the split val's
    (without one, those of a tenth of the training pictures), measured are the split test's, by heard and
    unheard voices. Held-out voices are measured alone."""
    training = arrays.utterances_of("train", exclude_voices=held_out)
    validation = arrays.utterances_of("val", exclude_voices=held_out)
    if not len(validation):
        share = np.random.default_rng(0).random(len(arrays.labels)) < VALIDATION_SHARE
        held_back = share[arrays.utterance_sample[training]]
        training, validation = training[~held_back], training[held_back]
    heard = set(arrays.utterance_voice[training].tolist())
    name = arrays.folder.name
    tests = {
        f"{name}: unseen classes, heard voices": arrays.utterances_of("test", heard),
        f"{name}: unseen classes, unheard voices": arrays.utterances_of("test", exclude_voices=heard),
    }
    return _usable(Source(name, domain, states, training, validation, tests))


def about_other_things(recordings: Recordings, domain: int, held_out: Sequence[str]) -> Source:
    """Recordings about something else, as states: held-out voices and whole folders of the split test are
    measured alone, of a corpus without held-out readers `kept_out`; validated on is a tenth of the texts of
    the rest."""
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
    """Whether a sentence, whoever says it, is held back from training."""
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
