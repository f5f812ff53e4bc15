"""Front ends: turn 16 kHz samples into the frames that an encoder takes.

`PAPER` are the 40 log-mel bands of Li et al. (2020), `WHISPER` the 80 of OpenAI's Whisper. An encoder, the
arrays it was trained on and the model folder it is exported to state theirs; what states none is older than
front ends and means the paper's. To add one: a function from samples to frames, an entry in `FRONT_ENDS`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from numpy.fft import rfft
from numpy.typing import NDArray

from speech2image.audio import mel
from speech2image.errors import CheckpointError, SettingsError

DECADES = 8.0
"""Whisper's floor below the clip's loudest value, in powers of ten: 80 dB, as in the paper's log-mels."""
WHISPER_BANDS = 80
WHISPER_FFT = 400
WHISPER_PADDING = 50
"""Frames of silence after the clip, half a second, without which Whisper runs on past the last word."""


@dataclass(frozen=True)
class FrontEnd:
    """A way to turn samples into frames.

    Attributes:
        name: stands in model cards and in the names of arrays.
        version: changes when the same samples give other frames.
        parameters: JSON values that say what is computed.
        n_features: numbers a frame.
        frame_shift: seconds from one frame to the next.
        min_samples: the shortest clip, in samples.
        band_hertz: centre frequency of each feature, for augmentation.
        per_neper: how much a feature grows when the power of its band grows by a factor e.
        padding: frames of silence that `extract` adds after the clip.
        array_name: how the files of prepared frames begin.
        function: samples [n] -> features [n_features, frames].
    """

    name: str
    version: int
    parameters: Mapping[str, Any]
    n_features: int
    frame_shift: float
    min_samples: int
    band_hertz: tuple[float, ...] = field(repr=False)
    per_neper: float
    padding: int
    array_name: str
    function: Callable[[NDArray[np.float32]], NDArray[np.float32]] = field(repr=False)

    @property
    def min_frames(self) -> int:
        """Frames of the shortest clip."""
        return mel.MIN_FRAMES + self.padding

    def extract(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Frames of 16 kHz samples [n], float32 [n_features, frames].

        Raises:
            SpeechError: the speech is too short or silent.
        """
        return self.function(samples)

    def describe(self) -> dict[str, Any]:
        """What model cards and manifests say of it."""
        return {"name": self.name, "version": self.version, **self.parameters}


def whisper_log_mel(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Whisper's log-mel frames of 16 kHz samples (Radford et al. 2022), at the clip's own length.

    25 ms Hann windows every 10 ms, centred (reflected at the ends), squared magnitude, 80 Slaney bands up to
    8 kHz, log10 floored at 1e-10 and at 8 below the loudest, (x + 4) / 4. Half a second of silence follows
    the clip where OpenAI fills up to 30 seconds.

    Returns:
        float32 [80, n // 160 + 50].

    Raises:
        SpeechError: the speech is too short or silent.
    """
    mel.check_heard(samples)
    half = WHISPER_FFT // 2
    padded = np.pad(samples.astype(np.float32), (0, WHISPER_PADDING * mel.HOP))
    padded = np.pad(padded, half, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, WHISPER_FFT)[:: mel.HOP][:-1]
    spectrum = rfft(frames * _hann())
    power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)
    decades = np.log10(np.maximum(slaney_filterbank() @ power.T, np.float32(1e-10)))
    decades = np.maximum(decades, decades.max() - np.float32(DECADES))
    return np.ascontiguousarray((decades + np.float32(4)) / np.float32(4))


@cache
def slaney_filterbank() -> NDArray[np.float32]:
    """Triangles of equal area on Slaney's mel scale (linear to 1 kHz, then logarithmic), 0 Hz to 8 kHz.

    Returns:
        float32 [80, 201]: weight of each of the 201 frequencies k * 40 Hz in each band.
    """
    corners = _slaney_corners()
    frequencies = np.arange(WHISPER_FFT // 2 + 1) * (mel.SAMPLE_RATE / WHISPER_FFT)
    left, centre, right = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    rising, falling = (frequencies - left) / (centre - left), (right - frequencies) / (right - centre)
    triangles = np.maximum(0.0, np.minimum(rising, falling)) * (2.0 / (right - left))
    filters: NDArray[np.float32] = triangles.astype(np.float32)
    filters.setflags(write=False)
    return filters


def _slaney_corners() -> NDArray[np.float64]:
    """Band edges in Hz [82]: 200 / 3 Hz a mel up to 1 kHz, from there a factor of 6.4 in 27 mels."""
    highest = 15 + 27 * np.log(8.0) / np.log(6.4)
    mels = np.linspace(0.0, highest, WHISPER_BANDS + 2)
    return np.where(mels < 15, mels * 200 / 3, 1000 * np.exp(np.log(6.4) / 27 * (mels - 15)))


@cache
def _hann() -> NDArray[np.float32]:
    return np.hanning(WHISPER_FFT + 1)[:-1].astype(np.float32)


def _paper_centres() -> tuple[float, ...]:
    low, high = (2595.0 * np.log10(1.0 + f / 700.0) for f in (mel.MIN_FREQUENCY, mel.MAX_FREQUENCY))
    mels = np.linspace(low, high, mel.N_MELS + 2)[1:-1]
    return tuple((700.0 * (10.0 ** (mels / 2595.0) - 1.0)).tolist())


PAPER = FrontEnd(
    name="log-mel-40",
    version=1,
    parameters={
        "bands": mel.N_MELS,
        "window": mel.WINDOW,
        "hop": mel.HOP,
        "n_fft": mel.N_FFT,
        "pre_emphasis": mel.PRE_EMPHASIS,
        "floor_db": mel.FLOOR_DB,
    },
    n_features=mel.N_MELS,
    frame_shift=mel.HOP / mel.SAMPLE_RATE,
    min_samples=mel.MIN_SAMPLES,
    band_hertz=_paper_centres(),
    per_neper=1.0,
    padding=0,
    array_name="log_mel",  # older than front ends, so without a name of its own
    function=mel.log_mel,
)
WHISPER = FrontEnd(
    name="whisper-80",
    version=1,
    parameters={
        "bands": WHISPER_BANDS,
        "window": WHISPER_FFT,
        "hop": mel.HOP,
        "n_fft": WHISPER_FFT,
        "padding_frames": WHISPER_PADDING,
        "floor_db": -10 * DECADES,
    },
    n_features=WHISPER_BANDS,
    frame_shift=mel.HOP / mel.SAMPLE_RATE,
    min_samples=mel.MIN_SAMPLES,
    band_hertz=tuple(_slaney_corners()[1:-1].tolist()),
    per_neper=float(1 / (4 * np.log(10))),
    padding=WHISPER_PADDING,
    array_name="whisper-80",
    function=whisper_log_mel,
)
FRONT_ENDS = {front_end.name: front_end for front_end in (PAPER, WHISPER)}


def find_front_end(name: str) -> FrontEnd:
    """The front end of a name.

    Raises:
        SettingsError: there is none.
    """
    if name not in FRONT_ENDS:
        raise SettingsError(f"unknown front end '{name}'; there are: {', '.join(FRONT_ENDS)}")
    return FRONT_ENDS[name]


def stated_front_end(description: Any, where: str) -> FrontEnd:
    """The front end that a model card or manifest describes; None, as in older ones, is the paper's.

    Args:
        description: what `FrontEnd.describe` gave.
        where: what an error calls the file.

    Raises:
        CheckpointError: this version has no such front end, or computes it in another way.
    """
    if description is None:
        return PAPER
    name = description.get("name") if isinstance(description, dict) else None
    front_end = FRONT_ENDS.get(name) if isinstance(name, str) else None
    if front_end is None:
        known = ", ".join(FRONT_ENDS)
        raise CheckpointError(
            f"{where} needs the front end {name!r}, this version has {known}; "
            "install the version of speech2image that made it, or make it again"
        )
    if description != front_end.describe():
        raise CheckpointError(
            f"{where} needs the front end {description}, this version computes {front_end.describe()}; "
            "install the version of speech2image that made it, or make it again"
        )
    return front_end
