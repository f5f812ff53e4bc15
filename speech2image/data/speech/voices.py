"""Voices of spoken captions: choosing them by name or pattern, mixtures of speakers, speaking with one.

A voice is an engine's ("flite/slt"), a reader of a word bank ("reader/251"), or `MIXTURE`.
"""

import fnmatch
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from speech2image.data.listings import JsonObject
from speech2image.data.speech.word_bank import VOICE_PREFIX
from speech2image.errors import SettingsError

MIXTURE = "kokoro/mix"
"""The voice that is another mixture of two or three of Kokoro's speakers in every utterance."""
NATURAL = ("kokoro/", "piper/")
"""How voices of neural engines begin, which hardly differ from people's."""

Kind = Literal["synthesizers", "natural voices", "people"]
KINDS: tuple[Kind, ...] = ("synthesizers", "natural voices", "people")


def kind_of(voice: str) -> Kind:
    """Whether a voice is a small synthesizer's, a neural engine's (Kokoro, Piper), or a person's."""
    if voice.startswith(VOICE_PREFIX):
        return "people"
    return "natural voices" if voice.startswith(NATURAL) else "synthesizers"


ESPEAK_ALONE = ("espeak-ng/en-us", "espeak-ng/en-gb")
"""What speaks where there is no other engine: its other accents are the same voice once more."""


def default_voices(found: Sequence[str]) -> list[str]:
    """The voices that speak where none are named: readers, and of the engines' the most natural there are.

    Natural voices (Kokoro's, Piper's) if there are any; else all but espeak-ng's; else two of espeak-ng's.
    """
    readers = [name for name in found if name.startswith(VOICE_PREFIX)]
    engines = [name for name in found if name not in readers]
    natural = [name for name in engines if name.startswith(NATURAL)]
    others = [name for name in engines if not name.startswith("espeak-ng/")]
    robotic = [name for name in engines if name in ESPEAK_ALONE] or engines[:2]
    chosen = {*readers, *(natural or others or robotic)}
    return [name for name in found if name in chosen]


def choose_voices(
    patterns: Sequence[str], held_out: Sequence[str], found: Sequence[str], *, held_out_alone: bool = False
) -> tuple[list[str], list[str]]:
    """Seen and held-out voices, each in the order of `found`.

    Args:
        patterns: names or patterns ("flite/*") of voices that may be heard in training; empty:
            `default_voices` of those not held out.
        held_out: names or patterns of voices kept for the test captions.
        found: voices on this machine, see `voices_here`.
        held_out_alone: training captions are spoken already: no voice need be left for them, and without
            patterns none is.

    Raises:
        SettingsError: a pattern fits no voice, every voice is held out, or one is a mixture with a held-out
            speaker.
    """
    for pattern in (*patterns, *held_out):
        if not fnmatch.filter(found, pattern):
            listed = ", ".join(found) or "none: install flite, festival or espeak-ng"
            raise SettingsError(f"no voice fits {pattern!r}; voices on this machine: {listed}")
    kept_out = [name for name in found if _fits(name, held_out)]
    seen = [name for name in found if name not in kept_out]
    if patterns:
        seen = [name for name in seen if _fits(name, patterns)]
    else:
        seen = [] if held_out_alone else default_voices(seen)
    if not seen and not held_out_alone:
        raise SettingsError(
            f"no voice is left to speak training captions: all of {', '.join(found)} are held out"
        )
    _check_mixtures(seen, kept_out)
    return seen, kept_out


def _check_mixtures(seen: Sequence[str], held_out: Sequence[str]) -> None:
    """Refuse mixtures through which training would hear a held-out speaker."""
    from speech2image.tts.kokoro import parse

    for name in (name for name in seen if _is_mixture(name)):
        for speaker, _ in parse(name.removeprefix("kokoro/")):
            if f"kokoro/{speaker}" in held_out:
                raise SettingsError(
                    f"{name} mixes in kokoro/{speaker}, which is held out; leave one of them out"
                )


def _is_mixture(name: str) -> bool:
    return name.startswith("kokoro/") and "+" in name


def voices_here(patterns: Sequence[str], held_out: Sequence[str], readers: Sequence[str] = ()) -> list[str]:
    """Names of the voices on this machine and of `readers`, the voices of a word bank; with espeak-ng's
    timbres and Piper files where asked for.

    Raises:
        SettingsError: a name that is no pattern is no voice here, or no reader fits one of readers.
    """
    from speech2image import tts

    timbres = any("+" in pattern for pattern in patterns if not pattern.startswith("kokoro/"))
    found = [*(voice.id for voice in tts.available_voices(timbres=timbres)), *readers]
    if MIXTURE in patterns:
        found.append(MIXTURE)
    for name in (*patterns, *held_out):
        if fnmatch.filter(found, name):
            continue
        if name.startswith(VOICE_PREFIX):
            known = ", ".join(readers) or "none: name a word bank with --word-bank"
            raise SettingsError(f"no voice fits {name!r}; readers there are: {known}")
        if not set(name) & set("*?[") or _is_mixture(name):
            found.append(tts.find_voice(name).id)
    return found


def kokoro_speakers(found: Sequence[str], held_out: Sequence[str]) -> tuple[str, ...]:
    """Kokoro's speakers among voices found, but those held out: what `MIXTURE` mixes."""
    return tuple(
        name.removeprefix("kokoro/")
        for name in found
        if name.startswith("kokoro/") and name not in (*held_out, MIXTURE) and not _is_mixture(name)
    )


def _fits(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def mixture(speakers: Sequence[str], seed: int) -> str:
    """A mixture of two or three of Kokoro's speakers, drawn for one utterance.

    Raises:
        SettingsError: there are fewer than two speakers.
    """
    from speech2image.tts.kokoro import random_mixture

    if len(speakers) < 2:
        raise SettingsError(
            f"{MIXTURE} mixes Kokoro's speakers that are not held out: at least two are needed, there are "
            f"{len(speakers)}; `speech2image say --voice kokoro/af_heart` says where to get them"
        )
    return random_mixture(speakers, seed)


def say_by_engine(
    text: str, voice: str, mixture: str, seed: int, delivery: str
) -> tuple[NDArray[np.float32], JsonObject]:
    """A caption as an engine says it; the mixture and a varied delivery are returned beside it."""
    from speech2image import tts

    found = _voice(f"kokoro/{mixture}" if mixture else voice)
    effects: JsonObject = {"mixture": mixture} if mixture else {}
    manner: dict[str, float] = {}
    if delivery == "varied":
        rng = np.random.default_rng([seed, 2])
        manner["rate"] = round(math.exp(rng.uniform(math.log(0.8), math.log(1.25))), 3)
        if found.engine == "piper":
            manner["variation"] = round(rng.uniform(0.5, 1.3), 3)
        effects["delivery"] = manner
    return tts.speak(text, found, seed=seed, threads=1, **manner), effects


@lru_cache(maxsize=256)
def _voice(name: str) -> Any:
    from speech2image import tts

    return tts.find_voice(name)
