"""Text -> speech with the engines found on this machine.

Engines: the programs `flite`, `festival` (with text2wave), `espeak-ng` and `piper` on the PATH; espeak-ng
also as the library that `pip install 'speech2image[tts]'` brings. A voice is named "engine/name":
"flite/slt", "espeak-ng/en-gb-x-rp", "espeak-ng/en-us+f3" (accent + timbre), "festival/kal_diphone",
"piper/path/to/voice.onnx". All say the same again but Piper, which draws its prosody anew each time and
takes seconds to start.
"""

from __future__ import annotations

import importlib.util
import io
import math
import re
import shutil
import subprocess
import sys
import tempfile
import wave
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from speech2image import audio
from speech2image.errors import MissingExtraError, SettingsError, SpeechError
from speech2image.text import speakable

TIMEOUT = 60.0
"""Seconds after which an engine is taken to hang."""

# Most natural first; whatever else is found follows.
_PREFERRED = (
    "flite/slt",
    "flite/rms",
    "flite/awb",
    "festival/cmu_us_slt_arctic_hts",
    "flite/kal16",
    "festival/kal_diphone",
    "espeak-ng/en-us",
    "espeak-ng/en-gb",
)
# Mean pitch in Hz of the flite voices that let it be set, measured on captions.
_FLITE_PITCH = {"slt": 172.0, "awb": 133.0, "kal": 95.0, "kal16": 95.0}
# How much slower than their bare models these voices speak by default.
_STRETCH = {"kal": 1.1, "kal16": 1.1, "kal_diphone": 1.1}
_FESTIVAL_ENGLISH = re.compile(r"(kal|ked|rab|don|cmu_us|nitech_us|us\d|en\d)_\w+")


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
    """The voices of all engines found here, most natural first; Piper voices are files and not listed.

    Args:
        timbres: list each espeak-ng accent also in every timbre (about a hundred), "en-us+f3".
    """
    ids = [f"flite/{name}" for name in _flite_names()]
    ids += [f"festival/{name}" for name in _festival_names()]
    ids += [f"espeak-ng/{accent}" for accent in _espeak_accents()]
    if timbres:
        ids += [f"espeak-ng/{a}+{t}" for a in _espeak_accents() for t in _espeak_timbres()]
    ids.sort(key=lambda voice: _PREFERRED.index(voice) if voice in _PREFERRED else len(_PREFERRED))
    return [Voice(*voice.split("/", 1)) for voice in ids]


def find_voice(id: str) -> Voice:
    """The voice of that name, e.g. "flite/slt" or "piper/path/to/voice.onnx".

    Raises:
        SettingsError: there is no such voice here; the message lists those there are.
        MissingExtraError: no engine is installed at all.
    """
    engine, _, name = id.partition("/")
    if engine == "piper":
        return _piper_voice(name)
    voices = available_voices()
    accent, _, timbre = name.partition("+")
    if id in {voice.id for voice in voices}:
        return Voice(engine, name)
    if engine == "espeak-ng" and accent in _espeak_accents() and timbre in _espeak_timbres():
        return Voice(engine, name)
    if not voices:
        raise _no_engine()
    listed = ", ".join(voice.id for voice in voices)
    raise SettingsError(f"no voice {id!r} here; there are: {listed} (espeak-ng's also with a timbre: +f3)")


def speak(
    text: str, voice: Voice | None = None, *, rate: float = 1.0, pitch: float = 1.0
) -> NDArray[np.float32]:
    """Speak an English sentence.

    Args:
        text: what to say; characters no engine knows are left out (`text.speakable`).
        voice: from `available_voices` or `find_voice`; None takes the most natural one there is.
        rate: speed of speech relative to the voice's own, 0.5 to 2.
        pitch: pitch relative to the voice's own, 0.5 to 2. Where the engine cannot set it (flite/rms,
            festival, piper) the speech is played faster, which moves the formants along.

    Returns:
        float32 mono 16 kHz samples in [-1, 1], shape [n], long enough for `audio.log_mel`.

    Raises:
        SettingsError: rate or pitch is out of range, or nothing speakable is in the text.
        SpeechError: the engine failed, hung or gave silence.
        MissingExtraError: no engine is installed; the message holds the commands that install one.
    """
    for name, value in (("rate", rate), ("pitch", pitch)):
        if not 0.5 <= value <= 2.0:
            raise SettingsError(f"{name} must lie between 0.5 and 2, got {value}")
    plain = speakable(text)
    voice = voice or next(iter(available_voices()), None)
    if voice is None:
        raise _no_engine()
    if voice.engine not in _SPEAK:
        raise SettingsError(f"no engine {voice.engine!r}; there are: {', '.join(_SPEAK)}")
    sets_pitch = voice.engine == "espeak-ng" or (voice.engine == "flite" and voice.name in _FLITE_PITCH)
    play_faster = 1.0 if sets_pitch else pitch
    samples, sample_rate = _SPEAK[voice.engine](plain, voice.name, rate / play_faster, pitch)
    if not samples.any():
        raise SpeechError(f"{voice.id} said nothing for {text!r}; try another voice")
    needed = math.ceil(audio.MIN_SAMPLES * 1.1 * sample_rate * play_faster / audio.SAMPLE_RATE)
    if len(samples) < needed:  # one short word: silence around it
        samples = np.pad(samples, (needed - len(samples)) // 2 + 1)
    return audio.load((samples, round(sample_rate * play_faster)))


def _no_engine() -> MissingExtraError:
    return MissingExtraError(
        "no text-to-speech engine is installed; install one with: pip install 'speech2image[tts]' "
        "(espeak-ng, robotic) or: apt-get install flite (more natural)"
    )


# ---- programs ----------------------------------------------------------------------------------


def _run(command: list[str], *, text: str | None = None) -> str:
    """Run an engine without a shell; returns what it prints."""
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=TIMEOUT)
    except subprocess.TimeoutExpired as error:
        raise SpeechError(f"{command[0]} gave no speech within {TIMEOUT:g} s") from error
    except OSError as error:
        raise SpeechError(f"{command[0]} cannot be started: {error}") from error
    if done.returncode != 0:
        raise SpeechError(f"{command[0]} failed: {done.stderr.strip() or done.returncode}")
    return done.stdout


def _spoken_by(command: list[str], text: str) -> tuple[NDArray[np.int16], int]:
    """Run an engine whose arguments name {text} and {wav} files; the text is also on its input."""
    with tempfile.TemporaryDirectory() as folder:
        text_file, wav_file = Path(folder, "text.txt"), Path(folder, "speech.wav")
        text_file.write_text(text + "\n", encoding="ascii")
        files = {"{text}": str(text_file), "{wav}": str(wav_file)}
        _run([files.get(part, part) for part in command], text=text + "\n")
        if not wav_file.exists():
            raise SpeechError(f"{command[0]} wrote no speech")
        with wave.open(io.BytesIO(wav_file.read_bytes())) as wav:
            samples = np.frombuffer(wav.readframes(wav.getnframes()), dtype="<i2")
            return samples, wav.getframerate()


@cache
def _flite_names() -> list[str]:
    if not shutil.which("flite"):
        return []
    names = _run(["flite", "-lv"]).partition(":")[2].split()
    return [name for name in names if name != "awb_time"]  # tells the time, nothing else


def _flite(text: str, name: str, rate: float, pitch: float) -> tuple[NDArray[np.int16], int]:
    command = [
        "flite",
        "-voice",
        name,
        "--setf",
        f"duration_stretch={_STRETCH.get(name, 1.0) / rate:.4f}",
    ]
    if pitch != 1.0 and name in _FLITE_PITCH:
        command += ["--setf", f"int_f0_target_mean={_FLITE_PITCH[name] * pitch:.2f}"]
    return _spoken_by([*command, "-f", "{text}", "-o", "{wav}"], text)


@cache
def _festival_names() -> list[str]:
    if not (shutil.which("festival") and shutil.which("text2wave")):
        return []
    names = re.findall(r"\w+", _run(["festival", "--batch", "(print (voice.list))"]))
    return [name for name in names if _FESTIVAL_ENGLISH.fullmatch(name)]


def _festival(text: str, name: str, rate: float, pitch: float) -> tuple[NDArray[np.int16], int]:
    set_rate = f"(Parameter.set 'Duration_Stretch {_STRETCH.get(name, 1.0) / rate:.4f})"
    if name.endswith("_hts"):
        set_rate = f"""(set! hts_engine_params (append hts_engine_params '(("-r" {rate:.4f}))))"""
    script = f"(begin (voice_{name}) {set_rate})"
    return _spoken_by(["text2wave", "-eval", script, "{text}", "-o", "{wav}"], text)


def _piper_command() -> list[str] | None:
    if shutil.which("piper"):
        return ["piper"]
    if importlib.util.find_spec("piper"):
        return [sys.executable, "-m", "piper"]
    return None


def _piper_voice(name: str) -> Voice:
    if not Path(name).is_file():
        raise SettingsError(f"no Piper voice file {name!r}; give piper/path/to/voice.onnx")
    if not Path(f"{name}.json").is_file():
        raise SettingsError(f"the Piper voice {name} lacks its settings {name}.json beside it")
    return Voice("piper", name)


def _piper(text: str, name: str, rate: float, pitch: float) -> tuple[NDArray[np.int16], int]:
    command = _piper_command()
    if command is None:
        raise MissingExtraError("Piper is not installed; install it with: pip install piper-tts")
    return _spoken_by([*command, "-m", name, "--length-scale", f"{1 / rate:.4f}", "-f", "{wav}"], text)


# ---- espeak-ng: the program, or the library that pip brings ----------------------------------------


@cache
def _espeak_data() -> Path | None:
    """Folder with the accents and timbres of the program or else of the library."""
    if shutil.which("espeak-ng"):
        return Path(_run(["espeak-ng", "--version"]).partition("Data at:")[2].strip())
    if importlib.util.find_spec("espeakng_loader"):
        import espeakng_loader

        return Path(espeakng_loader.get_data_path())
    return None


@cache
def _espeak_accents() -> list[str]:
    data = _espeak_data()
    files = sorted((data / "lang" / "gmw").glob("en*")) if data else []
    names = ["en-gb" if file.name == "en" else file.name.lower() for file in files]
    return [name for name in names if name != "en-shaw"]  # the Shavian alphabet


@cache
def _espeak_timbres() -> list[str]:
    data = _espeak_data()
    files = sorted((data / "voices" / "!v").glob("*")) if data else []
    return [file.name for file in files if " " not in file.name]


def _espeak(text: str, name: str, rate: float, pitch: float) -> tuple[NDArray[np.int16], int]:
    speed = str(round(175 * rate))  # words a minute
    level = str(round(min(99.0, max(0.0, 50 + 50 * math.log2(pitch)))))  # 0 to 99: an octave down to one up
    if shutil.which("espeak-ng"):
        command = ["espeak-ng", "-v", name, "-s", speed, "-p", level, "-f", "{text}", "-w", "{wav}"]
        return _spoken_by(command, text)
    import espeakng_loader

    library, data = espeakng_loader.get_library_path(), espeakng_loader.get_data_path()
    accent, plus, timbre = name.partition("+")
    voice = ("en" if accent == "en-gb" else accent) + plus + timbre  # by file name: en-gb is the file "en"
    script = str(Path(__file__).with_name("espeak_library.py"))
    command = [sys.executable, "-I", "-S", script, str(library), str(data), voice, speed, level]
    return _spoken_by([*command, "{text}", "{wav}"], text)


_SPEAK = {"flite": _flite, "festival": _festival, "espeak-ng": _espeak, "piper": _piper}
