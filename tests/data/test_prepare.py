"""Preparation: pictures, recordings and speech, step by step, interrupted and gone on with."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_sets import encoded, own_folder, picture, tone, write_manifest

from speech2image import audio, cli, tts
from speech2image.data.pairs import picture_shards, read_shards, speech_shards
from speech2image.data.prepare import PrepareSettings, prepare
from speech2image.data.shards.arrays import PairArrays
from speech2image.data.shards.header import read_header
from speech2image.data.speech import speaking
from speech2image.data.speech import voices as data_voices
from speech2image.data.speech.voices import choose_voices
from speech2image.errors import DataError, OutputError, SettingsError, SpeechError

VOICES = ("one/a", "one/b", "two/c", "two/d")


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """An engine of four voices that hums; the list tells what it was asked to say."""
    said: list[tuple[str, str]] = []

    def speak(text: str, voice: tts.Voice, **delivery: float) -> np.ndarray:
        said.append((text, voice.id))
        return tone(100 + 20 * VOICES.index(voice.id) + len(text), 0.7)

    voices = [tts.Voice(*name.split("/")) for name in VOICES]
    monkeypatch.setattr(tts, "available_voices", lambda timbres=False: voices)
    monkeypatch.setattr(tts, "find_voice", lambda name: voices[VOICES.index(name)])
    monkeypatch.setattr(tts, "speak", speak)
    data_voices._voice.cache_clear()
    yield said
    data_voices._voice.cache_clear()


@pytest.fixture
def settings(tmp_path: Path) -> PrepareSettings:
    source = tmp_path / "source"
    source.mkdir()
    return PrepareSettings(
        "folder",
        tmp_path / "shards",
        own_folder(source, 8),
        augment=0.0,
        codec="flac",
        held_out_voices=("two/d",),
        samples_per_shard=3,
        utterances_per_shard=4,
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def test_every_caption_is_spoken_test_ones_twice(settings: PrepareSettings, engine: list) -> None:
    prepare(settings)
    for sample in read_shards(settings.out):
        by_caption = {
            number: [u.voice for u in sample.utterances if u.caption == number] for number in range(2)
        }
        for voices in by_caption.values():
            assert len(voices) == (1 if sample.split == "train" else 2)
            assert ("two/d" in voices) == (sample.split == "test")
    assert {text for text, _ in engine} == {
        text for i in range(8) for text in (f"flower number {i}", f"a bloom with {i} petals")
    }


def test_several_voices_a_caption_differ(settings: PrepareSettings, engine: list) -> None:
    prepare(replace(settings, voices_per_caption=3))
    train = [s for s in read_shards(settings.out) if s.split == "train"]
    assert all(len({u.voice for u in s.utterances if u.caption == 0}) == 3 for s in train)


def test_more_takes_than_voices_repeat_them(settings: PrepareSettings, engine: list) -> None:
    prepare(replace(settings, voices=("one/a",), voices_per_caption=2))
    sample = next(iter(read_shards(settings.out)))
    assert Counter((u.caption, u.voice) for u in sample.utterances) == {(0, "one/a"): 2, (1, "one/a"): 2}


def test_interrupted_preparation_goes_on_and_ends_the_same(
    settings: PrepareSettings, engine: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(replace(settings, out=tmp_path / "whole"))
    whole, engine[:] = list(engine), []
    speak = tts.speak

    def stop_at_the_tenth(text: str, voice: tts.Voice, **delivery: float) -> np.ndarray:
        if len(engine) == 9:
            raise KeyboardInterrupt
        return speak(text, voice)

    monkeypatch.setattr(tts, "speak", stop_at_the_tenth)
    with pytest.raises(KeyboardInterrupt):
        prepare(settings)
    assert len(speech_shards(settings.out)) == 2  # of 4 utterances each; the third is not there at all
    assert not list(settings.out.glob(".*"))
    monkeypatch.setattr(tts, "speak", speak)
    prepare(settings)
    assert engine == whole[:9] + whole[8:]
    assert contents(settings.out) == contents(tmp_path / "whole")


def test_validation_pictures_are_kept_out_of_training(settings: PrepareSettings, engine: list) -> None:
    prepare(replace(settings, validation=0.4))
    splits = {sample.id: sample.split for sample in read_shards(settings.out)}
    moved = {name for name, split in splits.items() if split == "val"}
    assert 1 <= len(moved) <= 4 and [splits["6"], splits["7"]] == ["test", "test"]
    held_out = {s.id for s in read_shards(settings.out) for u in s.utterances if u.voice == "two/d"}
    assert held_out == moved | {"6", "7"}


def test_finished_preparation_does_nothing_more(settings: PrepareSettings, engine: list) -> None:
    prepare(settings)
    before, times = len(engine), {p: p.stat().st_mtime_ns for p in settings.out.glob("*.tar")}
    prepare(settings)
    assert len(engine) == before and times == {p: p.stat().st_mtime_ns for p in settings.out.glob("*.tar")}


def test_pictures_first_speech_later(settings: PrepareSettings, engine: list) -> None:
    prepare(replace(settings, speak=False))
    before = contents(settings.out)
    assert not engine and not speech_shards(settings.out)
    prepare(settings)
    after = contents(settings.out)
    assert all(after[name] == data for name, data in before.items() if name.endswith(".tar"))
    assert len(PairArrays.open(settings.out).utterance_sample) == len(engine)


def test_another_part_adds_speech(settings: PrepareSettings, engine: list) -> None:
    prepare(settings)
    before, n = contents(settings.out), len(engine)
    prepare(replace(settings, part="more", voices=("one/b",), seed=1))
    assert all(contents(settings.out)[name] == data for name, data in before.items() if name.endswith(".tar"))
    assert len(PairArrays.open(settings.out).utterance_sample) == len(engine) > n


def test_more_speech_of_the_training_split_alone(settings: PrepareSettings, engine: list) -> None:
    prepare(settings)
    before = utterances_by_split(settings.out)
    prepare(replace(settings, part="more", voices=("one/b",), seed=1, speak_splits=("train",)))
    after = utterances_by_split(settings.out)
    assert after["train"] == 2 * before["train"] and after["test"] == before["test"] > 0


def utterances_by_split(shards: Path) -> Counter[str]:
    arrays = PairArrays.open(shards)
    return Counter(arrays.splits[i] for i in arrays.utterance_sample)


def test_other_settings_do_not_replace_speech_unless_asked(settings: PrepareSettings, engine: list) -> None:
    prepare(settings)
    before = contents(settings.out)
    other = replace(settings, seed=5)
    with pytest.raises(DataError, match=r"other settings; choose another --out .*--part.*--overwrite"):
        prepare(other)
    assert contents(settings.out) == before
    prepare(replace(other, overwrite=True))
    assert contents(settings.out) != before


def test_damaged_shard_is_told_and_can_be_overwritten(settings: PrepareSettings, engine: list) -> None:
    prepare(settings)
    whole = contents(settings.out)
    speech_shards(settings.out)[1].write_text("damaged")
    with pytest.raises(DataError, match=r"unreadable shard .*speech-spoken-000001\.tar"):
        prepare(settings)
    prepare(replace(settings, overwrite=True))
    assert contents(settings.out) == whole


def test_overwriting_with_less_leaves_no_old_shards(settings: PrepareSettings, engine: list) -> None:
    prepare(settings)
    prepare(replace(settings, limit=5, overwrite=True))
    arrays = PairArrays.open(settings.out)
    assert len(arrays.ids) == 5 and set(arrays.utterance_sample) == set(range(5))


def test_one_voice_more_leaves_most_captions_to_their_voices() -> None:
    before = [speaking._ranked(VOICES[:3], f"caption {i}")[0] for i in range(400)]
    after = [speaking._ranked(VOICES, f"caption {i}")[0] for i in range(400)]
    changed = [new for old, new in zip(before, after, strict=True) if old != new]
    assert set(changed) == {VOICES[3]} and 60 < len(changed) < 140
    assert min(Counter(before).values()) > 90


def test_own_recordings_are_kept_and_not_spoken_again(tmp_path: Path, engine: list) -> None:
    settings = PrepareSettings(
        "folder", tmp_path / "out", own_folder(tmp_path, 6, recordings=True), augment=0.0
    )
    prepare(settings)
    assert not any(text.startswith("flower number") for text, _ in engine)
    for sample in read_shards(settings.out):
        assert [(u.caption, u.voice) for u in sample.utterances if u.voice == "ann"] == [(0, "ann")]


def test_further_recordings_become_a_part(settings: PrepareSettings, tmp_path: Path) -> None:
    clips = tmp_path / "Spoken Captions"
    clips.mkdir()
    (clips / "x.flac").write_bytes(audio.encode_flac(tone()))
    rows = [
        {"audio": "x.flac", "image": "3.png", "text": "a bloom with 3 petals", "voice": "bdl"},
        {"audio": "x.flac", "image": "of-another-set.png", "text": "who knows", "voice": "bdl"},
    ]
    manifest = write_manifest(clips, rows, "utterances.jsonl")
    prepare(replace(settings, speak=False, recordings=(manifest,)))
    assert [path.name for path in speech_shards(settings.out)] == ["speech-spoken-captions-000000.tar"]
    sample = next(s for s in read_shards(settings.out) if s.id == "3")
    assert [(u.caption, u.voice) for u in sample.utterances] == [(1, "bdl")]


def test_recordings_of_other_pictures_alone_are_an_error(settings: PrepareSettings, tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path, [{"audio": "x.flac", "image": "z.png"}], "utterances.jsonl")
    with pytest.raises(DataError, match="is about a picture of this set"):
        prepare(replace(settings, speak=False, recordings=(manifest,)))


def test_manifest_names_pictures_and_speech(settings: PrepareSettings, engine: list) -> None:
    prepare(settings)
    rows = [json.loads(line) for line in (settings.out / "manifest.jsonl").read_text().splitlines()]
    assert sum(len(row["utterances"]) for row in rows) == len(engine)
    assert {row["shard"] for row in rows} == {f"pictures-00000{i}.tar" for i in range(3)}


def test_engine_that_fails_names_caption_and_voice(
    settings: PrepareSettings, engine: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(text: str, voice: tts.Voice, **delivery: float) -> np.ndarray:
        raise SpeechError("the engine hung")

    monkeypatch.setattr(tts, "speak", fail)
    with pytest.raises(DataError, match=r"voice one/\w cannot say '.*': the engine hung|voice two/c cannot"):
        prepare(settings)
    assert not speech_shards(settings.out)


def test_without_any_engine_pictures_stay_silent(
    settings: PrepareSettings, engine: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tts, "available_voices", lambda timbres=False: [])
    with pytest.warns(UserWarning, match="no speaking engine"):
        prepare(replace(settings, held_out_voices=()))
    assert len(list(read_shards(settings.out))) == 8


def test_voices_by_pattern() -> None:
    assert choose_voices((), ("two/*",), VOICES) == (["one/a", "one/b"], ["two/c", "two/d"])
    assert choose_voices(("*/[ac]",), (), VOICES) == (["one/a", "two/c"], [])
    with pytest.raises(SettingsError, match="no voice fits 'three/x'; voices on this machine: one/a"):
        choose_voices(("three/x",), (), VOICES)
    with pytest.raises(SettingsError, match="held out"):
        choose_voices((), ("*",), VOICES)


def test_a_class_with_one_picture_is_warned_of(tmp_path: Path) -> None:
    rows = []
    for i, label in enumerate((1, 1, 2)):
        (tmp_path / f"{i}.png").write_bytes(encoded(picture()))
        rows.append({"image": f"{i}.png", "class": label, "captions": ["a red one"]})
    with pytest.warns(UserWarning, match="single picture"):
        prepare(PrepareSettings("folder", tmp_path / "out", write_manifest(tmp_path, rows), speak=False))


def test_missing_picture_leaves_nothing(settings: PrepareSettings) -> None:
    assert settings.root is not None
    (settings.root.parent / "3.png").unlink()
    with pytest.raises(DataError, match=r"3\.png, listed in .*line 4"):
        prepare(settings)
    assert list(settings.out.iterdir()) == []


def test_unreadable_picture_keeps_whole_shards_alone(settings: PrepareSettings) -> None:
    assert settings.root is not None
    (settings.root.parent / "4.png").write_text("damaged")
    with pytest.raises(DataError, match=r"unreadable picture .*4\.png"):
        prepare(settings)
    assert [path.name for path in picture_shards(settings.out)] == [f"pictures-00000{i}.tar" for i in (0, 2)]
    assert len(read_header(settings.out / "pictures-000000.tar").rows) == 3
    with pytest.raises(DataError, match="did not end; run the same prepare command again"):
        PairArrays.open(settings.out)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"root": None}, "--root is missing"),
        ({"augment": 1.5}, "--augment is 1.5"),
        ({"validation": 0.6}, "--validation is 0.6"),
        ({"workers": 0}, "--workers is 0"),
        ({"voices_per_caption": 0}, "--voices-per-caption is 0"),
        ({"limit": 0}, "--limit is 0"),
        ({"part": "recorded"}, "--part is"),
        ({"part": "a b"}, "--part is"),
    ],
)
def test_settings_out_of_range(settings: PrepareSettings, change: dict, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        prepare(replace(settings, **change))


def test_unwritable_out(settings: PrepareSettings, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises((OutputError, SettingsError), match="file"):
        prepare(replace(settings, out=tmp_path / "file"))
    with pytest.raises(OutputError):
        prepare(replace(settings, out=tmp_path / "file" / "out"))


@pytest.mark.slow
def test_workers_and_a_real_engine_make_the_same_speech(settings: PrepareSettings, tmp_path: Path) -> None:
    if "flite/slt" not in [voice.id for voice in tts.available_voices()]:
        pytest.skip("needs flite")
    one = replace(settings, voices=("flite/slt", "flite/rms"), held_out_voices=(), augment=0.5)
    prepare(one)
    prepare(replace(one, out=tmp_path / "two", workers=2))
    assert contents(settings.out) == contents(tmp_path / "two")
    arrays = PairArrays.open(settings.out)
    assert set(arrays.voices) == {"flite/slt", "flite/rms"} and arrays.n_frames().min() >= audio.MIN_FRAMES


@pytest.mark.parametrize(("old", "effects"), [("lively", "strong"), ("usual", "default")])
@pytest.mark.filterwarnings("ignore:.* is called .* since version 0.2:FutureWarning")
def test_effects_may_be_called_as_in_version_0_1(
    old: str, effects: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[PrepareSettings] = []
    monkeypatch.setattr("speech2image.data.prepare.prepare", asked.append)
    for given in (["--effects", old], [f"--effects={old}"], ["--effects", effects]):
        assert cli.main(["prepare", "toy", "--out", str(tmp_path), *given]) == 0
    assert [settings.effects for settings in asked] == [effects] * 3


def without_captions(manifest: Path, every: int = 1) -> Path:
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    for number, row in enumerate(rows):
        if number % every == 0:
            row["captions"], row["recordings"] = [], []
    return write_manifest(manifest.parent, rows)


def test_no_caption_at_all_is_told_before_any_work(settings: PrepareSettings, engine: list) -> None:
    without_captions(settings.root)
    with pytest.raises(DataError, match=r"none of 8 pictures .* nothing to speak \(--held-out-voices\)"):
        prepare(settings)
    assert not picture_shards(settings.out)
    with pytest.warns(UserWarning, match="none of 8 pictures .* they stay silent"):
        prepare(replace(settings, held_out_voices=()))
    assert picture_shards(settings.out) and not engine
    prepare(replace(settings, out=settings.out.with_name("pictures"), speak=False))


def test_pictures_without_captions_are_counted(settings: PrepareSettings, engine: list) -> None:
    without_captions(settings.root, every=4)
    with pytest.warns(UserWarning, match="2 of 8 pictures .* have no caption"):
        prepare(settings)
    assert engine


def test_held_out_voices_added_later_speak_test_captions_alone(
    settings: PrepareSettings, engine: list, capsys
) -> None:
    prepare(replace(settings, held_out_voices=(), voices=("one/*",)))
    before, n = contents(settings.out), len(engine)
    prepare(replace(settings, held_out_voices=("two/d",), part="kept-out"))
    assert "spoken already, so two/d speaks test captions only" in capsys.readouterr().err
    assert {voice for _, voice in engine[n:]} == {"two/d"} and len(engine) - n == 4
    after = contents(settings.out)
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed and all("kept-out" in name or name == "manifest.jsonl" for name in changed)
    prepare(replace(settings, held_out_voices=("two/d",), part="kept-out"))  # nothing more
    assert len(engine) - n == 4
    with pytest.raises(SettingsError, match="one/a cannot be kept out"):
        prepare(replace(settings, held_out_voices=("one/a",), part="more"))
    arrays = PairArrays.open(settings.out)
    assert (
        not len(arrays.utterances_of("train", ["two/d"]))
        and len(arrays.utterances_of("test", ["two/d"])) == 4
    )
