"""Engine espeak-ng: the program, or the library that pip brings, in a program of its own.

A voice is an accent, with or without a timbre: "en-us", "en-gb-x-rp", "en-us+f3"; or another language: "de".
"""

import importlib.util
import math
import shutil
import sys
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from speech2image.tts.engine import Delivery
from speech2image.tts.programs import run, spoken_by


@cache
def _data() -> Path | None:
    """Folder with the accents and timbres of the program or else of the library."""
    if shutil.which("espeak-ng"):
        return Path(run(["espeak-ng", "--version"]).partition("Data at:")[2].strip())
    if importlib.util.find_spec("espeakng_loader"):
        import espeakng_loader

        return Path(espeakng_loader.get_data_path())
    return None


@cache
def names() -> list[str]:
    """The English accents, as espeak-ng names them."""
    data = _data()
    files = sorted((data / "lang" / "gmw").glob("en*")) if data else []
    accents = ["en-gb" if file.name == "en" else file.name.lower() for file in files]
    return [name for name in accents if name != "en-shaw"]  # the Shavian alphabet


@cache
def languages() -> list[str]:
    """The languages and dialects other than English, which are found but not listed among the voices."""
    data = _data()
    files = sorted((data / "lang").glob("*/*")) if data else []
    return [file.name.lower() for file in files if not file.name.startswith("en")]


@cache
def timbres() -> list[str]:
    """What can stand behind the + in a voice's name."""
    data = _data()
    files = sorted((data / "voices" / "!v").glob("*")) if data else []
    return [file.name for file in files if " " not in file.name]


def find(name: str) -> bool:
    """Whether accent or language, and timbre are there."""
    accent, plus, timbre = name.partition("+")
    return (accent in names() or accent in languages()) and (not plus or timbre in timbres())


def is_foreign(name: str) -> bool:
    """Whether a voice speaks another language than English."""
    return name.partition("+")[0] in languages()


def sets_pitch(name: str) -> bool:
    """Every voice."""
    return True


def speak(text: str, name: str, delivery: Delivery) -> tuple[NDArray[np.int16], int]:
    """Speak plain text; see `Engine.speak`."""
    speed = str(round(175 * delivery.rate))  # words a minute
    # 0 to 99: an octave down to one up
    level = str(round(min(99.0, max(0.0, 50 + 50 * math.log2(delivery.pitch)))))
    if shutil.which("espeak-ng"):
        command = ["espeak-ng", "-v", name, "-s", speed, "-p", level, "-b", "1"]  # 1: the text is UTF-8
        return spoken_by([*command, "-f", "{text}", "-w", "{wav}"], text)
    import espeakng_loader

    library, data = espeakng_loader.get_library_path(), espeakng_loader.get_data_path()
    accent, plus, timbre = name.partition("+")
    voice = ("en" if accent == "en-gb" else accent) + plus + timbre  # by file name: en-gb is the file "en"
    script = str(Path(__file__).with_name("espeak_library.py"))
    command = [sys.executable, "-I", "-S", script, str(library), str(data), voice, speed, level]
    return spoken_by([*command, "{text}", "{wav}"], text)
