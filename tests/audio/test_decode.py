"""Decoding, resampling and the log-mel front end."""

import io
import json
import os
import socket
import tempfile
import threading
import warnings
import wave
from pathlib import Path

import av
import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st

from speech2image import audio
from speech2image.audio import inputs
from speech2image.errors import SpeechError

REFERENCE = Path(__file__).parents[1] / "reference" / "log_mel.json"


def chirp(seconds: float = 1.5, rate: int = 16_000) -> np.ndarray:
    """A tone rising from 200 to 3000 Hz with a slow beat: every moment and band differs."""
    t = np.arange(round(seconds * rate)) / rate
    tone = scipy.signal.chirp(t, 200, seconds, 3000) * (0.6 + 0.3 * np.sin(2 * np.pi * 3 * t))
    return (0.5 * tone).astype(np.float32)


def encode(
    samples: np.ndarray, rate: int, container: str, codec: str, sample_format: str, channels: int = 1
) -> bytes:
    """A file in any format FFmpeg writes, all channels alike."""
    layout = "mono" if channels == 1 else "stereo"
    frame = av.AudioFrame.from_ndarray(np.tile(samples[None], (channels, 1)), format="fltp", layout=layout)
    frame.sample_rate, frame.pts = rate, 0
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate)
        stream.layout, stream.format = layout, sample_format
        for part in av.AudioResampler(format=sample_format, layout=layout, rate=rate).resample(frame):
            output.mux(stream.encode(part))
        output.mux(stream.encode(None))
    return buffer.getvalue()


def wav_bytes(samples: np.ndarray, rate: int = 16_000) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    return buffer.getvalue()


# ---- log-mel -----------------------------------------------------------------------------------


@given(extra=st.integers(0, 700))
@settings(max_examples=25, deadline=None)
def test_frame_count_needs_no_padding(extra: int) -> None:
    n = audio.MIN_SAMPLES + extra
    spectrogram = audio.log_mel(chirp()[:n])
    assert spectrogram.shape == (40, 1 + (n - 400) // 160)
    assert spectrogram.dtype == np.float32


@given(level=st.floats(0.01, 1.9), offset=st.floats(-0.5, 0.5))
@settings(max_examples=25, deadline=None)
def test_level_and_offset_change_nothing(level: float, offset: float) -> None:
    speech = chirp()
    changed = (level * speech + offset).astype(np.float32)
    np.testing.assert_allclose(audio.log_mel(changed), audio.log_mel(speech), atol=0.02)


def test_values_are_relative_to_the_loudest_and_floored() -> None:
    speech = chirp()
    speech[8000:16000] = 0.0
    spectrogram = audio.log_mel(speech)
    assert spectrogram.max() == 0.0
    assert spectrogram.min() == pytest.approx(np.log(1e-8), rel=1e-5)


def test_a_later_frame_is_the_same_sound_shifted_by_one_hop() -> None:
    speech = chirp() - chirp().mean()
    shifted = np.concatenate([np.zeros(160, np.float32), speech])
    np.testing.assert_allclose(audio.log_mel(shifted)[:, 3:], audio.log_mel(speech)[:, 2:], atol=0.05)


def test_a_tone_lights_the_band_that_holds_it() -> None:
    filters = audio.mel_filterbank()
    for frequency in (150.0, 440.0, 1000.0, 3500.0, 7000.0):
        t = np.arange(16_000) / 16_000
        band = audio.log_mel(np.sin(2 * np.pi * frequency * t).astype(np.float32)).mean(axis=1).argmax()
        assert filters[band, round(frequency / 31.25)] >= 0.4


def test_log_mel_agrees_with_scipy_and_the_textbook() -> None:
    """The whole front end once more, with scipy's STFT and HTK's formulas as the HTK Book prints them."""
    speech = chirp()
    centred = speech.astype(np.float64) - speech.mean(dtype=np.float64)
    emphasised = scipy.signal.lfilter([1, -0.97], [1], centred)
    *_, spectrum = scipy.signal.stft(
        emphasised,
        window=np.hamming(400),
        nperseg=400,
        noverlap=240,
        nfft=512,
        boundary=None,
        padded=False,
        scaling="psd",
    )
    power = np.abs(spectrum) ** 2
    mels = 1127.0 * np.log(1 + np.array([20.0, 8000.0]) / 700.0)
    spacing = (mels[1] - mels[0]) / 41
    bin_corners = 700 * np.expm1((mels[0] + spacing * np.arange(42)) / 1127.0)
    bands = np.zeros((40, power.shape[1]))
    for k in range(257):
        f = k * 16_000 / 512
        for b in range(40):
            low, centre, high = bin_corners[b : b + 3]
            weight = (f - low) / (centre - low) if f <= centre else (high - f) / (high - centre)
            bands[b] += max(0.0, weight) * power[k]
    expected = np.log(np.maximum(bands / bands.max(), 1e-8))
    np.testing.assert_allclose(audio.log_mel(speech), expected, atol=0.01)


def test_log_mel_reference_numbers() -> None:
    """Numbers written by tests/reference/make_log_mel.py, which shares no code with the package."""
    reference = json.loads(REFERENCE.read_text())
    spectrogram = audio.log_mel(np.array(reference["samples"], np.float32) / 32768)
    np.testing.assert_allclose(
        spectrogram[:, reference["frames"]].T, np.array(reference["log_mel"]), atol=0.01
    )


def test_filterbank_is_computed_once_and_cannot_be_changed() -> None:
    assert audio.mel_filterbank() is audio.mel_filterbank()
    assert audio.mel_filterbank().any(axis=1).all()
    with pytest.raises(ValueError, match="read-only"):
        audio.mel_filterbank()[0, 0] = 1.0


# ---- decoding ----------------------------------------------------------------------------------

FORMATS = [
    ("wav", "pcm_s16le", "s16", 16_000, 1, 0.001),
    ("wav", "pcm_s16le", "s16", 44_100, 2, 0.01),
    ("wav", "pcm_f32le", "flt", 8_000, 1, 0.01),
    ("wav", "pcm_s32le", "s32", 96_000, 2, 0.01),
    ("aiff", "pcm_s16be", "s16", 22_050, 1, 0.01),
    ("flac", "flac", "s16", 48_000, 2, 0.01),
    ("mp3", "libmp3lame", "s16p", 44_100, 2, 0.1),
    ("ogg", "libopus", "flt", 48_000, 1, 0.1),
    ("webm", "libopus", "flt", 48_000, 1, 0.1),
    ("ipod", "aac", "fltp", 44_100, 2, 0.1),
]


@pytest.mark.parametrize(("container", "codec", "sample_format", "rate", "channels", "tolerance"), FORMATS)
def test_every_format_gives_the_same_speech(
    container: str, codec: str, sample_format: str, rate: int, channels: int, tolerance: float
) -> None:
    decoded = audio.load(encode(chirp(rate=rate), rate, container, codec, sample_format, channels))
    speech = chirp()
    assert decoded.dtype == np.float32 and decoded.ndim == 1
    assert abs(len(decoded) - len(speech)) <= 1_100  # AAC fills its last frame
    middle = slice(2_000, 20_000)
    error = np.sqrt(np.mean((decoded[middle] - speech[middle]) ** 2) / np.mean(speech[middle] ** 2))
    assert error < tolerance


def test_every_kind_of_source_gives_the_same_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = wav_bytes(chirp())
    path = tmp_path / "a:strange name?.wav"
    path.write_bytes(data)
    expected = audio.load(data)
    assert len(expected) == 24_000
    np.testing.assert_array_equal(audio.load(path), expected)
    np.testing.assert_array_equal(audio.load(str(path)), expected)
    np.testing.assert_array_equal(audio.load(io.BytesIO(data)), expected)
    with path.open("rb") as file:
        np.testing.assert_array_equal(audio.load(file), expected)
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
        np.testing.assert_array_equal(audio.load("-"), expected)
    integers = (chirp() * 32767).astype(np.int16)
    np.testing.assert_allclose(audio.load((integers, 16_000)), expected, atol=1e-6)


@pytest.mark.parametrize("container", ["wav", "ipod"])
def test_a_pipe_is_read_though_it_cannot_seek(container: str) -> None:
    codec, sample_format = ("pcm_s16le", "s16") if container == "wav" else ("aac", "fltp")
    data = encode(chirp(), 16_000, container, codec, sample_format)
    read_end, write_end = os.pipe()

    def write() -> None:
        with os.fdopen(write_end, "wb") as file:
            file.write(data)

    writer = threading.Thread(target=write)
    writer.start()
    with os.fdopen(read_end, "rb") as file:
        decoded = audio.load(file)
    writer.join()
    np.testing.assert_array_equal(decoded, audio.load(data))


def test_a_pipe_is_not_read_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "MAX_PIPE_BYTES", 2**20)

    class Endless(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def seekable(self) -> bool:
            return False

        def read(self, size: int = -1) -> bytes:
            return bytes(size)

    with pytest.raises(SpeechError, match="1 MiB came through the pipe"):
        audio.load(Endless())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("dtype", "scale", "centre"),
    [("int16", 2**15 - 1, 0), ("int32", 2**31 - 1, 0), ("uint8", 127, 128), ("float64", 1, 0)],
)
def test_arrays_of_every_type(dtype: str, scale: float, centre: int) -> None:
    samples = chirp().astype(np.float64) * scale + centre
    samples = (samples if dtype == "float64" else np.round(samples)).astype(dtype)
    tolerance = 0.01 if dtype == "uint8" else 1e-4
    np.testing.assert_allclose(audio.load((samples, 16_000)), chirp(), atol=tolerance)


def test_channels_are_averaged_and_rates_converted() -> None:
    left = chirp(rate=44_100)
    mono = audio.load((np.stack([left, -0.5 * left, left, left], axis=1), 44_100))
    np.testing.assert_allclose(mono[500:-500], 0.625 * chirp()[500:-500], atol=0.01)
    assert len(mono) == 24_000


def test_too_loud_is_scaled_down_to_full_scale() -> None:
    loud = audio.load((chirp() * 30_000, 16_000))
    assert np.abs(loud).max() == pytest.approx(1.0)
    np.testing.assert_allclose(audio.log_mel(loud), audio.log_mel(chirp()), atol=0.01)


def test_flac_keeps_the_samples_and_opus_the_speech() -> None:
    speech = chirp()
    np.testing.assert_allclose(audio.load(audio.encode_flac(speech)), speech, atol=1e-4)
    opus = audio.encode_opus(speech)
    assert len(opus) < len(audio.encode_flac(speech)) / 2
    assert opus == audio.encode_opus(speech)
    decoded = audio.load(opus)
    assert len(decoded) == len(speech)
    assert np.corrcoef(decoded, speech)[0, 1] > 0.99


def test_the_example_recordings_are_those_their_table_names() -> None:
    folder = Path(__file__).parents[2] / "examples" / "recordings"
    rows = [line.split("|") for line in (folder / "README.md").read_text().splitlines() if ".opus`" in line]
    named = {row[1].strip(" `"): float(row[-2]) for row in rows}
    assert set(named) == {file.name for file in folder.glob("*.opus")}
    for name, seconds in named.items():
        speech = audio.load(folder / name)
        assert len(speech) / 16_000 == pytest.approx(seconds, abs=0.06)
        assert audio.log_mel(speech).std() > 2.0


# ---- refusals ----------------------------------------------------------------------------------


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(SpeechError, match=r"absent\.wav: no such file"):
        audio.load(tmp_path / "absent.wav")


def test_a_folder(tmp_path: Path) -> None:
    with pytest.raises(SpeechError, match="is a folder"):
        audio.load(tmp_path)


def test_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    for empty in (tmp_path / "empty.wav", b"", io.BytesIO()):
        with pytest.raises(SpeechError, match=r"empty|cannot be decoded"):
            audio.load(empty)


def test_text_named_wav(tmp_path: Path) -> None:
    path = tmp_path / "text.wav"
    path.write_text("this flower has bright yellow petals\n" * 200)
    with pytest.raises(SpeechError, match=r"text\.wav cannot be decoded"):
        audio.load(path)


def test_file_open_as_text(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(wav_bytes(chirp()))
    with path.open() as file, pytest.raises(SpeechError, match="mode 'rb'"):
        audio.load(file)  # type: ignore[arg-type]


def test_video_without_sound() -> None:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as output:
        stream = output.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for _ in range(5):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8))))
        output.mux(stream.encode(None))
    with pytest.raises(SpeechError, match="has no sound track, only video"):
        audio.load(buffer.getvalue())


@pytest.mark.parametrize("fraction", [0.3, 0.61, 0.95])
@pytest.mark.parametrize(("container", "codec", "sample_format", "rate", "channels", "_"), FORMATS)
def test_a_file_that_breaks_off_is_refused(
    container: str, codec: str, sample_format: str, rate: int, channels: int, _: float, fraction: float
) -> None:
    data = encode(chirp(3, rate), rate, container, codec, sample_format, channels)
    with pytest.raises(SpeechError, match="breaks off"):
        audio.load(data[: int(len(data) * fraction)])


@pytest.mark.parametrize("size", [0, 0x7FFF_F000, 0xFFFF_FFFF])
def test_a_wav_streamed_to_a_pipe_does_not_know_its_length(size: int) -> None:
    data = bytearray(wav_bytes(chirp()))
    data[40:44] = size.to_bytes(4, "little")
    assert len(audio.load(bytes(data))) == 24_000


@pytest.mark.parametrize("options", [{}, {"live": "1"}])
def test_webm_as_a_browser_records_it(options: dict[str, str]) -> None:
    """MediaRecorder writes without seeking back: sizes and duration stay open; Matroska may hold video."""

    class Stream:
        data = b""

        def write(self, data: bytes) -> int:
            self.data += bytes(data)
            return len(data)

    written = Stream()
    frame = av.AudioFrame.from_ndarray(chirp(rate=48_000)[None], format="flt", layout="mono")
    frame.sample_rate, frame.pts = 48_000, 0
    with av.open(written, "w", format="webm", container_options=options) as output:
        stream = output.add_stream("libopus", rate=48_000)
        stream.layout, stream.format = "mono", "flt"
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    assert abs(len(audio.load(written.data)) - 24_000) < 200
    with pytest.raises(SpeechError, match="breaks off"):
        audio.load(written.data[: len(written.data) // 2])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers(value: float) -> None:
    speech = chirp()
    speech[5_000] = value
    for source in ((speech, 16_000), (speech, 44_100), encode(speech, 16_000, "wav", "pcm_f32le", "flt")):
        with pytest.raises(SpeechError, match="NaN or infinite"):
            audio.load(source)


def test_ten_milliseconds() -> None:
    for refused in (lambda: audio.load((chirp(0.01), 16_000)), lambda: audio.log_mel(chirp(0.01))):
        with pytest.raises(SpeechError, match=r"160 samples \(10 ms at 16000 Hz\), need at least 10480"):
            refused()
    assert audio.log_mel(chirp()[:10_480]).shape == (40, 64)
    with pytest.raises(SpeechError, match="too short"):
        audio.log_mel(chirp()[:10_479])


@pytest.mark.parametrize("peak", [0.0, 0.0009])
def test_silence(peak: float) -> None:
    quiet = (0.3 + peak * chirp() / np.abs(chirp()).max()).astype(np.float32)
    for refused in (audio.log_mel, lambda quiet: audio.load((quiet, 16_000))):
        with pytest.raises(SpeechError, match="no speech heard"):
            refused(quiet)


def test_two_hours_are_refused_early_and_in_little_memory() -> None:
    """230 MB of samples, of which the file system stores next to nothing."""
    import resource

    n_bytes = 2 * 3600 * 16_000 * 2
    header = bytearray(wav_bytes(chirp())[:44])
    header[40:44] = n_bytes.to_bytes(4, "little")
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        file.write(header)
        file.truncate(44 + n_bytes)
        file.flush()
        audio.load(wav_bytes(chirp()))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(SpeechError, match=r"7200\.0 s, at most 60 s; cut it or pass max_seconds"):
            audio.load(file.name)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB


def test_max_seconds_is_a_setting() -> None:
    data = encode(chirp(2.0), 16_000, "ogg", "libopus", "flt")
    assert len(audio.load(data, max_seconds=2.1)) == 32_000
    with pytest.raises(SpeechError, match="more than 1 s, at most 1 s"):
        audio.load(data, max_seconds=1.0)
    with pytest.raises(SpeechError, match=r"2\.0 s, at most 1\.5 s"):
        audio.load((chirp(2.0), 16_000), max_seconds=1.5)


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ((chirp().astype(complex), 16_000), "float in .* got complex"),
        ((chirp() > 0, 16_000), "got bool"),
        ((chirp().astype(np.int64), 16_000), "got int64"),
        ((chirp()[None, :, None], 16_000), "shape .* got"),
        ((np.zeros(0), 16_000), "there are no samples"),
        ((chirp(), 0), "between 1000 and 768000 Hz, got 0"),
        ((chirp(), -16_000), "between 1000 and 768000"),
        ((chirp(), 16_000.5), "whole number"),
        ((chirp(), "16000"), "whole number"),
        ((chirp(), chirp()), "whole number"),
        ((16_000, 5), r"\(samples, rate\) or \(rate, samples\), got \(int, int\)"),
        (([0.1, "0.2"], 16_000), "float in"),
        (([[0.1, 0.2], [0.3]], 16_000), "the list holds no samples"),
        (chirp(), "without their sample rate; give it, too: rate=16000"),
        ({"array": chirp(), "rate": 16_000}, "'array' and 'sampling_rate', this one has 'array', 'rate'"),
        (5, "expected a path, bytes.*got int"),
    ],
)
def test_arrays_that_are_no_speech(pair: object, message: str) -> None:
    with pytest.raises(SpeechError, match=message):
        audio.load(pair)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "head",
    [
        b".snd",
        b"OggS",
        b"fLaC",
        b"RIFF\0\0\0\0WAVE",
        b"FORM",
        b"caff",
        b"riff",
        b"\0\0\0\0ftyp",
        b"\x1a\x45\xdf\xa3",
    ],
)
@pytest.mark.parametrize("more", [0, 1, 7, 40])
def test_a_header_alone_is_no_recording(head: bytes, more: int) -> None:
    with pytest.raises(SpeechError):
        audio.load(head + bytes(more))


@given(data=st.binary(min_size=1, max_size=300))
@settings(max_examples=60, deadline=None)
def test_random_bytes_never_give_another_error(data: bytes) -> None:
    with pytest.raises(SpeechError):
        audio.load(data)


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_damaged_files_never_give_another_error(data: st.DataObject) -> None:
    """A few bytes of a good file overwritten: it decodes or is refused, nothing else."""
    container, codec = data.draw(st.sampled_from([("wav", "pcm_s16le"), ("flac", "flac")]))
    good = bytearray(encode(chirp(1.0), 16_000, container, codec, "s16"))
    for _ in range(4):
        good[data.draw(st.integers(0, min(len(good), 400) - 1))] = data.draw(st.integers(0, 255))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # what was passed over is told
        try:
            samples = audio.load(bytes(good))
        except SpeechError:
            return
    assert np.isfinite(samples).all() and np.abs(samples).max() <= 1.0


# ---- recordings that mean harm -------------------------------------------------------------------


@pytest.mark.parametrize("channels", ["5.1", "7.1", "hexadecagonal"])
def test_many_channels(channels: str) -> None:
    """PyAV crashes on eight or more planes, so that many must be averaged without them."""
    layout = av.AudioLayout(channels)
    samples = np.repeat(chirp()[:, None], layout.nb_channels, axis=1)
    frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="flt", layout=channels)
    frame.sample_rate, frame.pts = 16_000, 0
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="wav") as output:
        stream = output.add_stream("pcm_f32le", rate=16_000)
        stream.layout, stream.format = channels, "flt"
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    np.testing.assert_allclose(audio.load(buffer.getvalue()), chirp(), atol=1e-6)


@pytest.mark.parametrize("kind", ["ffconcat", "hls", "hls of files", "sdp"])
def test_a_play_list_opens_nothing(kind: str, tmp_path: Path, monkeypatch) -> None:
    """Whoever uploads a play list can neither read files here nor make this machine call another."""
    monkeypatch.chdir(tmp_path)
    Path("secret.wav").write_bytes(wav_bytes(chirp()))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        port = listener.getsockname()[1]
        segment = f"http://127.0.0.1:{port}/a.ts" if kind == "hls" else f"file://{tmp_path}/secret.wav"
        lists = {
            "ffconcat": "ffconcat version 1.0\nfile secret.wav\n",
            "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{segment}\n#EXT-X-ENDLIST\n",
            "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
            f"m=audio {port} RTP/AVP 0\n",
        }
        with pytest.raises(SpeechError):
            audio.load(lists.get(kind, lists["hls"]).encode())
        with pytest.raises(BlockingIOError):
            listener.accept()


@pytest.mark.parametrize("size", [10, 10_000])
def test_temporary_files_are_called_recordings(size: int) -> None:
    with tempfile.SpooledTemporaryFile(max_size=100) as file:
        file.write(b"x" * size)
        file.seek(0)
        with pytest.raises(SpeechError, match=r"^the recording "):
            audio.load(file)
