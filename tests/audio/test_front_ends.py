"""Front ends: Whisper's frames agree with faster-whisper's; what cards and manifests say is checked."""

import json
from pathlib import Path

import numpy as np
import pytest

from speech2image import audio
from speech2image.audio.front_ends import (
    FRONT_ENDS,
    PAPER,
    WHISPER,
    find_front_end,
    slaney_filterbank,
    stated_front_end,
)
from speech2image.errors import CheckpointError, SettingsError, SpeechError

REFERENCE = Path(__file__).parents[1] / "reference"
BOTH = pytest.mark.parametrize("front_end", FRONT_ENDS.values(), ids=lambda front_end: front_end.name)


def buzz(seconds: float = 1.0, pitch: float = 150.0) -> np.ndarray:
    t = np.arange(int(seconds * 16_000)) / 16_000
    sound = sum(np.sin(2 * np.pi * k * pitch * t) / k for k in range(1, 20))
    return (0.1 * np.asarray(sound)).astype(np.float32)


def test_whisper_frames_agree_with_faster_whispers() -> None:
    """Numbers written by tests/reference/make_whisper_frames.py."""
    samples = json.loads((REFERENCE / "log_mel.json").read_text())["samples"]
    reference = json.loads((REFERENCE / "whisper_frames.json").read_text())
    found = WHISPER.extract(np.array(samples, np.float32) / 32768)
    assert list(found.shape) == reference["shape"] and found.dtype == np.float32
    np.testing.assert_allclose(found[:, reference["frames"]].T, reference["values"], atol=1e-5)


def test_the_papers_frames_are_the_log_mels() -> None:
    np.testing.assert_array_equal(PAPER.extract(buzz()), audio.log_mel(buzz()))


@BOTH
def test_frames_have_the_stated_shape(front_end) -> None:
    shortest = front_end.extract(buzz()[: front_end.min_samples])
    assert shortest.shape[0] == front_end.n_features == len(front_end.band_hertz)
    assert shortest.shape[1] >= front_end.min_frames
    longer = front_end.extract(np.tile(buzz(), 3))[:, : 300 + front_end.padding]
    assert longer.shape[1] == pytest.approx(3 / front_end.frame_shift + front_end.padding, abs=3)


@BOTH
def test_a_tone_is_loudest_in_the_band_of_its_frequency(front_end) -> None:
    for band in (10, 20, 35):
        t = np.arange(16_000) / 16_000
        tone = np.sin(2 * np.pi * front_end.band_hertz[band] * t).astype(np.float32)
        assert front_end.extract(tone)[:, 20:80].mean(axis=1).argmax() == band


@BOTH
def test_a_neper_of_power_moves_a_feature_by_what_is_stated(front_end) -> None:
    quiet, loud = np.float32(0.1) * buzz(), buzz()
    both = front_end.extract(np.concatenate([loud, quiet]))  # the paper's are relative to the loudest
    halves = both[:, 20:80].mean(axis=1), both[:, 120:180].mean(axis=1)
    heard = halves[1] > both.min() + 0.1
    step = (halves[0] - halves[1])[heard].mean()
    assert step == pytest.approx(np.log(100) * front_end.per_neper, rel=0.03)


@BOTH
def test_short_or_silent_speech_is_refused(front_end) -> None:
    with pytest.raises(SpeechError, match="too short"):
        front_end.extract(buzz()[: front_end.min_samples - 1])
    with pytest.raises(SpeechError, match="silent"):
        front_end.extract(np.zeros(16_000, np.float32))


def test_slaney_triangles_have_equal_areas() -> None:
    areas = slaney_filterbank()[50:].sum(axis=1) * 40  # lower ones are hardly wider than the grid of 40 Hz
    np.testing.assert_allclose(areas, 1.0, atol=0.03)


@BOTH
def test_a_front_end_is_found_by_what_it_says_of_itself(front_end) -> None:
    description = json.loads(json.dumps(front_end.describe()))
    assert stated_front_end(description, "model.json") is front_end is find_front_end(front_end.name)


def test_what_states_none_is_older_and_means_the_papers() -> None:
    assert stated_front_end(None, "model.json") is PAPER


@pytest.mark.parametrize(
    "stated", ["whisper-80", 3, [], {"name": "mfcc"}, {"name": []}, WHISPER.describe() | {"version": 2}]
)
def test_another_front_end_is_refused(stated) -> None:
    with pytest.raises(CheckpointError, match=r"model\.json needs the front end"):
        stated_front_end(stated, "model.json")


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(SettingsError, match="there are: log-mel-40, whisper-80"):
        find_front_end("mfcc")
