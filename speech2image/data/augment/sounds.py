"""Sounds beside speech: noise and babble to lay under it, and what a microphone hears when nobody speaks.

`make_noise` gives steady noise for augmentation and evaluation. The makers (`MAKERS`) stand for rooms, wind,
mains hum, keys and knocks, beeps, sirens, birds, engines, notes; the speech detector learns to turn them
away. Each takes a random generator and a length and gives a waveform of 16 kHz, float32 [n], at no particular
level.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from speech2image import audio
from speech2image.audio import SAMPLE_RATE, load_beginning
from speech2image.errors import DataError, SettingsError, SpeechError

Waveform = NDArray[np.float32]
SUFFIXES = frozenset({".wav", ".ogg", ".oga", ".opus", ".flac", ".mp3", ".m4a", ".webm"})
EXCERPT_SECONDS = 20.0
"""Long files are cut into pieces of so many seconds."""


def made_sound(rng: np.random.Generator, n: int) -> Waveform:
    """One of `MAKERS` at random, often over a little noise; peak 1."""
    sound = MAKERS[rng.integers(len(MAKERS))](rng, n)
    sound = sound / max(float(np.abs(sound).max()), 1e-6)
    if rng.random() < 0.5:
        floor = noise(rng, n)
        sound = sound + 10.0 ** rng.uniform(-3, -0.5) * floor / float(np.abs(floor).max())
    return (sound / max(float(np.abs(sound).max()), 1e-6)).astype(np.float32)


def noise(rng: np.random.Generator, n: int) -> Waveform:
    """Noise whose power falls by 0 to 7 dB an octave (white to brown), sometimes in gusts or in a band."""
    size = scipy.fft.next_fast_len(n, real=True)
    spectrum = scipy.fft.rfft(rng.standard_normal(size, dtype=np.float32))
    frequency = np.arange(1, len(spectrum) + 1, dtype=np.float32)
    spectrum *= frequency ** np.float32(-rng.uniform(0, 2.3) / 2)
    if rng.random() < 0.25:
        low, high = np.sort(rng.uniform(0, len(spectrum), 2))
        spectrum[(frequency < low) | (frequency > high)] *= 0.03
    sound = scipy.fft.irfft(spectrum, size)[:n]
    return (sound * _gusts(rng, n) if rng.random() < 0.3 else sound).astype(np.float32)


def hum(rng: np.random.Generator, n: int) -> Waveform:
    """Mains hum or a fan: a steady tone of 50 to 240 Hz with its multiples."""
    pitch = rng.choice([50, 60, 100, 120, rng.uniform(40, 240)])
    phase = 2 * np.pi * pitch * _time(n)
    falls = rng.uniform(0.2, 2.0)
    parts = [rng.uniform(0.2, 1) * k**-falls * np.sin(k * phase + rng.uniform(0, 6.3)) for k in range(1, 16)]
    return np.sum(parts, axis=0).astype(np.float32)


def ticks(rng: np.random.Generator, n: int) -> Waveform:
    """Keys, clicks, knocks, drops: short ringing strokes at random or even distances."""
    sound = np.zeros(n, np.float32)
    every = rng.uniform(0.04, 0.8)
    even, pitch, decay = rng.random() < 0.3, rng.uniform(80, 6000), 10.0 ** rng.uniform(-2.7, -1.2)
    start = rng.uniform(0, every)
    while start < n / SAMPLE_RATE:
        t = _time(int(6 * decay * SAMPLE_RATE) + 2)
        tone = np.sin(2 * np.pi * pitch * rng.uniform(0.8, 1.25) * t)
        ring = (tone + rng.uniform(0, 2) * rng.standard_normal(t.size)) * np.exp(-t / decay)
        _add(sound, ring * rng.uniform(0.3, 1), start)
        start += every if even else rng.exponential(every) + 0.02
    return sound


def beeps(rng: np.random.Generator, n: int) -> Waveform:
    """Beeps, dialling, alarms: one to three tones at a time, held or on and off."""
    t, sound = _time(n), np.zeros(n, np.float32)
    held, length, start = rng.random() < 0.3, rng.uniform(0.05, 0.6), 0.0
    while start < n / SAMPLE_RATE:
        piece = t if held else _time(int(length * SAMPLE_RATE))
        tones = [np.sin(2 * np.pi * rng.uniform(200, 4000) * piece) for _ in range(rng.integers(1, 4))]
        _add(sound, np.sum(tones, axis=0) * _edges(piece.size), start)
        start += len(piece) / SAMPLE_RATE + rng.uniform(0.02, 0.5)
    return sound


def sirens(rng: np.random.Generator, n: int) -> Waveform:
    """A tone that slides up and down, once or again and again."""
    low, high = np.sort(rng.uniform(np.log(100), np.log(7000), 2))
    wave = 0.5 + 0.5 * np.sin(2 * np.pi * rng.uniform(0.1, 3) * _time(n) + rng.uniform(0, 6.3))
    phase = 2 * np.pi * np.cumsum(np.exp(low + (high - low) * wave)) / SAMPLE_RATE
    return (np.sin(phase) + rng.uniform(0, 0.5) * np.sin(2 * phase)).astype(np.float32)


def birds(rng: np.random.Generator, n: int) -> Waveform:
    """Calls as of birds and crickets: short sliding whistles of 1 to 7 kHz, alone or in trills."""
    sound, start = np.zeros(n, np.float32), rng.uniform(0, 0.5)
    pitch, slide, length = rng.uniform(1000, 6000), rng.uniform(-0.8, 0.8), rng.uniform(0.02, 0.25)
    while start < n / SAMPLE_RATE:
        for _ in range(rng.integers(1, 8)):
            t = _time(int(length * rng.uniform(0.7, 1.4) * SAMPLE_RATE) + 8)
            bent = pitch * 2.0 ** (slide * t / t[-1] + 0.1 * np.sin(2 * np.pi * rng.uniform(10, 60) * t))
            phase = 2 * np.pi * np.cumsum(np.minimum(bent, 7900)) / SAMPLE_RATE
            _add(sound, np.sin(phase) * np.sin(np.pi * t / t[-1]) * rng.uniform(0.4, 1), start)
            start += t[-1] + rng.uniform(0.01, 0.08)
        start += rng.uniform(0.05, 1.2)
    return sound


def engine(rng: np.random.Generator, n: int) -> Waveform:
    """A motor: dull strokes, 8 to 90 a second, that speed up and slow down."""
    speed = rng.uniform(8, 90) * (1 + 0.3 * np.sin(2 * np.pi * rng.uniform(0.02, 0.5) * _time(n)))
    stroke = (np.cumsum(speed) / SAMPLE_RATE) % 1.0
    sound = np.exp(-stroke * rng.uniform(3, 20)) * (1 + rng.uniform(0, 2) * rng.standard_normal(n))
    size = int(rng.integers(2, 30))
    return np.convolve(sound, np.ones(size) / size, "same").astype(np.float32)


def tune(rng: np.random.Generator, n: int) -> Waveform:
    """Notes of a scale, plucked or held, in chords, sometimes with a drum."""
    sound, start = np.zeros(n, np.float32), 0.0
    scale = rng.uniform(80, 400) * 2.0 ** (np.array([0, 2, 4, 7, 9, 12, 14, 16, 19]) / 12)
    beat, falls, decay = rng.uniform(0.1, 0.6), rng.uniform(0.5, 2.5), rng.uniform(0.08, 1.5)
    drum = rng.random() < 0.5
    while start < n / SAMPLE_RATE:
        t = _time(int(min(1.5 * decay + 0.1, 2.0) * SAMPLE_RATE))
        for pitch in rng.choice(scale, rng.integers(1, 4), replace=False):
            parts = [k**-falls * np.sin(2 * np.pi * k * pitch * t) for k in range(1, 7) if k * pitch < 7900]
            _add(sound, np.sum(parts, axis=0) * np.exp(-t / decay) * _edges(t.size, 80), start)
        if drum:
            t = _time(1600)
            _add(sound, 2 * rng.standard_normal(t.size) * np.exp(-t / 0.02), start)
        start += beat * rng.choice([1, 1, 2, 0.5])
    return sound


def rubbing(rng: np.random.Generator, n: int) -> Waveform:
    """A hand or cloth on the microphone, steps, paper: bursts of noise."""
    sound, start = np.zeros(n, np.float32), rng.uniform(0, 0.4)
    while start < n / SAMPLE_RATE:
        piece = noise(rng, int(rng.uniform(0.03, 0.5) * SAMPLE_RATE))
        level = rng.uniform(0.2, 1) / float(np.abs(piece).max())
        _add(sound, piece * level * np.sin(np.pi * np.linspace(0, 1, len(piece))), start)
        start += len(piece) / SAMPLE_RATE + rng.exponential(0.3)
    return sound


MAKERS: tuple[Callable[[np.random.Generator, int], Waveform], ...] = (
    noise,
    noise,
    hum,
    ticks,
    ticks,
    beeps,
    sirens,
    birds,
    engine,
    tune,
    tune,
    rubbing,
)


def sound_files(folders: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """All recordings in the folders and below, sorted; links are followed.

    Raises:
        DataError: a folder is not there, or holds none.
    """
    found: list[Path] = []
    for folder in map(Path, folders):
        below = (Path(place, name) for place, _, names in os.walk(folder, followlinks=True) for name in names)
        own = sorted(path for path in below if path.suffix.lower() in SUFFIXES)
        if not own:
            raise DataError(f"no recordings in {folder}: looked for {', '.join(sorted(SUFFIXES))}")
        found += own
    return found


def read_sound(path: Path, longest: float = 90.0) -> Waveform:
    """The first `longest` seconds of a file at 16 kHz, mono, however short or quiet; empty if unreadable."""
    try:
        return load_beginning(path, longest)
    except SpeechError:
        return np.zeros(0, np.float32)


def excerpts(sound: Waveform, most: int, rng: np.random.Generator) -> Iterator[NDArray[np.int16]]:
    """Up to `most` pieces of `EXCERPT_SECONDS` of a sound, peak at full scale, as int16; none of silence."""
    size = int(EXCERPT_SECONDS * SAMPLE_RATE)
    starts = [0] if len(sound) <= size else rng.integers(0, len(sound) - size, most).tolist()
    for start in starts:
        piece = sound[start : start + size]
        peak = float(np.abs(piece).max()) if len(piece) else 0.0
        if peak > 1e-4:
            yield (piece * (32767 / peak)).astype(np.int16)


def _time(n: int) -> NDArray[np.float64]:
    return np.arange(n) / SAMPLE_RATE


def _edges(n: int, ramp: int = 160) -> NDArray[np.float64]:
    """1 with ends that rise and fall within `ramp` samples."""
    place = np.arange(n)
    return np.minimum(1.0, np.minimum(place, n - 1 - place) / ramp)


def _gusts(rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    points = rng.uniform(0.02, 1, max(3, int(n / SAMPLE_RATE * rng.uniform(0.5, 8))))
    return np.interp(np.linspace(0, len(points) - 1, n), np.arange(len(points)), points)


def _add(sound: Waveform, piece: NDArray[Any], seconds: float) -> None:
    """Add a piece to a sound at a time, cut at its end."""
    start = int(seconds * SAMPLE_RATE)
    piece = piece[: max(0, len(sound) - start)]
    sound[start : start + len(piece)] += piece.astype(np.float32)


NOISES = ("white", "pink", "babble", "recorded")


def make_noise(
    kind: str, length: int, rng: np.random.Generator, recordings: Sequence[Waveform] = ()
) -> Waveform:
    """Noise of shape [length]: "white", "pink" (power falls by 3 dB an octave) or "babble".

    Babble is the sum of up to five of the recordings, each from a random place on, repeated as needed;
    "recorded" is one of them.
    """
    if kind in ("babble", "recorded"):
        if not recordings:
            raise SettingsError(f"{kind} noise needs recordings to take it from")
        number = min(5, len(recordings)) if kind == "babble" else 1
        chosen = rng.choice(len(recordings), size=number, replace=False)
        voices = [
            np.resize(np.roll(r, -rng.integers(len(r))), length) for r in (recordings[i] for i in chosen)
        ]
        return np.sum(voices, axis=0, dtype=np.float32)
    white = rng.standard_normal(length, dtype=np.float32)
    if kind == "white":
        return white
    if kind != "pink":
        raise SettingsError(f"no noise {kind!r}; there are: {', '.join(NOISES)}")
    n = scipy.fft.next_fast_len(length, real=True)
    spectrum = scipy.fft.rfft(white, n)
    spectrum /= np.sqrt(np.arange(1, len(spectrum) + 1, dtype=np.float32))
    return scipy.fft.irfft(spectrum, n)[:length]


@lru_cache(maxsize=4)
def noise_recordings(folder: Path, *, max_seconds: float = 30.0) -> tuple[Waveform, ...]:
    """The recordings of noise or music below a folder, by name, at 16 kHz.

    Raises:
        DataError: there is none, or one cannot be read or is longer than `max_seconds`.
    """
    try:
        return tuple(audio.load(path, max_seconds=max_seconds) for path in sound_files([folder]))
    except SpeechError as error:
        raise DataError(f"noise recordings in {folder}: {error}") from error
