"""Engine Kokoro: one network, many speakers; `kokoro_files` says which files it takes.

A voice is a speaker, "af_heart", or a mixture, "af_bella*0.6+am_adam*0.4": the styles' weighted mean, which
sounds like another person. British speakers (b...) and mixtures led by one have British pronunciation.
"""

import importlib.util
import math
import random
import re
import textwrap
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speech2image.errors import CheckpointError, SettingsError, require
from speech2image.pipeline.onnx import Session
from speech2image.pipeline.onnx_check import VOICE
from speech2image.tts import kokoro_files
from speech2image.tts.engine import Delivery

SAMPLE_RATE = 24_000

# Names of the network's inputs and its output, as two publishers have them.
_LAYOUTS = (("tokens", "audio"), ("input_ids", "waveform"))
# Phonemes spoken at once: the network takes 510.
_LONGEST = 500
_ENGLISH = re.compile(r"[ab][fm]_\w+")
_PART = re.compile(r"(\w+)(?:\*(\d*\.?\d+))?")
_PEAK = 0.95
_opening = Lock()
_phonemizing = Lock()


def names() -> list[str]:
    """The English speakers, if the files and packages are there."""
    place = kokoro_files.folder()
    files = any(place.glob("*.onnx")) or any(place.glob("onnx/*.onnx"))
    if not files or not all(map(importlib.util.find_spec, ("phonemizer", "espeakng_loader"))):
        return []
    return [name for name in kokoro_files.speakers(place) if _ENGLISH.fullmatch(name)]


def find(name: str) -> bool:
    """Check that the network and every speaker of a mixture are there.

    Raises:
        SettingsError: one is not; the message says what there is, or where it is published.
    """
    place = kokoro_files.folder()
    kokoro_files.network(place)
    known = kokoro_files.speakers(place)
    for speaker, _ in parse(name):
        if speaker not in known:
            listed = ", ".join(known) or f"none: put voices/*.bin of {kokoro_files.PUBLISHED} there"
            raise SettingsError(f"Kokoro has no speaker {speaker!r} in {place}; there are: {listed}")
    return True


def parse(name: str) -> list[tuple[str, float]]:
    """Speakers of a voice and their weights, whose sum is 1.

    >>> parse("af_bella*3+am_adam")
    [('af_bella', 0.75), ('am_adam', 0.25)]

    Raises:
        SettingsError: it is no mixture, or all weights are nothing.
    """
    parts = [_PART.fullmatch(part.strip()) for part in name.split("+")]
    weights = {part[1]: float(part[2] or 1) for part in parts if part}
    if not all(parts) or len(weights) < len(parts) or not sum(weights.values()):
        raise SettingsError(
            f"{name!r} is not a voice of Kokoro; give a speaker (af_heart) or a mixture of different ones "
            "(af_bella*0.6+am_adam*0.4)"
        )
    return [(speaker, weight / sum(weights.values())) for speaker, weight in weights.items()]


def random_mixture(speakers: Collection[str], seed: int) -> str:
    """A mixture of two or three of at least two speakers, every weight at least 0.15.

    The weights are otherwise uniform over all there can be.
    """
    draw = random.Random(seed).random  # the same in every version of Python
    order = sorted((draw(), speaker) for speaker in sorted(speakers))
    chosen = [speaker for _, speaker in order[: 2 if draw() < 0.5 else 3]]
    shares = [-math.log(1 - draw()) for _ in chosen]
    spread = 100 - 15 * len(chosen)
    percents = [15 + int(spread * share / sum(shares)) for share in shares]
    percents[0] += 100 - sum(percents)
    return "+".join(f"{speaker}*{p / 100:g}" for speaker, p in zip(chosen, percents, strict=True))


def sets_pitch(name: str) -> bool:
    """No voice."""
    return False


def speak(text: str, name: str, delivery: Delivery) -> tuple[NDArray[np.float32], int]:
    """Speak plain text; see `Engine.speak`.

    Raises:
        MissingExtraError: a package is not installed.
        SettingsError: a file is missing.
        CheckpointError: a file is damaged.
    """
    place, mixture = kokoro_files.folder(), parse(name)
    with _opening:
        network = _open(place, delivery.threads)
    style = _mixed(place, mixture)
    parts = textwrap.wrap(_phonemes(text, _language(mixture)), _LONGEST)
    spoken = [network.speak(part, style, delivery.rate) for part in parts]
    samples = np.concatenate(spoken or [np.zeros(1, np.float32)])
    return samples * min(1.0, _PEAK / max(float(np.abs(samples).max()), 1e-3)), SAMPLE_RATE


@dataclass(frozen=True)
class _Network:
    session: Session
    vocabulary: dict[str, int]

    def speak(self, phonemes: str, style: NDArray[np.float32], rate: float) -> NDArray[np.float32]:
        tokens = [self.vocabulary[phoneme] for phoneme in phonemes if phoneme in self.vocabulary]
        row = style[min(len(tokens), len(style) - 1)]
        ids, speed = np.array([[0, *tokens, 0]], dtype=np.int64), np.array([rate], dtype=np.float32)
        return self.session(ids, row[None], speed).reshape(-1)


@lru_cache(maxsize=1)
def _open(place: Path, threads: int | None) -> _Network:
    file = kokoro_files.network(place)
    vocabulary, model = kokoro_files.vocabulary(place), file.read_bytes()

    def session(layout: tuple[str, str]) -> Session:
        tokens, output = layout
        return Session(model, (tokens, "style", "speed"), (output,), str(file), threads, VOICE)

    try:
        return _Network(session(_LAYOUTS[0]), vocabulary)
    except CheckpointError:
        return _Network(session(_LAYOUTS[1]), vocabulary)


@lru_cache(maxsize=64)
def _speaker(place: Path, name: str) -> NDArray[np.float32]:
    return kokoro_files.styles(place, name)


def _mixed(place: Path, mixture: list[tuple[str, float]]) -> NDArray[np.float32]:
    """The weighted mean of speakers' styles, as long as the shortest."""
    arrays = [(_speaker(place, name), weight) for name, weight in mixture]
    rows = min(len(array) for array, _ in arrays)
    weighted = [array[:rows] * np.float32(weight) for array, weight in arrays]
    mean: NDArray[np.float32] = np.sum(weighted, axis=0, dtype=np.float32)
    return mean


def _language(mixture: list[tuple[str, float]]) -> str:
    leader = max(mixture, key=lambda part: part[1])[0]
    return "en-gb" if leader.startswith("b") else "en-us"


def _phonemes(text: str, language: str) -> str:
    """IPA with stress and punctuation."""
    with _phonemizing:  # espeak-ng keeps a state
        phonemes: str = _phonemizer(language).phonemize([text], strip=True)[0]
    return phonemes


@lru_cache(maxsize=2)
def _phonemizer(language: str) -> Any:
    backend = require("phonemizer.backend", "tts")
    library = require("espeakng_loader", "tts")
    wrapper = require("phonemizer.backend.espeak.wrapper", "tts").EspeakWrapper
    wrapper.set_library(library.get_library_path())
    wrapper.set_data_path(library.get_data_path())
    return backend.EspeakBackend(
        language, preserve_punctuation=True, with_stress=True, language_switch="remove-flags"
    )
