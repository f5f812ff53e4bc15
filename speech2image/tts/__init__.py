"""Text -> speech with the engines found on this machine.

Engines: the programs `flite`, `festival` (with text2wave) and `espeak-ng` on the PATH, espeak-ng also as the
library that `pip install 'speech2image[tts]'` brings, and the networks Piper and Kokoro where their files are
(`voice_files`). A voice is named "engine/name": "flite/slt", "espeak-ng/en-gb-x-rp", "espeak-ng/en-us+f3"
(accent + timbre), "festival/kal_diphone", "piper/en_US-joe-medium", "piper/path/to/voice.onnx",
"kokoro/af_heart", "kokoro/af_bella*0.6+am_adam*0.4" (a mixture of speakers). All say the same again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from speech2image import audio
from speech2image.asr.text import speakable
from speech2image.errors import MissingExtraError, SettingsError, SpeechError
from speech2image.tts import espeak, festival, flite, kokoro, piper
from speech2image.tts.engine import Delivery, Engine

ENGINES: dict[str, Engine] = {
    name: cast(Engine, module)
    for name, module in {
        "kokoro": kokoro,
        "piper": piper,
        "flite": flite,
        "festival": festival,
        "espeak-ng": espeak,
    }.items()
}

# Most natural first; whatever else is found follows.
_PREFERRED = (
    "kokoro/af_heart",
    "kokoro/af_bella",
    "flite/slt",
    "flite/rms",
    "flite/awb",
    "festival/cmu_us_slt_arctic_hts",
    "flite/kal16",
    "festival/kal_diphone",
    "espeak-ng/en-us",
    "espeak-ng/en-gb",
)


@dataclass(frozen=True)
class Voice:
    """One voice of one engine, e.g. Voice("flite", "slt")."""

    engine: str
    name: str

    @property
    def id(self) -> str:
        """The name to give on the command line and to `find_voice`."""
        return f"{self.engine}/{self.name}"


def available_voices(*, timbres: bool = False) -> list[Voice]:
    """The voices of all engines found here, most natural first.

    Args:
        timbres: list each espeak-ng accent also in every timbre (about a hundred), "en-us+f3".
    """
    voices = [Voice(engine, name) for engine, module in ENGINES.items() for name in module.names()]
    voices.sort(key=_naturalness)
    if timbres:
        voices += [Voice("espeak-ng", f"{a}+{t}") for a in espeak.names() for t in espeak.timbres()]
    return voices


def _naturalness(voice: Voice) -> tuple[int, int]:
    """Place in the list of voices: engines that are networks first, each engine's preferred voices first."""
    networks = ("kokoro", "piper")
    engine = networks.index(voice.engine) if voice.engine in networks else len(networks)
    return engine, _PREFERRED.index(voice.id) if voice.id in _PREFERRED else len(_PREFERRED)


def find_voice(id: str) -> Voice:
    """The voice of that name, e.g. "flite/slt" or "piper/path/to/voice.onnx".

    Raises:
        SettingsError: there is no such voice here; the message lists those there are.
        MissingExtraError: no engine is installed at all.
    """
    engine, _, name = id.partition("/")
    if engine in ENGINES and ENGINES[engine].find(name):
        return Voice(engine, name)
    voices = available_voices()
    if not voices:
        raise _no_engine()
    listed = ", ".join(voice.id for voice in voices)
    raise SettingsError(f"no voice {id!r} here; there are: {listed} (espeak-ng's also with a timbre: +f3)")


def speak(
    text: str,
    voice: Voice | None = None,
    *,
    rate: float = 1.0,
    pitch: float = 1.0,
    seed: int = 0,
    variation: float = 1.0,
    threads: int | None = None,
) -> NDArray[np.float32]:
    """Speak an English sentence, or one in the language of an espeak-ng voice ("espeak-ng/de").

    Args:
        text: what to say; characters no engine knows are left out (`text.speakable`).
        voice: from `available_voices` or `find_voice`; None takes the most natural one there is.
        rate: speed of speech relative to the voice's own, 0.5 to 2.
        pitch: pitch relative to the voice's own, 0.5 to 2. Where the engine cannot set it (flite/rms,
            festival, piper, kokoro) the speech is played faster, which moves the formants along.
        seed: of Piper's intonation and timing, which it draws; the other engines draw nothing.
        variation: how freely Piper draws, relative to the voice's own settings, 0 to 2.
        threads: of a network (Piper, Kokoro); by default all cores this process may use.

    Returns:
        float32 mono 16 kHz samples in [-1, 1], shape [n], long enough for `audio.log_mel`.

    Raises:
        SettingsError: rate, pitch, seed or variation is out of range, or nothing speakable is in the text.
        SpeechError: the engine failed, hung or gave silence.
        MissingExtraError: no engine is installed; the message holds the commands that install one.
        CheckpointError: a voice's files are damaged.
    """
    for setting, value, least in (("rate", rate, 0.5), ("pitch", pitch, 0.5), ("variation", variation, 0.0)):
        if not least <= value <= 2.0:
            raise SettingsError(f"{setting} must lie between {least:g} and 2, got {value}")
    foreign = voice is not None and voice.engine == "espeak-ng" and espeak.is_foreign(voice.name)
    plain = speakable(text, accents=foreign)
    voice = voice or next(iter(available_voices()), None)
    if voice is None:
        raise _no_engine()
    if voice.engine not in ENGINES:
        raise SettingsError(f"no engine {voice.engine!r}; there are: {', '.join(ENGINES)}")
    engine = ENGINES[voice.engine]
    play_faster = 1.0 if engine.sets_pitch(voice.name) else pitch
    delivery = Delivery(rate / play_faster, pitch, seed, variation, threads)
    samples, sample_rate = engine.speak(plain, voice.name, delivery)
    if not samples.any():
        raise SpeechError(f"{voice.id} said nothing for {text!r}; try another voice")
    return _loaded(samples, sample_rate, play_faster)


def _loaded(samples: NDArray[np.generic], sample_rate: int, play_faster: float) -> NDArray[np.float32]:
    """Samples at 16 kHz, with silence around one short word."""
    needed = math.ceil(audio.MIN_SAMPLES * 1.1 * sample_rate * play_faster / audio.SAMPLE_RATE)
    if len(samples) < needed:
        samples = np.pad(samples, (needed - len(samples)) // 2 + 1)
    return audio.load((samples, round(sample_rate * play_faster)))


def _no_engine() -> MissingExtraError:
    return MissingExtraError(
        "no text-to-speech engine is installed; install one with: pip install 'speech2image[tts]' "
        "(espeak-ng, robotic) or: apt-get install flite (more natural)"
    )
