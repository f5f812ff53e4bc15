"""One spoken sentence in any file format, and how near another recording's embedding is to it."""

import io
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import av
import numpy as np

import speech2image
from speech2image import audio

SENTENCE = Path(__file__).parents[1] / "examples" / "recordings" / "blue-bird-kal16.opus"

FORMATS = {
    "wav": ("wav", "pcm_s16le", "s16", 16_000),
    "aiff": ("aiff", "pcm_s16be", "s16", 16_000),
    "au": ("au", "pcm_s16be", "s16", 16_000),
    "caf": ("caf", "pcm_s16be", "s16", 16_000),
    "flac": ("flac", "flac", "s16", 16_000),
    "mp3": ("mp3", "libmp3lame", "s16p", 44_100),
    "opus": ("ogg", "libopus", "flt", 48_000),
    "webm": ("webm", "libopus", "flt", 48_000),
    "mp4": ("mp4", "aac", "fltp", 44_100),
    "aac": ("adts", "aac", "fltp", 44_100),
    "mov": ("mov", "pcm_s16le", "s16", 16_000),
    "mkv": ("matroska", "pcm_s24le", "s32", 16_000),
    "w64": ("w64", "pcm_s16le", "s16", 16_000),
}
"""Container, codec, sample format, rate."""


@cache
def sentence() -> np.ndarray:
    """The sentence at 16 kHz, 2.9 s."""
    return audio.load(SENTENCE)


@cache
def model():
    """A shipped model whose encoder takes the log-mel that every recording becomes."""
    return speech2image.load("flowers-and-birds-textfree")


def _embedding(waveform: np.ndarray) -> np.ndarray:
    log_mel = audio.log_mel(waveform)
    embedding = model()._embed(log_mel, log_mel, quick=True).speech_embedding
    return embedding / np.linalg.norm(embedding)


@cache
def _reference() -> np.ndarray:
    return _embedding(sentence())


def likeness(waveform: np.ndarray) -> float:
    """Cosine of a recording's speech embedding and the sentence's; other sentences have 0.84 to 0.91."""
    return float(_embedding(waveform) @ _reference())


def encoded(*tracks: np.ndarray, kind: str, rate: int | None = None, options: dict[str, str] | None = None):
    """A file of a kind of `FORMATS`, each track [n] or [n, channels] at 16 kHz."""
    container, codec, sample_format, usual_rate = FORMATS[kind]
    rate, buffer = rate or usual_rate, io.BytesIO()
    with av.open(buffer, "w", format=container, container_options=options or {}) as output:
        streams = []
        for track in tracks:
            stream = output.add_stream(codec, rate=rate)
            stream.format = sample_format
            stream.layout = "mono" if track.ndim == 1 else {2: "stereo", 8: "7.1"}[track.shape[1]]
            streams.append(stream)
        for track, stream in zip(tracks, streams, strict=True):
            output.mux(_packets(track, stream, sample_format, rate))
    return buffer.getvalue()


@cache
def spoken(kind: str) -> bytes:
    """The sentence in a file of one of `FORMATS`."""
    return encoded(sentence(), kind=kind)


def _packets(track: np.ndarray, stream: av.AudioStream, sample_format: str, rate: int) -> list[av.Packet]:
    interleaved = np.ascontiguousarray(track.reshape(1, -1), dtype=np.float32)
    frame = av.AudioFrame.from_ndarray(interleaved, format="flt", layout=stream.layout.name)
    frame.sample_rate, frame.pts = 16_000, 0
    size = stream.codec_context.frame_size or 1024
    resampler = av.AudioResampler(sample_format, stream.layout.name, rate, frame_size=size)
    packets = []
    for part in (*resampler.resample(frame), *resampler.resample(None)):
        packets += stream.encode(part)
    return packets + stream.encode(None)


def remuxed(data: bytes, container: str, edit: Callable[[int, av.Packet], Iterator[av.Packet]]) -> bytes:
    """The same packets in a new file, each of them edited (left out, changed, moved)."""
    buffer = io.BytesIO()
    with av.open(io.BytesIO(data)) as source, av.open(buffer, "w", format=container) as output:
        stream = source.streams.audio[0]
        is_new = hasattr(output, "add_stream_from_template")  # since PyAV 14
        copy = output.add_stream_from_template(stream) if is_new else output.add_stream(template=stream)
        for number, packet in enumerate(p for p in source.demux(stream) if p.size):
            for edited in edit(number, packet):
                edited.stream = copy
                output.mux(edited)
    return buffer.getvalue()
