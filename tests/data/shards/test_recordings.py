"""Recordings as log-mels: read back what was built, go on after an interruption, keep some out."""

import json
from pathlib import Path

import numpy as np
import pytest
from small_sets import tone

from speech2image import audio
from speech2image.data.corpora.registry import list_recordings
from speech2image.data.shards import recordings
from speech2image.data.shards.recordings import (
    JoinedSpeech,
    Recordings,
    build_recordings,
    kept_out,
)
from speech2image.errors import DataError


@pytest.fixture
def corpus(tmp_path) -> Path:
    rows = []
    for i in range(5):
        (tmp_path / f"{i}.flac").write_bytes(audio.encode_flac(tone(150 + 20 * i, 0.8 + 0.1 * i)))
        rows.append({"audio": f"{i}.flac", "speaker": f"s{i % 2}", "text": f"Number {i}!"})
    (tmp_path / "utterances.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path


def test_built_recordings_read_back(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(recordings, "RECORDINGS_PER_PART", 2)
    built = build_recordings(list_recordings(corpus), tmp_path / "out")
    again = Recordings(tmp_path / "out")
    assert again.texts == ["number zero", "number one", "number two", "number three", "number four"]
    assert again.speakers.tolist() == ["s0", "s1", "s0", "s1", "s0"]
    for i in range(5):
        expected = audio.log_mel(audio.load(corpus / f"{i}.flac"))
        np.testing.assert_allclose(built.log_mel(i), expected, atol=0.01)
        assert again.n_frames()[i] == expected.shape[1]


def test_what_is_there_is_not_built_again(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(recordings, "RECORDINGS_PER_PART", 2)
    build_recordings(list_recordings(corpus)[:4], tmp_path / "out")
    counted = []
    monkeypatch.setattr(recordings, "frames_of", lambda path, *_: counted.append(path) or np.zeros((64, 40)))
    build_recordings(list_recordings(corpus), tmp_path / "out")
    assert [path.name for path in counted] == ["4.flac"]


def test_missing_recordings_say_the_command(tmp_path):
    with pytest.raises(DataError, match="speech2image prepare recordings"):
        Recordings(tmp_path)


def test_an_unusable_recording_is_named(corpus, tmp_path):
    (corpus / "3.flac").write_bytes(audio.encode_flac(np.zeros(16000, np.float32)))
    with pytest.raises(DataError, match=r"3\.flac.*silent"):
        build_recordings(list_recordings(corpus), tmp_path / "out")


def test_kept_out_are_whole_speakers_or_every_twentieth():
    many = np.array([f"s{i % 9}" for i in range(90)])
    assert set(many[kept_out(many)]) == {"s0", "s8"} and kept_out(many).sum() == 20
    assert np.flatnonzero(kept_out(np.array(["one"] * 41))).tolist() == [0, 20, 40]


def test_joined_speech_finds_every_part(corpus, tmp_path):
    built = build_recordings(list_recordings(corpus), tmp_path / "out")
    joined = JoinedSpeech([(built, np.array([4, 1])), (built, np.arange(0)), (built, np.array([2]))])
    assert joined.texts == ["number four", "number one", "number two"]
    assert joined.n_frames().tolist() == built.n_frames()[[4, 1, 2]].tolist()
    np.testing.assert_array_equal(joined.log_mel(2), built.log_mel(2))
    np.testing.assert_array_equal(joined.log_mel(1), built.log_mel(1))
