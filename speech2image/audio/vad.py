"""Voice activity detection: a small network decides for every 40 ms whether someone speaks."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from speech2image.audio import log_mel as spectrogram
from speech2image.errors import CheckpointError, SpeechError

HOP_SECONDS = 0.01
STEP_SECONDS = 0.04
SPEECH_STEPS = 5
"""So many steps with speech (0.2 s, "red" said fast) make a recording one that holds speech."""


class Network(Protocol):
    """What this needs of a network, usually a `pipeline.onnx.Session`."""

    @property
    def name(self) -> str: ...

    def __call__(self, *inputs: NDArray[Any]) -> NDArray[np.float32]: ...


class VoiceActivityDetector:
    """Finds where someone speaks.

    Args:
        detector: log_mel [1, 40, frames] and n_frames [1] -> speech_probability [1, ceil(frames / 4)].
    """

    def __init__(self, detector: Network) -> None:
        self._detector = detector

    def steps(self, log_mel: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Whether someone speaks in each 40 ms of a log-mel [40, frames]; [ceil(frames / 4)].

        Raises:
            CheckpointError: the network gives something else than it should.
        """
        frames = log_mel.shape[1]
        found = self._detector(log_mel[None], np.array([frames], dtype=np.int64))
        if found.shape != (1, -(-frames // 4)):
            raise CheckpointError(
                f"{self._detector.name} gave an array of shape {list(found.shape)} for {frames} frames, "
                f"not one probability for every 4; it is not this project's"
            )
        spoken: NDArray[np.bool_] = found[0] > 0.5
        return spoken

    def has_speech(self, log_mel: NDArray[np.float32]) -> bool:
        """Whether a recording holds a fifth of a second of speech or more."""
        return int(self.steps(log_mel).sum()) >= SPEECH_STEPS

    def is_speech(self, waveform: NDArray[np.float32]) -> bool:
        """Whether 16 kHz samples [n] hold speech; no for what is too short or silent."""
        try:
            return self.has_speech(spectrogram(waveform))
        except SpeechError:
            return False

    def check(self, log_mel: NDArray[np.float32]) -> None:
        """Refuse a recording without speech.

        Raises:
            SpeechError: it holds less than a fifth of a second of speech.
        """
        spoken = int(self.steps(log_mel).sum())
        if spoken < SPEECH_STEPS:
            raise SpeechError(
                f"no speech heard: {spoken * STEP_SECONDS:.1f} s of {log_mel.shape[1] * HOP_SECONDS:.1f} s "
                f"sound like speech, at least {SPEECH_STEPS * STEP_SECONDS:.1f} s are needed; speak closer "
                "to the microphone, away from music and noise; load(..., vad=False) takes any sound",
                "no_speech",
            )
