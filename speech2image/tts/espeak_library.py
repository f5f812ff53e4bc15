"""Stand-in for the program espeak-ng where only its library is installed (package espeakng_loader).

Run as a program of its own, python -I -S espeak_library.py LIBRARY DATA VOICE SPEED PITCH TEXT WAV: the
library keeps a state from one sentence to the next, and a fresh process always says the same.
Imports the standard library only. The calls are those of espeak-ng's speak_lib.h.
"""

import ctypes
import sys
import wave
from pathlib import Path

RETRIEVAL, NO_EXIT, UTF8, POSITION_CHARACTER = 1, 0x8000, 1, 1
RATE, PITCH = 1, 3


def speak(library: ctypes.CDLL, data: str, voice: str, rate: int, pitch: int, text: str) -> tuple[bytes, int]:
    """The sentence as 16-bit mono samples, and the sample rate."""
    blocks: list[bytes] = []

    def receive(samples: int | None, n: int, _: int | None) -> int:
        if samples and n > 0:
            blocks.append(ctypes.string_at(samples, 2 * n))
        return 0

    callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)(receive)
    sample_rate = library.espeak_Initialize(RETRIEVAL, 0, data.encode(), NO_EXIT)
    if sample_rate <= 0:
        raise SystemExit("the library cannot be started")
    library.espeak_SetSynthCallback(callback)
    if library.espeak_SetVoiceByName(voice.encode()) != 0:
        raise SystemExit(f"the library has no voice {voice}")
    library.espeak_SetParameter(RATE, rate, 0)
    library.espeak_SetParameter(PITCH, pitch, 0)
    encoded = text.encode() + b"\0"
    size, start, flags = ctypes.c_size_t(len(encoded)), ctypes.c_uint(0), ctypes.c_uint(UTF8)
    library.espeak_Synth(encoded, size, start, POSITION_CHARACTER, start, flags, None, None)
    library.espeak_Synchronize()
    return b"".join(blocks), sample_rate


def main(library: str, data: str, voice: str, rate: str, pitch: str, text: str, wav: str) -> None:
    """Speak the text in file `text` into the WAV file `wav`."""
    samples, sample_rate = speak(
        ctypes.CDLL(library), data, voice, int(rate), int(pitch), Path(text).read_text(encoding="utf-8")
    )
    with wave.open(wav, "wb") as file:
        file.setparams((1, 2, sample_rate, 0, "NONE", ""))
        file.writeframes(samples)


if __name__ == "__main__":
    main(*sys.argv[1:])
