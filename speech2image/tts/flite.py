"""Engine flite: the program of that name."""

import shutil
from functools import cache

import numpy as np
from numpy.typing import NDArray

from speech2image.tts.engine import Delivery
from speech2image.tts.programs import run, spoken_by

# Mean pitch in Hz of the voices that let it be set, measured on captions.
_PITCH = {"slt": 172.0, "awb": 133.0, "kal": 95.0, "kal16": 95.0}
# How much slower than their bare models these voices speak by default.
_STRETCH = {"kal": 1.1, "kal16": 1.1}


@cache
def names() -> list[str]:
    """Voices that the program lists."""
    if not shutil.which("flite"):
        return []
    listed = run(["flite", "-lv"]).partition(":")[2].split()
    return [name for name in listed if name != "awb_time"]  # tells the time, nothing else


def find(name: str) -> bool:
    """Whether the program has this voice."""
    return name in names()


def sets_pitch(name: str) -> bool:
    """All voices but the clustergen ones."""
    return name in _PITCH


def speak(text: str, name: str, delivery: Delivery) -> tuple[NDArray[np.int16], int]:
    """Speak plain text; see `Engine.speak`."""
    stretch = f"duration_stretch={_STRETCH.get(name, 1.0) / delivery.rate:.4f}"
    command = ["flite", "-voice", name, "--setf", stretch]
    if delivery.pitch != 1.0 and name in _PITCH:
        command += ["--setf", f"int_f0_target_mean={_PITCH[name] * delivery.pitch:.2f}"]
    return spoken_by([*command, "-f", "{text}", "-o", "{wav}"], text)
