"""Sound tracks of a recording: FFmpeg's packets -> 16 kHz samples, and a count of what could not be decoded.

PyAV (FFmpeg) decodes and resamples every container and codec; it is imported on first use because it
costs 60 ms.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from speech2image.audio.inputs import Window
from speech2image.audio.mel import SAMPLE_RATE
from speech2image.audio.mixing import Mix
from speech2image.audio.samples import checked_rate
from speech2image.errors import SpeechError

if TYPE_CHECKING:
    import av

MAX_TRACKS = 8
"""Sound tracks of one file that are decoded."""
SPARE_PACKETS, PACKETS_A_SECOND = 2_000, 1_000
"""Packets that are decoded: so many, and so many more for each second of sound. Opus has 400 at most; a file
with one sample in each packet, or none, is no recording but keeps the machine busy."""
_DEMUXER_TRIES = 10
# Containers whose header tells the length, so that a file which breaks off can be told.
_STATE_THEIR_LENGTH = frozenset({"aiff", "au", "flac", "mov", "tta", "wav", "wv"})
# MP4 goes by a clock, which runs on while a recording is paused, and tells when a packet is cut in two.
_MP4 = "mov"
# These may name each channel, in an order of their own.
_NAME_CHANNELS = frozenset({"caf", "mov"})
# Writers to a pipe do not know the length and put a number near 2^31 or 2^32 bytes in its place.
_PLACEHOLDER_BYTES = 0x7F00_0000
# Formats without a container: what was appended to the file reaches the decoder as one more packet.
_BARE = frozenset({"aac", "ac3", "eac3", "flac", "mp3"})
# In AMR, packets of so few bytes ask for comfort noise, which FFmpeg does not make: nobody speaks there.
_COMFORT_NOISE = {"amrnb": 6, "amrwb": 7}
# A "recording" may be a play list that names other files or hosts (ffconcat, HLS, DASH, SDP). FFmpeg would
# open them: whoever uploads one could read this machine's files or make it call others. So none is allowed.
_OPENS_NOTHING_ELSE = {"protocol_whitelist": "none"}


class Track:
    """One sound track, and what became of its packets.

    Args:
        stream: PyAV's stream.
        channels: channel to take alone in each stretch of the track, see `strongest`; none: all are mixed.

    Attributes:
        index: number of the stream in the file.
        is_default: the file names this track as the one to play.
        has_clock: its length is that of a clock, which runs on while recording is paused.
        stated: seconds that the file's header states, or None.
        packets: how many there were.
        without_sound: how many of them gave none.
        lost: seconds that could not be decoded, of all that lies before decoded sound.
        undecoded: the same, of what lies behind it.
        is_cut: only a part of the last packet was in the file.
        error: what the decoder said last.
    """

    def __init__(self, stream: Any, channels: Sequence[int | None] = ()) -> None:
        self.index = stream.index
        self.is_default = bool(int(getattr(stream, "disposition", 0)) & 1)  # told by PyAV 14 and later
        self.container = stream.container.format.name.split(",")[0]
        self.has_clock = self.container == _MP4
        self.stated = _stated_seconds(stream, self.container)
        self.packets = self.without_sound = 0
        self.lost = self.undecoded = 0.0
        self.is_cut = False
        self.error: Exception | None = None
        if self.container in _NAME_CHANNELS:
            _drop_names_of_channels(stream.codec_context)
        # A decoder that could not be opened has lost its codec: PyAV 19 then crashes when asked for its name.
        self._stream, self._codec = stream, stream.codec_context.name
        self._channels, self._mixes = channels, list[Mix]()
        self._samples: Counter[int] = Counter()  # by their rate: whole numbers, so that a length is exact
        self._clock = (float("inf"), float("-inf"))  # where the first packet starts and the last one ends
        self._beginning, self._largest = b"", 0  # of the packets that can be decoded
        self._appended = 0.0  # seconds at the end that do not look like the track's packets
        self._format: tuple[Any, ...] = ()
        self._resampler: Any = None

    @property
    def seconds(self) -> float:
        """Length of what was decoded."""
        return sum(n / rate for rate, n in self._samples.items())

    @property
    def reached(self) -> float:
        """Where the track ends: by what it held, or by its clock, which runs on while recording is paused."""
        return max(self.seconds + self.lost + self.undecoded, self._clock[1] - self._clock[0])

    @property
    def left_out(self) -> float:
        """Seconds that its time stamps leave out; formats without a container have none of their own."""
        if self.container in _BARE:
            return 0.0
        return max(0.0, self._clock[1] - self._clock[0] - self.seconds - self.lost - self.undecoded)

    @property
    def packet_seconds(self) -> float:
        """Mean length of a packet."""
        return self.seconds / max(1, self.packets - self.without_sound)

    def waveform(self) -> NDArray[np.float32]:
        """All that was decoded, mono at 16 kHz, shape [n]."""
        mixed = [mix.waveform() for mix in self._mixes]
        return np.concatenate(mixed) if mixed else np.zeros(0, np.float32)

    def strongest(self) -> list[int | None]:
        """In each stretch of the track the channel to take alone, None where they can be mixed."""
        return [mix.strongest() for mix in self._mixes]

    def add(self, packet: av.Packet[Any]) -> None:
        """Decode a packet and count it; an empty one gets the last sound out of the decoder."""
        import av

        frames: list[Any] = []
        try:
            frames = packet.decode()
        except (av.error.FFmpegError, ValueError) as error:  # the latter from one that could not be opened
            self.error = error
            if packet.size:
                self._count_undecoded(packet)
        if packet.size:
            self._count(packet, bool(frames))
        for frame in frames:
            self._take(frame)

    def finish(self) -> None:
        """Get the last sound out of decoder and resampler."""
        import av

        try:
            frames = self._stream.codec_context.decode(None)
        except (av.error.FFmpegError, ValueError):  # done already, by an empty packet at the end; or not open
            frames = []
        for frame in frames:
            self._take(frame)
        self._end_stretch()

    def _count(self, packet: av.Packet[Any], has_sound: bool) -> None:
        self.packets += 1
        self.without_sound += not has_sound
        self.is_cut = packet.is_corrupt and self.has_clock
        base = packet.time_base
        if packet.pts is not None and base and not packet.is_corrupt:
            tick = base.numerator / base.denominator  # arithmetic of fractions takes longer than decoding
            start = packet.pts * tick
            end = start + (packet.duration or 0) * tick
            self._clock = min(self._clock[0], start), max(self._clock[1], end)
        if has_sound:
            self.lost += self.undecoded + self._appended
            self.undecoded = self._appended = 0.0
            self._beginning, self._largest = bytes(packet)[:2], max(self._largest, packet.size)

    def _count_undecoded(self, packet: av.Packet[Any]) -> None:
        if packet.size <= _COMFORT_NOISE.get(self._codec, 0):
            return
        stated = float((packet.duration or 0) * packet.time_base) if packet.time_base else 0.0
        seconds = self.packet_seconds or stated  # a damaged Opus packet may state anything
        is_frame = bytes(packet)[:2] == self._beginning and packet.size <= 2 * self._largest
        if self.container in _BARE and not is_frame:
            self._appended += seconds
        else:
            self.undecoded += seconds

    def _take(self, frame: av.AudioFrame) -> None:
        import av

        rate = checked_rate(frame.sample_rate)
        self._samples[rate] += frame.samples
        new = (rate, frame.format.name, frame.layout.name, frame.layout.nb_channels)
        if new != self._format:  # the first frame, or rate, format or channels change within the track
            self._end_stretch()
            self._format, number = new, len(self._mixes)
            self._mixes.append(Mix(self._channels[number] if number < len(self._channels) else None))
            self._resampler = av.AudioResampler(format="flt", rate=SAMPLE_RATE, frame_size=SAMPLE_RATE)
        self._mix(self._resampler.resample(frame))

    def _end_stretch(self) -> None:
        if self._resampler is not None:
            self._mix(self._resampler.resample(None))
            self._resampler = None

    def _mix(self, frames: list[av.AudioFrame]) -> None:
        for frame in frames:  # interleaved: PyAV 18 crashes on 8 or more planes
            block = frame.to_ndarray().reshape(-1, frame.layout.nb_channels)
            if not self._codec.startswith(
                "pcm_"
            ):  # a decoder made no sense of what it got; in samples it is for the user to know
                silenced = ~np.isfinite(block).all(axis=1)
                self.lost += int(silenced.sum()) / SAMPLE_RATE
                block[silenced] = 0.0
            self._mixes[-1].add(block)


def read_tracks(file: Window, name: str, max_seconds: float) -> list[Track]:
    """Decode all sound tracks of a file, until one is longer than `max_seconds`.

    Where the mean of a track's channels cancels, the strongest channel is taken in its place.

    Raises:
        SpeechError: the file cannot be decoded or holds no sound.
    """
    tracks = _decoded(file, name, max_seconds, {})
    strongest = {track.index: track.strongest() for track in tracks}
    if any(channel is not None for channels in strongest.values() for channel in channels):
        tracks = _decoded(file, name, max_seconds, strongest)
    return tracks


def _decoded(
    file: Window, name: str, max_seconds: float, channels: dict[int, list[int | None]]
) -> list[Track]:
    import av

    file.seek(0)
    try:
        with _open(file) as container:
            streams = _decodable(container, name)
            tracks = {stream.index: Track(stream, channels.get(stream.index, ())) for stream in streams}
            for packet in _packets(container, streams):
                track = tracks[packet.stream.index]
                track.add(packet)
                if track.packets > SPARE_PACKETS + PACKETS_A_SECOND * track.seconds:
                    raise SpeechError(f"{name} cannot be decoded: its packets hold next to no sound")
                if track.seconds > max_seconds:
                    break
            for track in tracks.values():
                track.finish()
    except av.error.FFmpegError as error:
        raise _undecodable(name, error) from error
    with_sound = [track for track in tracks.values() if track.seconds]
    if not with_sound:
        errors = [track.error for track in tracks.values() if track.error]
        raise (
            _undecodable(name, errors[0])
            if errors
            else SpeechError(f"{name} holds no sound: its sound track is empty", "empty")
        )
    return with_sound


def _open(file: Window) -> av.container.InputContainer:
    import av

    # Up to PyAV 18, names and comments in another encoding than UTF-8 are an error unless told otherwise.
    lenient: Any = {"metadata_errors": "ignore"} if int(av.__version__.split(".")[0]) < 19 else {}
    container: av.container.InputContainer = av.open(file, "r", options=_OPENS_NOTHING_ELSE, **lenient)
    return container


def _decodable(container: av.container.InputContainer, name: str) -> list[Any]:
    """The sound tracks whose codec is known."""
    sound = container.streams.audio
    if not sound:
        kinds = " and ".join(sorted({stream.type for stream in container.streams})) or "no stream at all"
        raise SpeechError(f"{name} has no sound track, only {kinds}")
    known = [stream for stream in sound if stream.codec_context is not None]
    if not known:
        raise SpeechError(f"{name} cannot be decoded: its codec is unknown")
    if len(known) < len(sound):
        warnings.warn(
            f"{name}: the codec of {len(sound) - len(known)} of {len(sound)} sound tracks is unknown; "
            "another track is used",
            stacklevel=2,
        )
    return known[:MAX_TRACKS]


def _packets(container: av.container.InputContainer, streams: list[Any]) -> Iterator[av.Packet[Any]]:
    """All packets up to the end, or to where the file cannot be read any further."""
    import av

    for _ in range(_DEMUXER_TRIES):
        try:
            yield from container.demux(streams)
            return
        except av.error.FFmpegError:
            continue


def _drop_names_of_channels(context: Any) -> None:
    """Keep the number of channels alone: PyAV 18 frees their names each time that it looks at the layout.

    So this may look at it only once, and nothing may do so before.
    """
    n_channels = context.channels
    if n_channels:
        context.layout = f"{n_channels} channels"


def _stated_seconds(stream: Any, container: str) -> float | None:
    """Length in a header that can be relied on, or None."""
    if container not in _STATE_THEIR_LENGTH or not stream.duration or not stream.time_base:
        return None
    seconds = float(stream.duration * stream.time_base)
    is_placeholder = seconds * (stream.codec_context.bit_rate or 0) / 8 >= _PLACEHOLDER_BYTES
    return None if is_placeholder else seconds


def _undecodable(name: str, error: Exception) -> SpeechError:
    reason = getattr(error, "strerror", None) or error
    return SpeechError(f"{name} cannot be decoded: it is no recording, is damaged or breaks off ({reason})")
