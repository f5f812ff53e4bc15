"""Decoder: any recording -> mono 16 kHz waveform; and encoders to FLAC and Opus.

PyAV (FFmpeg) decodes and resamples every container and codec; it is imported on first use because it
costs 60 ms.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator
from os import PathLike
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from speech2image.audio.containers import breaks_off
from speech2image.audio.inputs import opened
from speech2image.audio.mel import SAMPLE_RATE, check_heard
from speech2image.errors import SpeechError

if TYPE_CHECKING:
    import av

MAX_SECONDS = 60.0
Source = str | PathLike[str] | bytes | BinaryIO | tuple[NDArray[Any], int]

# Containers that state their length up front, so that a file which breaks off can be told.
_STATE_THEIR_LENGTH = frozenset({"wav", "w64", "aiff", "au", "caf", "flac", "mov"})
# Writers to a pipe do not know the length and put a number near 2^31 or 2^32 bytes in its place.
_PLACEHOLDER_BYTES = 0x7F00_0000
# A "recording" may be a play list that names other files or hosts (ffconcat, HLS, DASH, SDP). FFmpeg would
# open them: whoever uploads one could read this machine's files or make it call others. So none is allowed.
_OPENS_NOTHING_ELSE = {"protocol_whitelist": "none"}


def load(source: Source, *, max_seconds: float = MAX_SECONDS) -> NDArray[np.float32]:
    """Read a recording as mono 16 kHz samples.

    Channels are averaged; a recording beyond full scale is scaled down to it. Decoding streams and
    stops as soon as `max_seconds` are exceeded, so a two-hour file needs no more memory than a
    short one.

    Args:
        source: a path; the bytes of a file; a binary file object; "-" for standard input; or a pair
            (samples, rate), samples of shape [n] or [n, channels], float in [-1, 1], int16, int32
            or uint8 (silence at 128), rate in Hz. Files may be of any container and codec that
            FFmpeg reads (wav, flac, mp3, ogg, opus, m4a, webm, video with a sound track ...), at
            any sample rate.
        max_seconds: longest speech accepted.

    Returns:
        float32 samples in [-1, 1], shape [n].

    Raises:
        SpeechError: there is no such file, it holds no sound, cannot be decoded or breaks off; the
            speech is too long, too short (below `MIN_SAMPLES`) or silent; samples are NaN or
            infinite or of another type, shape or rate than named above.
    """
    if isinstance(source, tuple):
        name, waveform = "the samples", _from_samples(source, max_seconds)
    else:
        with opened(source) as (file, name):
            waveform = _decode(file, name, max_seconds)
    if not np.isfinite(waveform).all():
        raise SpeechError(f"{name}: some samples are NaN or infinite; record or convert it again")
    check_heard(waveform)
    return waveform / max(1.0, float(np.abs(waveform).max()))


def encode_flac(waveform: NDArray[np.float32]) -> bytes:
    """Encode 16 kHz samples in [-1, 1], shape [n], as a 16-bit FLAC file (lossless but for rounding)."""
    return _encode(waveform, container="flac", codec="flac", options={})


def encode_opus(waveform: NDArray[np.float32], *, bit_rate: int = 24_000) -> bytes:
    """Encode 16 kHz samples in [-1, 1], shape [n], as an Ogg Opus file (24 kbit/s: 12 kB for 4 s)."""
    options = {"compression_level": "5"}  # a third of the time of the default 10, and nearer to the original
    return _encode(waveform, container="ogg", codec="libopus", options=options, bit_rate=bit_rate)


def _too_long(seconds: float | None, max_seconds: float) -> SpeechError:
    length = f"more than {max_seconds:g} s" if seconds is None else f"{seconds:.1f} s"
    return SpeechError(f"speech is too long: {length}, at most {max_seconds:g} s; cut it or pass max_seconds")


# ---- samples that are already in memory -------------------------------------------------------


def _from_samples(pair: tuple[NDArray[Any], int], max_seconds: float) -> NDArray[np.float32]:
    if len(pair) != 2 or not isinstance(pair[0], np.ndarray):
        kinds = ", ".join(type(part).__name__ for part in pair)
        raise SpeechError(f"expected the pair (samples, rate) with a NumPy array first, got ({kinds})")
    samples, rate = pair[0], _checked_rate(pair[1])
    if samples.ndim == 1:
        samples = samples[:, None]
    if samples.ndim != 2 or not 1 <= samples.shape[1] <= 32 or len(samples) < samples.shape[1]:
        raise SpeechError(f"samples must have shape [n] or [n, channels], got {list(pair[0].shape)}")
    if len(samples) / rate > max_seconds:
        raise _too_long(len(samples) / rate, max_seconds)
    mono = _as_float(samples).mean(axis=1, dtype=np.float64).astype(np.float32)
    return mono if rate == SAMPLE_RATE else _resample(mono, rate)


def _checked_rate(rate: object) -> int:
    if isinstance(rate, bool) or not isinstance(rate, int | float | np.number) or int(rate) != rate:
        raise SpeechError(f"the sample rate must be a whole number of Hz, got {rate!r}")
    if not 1_000 <= rate <= 768_000:
        raise SpeechError(f"the sample rate must lie between 1000 and 768000 Hz, got {rate}")
    return int(rate)


def _as_float(samples: NDArray[Any]) -> NDArray[Any]:
    if np.issubdtype(samples.dtype, np.floating):
        return samples
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - 128.0) / 128.0
    if samples.dtype in (np.int16, np.int32):
        return samples / -float(np.iinfo(samples.dtype).min)
    raise SpeechError(f"samples must be float in [-1, 1], int16, int32 or uint8, got {samples.dtype}")


def _resample(mono: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    import av

    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(mono[None]), format="fltp", layout="mono")
    frame.sample_rate = rate
    resampler = av.AudioResampler(format="flt", rate=SAMPLE_RATE)
    return _joined([_mono(part) for part in (*resampler.resample(frame), *resampler.resample(None))])


# ---- files -------------------------------------------------------------------------------------


def tolerant_of_tags() -> dict[str, Any]:
    """Arguments with which `av.open` takes tags that are no UTF-8; from PyAV 19 on it takes them anyway."""
    import av

    return {} if int(av.__version__.split(".")[0]) >= 19 else {"metadata_errors": "ignore"}


def _decode(file: Any, name: str, max_seconds: float) -> NDArray[np.float32]:
    import av

    if breaks_off(file):
        raise SpeechError(f"{name} breaks off: it ends before its header says; copy or record it again")
    try:
        with av.open(file, "r", options=_OPENS_NOTHING_ELSE, **tolerant_of_tags()) as container:
            if not container.streams.audio:
                raise SpeechError(f"{name} has no sound track, only {_kinds(container)}")
            if container.streams.audio[0].codec_context is None:
                raise SpeechError(f"{name} cannot be decoded: its codec is unknown")
            return _joined(list(_decoded_parts(container, name, max_seconds)))
    except av.error.FFmpegError as error:
        raise SpeechError(
            f"{name} cannot be decoded: it is no recording, is damaged or breaks off ({error.strerror})"
        ) from error


def _decoded_parts(
    container: av.container.InputContainer, name: str, max_seconds: float
) -> Iterator[NDArray[np.float32]]:
    import av

    stream = container.streams.audio[0]
    stated = _stated_seconds(container)
    resampler = av.AudioResampler(format="flt", rate=SAMPLE_RATE, frame_size=SAMPLE_RATE)  # a second at once
    samples: Counter[int] = Counter()  # by their rate: whole numbers, so that a length is exact
    decoded = 0.0
    for frame in container.decode(stream):
        samples[frame.sample_rate] += frame.samples
        decoded = sum(n / rate for rate, n in samples.items())
        if decoded > max_seconds:
            raise _too_long(stated, max_seconds)
        yield from map(_mono, resampler.resample(frame))
    if decoded == 0:
        raise SpeechError(f"{name} holds no sound: its sound track is empty")
    if stated is not None and decoded < stated - 0.1:
        raise SpeechError(
            f"{name} breaks off: it says it lasts {stated:.2f} s but ends after {decoded:.2f} s; "
            "copy or record it again"
        )
    yield from map(_mono, resampler.resample(None))


def _stated_seconds(container: av.container.InputContainer) -> float | None:
    """Length in a header that can be relied on, or None."""
    stream = container.streams.audio[0]
    if container.format.name.split(",")[0] not in _STATE_THEIR_LENGTH:
        return None
    if not stream.duration or not stream.time_base:
        return None
    seconds = float(stream.duration * stream.time_base)
    is_placeholder = seconds * (stream.codec_context.bit_rate or 0) / 8 >= _PLACEHOLDER_BYTES
    return None if is_placeholder else seconds


def _kinds(container: av.container.InputContainer) -> str:
    return " and ".join(sorted({stream.type for stream in container.streams})) or "no stream at all"


def _mono(frame: av.AudioFrame) -> NDArray[np.float32]:
    """The mean of the channels of an interleaved frame: PyAV 18 crashes on 8 or more planes."""
    return frame.to_ndarray().reshape(-1, frame.layout.nb_channels).mean(axis=1, dtype=np.float32)


def _joined(parts: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def _encode(
    waveform: NDArray[np.float32],
    *,
    container: str,
    codec: str,
    options: dict[str, str],
    bit_rate: int | None = None,
) -> bytes:
    import av

    pcm = np.round(np.clip(waveform, -1.0, 1.0) * 32767.0).astype(np.int16)
    frame = av.AudioFrame.from_ndarray(pcm[None], format="s16", layout="mono")
    frame.sample_rate, frame.pts = SAMPLE_RATE, 0
    buffer = io.BytesIO()
    # bitexact: no random stream number, so the same samples give the same bytes
    with av.open(buffer, "w", format=container, container_options={"fflags": "+bitexact"}) as output:
        stream = output.add_stream(codec, rate=SAMPLE_RATE, options=options)
        assert isinstance(stream, av.AudioStream)
        stream.layout, stream.format = "mono", "s16"
        if bit_rate is not None:
            stream.bit_rate = bit_rate
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return buffer.getvalue()
