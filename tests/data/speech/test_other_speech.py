"""Spoken sentences about other things: the same again, resumed, with the voices asked for."""

import shutil

import numpy as np
import pytest

from speech2image import audio, cli, tts
from speech2image.asr.text import transcript
from speech2image.audio.front_ends import PAPER, WHISPER
from speech2image.data.shards.recordings import Recordings
from speech2image.data.speech import other_sentences as module
from speech2image.data.speech.other_sentences import (
    foreign_voices,
    other_sentences,
    plan_other,
    prepare_other,
)
from speech2image.data.speech.speaking import VoicePlan, speak_utterance
from speech2image.errors import DataError, SettingsError
from speech2image.tts import espeak

needs_engines = pytest.mark.skipif(
    not (shutil.which("flite") and shutil.which("espeak-ng")), reason="needs flite and espeak-ng"
)
VOICES = ("flite/slt", "flite/kal16")
PLAN = VoicePlan(VOICES, augment=0.5, seed=3)


def same(one: Recordings, other: Recordings) -> bool:
    frames = all(np.array_equal(one.log_mel(u), other.log_mel(u)) for u in range(len(one.texts)))
    return frames and one.texts == other.texts and one.speakers.tolist() == other.speakers.tolist()


@needs_engines
def test_frames_are_those_of_the_spoken_captions_codec(tmp_path):
    made = prepare_other(tmp_path / "made", VOICES, PLAN, 6, "train")
    assert made.front_end is WHISPER and made.split == "train"
    assert made.texts == [transcript(s.text) for s in other_sentences(6, "train", 3)]
    lines = plan_other(6, "train", PLAN)
    assert made.speakers.tolist() == [line.voice for line in lines]
    spoken = speak_utterance(lines[2])
    expected = WHISPER.extract(audio.load(spoken.utterance.audio))
    assert spoken.utterance.suffix == "opus"
    np.testing.assert_allclose(made.log_mel(2), expected, atol=0.01)
    assert {line.augmented for line in plan_other(40, "train", PLAN)} == {True, False}


@needs_engines
def test_more_sentences_go_on_from_those_that_are_there(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "RECORDINGS_PER_PART", 2)
    whole = prepare_other(tmp_path / "whole", VOICES, PLAN, 6, "train")
    prepare_other(tmp_path / "parts", VOICES, PLAN, 4, "train")
    counted = []
    original = module.speak_utterance
    monkeypatch.setattr(module, "speak_utterance", lambda line: counted.append(line) or original(line))
    parts = prepare_other(tmp_path / "parts", VOICES, PLAN, 6, "train")
    assert len(counted) == 2 and same(whole, parts)
    prepare_other(tmp_path / "parts", VOICES, PLAN, 6, "train")
    assert len(counted) == 2


@needs_engines
def test_an_interrupted_part_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "RECORDINGS_PER_PART", 2)
    original, count = module.speak_utterance, []

    def breaks(line):
        count.append(line)
        if len(count) == 4:
            raise KeyboardInterrupt
        return original(line)

    monkeypatch.setattr(module, "speak_utterance", breaks)
    with pytest.raises(KeyboardInterrupt):
        prepare_other(tmp_path / "made", VOICES, PLAN, 4, "train")
    left = sorted(path.name for path in (tmp_path / "made").iterdir())
    assert len(left) == 2 and all("-00000-" in name for name in left)
    monkeypatch.setattr(module, "speak_utterance", original)
    again = prepare_other(tmp_path / "made", VOICES, PLAN, 4, "train")
    assert same(again, prepare_other(tmp_path / "whole", VOICES, PLAN, 4, "train"))


@needs_engines
def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["prepare", "other", "--out", "made", "--n", "3", "--split", "test", "--voices", "flite/*"]
    assert cli.main([*words, "--held-out-voices", "flite/slt", "--front-end", "log-mel-40"]) == 0
    assert capsys.readouterr().out.startswith("made: 3 sentences, ")
    made = Recordings(tmp_path / "made")
    assert made.split == "test" and made.front_end is PAPER
    assert "flite/slt" not in made.speakers
    assert cli.main([*words, "--split", "train"]) == 1
    assert "choose another --out" in capsys.readouterr().err


@needs_engines
def test_foreign_sentences_are_spoken_in_their_language():
    voices = foreign_voices("de")
    assert "espeak-ng/de" in voices and "espeak-ng/de+f3" in voices
    assert "espeak-ng/de" not in foreign_voices("de", ["espeak-ng/de"])
    assert foreign_voices("tlh") == ()
    lines = plan_other(60, "train", PLAN)
    for line, sentence in zip(lines, other_sentences(60, "train", 3), strict=True):
        assert (line.voice in VOICES) == (sentence.language == "en")
        if sentence.language != "en":
            assert line.voice.startswith(f"espeak-ng/{sentence.language}")


def test_without_a_voice_foreign_sentences_are_left_out_with_a_word(monkeypatch, capsys):
    monkeypatch.setattr(espeak, "languages", lambda: ["fr"])
    monkeypatch.setattr(espeak, "timbres", lambda: [])
    monkeypatch.setattr(tts, "find_voice", lambda name: tts.Voice(*name.split("/")))
    lines = plan_other(60, "train", PLAN)
    english = [s for s in other_sentences(60, "train", 3) if s.language in ("en", "fr")]
    assert [line.text for line in lines] == [s.text for s in english] and len(english) < 60
    assert "left out the sentences in de, es, it: no espeak-ng voice" in capsys.readouterr().err


@needs_engines
def test_what_cannot_be_spoken_is_said(tmp_path):
    for error, match, voices, n, workers, augment in (
        (SettingsError, "--n is 0", VOICES, 0, 1, 0.5),
        (SettingsError, "--workers is 0", VOICES, 1, 0, 0.5),
        (SettingsError, "--augment is 2", VOICES, 1, 1, 2.0),
        (SettingsError, "no voice 'flite/nobody'", ("flite/nobody",), 1, 1, 0.5),
    ):
        with pytest.raises(error, match=match):
            prepare_other(tmp_path / "made", voices, VoicePlan((), augment=augment), n, "train", workers)
    assert not (tmp_path / "made").exists()
    prepare_other(tmp_path / "made", ("flite/slt",), PLAN, 1, "train")
    with pytest.raises(DataError, match="holds other recordings than sentences of the split test"):
        prepare_other(tmp_path / "made", ("flite/slt",), PLAN, 1, "test")
