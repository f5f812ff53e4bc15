"""What is read of containers by hand is bounded, whatever a file claims."""

import io
import struct

import pytest
from spoken import spoken

from speech2image import audio
from speech2image.audio import chunks, containers
from speech2image.audio.inputs import Window
from speech2image.errors import SpeechError


class Counted(io.BytesIO):
    reads = 0

    def read(self, size: int | None = -1) -> bytes:
        self.reads += 1
        return super().read(size)


EBML = b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\x01\xff\xff\xff\xff\xff\xff\xff"
MANY = {
    "two-byte elements": EBML + b"\xec\x80" * 60_000,
    "empty chunks": b"RIFF\0\0\0\0WAVE" + b"junk\0\0\0\0" * 60_000,
    "empty boxes": b"\0\0\0\x08ftyp" + b"\0\0\0\x08free" * 60_000,
    "empty pages": b"OggS" + bytes(23) + (b"OggS" + bytes(23)) * 60_000,
    "empty FLAC files": b"fLaC\0\0\0\x22" * 60_000,
    "empty AU files": (b".snd" + struct.pack(">5I", 24, 1, 3, 16_000, 1) + b"\0") * 60_000,
    "empty CAF chunks": b"caff\0\1\0\0" + b"free" + bytes(8) + (b"free" + bytes(8)) * 60_000,
    "empty Wave64 chunks": b"riff" + bytes(36) + (b"junk" + bytes(12) + struct.pack("<Q", 24)) * 60_000,
}


@pytest.mark.parametrize("kind", MANY)
def test_the_number_of_steps_is_bounded(kind: str) -> None:
    file = Counted(MANY[kind])
    containers.parts(Window(file))
    assert file.reads <= 2 * max(containers.MAX_ELEMENTS, chunks.MAX_CHUNKS) + 10
    with pytest.raises(SpeechError):
        audio.load(MANY[kind])


def test_packets_of_one_sample_are_not_tried_for_ever() -> None:
    data = bytearray(spoken("caf"))
    data[40:44] = b"\x01\x00\x00\x01"  # samples a packet
    with pytest.raises(SpeechError, match="its packets hold next to no sound"):
        audio.load(bytes(data))


def test_sizes_of_packets_that_spell_the_mark_of_a_page_are_no_page() -> None:
    def page(flags: int, sizes: bytes) -> bytes:
        return b"OggS\0" + bytes([flags]) + bytes(20) + bytes([len(sizes)]) + sizes + bytes(sum(sizes))

    last = page(4, bytes([60, *b"OggS", 90, 255, 3]))
    (whole,) = containers.parts(Window(io.BytesIO(page(2, b"\x13") + last)))
    (cut,) = containers.parts(Window(io.BytesIO(page(2, b"\x13") + last[:-1])))
    assert whole.missing == 0 and cut.missing == float("inf")
