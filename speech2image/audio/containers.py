"""Stated ends of recordings, from their headers, where FFmpeg decodes what is there and says nothing.

Every format is looked at in time linear in the file's size and in no more than `MAX_ELEMENTS` steps. What is
found is compared with what was decoded (`audio.load`), so a header that is a little wrong does no harm.
FLAC, AIFF, AU, MP4 and the rest need no help here: FFmpeg tells the length they state.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from speech2image.audio.chunks import MAX_PARTS, Part, caf_parts, iff_parts, w64_parts
from speech2image.audio.inputs import Window

MAX_ELEMENTS = 50_000
"""Elements of a WebM file that are looked at: a minute in the shortest Opus packets has 24,000."""
_SEGMENT, _CLUSTER = b"\x18\x53\x80\x67", b"\x1f\x43\xb6\x75"
# What a Segment and a Cluster may hold, by its identifier; anything else was appended to the file.
_EBML = {
    _SEGMENT,
    _CLUSTER,
    b"\x1a\x45\xdf\xa3",
    b"\x11\x4d\x9b\x74",
    b"\x15\x49\xa9\x66",
    b"\x16\x54\xae\x6b",
}
_EBML |= {b"\x1c\x53\xbb\x6b", b"\x10\x43\xa7\x70", b"\x12\x54\xc3\x67", b"\x19\x41\xa4\x69", b"\x58\x54"}
_EBML |= {bytes([number]) for number in (0xEC, 0xBF, 0xE7, 0xA7, 0xAB, 0xA3, 0xA0, 0xAF)}
_OPEN = 0x7F00_0000  # so many bytes or more are put in by writers that do not know the size
_FLAC = b"fLaC\x00\x00\x00\x22"
_OGG_PAGE = 27 + 255 + 255 * 255
_OGG_HEAD = re.compile(rb"OggS(?=\0[\0-\7])")
"""How a page begins: its mark, version 0 and three flags. The mark alone also stands in the head of a page
whose packets have 79, 103, 103 and 83 bytes."""


def parts(file: Window) -> list[Part]:
    """The recordings in a file: one, or those that were joined without writing a new header."""
    return _parts(file) or [Part(file)]  # no header is whole: FFmpeg is to say what it makes of it


def _parts(file: Window) -> list[Part]:
    file.seek(0)
    head = file.read(12)
    if head[:4] == b"FORM" or (head[:4] in (b"RIFF", b"RIFX") and head[8:] == b"WAVE"):
        return iff_parts(file)
    if head[:4] == b"caff":
        return caf_parts(file)
    if head[:4] == b"riff":
        return w64_parts(file)
    if head[4:8] == b"ftyp":
        return _mp4_parts(file)
    if head[:4] == b".snd":
        return _au_parts(file)
    if head[:4] == b"OggS":
        return _ogg_parts(file)
    if head[:4] == b"fLaC":
        return [Part(window) for window in _windows(file, _flac_starts(file))]
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return [Part(file, _webm_missing(file))]
    return [_mp3_part(file)]


def _mp4_parts(file: Window) -> list[Part]:
    starts, at = [0], 0
    for _ in range(MAX_ELEMENTS):
        file.seek(at)
        head = file.read(16)
        if len(head) < 8:
            break
        size, name = struct.unpack_from(">I4s", head)
        if size == 1 and len(head) == 16:
            (size,) = struct.unpack_from(">Q", head, 8)
        if name == b"ftyp" and at:
            starts.append(at)
        if size < 8:
            break
        at += size
    return [Part(window) for window in _windows(file, starts)]


def _au_parts(file: Window) -> list[Part]:
    """AU files that were joined; FFmpeg would play what follows the sound, too."""
    windows: list[Window] = []
    at = 0
    while len(windows) <= MAX_PARTS:
        file.seek(at)
        head = file.read(12)
        if len(head) < 12 or head[:4] != b".snd":
            break
        offset, size = struct.unpack_from(">II", head, 4)
        is_open = size >= _OPEN or not size
        end = file.size if is_open else at + offset + size
        windows.append(Window(file, at, end))
        at = max(end, at + 24)
    return [Part(window) for window in windows]


def _windows(file: Window, starts: list[int]) -> list[Window]:
    return [Window(file, *ends) for ends in zip(starts, [*starts[1:], file.size], strict=True)]


def _flac_starts(file: Window) -> list[int]:
    """Where FLAC files start that were joined: FFmpeg cannot change the bits of a sample on the way."""
    starts, at = [0], len(_FLAC)
    while at < file.size and len(starts) <= MAX_PARTS:
        file.seek(at)
        block = file.read(2**20)
        found = block.find(_FLAC)
        while found >= 0 and len(starts) <= MAX_PARTS:
            starts.append(at + found)
            found = block.find(_FLAC, found + 1)
        at += max(1, len(block) - len(_FLAC) + 1)
    return starts


def _ogg_parts(file: Window) -> list[Part]:
    """Chained Ogg files: a page that begins a stream, behind one that does not, begins the next file."""
    starts, at, was_first = [0], 0, True
    for _ in range(MAX_ELEMENTS):
        file.seek(at)
        head = file.read(27 + 255)
        if len(head) < 27 or head[:4] != b"OggS":
            break
        is_first = bool(head[5] & 2)
        if is_first and not was_first:
            starts.append(at)
        was_first = is_first
        at += 27 + head[26] + sum(head[27 : 27 + head[26]])
    return [Part(window, float("inf") if _ogg_is_cut(window) else 0.0) for window in _windows(file, starts)]


def _ogg_is_cut(file: Window) -> bool:
    """Whether the last page goes beyond the end; what is appended to a whole page does not matter."""
    file.seek(max(0, file.size - _OGG_PAGE))
    tail = file.read()
    starts = [found.start() for found in _OGG_HEAD.finditer(tail)]
    if not starts:
        return False
    page = tail[starts[-1] :]
    return len(page) < 27 or len(page) < 27 + page[26] + sum(page[27 : 27 + page[26]])


def _webm_missing(file: Window) -> float:
    """As `Part.missing`: of a Segment that states its size; else infinite if the last element is cut."""
    for identifier, start, size in _ebml_elements(file):
        if identifier not in _EBML:
            break
        if start + size > file.size:
            states_all = identifier == _SEGMENT and start < file.size
            return (start + size - file.size) / (file.size - start) if states_all else float("inf")
    return 0.0


def _ebml_elements(file: Window) -> Iterator[tuple[bytes, int, int]]:
    """Identifier, start and size of one element after the other; one of open size counts as 0: its head."""
    at = 0
    for _ in range(MAX_ELEMENTS):
        file.seek(at)
        head = file.read(12)
        identifier = head[: _length(head)]
        rest = head[len(identifier) :]
        number = rest[: _length(rest)]
        if not identifier:
            return
        if not number or len(number) < _length(rest):  # the number itself is cut in two
            yield identifier, at, file.size + 1
            return
        at += len(identifier) + len(number)
        all_ones = (1 << 7 * len(number)) - 1
        size = int.from_bytes(number, "big") & all_ones
        size = 0 if size == all_ones else size
        yield identifier, at, size
        at += size


def _length(data: bytes) -> int:
    """Bytes of the variable-length number that `data` begins with."""
    return 9 - data[0].bit_length() if data and data[0] else 0


def _mp3_part(file: Window) -> Part:
    """With what the Xing, Info or VBRI header of an MP3 file counts, if there is one."""
    file.seek(0)
    head, start = file.read(10), 0
    if head[:3] == b"ID3" and len(head) == 10:
        start = 10 + sum((byte & 0x7F) << s for byte, s in zip(head[6:], (21, 14, 7, 0), strict=True))
    file.seek(start)
    frame = file.read(192)
    if len(frame) < 192 or frame[0] != 0xFF or frame[1] & 0xE6 != 0xE2:  # MPEG audio, layer III
        return Part(file)
    if frame[36:40] == b"VBRI":
        n_bytes, n_frames = struct.unpack_from(">II", frame, 46)
        return Part(file, _share(start + n_bytes, file.size), n_frames)
    at = max(frame.find(b"Xing"), frame.find(b"Info"))
    if not 0 < at < 176 or not frame[at + 7] & 1:
        return Part(file)
    n_frames, n_bytes = struct.unpack_from(">II", frame, at + 8)
    return Part(file, _share(start + n_bytes, file.size) if frame[at + 7] & 2 else 0.0, n_frames)


def _share(stated: int, there: int) -> float:
    return max(0.0, (stated - there) / there)
