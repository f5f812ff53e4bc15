"""Readers of a word bank as voices of `prepare`: what training hears of held-out readers is nothing."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_sets import own_folder, tone

from speech2image import tts
from speech2image.data.pairs import read_shards, speech_shards, stream_speech
from speech2image.data.prepare import PrepareSettings, prepare
from speech2image.data.shards.header import read_header
from speech2image.data.speech import readers
from speech2image.data.speech import voices as data_voices
from speech2image.data.speech.readers import SpeakerPool, SpeakerPools
from speech2image.data.speech.speaking import (
    SoundSources,
    UtteranceSpec,
    VoicePlan,
    speak_utterance,
    specs_digest,
)
from speech2image.data.speech.word_bank import WordBank
from speech2image.errors import DataError, SettingsError

READERS = ("r0", "r1", "r2", "r3")


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Two engine voices that hum; the list tells what they were asked to say."""
    said: list[tuple[str, str]] = []

    def speak(text: str, voice: tts.Voice, rate: float = 1.0) -> np.ndarray:
        said.append((text, voice.id))
        return tone(150.0, 0.7)

    voices = {name: tts.Voice(*name.split("/")) for name in ("flite/slt", "flite/kal16")}
    monkeypatch.setattr(tts, "available_voices", lambda timbres=False: list(voices.values()))
    monkeypatch.setattr(tts, "find_voice", voices.__getitem__)
    monkeypatch.setattr(tts, "speak", speak)
    caches = (readers._bank, readers._engine_word, readers._engine_pitch, data_voices._voice)
    for cache in caches:
        cache.cache_clear()
    yield said
    for cache in caches:
        cache.cache_clear()


@pytest.fixture
def bank(tmp_path: Path) -> Path:
    """Reader k says "flower" and "a" as tones of 300 + 100 k Hz; only r3 says "number"."""
    folder = tmp_path / "bank"
    folder.mkdir()
    rows, index = [], []
    for k, name in enumerate(READERS):
        words = ["flower", "a"] + ["number"] * (name == "r3")
        rows.append({"reader": name, "n_clips": len(words), "pitch": 120.0 + k, "brightness": 1000.0})
        for i, word in enumerate(words):
            index.append(
                {"reader": name, "word": word, "start": 4000 * i, "end": 4000 * (i + 1), "confidence": 1}
            )
        samples = np.tile(tone(300.0 + 100 * k, 0.25), len(words))
        np.save(folder / f"{name}.npy", np.round(samples * 32767).astype(np.int16))
    (folder / "readers.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "index.jsonl").write_text("\n".join(map(json.dumps, index)))
    return folder


@pytest.fixture
def wanted(tmp_path: Path, bank: Path) -> PrepareSettings:
    source = tmp_path / "source"
    source.mkdir()
    return PrepareSettings(
        "folder",
        tmp_path / "shards",
        own_folder(source, 8),
        word_bank=bank,
        voices=("reader/*",),
        held_out_voices=("reader/r3",),
        word_voices=("flite/slt",),
        augment=0.0,
        codec="flac",
        part="readers",
    )


def test_held_out_readers_are_heard_in_test_captions_alone(wanted: PrepareSettings, engines: list) -> None:
    prepare(wanted)
    for sample in read_shards(wanted.out):
        voices = {utterance.voice for utterance in sample.utterances}
        assert all(voice.startswith("reader/") for voice in voices)
        assert ("reader/r3" in voices) == (sample.split == "test")


def test_nobody_borrows_across(wanted: PrepareSettings, engines: list) -> None:
    prepare(wanted)
    spoken = [item for shard in speech_shards(wanted.out) for item in stream_speech([shard])]
    counted = [item for item in spoken if item.text.startswith("flower number")]
    held_out = [item for item in counted if item.utterance.voice == "reader/r3"]
    assert held_out and len(held_out) < len(counted)
    for item in counted:  # "number" is said by r3 alone: others must not have it, the digit has nobody
        own = 2 if item in held_out else 1
        assert item.effects["words"] == {"own": own, "synthesizer": 3 - own}
    said = set(engines) - {text for text in engines if " " in text[0]}
    assert ("number", "flite/slt") in said and ("number", "flite/kal16") not in said
    assert ("7", "flite/kal16") in said and ("0", "flite/kal16") not in said


def test_the_same_again_and_again(wanted: PrepareSettings, engines: list, tmp_path: Path) -> None:
    prepare(replace(wanted, augment=0.7, effects="strong"))
    again = replace(wanted, augment=0.7, effects="strong", out=tmp_path / "again")
    prepare(again)
    one, two = (sorted(folder.glob("speech-*")) for folder in (wanted.out, again.out))
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]
    before = len(engines)
    prepare(again)  # all is there
    assert len(engines) == before


def test_strong_effects_has_pauses_silence_and_babble(wanted: PrepareSettings, engines: list) -> None:
    prepare(replace(wanted, augment=1.0, effects="strong", voices_per_caption=3))
    done = [row["effects"] for shard in speech_shards(wanted.out) for row in read_header(shard).rows]
    assert any("pauses" in one for one in done) and any("edges" in one for one in done)
    assert any(one.get("noise") == "babble" for one in done)


def test_another_bank_is_another_part(wanted: PrepareSettings, engines: list, bank: Path) -> None:
    prepare(wanted)
    index = (bank / "index.jsonl").read_text()
    (bank / "index.jsonl").write_text(index.replace('"confidence": 1', '"confidence": 0.5'))
    with pytest.raises(DataError, match="other settings"):
        prepare(wanted)


def test_short_captions_are_spoken_as_no_caption(wanted: PrepareSettings, engines: list) -> None:
    rows = [json.loads(line) for line in wanted.root.read_text().splitlines()]  # type: ignore[union-attr]
    for row in rows:
        row["captions"] = ["a red flower with yellow stamens", "nothing to say of it"]
    wanted.root.write_text("\n".join(map(json.dumps, rows)))  # type: ignore[union-attr]
    prepare(replace(wanted, captions="short", part="short", speak_splits=("train",)))
    rows = [row for shard in speech_shards(wanted.out) for row in read_header(shard).rows]
    assert len(rows) == 6
    assert all(row["caption"] == -1 and len(row["text"].split()) < 12 for row in rows)
    assert all("red" in row["text"] or "yellow" in row["text"] for row in rows)


def test_pools_part_readers_and_engines(bank: Path) -> None:
    pools = SpeakerPools.of(WordBank.open(bank), ["reader/r1", "flite/kal16"], ("x",), ("y",))
    assert (pools.seen.readers, pools.seen.engines) == (("r0", "r2", "r3"), ("x",))
    assert (pools.held_out.readers, pools.held_out.engines) == (("r1",), ("y",))


def test_readers_are_no_voices_without_the_bank(wanted: PrepareSettings, engines: list) -> None:
    with pytest.raises(SettingsError, match=r"no voice fits 'reader/\*'.*--word-bank"):
        prepare(replace(wanted, word_bank=None))
    spec = UtteranceSpec("s", 0, "a flower", "reader/r0", 1, False, "flac")
    with pytest.raises(DataError, match="needs the word bank"):
        speak_utterance(spec, SoundSources())


def test_a_word_voice_that_is_not_there(wanted: PrepareSettings) -> None:
    with pytest.raises(SettingsError, match="no voice 'flite/nobody'"):
        prepare(replace(wanted, word_voices=("flite/nobody",)))


def test_digests_of_version_0_1_stay_so_that_its_shards_are_finished() -> None:
    pool = SpeakerPool(("r0", "r1"), ("flite/slt",))
    old = "('s', 0, 'a rose', 'reader/r0', 7, True, 'opus', 'lively', (('r0', 'r1'), ('flite/slt',)), 'bank')"
    spec = UtteranceSpec("s", 0, "a rose", "reader/r0", 7, True, "opus", "strong", pool, "bank")
    assert specs_digest([spec]) == hashlib.sha256(f"[{old}]".encode()).hexdigest()[:16]


def test_digests_of_speech_without_readers_stay_as_they_were() -> None:
    spec = UtteranceSpec("set/1", 0, "a rose", "flite/slt", 7, True, "opus")
    old = "('set/1', 0, 'a rose', 'flite/slt', 7, True, 'opus')"
    assert specs_digest([spec]) == hashlib.sha256(f"[{old}]".encode()).hexdigest()[:16]
    assert specs_digest([spec]) != specs_digest([replace(spec, effects="strong")])
    assert VoicePlan(voices=("a",)).pools is None
