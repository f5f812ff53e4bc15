"""Speech programs: run one without a shell and read the wav file it writes."""

import io
import os
import subprocess
import tempfile
import wave
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from speech2image.errors import SpeechError

TIMEOUT = 60.0
"""Seconds after which an engine is taken to hang."""


def run(command: list[str], *, text: str | None = None) -> str:
    """Run an engine without a shell; returns what it prints.

    Raises:
        SpeechError: it cannot be started, failed, or took longer than `TIMEOUT`.
    """
    # Nothing is played. Where none is named, espeak-ng looks for a sound server and leaves files below HOME.
    silent = {**os.environ, "PULSE_SERVER": "unix:/dev/null"}
    try:
        done = subprocess.run(
            command, input=text, capture_output=True, encoding="utf-8", timeout=TIMEOUT, env=silent
        )
    except subprocess.TimeoutExpired as error:
        raise SpeechError(f"{command[0]} gave no speech within {TIMEOUT:g} s") from error
    except OSError as error:
        raise SpeechError(f"{command[0]} cannot be started: {error}") from error
    if done.returncode != 0:
        raise SpeechError(f"{command[0]} failed: {done.stderr.strip() or done.returncode}")
    return done.stdout


def spoken_by(command: list[str], text: str) -> tuple[NDArray[np.int16], int]:
    """Run an engine whose arguments name {text} and {wav} files; the text is also on its input."""
    with tempfile.TemporaryDirectory() as folder:
        text_file, wav_file = Path(folder, "text.txt"), Path(folder, "speech.wav")
        text_file.write_text(text + "\n", encoding="utf-8")
        files = {"{text}": str(text_file), "{wav}": str(wav_file)}
        run([files.get(part, part) for part in command], text=text + "\n")
        if not wav_file.exists():
            raise SpeechError(f"{command[0]} wrote no speech")
        with wave.open(io.BytesIO(wav_file.read_bytes())) as wav:
            samples = np.frombuffer(wav.readframes(wav.getnframes()), dtype="<i2")
            return samples, wav.getframerate()
