"""Ten formats with headers, lengths, order and tails changed at random: the speech, or an error of ours.

What leaves the sound alone (something appended, a size a little wrong, the same file behind itself) must give
the sentence. What takes some of it away must give the sentence or be refused. What may change anything else
(a rate, a codec, the sound) must give samples that are fit for use, or be refused. Nothing may raise
another error, crash or hang. More of it: python tests/audio/test_fuzz.py 2000
"""

import struct
import sys
import time
import warnings
from collections.abc import Callable

import numpy as np
import pytest
from spoken import likeness, spoken

from speech2image import audio
from speech2image.errors import SpeechError

KINDS = ("wav", "aiff", "au", "caf", "flac", "mp3", "opus", "webm", "mp4", "aac")
# Where each format states how much sound there is. MP4 and ADTS state it in many places, which all matter.
SIZES = {
    "wav": (b"data", 4, "<I"),
    "aiff": (b"COMM", 10, ">I"),
    "au": (b".snd", 8, ">I"),
    "caf": (b"data", 4, ">q"),
    "flac": (b"fLaC", 22, ">I"),
    "mp3": (b"Xing", 12, ">I"),
    "webm": (b"\x18\x53\x80\x67", 8, ">I"),
}
Mutation = Callable[[bytes, np.random.Generator, str], bytes]


def appended(data: bytes, rng: np.random.Generator, kind: str) -> bytes:
    tails = (
        b"\r\n",
        bytes(int(rng.integers(1, 9_000))),
        b"<p>text</p>" * int(rng.integers(1, 500)),
        b"TAG" + bytes(125),
    )
    return data + tails[rng.integers(len(tails))]


def wrong_size(data: bytes, rng: np.random.Generator, kind: str) -> bytes:
    if kind not in SIZES:
        return data + b"\0"
    name, offset, form = SIZES[kind]
    at = (data.index(name) if name in data else data.index(b"Info")) + offset
    (value,) = struct.unpack_from(form, data, at)
    written = struct.pack(form, value + int(rng.integers(-44, 45)))
    return data[:at] + written + data[at + len(written) :]


def cut(data: bytes, rng: np.random.Generator, kind: str) -> bytes:
    return data[: int(rng.integers(1, len(data)))]


def hole(data: bytes, rng: np.random.Generator, kind: str) -> bytes:
    start = int(rng.integers(len(data) // 4, len(data) * 3 // 4))
    return data[:start] + bytes(int(rng.integers(1, 40))) + data[start + int(rng.integers(1, 40)) :]


def header_bytes(data: bytes, rng: np.random.Generator, kind: str) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        changed[rng.integers(min(len(data), 600))] = rng.integers(256)
    return bytes(changed)


def header_sizes(data: bytes, rng: np.random.Generator, kind: str) -> bytes:
    value = int(rng.choice([0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, int(rng.integers(2**32))]))
    at = int(rng.integers(min(len(data), 600) - 4))
    return data[:at] + struct.pack(rng.choice(["<I", ">I"]), value) + data[at + 4 :]


def anywhere(data: bytes, rng: np.random.Generator, kind: str) -> bytes:
    changed = bytearray(data)
    for at in rng.integers(len(data), size=rng.integers(1, 40)):
        changed[at] ^= 1 << rng.integers(8)
    return bytes(changed)


def reordered(data: bytes, rng: np.random.Generator, kind: str) -> bytes:
    a, b, c = sorted(rng.integers(len(data), size=3).tolist())
    return bytes(data[:a] + data[b:c] + data[a:b] + data[c:])


def doubled(data: bytes, rng: np.random.Generator, kind: str) -> bytes:
    a, b = sorted(rng.integers(len(data), size=2).tolist())
    return data[:b] + data[a:]


HARMLESS: tuple[Mutation, ...] = (appended, wrong_size)
LOSSY: tuple[Mutation, ...] = (cut, hole)
HARMFUL: tuple[Mutation, ...] = (header_bytes, header_sizes, anywhere, reordered, doubled)
ROUNDS = 2


def outcome(data: bytes) -> np.ndarray | None:
    """The samples, or None for a refusal; anything else that is raised is a fault."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            return audio.load(data)
    except SpeechError:
        return None


def check(kind: str, mutation: Mutation, seed: int) -> str:
    """What is wrong with what a mutation of one kind gives; nothing if all is well."""
    data = mutation(spoken(kind), np.random.default_rng(seed), kind)
    start = time.monotonic()
    speech = outcome(data)
    if time.monotonic() - start > 60:
        return "took more than a minute"
    if speech is None:
        return "refused" if mutation in HARMLESS else ""
    if not (np.isfinite(speech).all() and np.abs(speech).max() <= 1 and len(speech) <= 16_000 * 61):
        return "samples are not fit for use"
    if mutation in HARMFUL:
        return ""
    near = likeness(speech)
    return (
        ""
        if near > (0.97 if mutation in HARMLESS else 0.9)
        else f"likeness {near:.3f}, {len(speech)} samples"
    )


@pytest.mark.parametrize("mutation", HARMLESS + LOSSY + HARMFUL, ids=lambda mutation: mutation.__name__)
@pytest.mark.parametrize("kind", KINDS)
def test_mutated(kind: str, mutation: Mutation) -> None:
    faults = {seed: check(kind, mutation, seed) for seed in range(ROUNDS)}
    assert not any(faults.values()), faults


if __name__ == "__main__":
    for number in range(int(sys.argv[1])):
        for each in KINDS:
            for change in HARMLESS + LOSSY + HARMFUL:
                print(each, change.__name__, number, flush=True, end="\r")
                if fault := check(each, change, number):
                    print(each, change.__name__, number, fault, flush=True)
