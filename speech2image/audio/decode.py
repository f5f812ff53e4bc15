"""Decoder: any recording -> mono 16 kHz waveform."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from os import PathLike
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from speech2image.audio.chunks import MAX_PARTS, Part
from speech2image.audio.containers import parts
from speech2image.audio.inputs import opened
from speech2image.audio.mel import SILENCE_PEAK, check_heard
from speech2image.audio.mixing import without_clicks
from speech2image.audio.samples import Tensor, from_samples, in_memory, too_long
from speech2image.audio.tracks import Track, read_tracks
from speech2image.errors import SpeechError

MAX_SECONDS = 60.0
MAX_MISSING = 0.1
"""Seconds that may be missing at the end of what a header states: encoders and headers are often off by as
much as a packet."""
MAX_LOST = 0.5
"""Seconds that may be lost because packets cannot be decoded, or a twentieth of a longer recording."""
Samples = NDArray[Any] | Tensor | list[Any]
"""Samples without their rate, which is given beside them (`with_rate`)."""
Source = (
    str
    | PathLike[str]
    | bytes
    | bytearray
    | memoryview
    | BinaryIO
    | tuple[Any, Any]
    | dict[str, Any]
    | Samples
)
"""A path, "-" for standard input, the bytes of a file, a binary file object, or samples with their rate in
Hz: (samples, rate), (rate, samples) or {"array": samples, "sampling_rate": rate}."""
Waveform = NDArray[np.float32]


def load(
    source: Source,
    *,
    max_seconds: float = MAX_SECONDS,
    is_speech: Callable[[Waveform], bool] | None = None,
) -> Waveform:
    """Read a recording as mono 16 kHz samples.

    Channels are averaged, unless they cancel (one of them inverted) or all but one are next to silent: then
    the strongest is taken. Of several sound tracks the one is taken that the file names as its default,
    else the first; if it is silent or no speech, the next. Rate, format and channels may change on the way,
    and several recordings may be joined in one file. Clicks far above all the rest are cut out; a recording
    beyond full scale is scaled down to it. Decoding streams and stops as soon as `max_seconds` are exceeded,
    so a two-hour file needs no more memory than a short one.

    Args:
        source: a path; the bytes of a file; a binary file object (read from its beginning if it can seek);
            "-" for standard input; or samples with their rate in Hz: (samples, rate), (rate, samples) or
            {"array": samples, "sampling_rate": rate}. Samples are an array, a torch tensor or a list, of
            shape [n], [n, channels] or [channels, n], float in [-1, 1], int16, int32 or uint8 (silence at
            128), in any byte order. Files may be of any container and codec that FFmpeg reads (wav, flac,
            mp3, ogg, opus, m4a, webm, video with a sound track ...), at any sample rate.
        max_seconds: longest speech accepted.
        is_speech: whether someone speaks in 16 kHz samples; asked of files with several sound tracks.

    Returns:
        float32 samples in [-1, 1], shape [n].

    Raises:
        SpeechError: there is no such file, it holds no sound, cannot be decoded or breaks off (by more than
            `MAX_MISSING`, or `MAX_LOST` where packets are damaged); the speech is too long, too short
            (below `MIN_SAMPLES`) or silent; samples are NaN or infinite or of another type, shape or rate
            than named above.

    Warns:
        UserWarning: something was passed over: how much could not be decoded, or a track of unknown codec.
    """
    pair = in_memory(source)
    if pair is not None:
        name, waveform = "the samples", from_samples(pair, max_seconds)
    else:
        with opened(source) as (file, name):
            waveform = _joined(_parts(file, name), name, max_seconds, is_speech)
    if not np.isfinite(waveform).all():
        raise SpeechError(f"{name}: some samples are NaN or infinite; record or convert it again")
    waveform = without_clicks(waveform)
    check_heard(waveform)
    return waveform / max(1.0, float(np.abs(waveform).max()))


def load_beginning(source: Source, seconds: float) -> Waveform:
    """About the first `seconds` of a recording, mono at 16 kHz, however short, quiet or damaged it is.

    Raises:
        SpeechError: there is no such file, it holds no sound or cannot be decoded.
    """
    with opened(source) as (file, name):
        return _chosen(read_tracks(parts(file)[0].file, name, seconds), None).waveform()


def _parts(file: Any, name: str) -> list[Part]:
    found = parts(file)
    if len(found) > MAX_PARTS:
        raise SpeechError(f"{name} holds more than {MAX_PARTS} recordings; join fewer in a file")
    return found


def _joined(
    found: list[Part], name: str, max_seconds: float, is_speech: Callable[[Waveform], bool] | None
) -> Waveform:
    waveforms, seconds = [], 0.0
    for part in found:
        track = _chosen(read_tracks(part.file, name, max_seconds - seconds), is_speech)
        seconds += track.seconds
        if seconds > max_seconds:
            raise too_long(track.stated if len(found) == 1 else None, max_seconds)
        _check_complete(track, part, name)
        waveforms.append(track.waveform())
    return np.concatenate(waveforms)


def _chosen(tracks: list[Track], is_speech: Callable[[Waveform], bool] | None) -> Track:
    """The default track, else the first, passing over what is silent or holds no speech."""
    ordered = sorted(tracks, key=lambda track: not track.is_default)
    if len(ordered) == 1:
        return ordered[0]
    levels = [_peak(track.waveform()) for track in ordered]
    lowest = max(SILENCE_PEAK, 0.03 * max(levels))
    audible = [track for track, level in zip(ordered, levels, strict=True) if level >= lowest] or ordered
    spoken = [track for track in audible if is_speech is None or is_speech(track.waveform())]
    return (spoken or audible)[0]


def _peak(waveform: Waveform) -> float:
    """Largest deviation from the mean; 0 for nothing and for what holds no numbers."""
    peak = np.abs(waveform - waveform.mean(dtype=np.float64)).max() if len(waveform) else 0.0
    return float(np.nan_to_num(peak, nan=0.0))


def _check_complete(track: Track, part: Part, name: str) -> None:
    """Refuse a track of which too much is missing; warn of what was lost on the way."""
    missing, lost = _missing(track, part)
    if missing > MAX_MISSING:
        ends = (
            f"it ends after {track.seconds:.2f} s, {missing:.2f} s before"
            if np.isfinite(missing)
            else "it ends before"
        )
        raise SpeechError(f"{name} breaks off: {ends} its header says; copy or record it again")
    allowed = max(MAX_LOST, 0.05 * track.seconds)
    if lost > allowed:
        raise SpeechError(
            f"{name} is damaged: {lost:.2f} s of it cannot be decoded, at most {allowed:.2f} s may be lost; "
            "copy or record it again"
        )
    if lost > 0.01:
        warnings.warn(f"{name}: {lost:.2f} s could not be decoded and were passed over", stacklevel=4)
    elif track.left_out > MAX_LOST:
        warnings.warn(
            f"{name}: its time stamps leave out {track.left_out:.2f} s: a pause, or packets lost",
            stacklevel=4,
        )


def _missing(track: Track, part: Part) -> tuple[float, float]:
    """Seconds missing at the end, and seconds lost on the way there."""
    lost = track.lost + track.undecoded
    if part.packets is not None:
        absent = max(0.0, (part.packets - track.packets) * track.packet_seconds)
        return (absent, lost) if part.missing else (0.0, lost + absent)
    if track.is_cut or (track.undecoded and track.stated is None) or np.isinf(part.missing):
        return float("inf"), lost
    missing = part.missing * track.seconds
    if track.stated and track.container != "wav":  # FFmpeg makes it fit what is there
        missing = max(missing, track.stated - track.reached)
    if track.stated and not track.has_clock:
        lost = max(lost, track.stated - track.seconds - max(0.0, missing))
    return missing, lost
