"""Text to speech; engines that are not installed are skipped, those pip brings are not."""

import importlib.util
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from speech2image import audio, tts
from speech2image.errors import MissingExtraError, SettingsError, SpeechError
from speech2image.tts import Voice, espeak, festival, flite, programs

SENTENCE = "this flower has bright yellow petals and long green leaves"
ENGINES = ["flite/slt", "flite/rms", "flite/kal16", "festival/kal_diphone",
           "festival/cmu_us_slt_arctic_hts", "espeak-ng/en-us", "espeak-ng/en-gb+f3"]  # fmt: skip
has_library = pytest.mark.skipif(
    not importlib.util.find_spec("espeakng_loader"), reason="needs pip install 'speech2image[tts]'"
)


def forget() -> None:
    cached = (flite.names, festival.names, espeak._data, espeak.names, espeak.timbres, espeak.languages)
    for found in cached:
        found.cache_clear()


@pytest.fixture
def no_programs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine without any speech program; what pip installed is still there."""
    monkeypatch.setattr(shutil, "which", lambda *args, **kwargs: None)
    forget()
    yield
    monkeypatch.undo()
    forget()


@pytest.fixture
def no_engine(no_programs: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Not even a pip package."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda *args: None)
    forget()
    yield


def program_voice(id: str) -> Voice:
    engine = id.partition("/")[0]
    if not shutil.which(engine) or id.partition("+")[0] not in {v.id for v in tts.available_voices()}:
        pytest.skip(f"needs {id}")
    return tts.find_voice(id)


def pitch(speech: np.ndarray) -> float:
    """Median pitch in Hz, by autocorrelation of the loud frames."""
    frames = np.lib.stride_tricks.sliding_window_view(speech, 640)[::320].astype(np.float64)
    frames = frames - frames.mean(axis=1, keepdims=True)
    power = (frames**2).mean(axis=1)
    hertz = []
    for frame in frames[power > 0.5 * (speech**2).mean()]:
        correlation = np.correlate(frame, frame, "full")[639:]
        lag = 45 + int(correlation[45:230].argmax())
        if correlation[lag] > 0.5 * correlation[0]:
            hertz.append(16_000 / lag)
    return float(np.median(hertz))


@pytest.mark.parametrize("id", ENGINES)
def test_every_engine_speaks(id: str) -> None:
    voice = program_voice(id)
    assert voice.id == id
    speech = tts.speak(SENTENCE, voice)
    assert speech.dtype == np.float32 and speech.ndim == 1
    assert 2.0 < len(speech) / 16_000 < 5.0
    assert 0.1 < np.abs(speech).max() <= 1.0
    assert audio.log_mel(speech).shape[0] == 40
    np.testing.assert_array_equal(tts.speak(SENTENCE, voice), speech)


@pytest.mark.parametrize("id", ENGINES)
def test_rate_shortens_and_pitch_raises(id: str) -> None:
    voice = program_voice(id)
    plain, fast = tts.speak(SENTENCE, voice), tts.speak(SENTENCE, voice, rate=1.25)
    high = tts.speak(SENTENCE, voice, pitch=1.2)
    assert len(plain) / len(fast) == pytest.approx(1.25, rel=0.06)
    assert len(high) == pytest.approx(len(plain), rel=0.06)
    assert pitch(high) / pitch(plain) == pytest.approx(1.2, rel=0.1)


def test_voices_are_named_sorted_and_found() -> None:
    voices = tts.available_voices()
    if not voices:
        pytest.skip("needs an engine")
    ids = [voice.id for voice in voices]
    assert len(set(ids)) == len(ids)
    known = [tts._PREFERRED.index(id) for id in ids if id in tts._PREFERRED]
    assert known == sorted(known)
    assert all(tts.find_voice(voice.id) == voice for voice in tts.available_voices(timbres=True)[::50])
    assert "flite/awb_time" not in ids and "espeak-ng/en-shaw" not in ids
    np.testing.assert_array_equal(tts.speak("hello flower"), tts.speak("hello flower", voices[0]))


def test_unknown_voice_lists_those_there_are() -> None:
    if not tts.available_voices():
        pytest.skip("needs an engine")
    for unknown in ("flite/nobody", "espeak-ng/en-us+nobody", "espeak-ng/tlh", "acme/slt", "slt", ""):
        with pytest.raises(
            SettingsError, match=f"no voice '{unknown}'.*{tts.available_voices()[0].id}".replace("+", r"\+")
        ):
            tts.find_voice(unknown)
    with pytest.raises(SettingsError, match="no engine 'acme'"):
        tts.speak(SENTENCE, Voice("acme", "slt"))


@has_library
def test_pip_alone_brings_a_voice(no_programs: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPEECH2IMAGE_VOICES", str(tmp_path))  # no voice files either
    voices = tts.available_voices(timbres=True)
    assert {voice.engine for voice in voices} == {"espeak-ng"} and len(voices) > 300
    us, scottish = (
        tts.speak(SENTENCE, tts.find_voice(f"espeak-ng/{a}")) for a in ("en-us", "en-gb-scotland")
    )
    timbre = tts.speak(SENTENCE, tts.find_voice("espeak-ng/en-us+f3"))
    assert 2.0 < len(us) / 16_000 < 5.0 and not np.array_equal(us, scottish)
    assert pitch(timbre) > 1.2 * pitch(us)
    assert len(us) / len(tts.speak(SENTENCE, rate=1.25)) == pytest.approx(1.25, rel=0.06)
    assert pitch(tts.speak(SENTENCE, pitch=1.2)) / pitch(us) == pytest.approx(1.2, rel=0.1)


@pytest.mark.parametrize("way", ["program", "library"])
def test_other_languages_are_found_by_name_and_keep_their_accents(way: str, request) -> None:
    if way == "library":
        if not importlib.util.find_spec("espeakng_loader"):
            pytest.skip("needs pip install 'speech2image[tts]'")
        request.getfixturevalue("no_programs")
    elif not shutil.which("espeak-ng"):
        pytest.skip("needs espeak-ng")
    assert not any(voice.id == "espeak-ng/de" for voice in tts.available_voices(timbres=True))
    german = tts.find_voice("espeak-ng/de")
    assert not np.array_equal(tts.speak("ein schönes bild", german), tts.speak("ein schones bild", german))
    english = tts.find_voice("espeak-ng/en-us")
    assert np.array_equal(tts.speak("a café", english), tts.speak("a cafe", english))
    assert 1.2 * pitch(tts.speak("wie spät ist es bitte", german)) < pitch(
        tts.speak("wie spät ist es bitte", tts.find_voice("espeak-ng/de+f3"))
    )


@has_library
def test_the_library_says_the_same_again_and_is_safe_in_threads(no_programs: None) -> None:
    sentences = [f"{colour} petals in the morning" for colour in ("red", "yellow", "blue", "white")]
    voices = [tts.find_voice(f"espeak-ng/en-{a}") for a in ("us", "gb", "029", "us+m3")]
    alone = [tts.speak(*pair) for pair in zip(sentences, voices, strict=True)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(tts.speak, sentences, voices))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


def test_no_engine_gives_both_commands(no_engine: None) -> None:
    assert tts.available_voices() == []
    for attempt in (lambda: tts.speak(SENTENCE), lambda: tts.find_voice("flite/slt")):
        with pytest.raises(
            MissingExtraError, match=r"pip install 'speech2image\[tts\]'.*apt-get install flite"
        ):
            attempt()


@pytest.mark.parametrize("id", ["flite/slt", "espeak-ng/en-us", "festival/kal_diphone"])
def test_text_is_never_a_command(id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    voice = program_voice(id)
    speech = tts.speak('--help; touch harm $(touch harm) `touch harm` " -o harm (system "touch harm")', voice)
    assert len(speech) > 16_000
    assert list(tmp_path.iterdir()) == []


def test_one_short_word_is_long_enough_to_use() -> None:
    for voice in tts.available_voices()[::4]:
        assert audio.log_mel(tts.speak("red", voice, rate=2.0)).shape[1] >= 64


def test_text_that_cannot_be_spoken() -> None:
    for text in ("", "  ", "\N{HIBISCUS}"):
        with pytest.raises(SettingsError, match="nothing to say"):
            tts.speak(text)


@pytest.mark.parametrize("setting", [{"rate": 0.1}, {"pitch": 5.0}, {"rate": float("nan")}])
def test_settings_out_of_range(setting: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match="must lie between"):
        tts.speak(SENTENCE, **setting)


def fake_engine(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> Voice:
    program = folder / "flite"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return Voice("flite", "slt")


def test_an_engine_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    voice = fake_engine(tmp_path, "echo out of order >&2; exit 3", monkeypatch)
    with pytest.raises(SpeechError, match="flite failed: out of order"):
        tts.speak(SENTENCE, voice)


def test_an_engine_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "TIMEOUT", 0.2)
    voice = fake_engine(tmp_path, "exec sleep 20", monkeypatch)
    with pytest.raises(SpeechError, match="no speech within"):
        tts.speak(SENTENCE, voice)


def test_an_engine_that_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    voice = fake_engine(tmp_path, "exit 0", monkeypatch)
    with pytest.raises(SpeechError, match="wrote no speech"):
        tts.speak(SENTENCE, voice)
