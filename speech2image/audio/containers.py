"""Tells whether a recording breaks off in the middle, where FFmpeg decodes what is there and says nothing.

WAV and WebM state their sizes, Ogg its page sizes, most MP3 files their size in a Xing header; a file
that ends sooner was cut off while it was copied or recorded. Sizes that writers to a pipe leave open
(0, or a number near 2^31 or 2^32) state nothing. FLAC, AIFF, MP4 and the rest need no help here:
FFmpeg reports an error, or their stated duration shows it (`audio.load`).
"""

from __future__ import annotations

import os
import struct
from typing import IO

_PLACEHOLDER = 0x7F00_0000
_MASTERS = {b"\x18\x53\x80\x67", b"\x1f\x43\xb6\x75"}  # EBML identifiers of Segment and Cluster


def breaks_off(file: IO[bytes]) -> bool:
    """Whether a seekable file ends before the end that its own headers state; False if they state none.

    The position in the file is left as it was found.
    """
    start = file.tell()
    end = file.seek(0, os.SEEK_END)
    file.seek(start)
    head = file.read(12)
    file.seek(start)
    try:
        if head[:4] == b"RIFF" and head[8:] == b"WAVE":
            return _wav_end(file) > end
        if head[:4] == b"OggS":
            return _ogg_end(file, end) > end
        if head[:4] == b"\x1a\x45\xdf\xa3":
            return _webm_end(file, end) > end
        return _mp3_end(file) > end
    except struct.error:  # a header cut in two
        return True
    finally:
        file.seek(start)


def _wav_end(file: IO[bytes]) -> int:
    """Position where the data chunk ends, 0 if its size is left open."""
    file.seek(12, os.SEEK_CUR)
    while True:
        name, size = struct.unpack("<4sI", file.read(8))
        if name == b"data":
            return 0 if size >= _PLACEHOLDER else file.tell() + size
        file.seek(size + size % 2, os.SEEK_CUR)


def _ogg_end(file: IO[bytes], end: int) -> int:
    """Position where the last page ends; whatever follows the pages is not looked at."""
    position = file.tell()
    while position < end:
        file.seek(position)
        capture, segments = struct.unpack("<4s22xB", file.read(27))
        if capture != b"OggS":
            break
        lengths = file.read(segments)
        position += 27 + segments + sum(lengths)
    return position


def _webm_end(file: IO[bytes], end: int) -> int:
    """Position where the last element ends; Segment and Cluster are entered when their size is open."""
    position = file.tell()
    while position < end:
        file.seek(position)
        identifier, _ = _ebml_number(file)
        length, is_open = _ebml_number(file)
        size = 0 if is_open else int.from_bytes(length, "big") & ((1 << 7 * len(length)) - 1)
        if is_open and identifier not in _MASTERS:
            return 0
        position = file.tell() + size
    return position


def _ebml_number(file: IO[bytes]) -> tuple[bytes, bool]:
    """The bytes of a variable-length number and whether it is the reserved "unknown" (all bits set)."""
    (first,) = struct.unpack("B", file.read(1))
    n_bytes = 9 - first.bit_length() if first else 8
    data = bytes([first]) + file.read(n_bytes - 1)
    if len(data) < n_bytes:
        raise struct.error("number cut in two")
    all_ones = (1 << 7 * n_bytes) - 1
    return data, int.from_bytes(data, "big") & all_ones == all_ones


def _mp3_end(file: IO[bytes]) -> int:
    """Least position where an MP3 file with a Xing header ends, 0 if there is none."""
    start, head = file.tell(), file.read(10)
    if head[:3] == b"ID3" and len(head) == 10:
        start += 10 + sum((byte & 0x7F) << s for byte, s in zip(head[6:], (21, 14, 7, 0), strict=True))
    file.seek(start)
    head = file.read(192)
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:  # MPEG audio, layer III
        return 0
    at = max(head.find(b"Xing"), head.find(b"Info"))
    if at < 0:
        return 0
    (flags,) = struct.unpack_from(">I", head, at + 4)
    if not flags & 2:
        return 0
    (size,) = struct.unpack_from(">I", head, at + (12 if flags & 1 else 8))
    return start + size
