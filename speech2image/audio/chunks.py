"""Recordings made of chunks (WAV, AIFF, CAF, Wave64) as FFmpeg can read them.

FFmpeg reads the first of several files in one, misreads WAV files with fewer valid bits than bits (24 in
32) and big-endian ones (RIFX), takes a file that was cut short for a shorter one, and refuses some files with
something appended. Chunks are walked one by one, at most `MAX_CHUNKS` of them; their contents are not read.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from speech2image.audio.inputs import Window

MAX_CHUNKS = 10_000
MAX_PARTS = 64
"""Recordings that may be joined in one file; one more is looked for, so that it can be told."""
_PLACEHOLDER = 0x7F00_0000
"""Writers to a pipe do not know the length and put 0 or a number near 2^31 or 2^32 bytes in its place."""
_FILES = (b"RIFF", b"RIFX", b"FORM")
_SOUND = (b"data", b"SSND")
_EXTENSIBLE, _PCM = 0xFFFE, 1
# Format and bits of big-endian WAV -> encoding in a header of AU, which is big-endian, too.
_AU = {(1, 16): 3, (1, 24): 4, (1, 32): 5, (3, 32): 6, (3, 64): 7, (7, 8): 1, (6, 8): 27}


@dataclass(frozen=True)
class Part:
    """One recording of a file.

    Attributes:
        file: the recording as FFmpeg can read it.
        missing: bytes stated in its headers but not there, in proportion to those that are there;
            infinite if it ends in the middle of a unit and nothing tells how much would follow.
        packets: packets it says it has, if it does.
    """

    file: Window
    missing: float = 0.0
    packets: int | None = None


class _Chunk(NamedTuple):
    name: bytes
    start: int
    size: int


@dataclass
class _Recording:
    """Where one of the files in a file starts, and its chunks of interest."""

    start: int
    format: bytes = b""
    format_at: int = 0
    sound: _Chunk | None = None


@dataclass(frozen=True)
class _Kind:
    """How a chunk's head is written: name and size, what the size counts, what it is padded to."""

    head: struct.Struct
    padded_to: int = 1
    counts_head: bool = False


def iff_parts(file: Window) -> list[Part]:
    """The recordings of a RIFF, RIFX or AIFF file, of which several may have been joined to one."""
    order = "<" if _at(file, 0, 4) == b"RIFF" else ">"
    found: list[_Recording] = []
    for chunk in _chunks(file, 0, _Kind(struct.Struct(f"{order}4sI"), padded_to=2)):
        if len(found) > MAX_PARTS:
            break
        if chunk.name in _FILES:
            found.append(_Recording(chunk.start - 8))
        elif chunk.name == b"fmt ":
            found[-1].format, found[-1].format_at = _at(file, chunk.start, min(chunk.size, 40)), chunk.start
        elif chunk.name in _SOUND and found[-1].sound is None:
            found[-1].sound = chunk
    if not found:
        return []
    ends = [recording.start for recording in found[1:]] + [file.size]
    return [_iff_part(file, *pair, order) for pair in zip(found, ends, strict=True)]


def caf_parts(file: Window) -> list[Part]:
    """The recording of a Core Audio file."""
    return [_clipped(file, 8, _Kind(struct.Struct(">4sq")))]


def w64_parts(file: Window) -> list[Part]:
    """The recording of a Wave64 file."""
    return [_clipped(file, 40, _Kind(struct.Struct("<16sQ"), padded_to=8, counts_head=True))]


def _clipped(file: Window, start: int, kind: _Kind) -> Part:
    """Without what is appended: a chunk that would go beyond the file's end and is not the sound."""
    missing = 0.0
    for chunk in _chunks(file, start, kind):
        if chunk.name[:4] == b"data":
            missing = _missing(file, chunk)
        elif chunk.start + chunk.size > file.size:
            return Part(Window(file, 0, chunk.start - kind.head.size), missing)
    return Part(file, missing)


def _chunks(file: Window, at: int, kind: _Kind) -> Iterator[_Chunk]:
    for _ in range(MAX_CHUNKS):
        head = _at(file, at, kind.head.size)
        if len(head) < kind.head.size:
            return
        name, size = kind.head.unpack(head)
        chunk = _Chunk(name, at + kind.head.size, size - kind.head.size * kind.counts_head)
        yield chunk
        if chunk.name in _FILES:
            at = chunk.start + 4  # go in, past the name of what the file is
        elif chunk.size < 0:
            return
        else:
            at = chunk.start + chunk.size + -chunk.size % kind.padded_to


def _missing(file: Window, chunk: _Chunk) -> float:
    there = max(1, file.size - chunk.start)
    return 0.0 if chunk.size >= _PLACEHOLDER else max(0.0, (chunk.size - there) / there)


def _iff_part(file: Window, recording: _Recording, end: int, order: str) -> Part:
    if recording.sound is None:
        return Part(Window(file, recording.start, end))
    missing = _missing(file, recording.sound)
    if len(recording.format) < 16:
        return Part(Window(file, recording.start, end), missing)
    return Part(_readable(file, recording, recording.sound, end, order), missing)


def _readable(file: Window, recording: _Recording, sound: _Chunk, end: int, order: str) -> Window:
    """A WAV file with a header that FFmpeg understands."""
    tag, channels, rate, _, align, bits = struct.unpack_from(f"{order}HHIIHH", recording.format)
    if tag == _EXTENSIBLE and len(recording.format) == 40:
        tag, bits = max(recording.format[24:28]), 8 * align // max(1, channels)
    encoding = _AU.get((tag, bits)) if order == ">" else None
    if encoding:
        header = struct.pack(">4s5I", b".snd", 24, sound.size, encoding, rate, channels)
        return Window(file, sound.start, min(end, sound.start + sound.size), header)
    if order == "<" and tag == _PCM and len(recording.format) == 40:
        head = bytearray(_at(file, recording.start, sound.start - recording.start))
        struct.pack_into("<HHH", head, recording.format_at - recording.start + 14, bits, 22, bits)
        return Window(file, sound.start, end, bytes(head))
    return Window(file, recording.start, end)


def _at(file: Window, position: int, size: int) -> bytes:
    file.seek(position)
    return file.read(size)
