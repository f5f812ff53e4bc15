"""Live translation: pictures of a recording that still grows, one after the other under one noise.

Each update listens to all that was said so far. The condition goes only a part of the way to what it asks
for, so that the picture changes smoothly from one update to the next.
"""

import numpy as np
from numpy.typing import NDArray

from speech2image.audio import MAX_SECONDS, MIN_SAMPLES, SAMPLE_RATE
from speech2image.audio.samples import from_samples, in_memory
from speech2image.audio.vad import SPEECH_STEPS, STEP_SECONDS
from speech2image.errors import SpeechError
from speech2image.pipeline.base import Route, Speech, Translation, timed
from speech2image.pipeline.domains import Decision
from speech2image.pipeline.generator import between

FIRST_SECONDS = SPEECH_STEPS * STEP_SECONDS
"""The shortest beginning that is drawn: what the speech detector needs to find speech in it."""

SHARE = 0.6
"""Of the way from the condition drawn last to the one asked for, so much is gone in an update: what was heard
is all but reached (97 %) after four, two seconds at two updates a second."""


class LiveTranslation:
    """Draws what one speaker has said so far.

    Args:
        route: of an open model.
        seed: where the noise comes from: the first picture that `route.translate` draws with it is the one
            that the updates come near.
        share: of the way to what was heard that an update goes, above 0 to 1.

    Raises:
        SettingsError: the seed is out of its range.
    """

    def __init__(self, route: Route, seed: int = 0, share: float = SHARE) -> None:
        self.route, self.seed, self._share = route, seed, share
        self._z = route.generator.noise(1, seed)[0]
        self._condition: NDArray[np.float32] | None = None

    def update(self, speech: Speech) -> Translation:
        """One picture of what was said so far.

        Args:
            speech: the recording from its beginning, as of `Route.translate`. Of samples, `FIRST_SECONDS` are
                enough: silence before them makes up what a spectrogram needs more. So short a beginning
                rarely tells what it is about, so that this is left out.

        Raises:
            SpeechError, SettingsError: as `Route.translate`; the next update goes on as if this one had not
                been.
        """
        timings: dict[str, float] = {}
        speech, is_short = _lengthened(speech)
        encoded = self.route.encode(speech, timings, quick=True)
        if is_short:
            encoded = encoded._replace(decision=Decision())
        with timed(timings, "draw"):
            asked = self.route.generator.condition(encoded.speech_embedding, self._z)
            self._condition = asked if self._condition is None else self._towards(self._condition, asked)
            picture = self.route.generator.picture(self._condition, self._z)
        return self.route.tell(encoded, [picture], self.seed, timings)

    def _towards(self, last: NDArray[np.float32], asked: NDArray[np.float32]) -> NDArray[np.float32]:
        row: NDArray[np.float32] = between(asked, last, np.array([self._share], dtype=np.float32))[0]
        return row


def _lengthened(speech: Speech) -> tuple[Speech, bool]:
    """Samples that are too short for a spectrogram with silence before them, and whether they were.

    Raises:
        SpeechError: they are shorter than `FIRST_SECONDS`, or no samples.
    """
    pair = in_memory(speech)
    if pair is None:
        return speech, False
    waveform = from_samples(pair, MAX_SECONDS)
    missing = MIN_SAMPLES - len(waveform)
    if len(waveform) < FIRST_SECONDS * SAMPLE_RATE:
        seconds = len(waveform) / SAMPLE_RATE
        raise SpeechError(
            f"speech is too short: {seconds:.2f} s, need at least {FIRST_SECONDS:.2f} s", "too_short"
        )
    return (np.pad(waveform, (max(0, missing), 0)), SAMPLE_RATE), missing > 0
