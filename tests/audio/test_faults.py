"""Recordings with the faults that recorders, uploads and editors leave: read as the speech that they hold."""

import struct
import warnings
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from spoken import FORMATS, encoded, likeness, model, remuxed, sentence, spoken

from speech2image import audio
from speech2image.errors import SpeechError
from speech2image.pipeline.base import listen

CASES = sorted((Path(__file__).parents[1] / "cases").iterdir())
KINDS = sorted(FORMATS)
# What FFmpeg can decode of a fault depends on its version; where the warning matters a test expects it.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*could not be decoded and were passed over:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*time stamps leave out:UserWarning"),
]
STREAMED = {"mov": {"movflags": "frag_keyframe+empty_moov"}, "webm": {"live": "1"}}


def halves() -> tuple[np.ndarray, np.ndarray]:
    return sentence()[:23_000], sentence()[23_000:]


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.name)
def test_files_that_people_reported(path: Path) -> None:
    assert likeness(audio.load(path)) > 0.97


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "junk", [b"\r\n", bytes(20_000), b"<html>no recording</html>\r\n" * 99], ids=["CRLF", "zeros", "text"]
)
def test_bytes_appended(kind: str, junk: bytes) -> None:
    assert likeness(audio.load(spoken(kind) + junk)) > 0.97


@pytest.mark.parametrize(
    "kind", ["wav", "aiff", "au", "flac", "mp3", "opus", "webm", "mov", "mp4", "aac", "mkv"]
)
def test_files_joined_to_one(kind: str) -> None:
    first, second = (encoded(half, kind=kind) for half in halves())
    speech = audio.load(first + second)
    assert len(speech) > 45_900
    assert likeness(speech) > 0.97
    with pytest.raises(SpeechError, match="too long"):
        audio.load(first + second, max_seconds=2.5)


def test_more_files_than_anyone_joins() -> None:
    with pytest.raises(SpeechError, match="holds more than 64 recordings"):
        audio.load(encoded(sentence()[:160], kind="wav") * 70)


@pytest.mark.parametrize("kind", ["wav", "flac", "mp3", "opus", "aac"])
def test_rate_and_channels_change_on_the_way(kind: str) -> None:
    first, second = halves()
    rates = (16_000, 48_000)
    stereo = np.stack([second, second], axis=1)
    data = encoded(first, kind=kind, rate=rates[0]) + encoded(stereo, kind=kind, rate=rates[1])
    speech = audio.load(data)
    assert abs(len(speech) - len(sentence())) < 4_000
    assert likeness(speech) > 0.97


# ---- clocks and packets ----------------------------------------------------------------------------

CONTAINERS = [
    ("mp4", "mp4"),
    ("mov", "mov"),
    ("webm", "webm"),
    ("webm", "matroska"),
    ("opus", "ogg"),
    ("aac", "mpegts"),
]


def paused(number: int, packet: av.Packet) -> Iterator[av.Packet]:
    if number >= 20:
        shift = int(2 / packet.time_base)
        packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
    yield packet


def damaged(number: int, packet: av.Packet) -> Iterator[av.Packet]:
    if number == 20:
        packet, whole = av.Packet(b"\xff\x00" * 25), packet
        packet.pts, packet.dts, packet.time_base = whole.pts, whole.dts, whole.time_base
    yield packet


@pytest.mark.parametrize(
    ("kind", "container"), [("mp4", "mov"), *(pair for pair in CONTAINERS if pair[1] not in ("mov", "ogg"))]
)
def test_recording_was_paused(kind: str, container: str) -> None:
    data = remuxed(spoken(kind), container, paused)
    with pytest.warns(UserWarning, match=r"leave out [12]\.\d+ s"):
        speech = audio.load(data)
    assert likeness(speech) > 0.97


@pytest.mark.parametrize(("kind", "container"), [("mp4", "mp4"), ("opus", "ogg"), ("mp4", "matroska")])
def test_a_packet_cannot_be_decoded(kind: str, container: str) -> None:
    data = remuxed(spoken(kind), container, damaged)
    with pytest.warns(UserWarning, match=r"0\.0\d s could not be decoded"):
        speech = audio.load(data)
    assert abs(len(speech) - len(sentence())) < 2_000
    assert likeness(speech) > 0.95


@pytest.mark.parametrize("kind", ["mp3", "aac", "flac"])
def test_bytes_in_the_middle_are_overwritten(kind: str) -> None:
    data = bytearray(spoken(kind))
    middle = len(data) // 2
    data[middle : middle + 60] = bytes(60)
    with pytest.warns(UserWarning, match="could not be decoded"):
        speech = audio.load(bytes(data))
    assert likeness(speech) > 0.9


@pytest.mark.parametrize("kind", ["mp3", "flac", "mp4"])
def test_too_much_is_damaged(kind: str) -> None:
    data = bytearray(spoken(kind))
    start, end = len(data) // 4, len(data) * 3 // 4
    data[start:end] = bytes(end - start)
    with pytest.raises(SpeechError, match=r"damaged|breaks off"):
        audio.load(bytes(data))


# ---- headers that are a little wrong ------------------------------------------------------------------


def changed(data: bytes, at: int, form: str, more: int) -> bytes:
    result = bytearray(data)
    (value,) = struct.unpack_from(form, result, at)
    struct.pack_into(form, result, at, value + more)
    return bytes(result)


@pytest.mark.parametrize("more", [-44, -22, 22, 44, 46])
@pytest.mark.parametrize(
    ("kind", "name", "offset", "form"),
    [
        ("wav", b"data", 4, "<I"),
        ("wav", b"RIFF", 4, "<I"),
        ("aiff", b"SSND", 4, ">I"),
        ("aiff", b"COMM", 10, ">I"),
        ("au", b".snd", 8, ">I"),
        ("caf", b"data", 4, ">q"),
        ("w64", b"data\xf3\xac\xd3\x11", 16, "<Q"),
        ("flac", b"fLaC", 22, ">I"),
        ("webm", b"\x18\x53\x80\x67", 8, ">I"),
        ("mp3", b"Xing", 12, ">I"),
    ],
)
def test_sizes_a_little_wrong(kind: str, name: bytes, offset: int, form: str, more: int) -> None:
    data = spoken(kind)
    at = data.find(name) if name in data else data.index(b"Info")
    assert likeness(audio.load(changed(data, at + offset, form, more))) > 0.97


@pytest.mark.parametrize("kind", ["wav", "au", "caf", "w64", "mp3", "flac", "opus", "webm", "mp4", "aac"])
def test_half_of_it_is_refused(kind: str) -> None:
    data = spoken(kind)
    with pytest.raises(SpeechError, match="breaks off"):
        audio.load(data[: len(data) // 2])


@pytest.mark.parametrize("kind", sorted(STREAMED))
def test_half_of_a_stream_is_refused(kind: str) -> None:
    data = encoded(sentence(), kind=kind, options=STREAMED[kind])
    assert likeness(audio.load(data)) > 0.97
    with pytest.raises(SpeechError, match="breaks off"):
        audio.load(data[: len(data) // 2])


# ---- several tracks -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["mkv", "mp4", "mov", "webm", "opus"])
def test_a_silent_track_is_passed_over(kind: str) -> None:
    data = encoded(np.zeros_like(sentence()), sentence(), kind=kind)
    assert likeness(audio.load(data)) > 0.97


def test_the_track_with_speech_is_taken() -> None:
    tone = 0.3 * np.sin(np.arange(len(sentence())) / 5).astype(np.float32)
    data = encoded(tone, sentence(), kind="opus")
    assert (
        likeness(audio.load(data, is_speech=lambda track: not np.allclose(track.std(), 0.21, atol=0.02)))
        > 0.97
    )
    assert likeness(audio.load(data)) < 0.97


@pytest.mark.parametrize("kind", ["opus", "mp4", "mkv"])
def test_a_model_finds_the_track_with_speech(kind: str) -> None:
    tone = 0.3 * np.sin(np.arange(len(sentence())) / 5).astype(np.float32)
    waveform, _ = listen(encoded(tone, sentence(), kind=kind), model().vad)
    assert likeness(waveform) > 0.97


def test_a_track_of_unknown_codec_is_passed_over() -> None:
    data = encoded(np.zeros_like(sentence()), sentence(), kind="mkv").replace(
        b"A_PCM/INT/LIT", b"A_QQQ/INT/LIT", 1
    )
    with pytest.warns(UserWarning, match="1 of 2 sound tracks is unknown"):
        assert likeness(audio.load(data)) > 0.97


# ---- WAV files that FFmpeg misreads ------------------------------------------------------------------


def wav(
    samples: np.ndarray, bits: int, valid: int, *, order: str = "<", tag: int = 1, extensible: bool
) -> bytes:
    """A mono WAV file at 16 kHz; samples as they lie in the file."""
    n_bytes = bits // 8
    fields = struct.pack(
        f"{order}HHIIHH", 0xFFFE if extensible else tag, 1, 16_000, 16_000 * n_bytes, n_bytes, bits
    )
    if extensible:
        guid = struct.pack(f"{order}IHH", tag, 0, 16) + bytes.fromhex("800000aa00389b71")
        fields += struct.pack(f"{order}HHI", 22, valid, 0) + guid
    data = samples.tobytes()
    size = struct.Struct(f"{order}I").pack
    body = b"WAVEfmt " + size(len(fields)) + fields + b"data" + size(len(data)) + data
    return (b"RIFF" if order == "<" else b"RIFX") + size(len(body)) + body


@pytest.mark.parametrize(("bits", "valid"), [(32, 24), (32, 20), (16, 12), (32, 16), (32, 32), (16, 16)])
def test_fewer_valid_bits_than_bits(bits: int, valid: int) -> None:
    samples = (sentence() * (2 ** (bits - 1) - 1)).astype(f"<i{bits // 8}") & (-1 << (bits - valid))
    speech = audio.load(wav(samples.astype(f"<i{bits // 8}"), bits, valid, extensible=True))
    np.testing.assert_allclose(speech, sentence(), atol=2.0 ** (2 - valid) + 1e-6)


@pytest.mark.parametrize("extensible", [False, True])
@pytest.mark.parametrize(("kind", "tag"), [("i2", 1), ("i4", 1), ("f4", 3), ("f8", 3)])
def test_big_endian(kind: str, tag: int, extensible: bool) -> None:
    scale = 2.0 ** (8 * int(kind[1]) - 1) - 1 if tag == 1 else 1.0
    samples = (sentence().astype(np.float64) * scale).astype(f">{kind}")
    bits = 8 * int(kind[1])
    speech = audio.load(wav(samples, bits, bits, order=">", tag=tag, extensible=extensible))
    np.testing.assert_allclose(speech, sentence(), atol=1e-4)


def test_names_in_another_encoding_do_no_harm() -> None:
    data = spoken("wav")
    comment = b"LIST" + struct.pack("<I", 16) + b"INFOINAM" + struct.pack("<I", 4) + b"\xe9\xe8\xff\x00"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert likeness(audio.load(data[:12] + comment + data[12:])) > 0.97
