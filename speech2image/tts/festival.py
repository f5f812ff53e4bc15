"""Engine festival: the programs festival and text2wave."""

import re
import shutil
from functools import cache

import numpy as np
from numpy.typing import NDArray

from speech2image.tts.engine import Delivery
from speech2image.tts.programs import run, spoken_by

_ENGLISH = re.compile(r"(kal|ked|rab|don|cmu_us|nitech_us|us\d|en\d)_\w+")
# How much slower than its bare model this voice speaks by default.
_STRETCH = {"kal_diphone": 1.1}


@cache
def names() -> list[str]:
    """English voices that the program lists."""
    if not (shutil.which("festival") and shutil.which("text2wave")):
        return []
    listed = re.findall(r"\w+", run(["festival", "--batch", "(print (voice.list))"]))
    return [name for name in listed if _ENGLISH.fullmatch(name)]


def find(name: str) -> bool:
    """Whether the program has this voice."""
    return name in names()


def sets_pitch(name: str) -> bool:
    """No voice."""
    return False


def speak(text: str, name: str, delivery: Delivery) -> tuple[NDArray[np.int16], int]:
    """Speak plain text; see `Engine.speak`."""
    set_rate = f"(Parameter.set 'Duration_Stretch {_STRETCH.get(name, 1.0) / delivery.rate:.4f})"
    if name.endswith("_hts"):
        set_rate = f"""(set! hts_engine_params (append hts_engine_params '(("-r" {delivery.rate:.4f}))))"""
    script = f"(begin (voice_{name}) {set_rate})"
    return spoken_by(["text2wave", "-eval", script, "{text}", "-o", "{wav}"], text)
