"""Acoustic conditions of the robustness table: noise, other voices, rooms, lines, speed, silence.

Each changes a clean recording [n] at 16 kHz by one of `effects` at a fixed strength; what is random is drawn
by the generator given.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from speech2image.audio import SAMPLE_RATE
from speech2image.data.augment.effects import (
    Waveform,
    add_edges,
    add_noise,
    add_pauses,
    add_room,
    set_level,
    stretch,
    telephone,
)
from speech2image.data.augment.sounds import make_noise

Change = Callable[[Waveform, np.random.Generator, Sequence[Waveform]], Waveform]
CLEAN = "clean"


@dataclass(frozen=True)
class AcousticCondition:
    """A name, and what happens: (speech, generator, other recordings that make babble) -> speech."""

    name: str
    change: Change


def _noise(db: float, speech: Waveform, rng: np.random.Generator, others: Sequence[Waveform]) -> Waveform:
    kind = ("white", "pink")[rng.integers(2)]
    return add_noise(speech, make_noise(kind, len(speech), rng), db)


def _babble(db: float, speech: Waveform, rng: np.random.Generator, others: Sequence[Waveform]) -> Waveform:
    return add_noise(speech, make_noise("babble", len(speech), rng, others), db)


def _room(speech: Waveform, rng: np.random.Generator, others: Sequence[Waveform]) -> Waveform:
    return add_room(speech, rng, seconds=0.5, direct_db=0.0)


def _telephone(speech: Waveform, rng: np.random.Generator, others: Sequence[Waveform]) -> Waveform:
    return telephone(speech)


def _speed(rate: float, speech: Waveform, rng: np.random.Generator, others: Sequence[Waveform]) -> Waveform:
    return stretch(speech, rate)


def _edges(speech: Waveform, rng: np.random.Generator, others: Sequence[Waveform]) -> Waveform:
    return _with_floor(add_edges(speech, 1.0, 1.0), rng)


def _pause(speech: Waveform, rng: np.random.Generator, others: Sequence[Waveform]) -> Waveform:
    return _with_floor(add_pauses(speech, rng, [0.5]), rng)


def _with_floor(speech: Waveform, rng: np.random.Generator) -> Waveform:
    """Silence as a microphone hears it: noise 60 dB below the loudest sample."""
    floor = 1e-3 * float(np.abs(speech).max()) * rng.standard_normal(len(speech))
    return (speech + floor).astype(np.float32)


ACOUSTIC_CONDITIONS: tuple[AcousticCondition, ...] = (
    AcousticCondition(CLEAN, lambda speech, rng, others: speech),
    *(AcousticCondition(f"noise, {db} dB", partial(_noise, float(db))) for db in (20, 10, 5)),
    *(AcousticCondition(f"five other voices, {db} dB", partial(_babble, float(db))) for db in (20, 10)),
    AcousticCondition("room, RT60 0.5 s", _room),
    AcousticCondition("telephone, 300 to 3400 Hz", _telephone),
    *(AcousticCondition(f"speed {rate}", partial(_speed, rate)) for rate in (0.8, 0.9, 1.1, 1.2, 1.3)),
    AcousticCondition("1 s of silence before and after", _edges),
    AcousticCondition("a pause of 0.5 s inside", _pause),
)
"""Noise is white or pink by chance; the room echoes as loud as the direct sound; speed leaves the pitch."""


def changed(
    condition: AcousticCondition, speech: Waveform, rng: np.random.Generator, others: Sequence[Waveform] = ()
) -> Waveform:
    """The recording under the condition, its peak at half of full scale, at least 0.7 s long."""
    speech = set_level(condition.change(speech, rng, others), -6.0)
    missing = int(0.7 * SAMPLE_RATE) - len(speech)
    return np.pad(speech, (0, missing)) if missing > 0 else speech
