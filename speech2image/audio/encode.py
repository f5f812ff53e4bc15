"""Encoders: 16 kHz samples -> FLAC and Opus files."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray

from speech2image.audio.mel import SAMPLE_RATE


def encode_flac(waveform: NDArray[np.float32]) -> bytes:
    """Encode 16 kHz samples in [-1, 1], shape [n], as a 16-bit FLAC file (lossless but for rounding)."""
    return _encode(waveform, container="flac", codec="flac", options={})


def encode_opus(waveform: NDArray[np.float32], *, bit_rate: int = 24_000) -> bytes:
    """Encode 16 kHz samples in [-1, 1], shape [n], as an Ogg Opus file (24 kbit/s: 12 kB for 4 s)."""
    options = {"compression_level": "5"}  # a third of the time of the default 10, and nearer to the original
    return _encode(waveform, container="ogg", codec="libopus", options=options, bit_rate=bit_rate)


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
