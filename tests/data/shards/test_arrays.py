"""Arrays for training: what they hold, that they follow the shards, that lookups agree."""

from pathlib import Path

import numpy as np
import pytest
from small_sets import sample

from speech2image import audio
from speech2image.data import pairs
from speech2image.data.pairs import write_shards
from speech2image.data.shards.arrays import PairArrays
from speech2image.errors import DataError


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    write_shards(
        [sample(i, split="test" if i % 3 == 2 else "train") for i in range(7)], tmp_path, samples_per_shard=3
    )
    return tmp_path


def add_voice(folder: Path) -> None:
    spoken = [
        pairs.ShardUtterance("set/004", "", pairs.Utterance(-1, "new", sample(4).utterances[0].audio, "flac"))
    ]
    pairs.write_speech_shard(pairs.speech_shard(folder, "added", 0), spoken)


def test_index(shards: Path) -> None:
    arrays = PairArrays.open(shards)
    assert arrays.ids == [f"set/{i:03d}" for i in range(7)]
    assert arrays.labels.tolist() == [1, 2, 3, 1, 2, 3, 1] and arrays.class_names[2] == "class 2"
    assert arrays.captions[6] == ("caption 6", "other 6")
    assert arrays.samples_of("test").tolist() == [2, 5]
    assert arrays.utterance_sample.tolist() == [i for i in range(7) for _ in range(2)]
    assert arrays.utterance_caption.tolist() == [0, 1] * 7 and arrays.voices == ["v0", "v1"]


def test_utterances_by_split_and_voice(shards: Path) -> None:
    arrays = PairArrays.open(shards)
    assert arrays.utterances_of("test").tolist() == [4, 5, 10, 11]
    assert arrays.utterances_of("test", voices=["v1"]).tolist() == [5, 11]
    assert arrays.utterances_of("test", exclude_voices=["v1"]).tolist() == [4, 10]
    assert arrays.utterances_of("train", voices=["v0"], exclude_voices=["v0"]).tolist() == []


def test_which_classes_a_split_shows(tmp_path: Path) -> None:
    """Classes of sample i: i % 3 + 1; the test pictures are of classes trained on, of others, of both."""
    for name, test, expected in (
        ("unseen", {2, 5}, "unseen classes"),
        ("shared", {5, 6}, "seen classes (test pictures)"),
        ("partly", {2, 5, 6}, "partly seen classes"),
    ):
        write_shards([sample(i, split="test" if i in test else "train") for i in range(7)], tmp_path / name)
        arrays = PairArrays.open(tmp_path / name)
        assert arrays.classes_of("test") == expected and arrays.classes_of("val") == "seen classes"


def test_pictures_are_central_squares(shards: Path) -> None:
    pictures = PairArrays.open(shards).pictures(32)
    assert pictures.shape == (7, 38, 38, 3) and pictures.dtype == np.uint8
    assert isinstance(pictures, np.memmap)
    np.testing.assert_array_equal(pictures[:, 0, 0, 0], [0, 10, 20, 30, 40, 50, 60])


def test_log_mels_are_those_of_the_recordings(shards: Path) -> None:
    arrays = PairArrays.open(shards)
    for u in (0, 5, 13):
        expected = audio.log_mel(audio.load(sample(u // 2).utterances[u % 2].audio))
        mel = arrays.log_mel(u)
        assert mel.dtype == np.float32 and mel.shape == expected.shape == (40, arrays.n_frames()[u])
        np.testing.assert_allclose(mel, expected, atol=0.01)


def test_added_speech_builds_new_log_mels_alone(shards: Path) -> None:
    PairArrays.open(shards).log_mel(0)
    old = {path: path.stat().st_mtime_ns for path in (shards / "arrays").glob("log_mel-*")}
    picture_array = PairArrays.open(shards).pictures(32).filename
    add_voice(shards)
    arrays = PairArrays.open(shards)
    new = arrays.utterances_of("train", voices=["new"])
    assert arrays.utterance_sample[new].tolist() == [4] and arrays.utterance_caption[new].tolist() == [-1]
    np.testing.assert_allclose(
        arrays.log_mel(int(new[0])), audio.log_mel(audio.load(sample(4).utterances[0].audio)), atol=0.01
    )
    assert all(path.stat().st_mtime_ns == time for path, time in old.items())
    assert len(list((shards / "arrays").glob("log_mel-*"))) == len(old) + 2
    assert arrays.pictures(32).filename == picture_array


@pytest.mark.slow
def test_workers_build_the_same(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("workers")
    for path in shards.glob("*.tar"):
        (other / path.name).write_bytes(path.read_bytes())
    one, two = PairArrays.open(shards), PairArrays.open(other, workers=2)
    for u in (0, 7, 13):
        np.testing.assert_array_equal(one.log_mel(u), two.log_mel(u))


def test_changed_pictures_get_arrays_of_their_own(shards: Path) -> None:
    first = PairArrays.open(shards).pictures(16).copy()
    write_shards([sample(i + 1) for i in range(7)], shards, samples_per_shard=3)
    assert not np.array_equal(PairArrays.open(shards).pictures(16), first)


def test_teacher_missing_names_the_command_and_stale_is_told(shards: Path) -> None:
    arrays = PairArrays.open(shards)
    with pytest.raises(DataError, match=r"teacher\.npy is missing; make it with: speech2image"):
        _ = arrays.teacher
    arrays.save_teacher(np.ones((7, 2, 8), np.float16))
    assert PairArrays.open(shards).teacher.shape == (7, 2, 8)
    np.save(shards / "arrays" / "teacher.npy", np.ones((6, 2, 8), np.float16))
    with pytest.raises(DataError, match="6 rows but the data set 7"):
        _ = arrays.teacher


def test_speech_embeddings_go_stale_when_speech_is_added(shards: Path) -> None:
    arrays = PairArrays.open(shards)
    arrays.save_embeddings(np.arange(14 * 4, dtype=np.float16).reshape(14, 4))
    np.testing.assert_array_equal(PairArrays.open(shards).embeddings[3], [12, 13, 14, 15])
    add_voice(shards)
    with pytest.raises(DataError, match="before the data changed"):
        _ = PairArrays.open(shards).embeddings
    with pytest.raises(DataError, match="must have 14 rows"):
        arrays.save_embeddings(np.zeros((3, 4), np.float16))


def test_silent_set_names_the_command(tmp_path: Path) -> None:
    write_shards([sample(i, n_utterances=0) for i in range(3)], tmp_path)
    arrays = PairArrays.open(tmp_path)
    assert arrays.utterances_of("train").tolist() == [] and arrays.voices == []
    with pytest.raises(DataError, match=r"no speech in .*speech2image prepare"):
        arrays.log_mel(0)


def test_speech_of_unknown_picture(shards: Path) -> None:
    spoken = pairs.ShardUtterance("lost", "", sample(0).utterances[0])
    pairs.write_speech_shard(pairs.speech_shard(shards, "x", 0), [spoken])
    with pytest.raises(DataError, match="speak of lost"):
        PairArrays.open(shards)


def test_empty_folder_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="speech2image prepare"):
        PairArrays.open(tmp_path)


def test_unusable_utterance_names_the_sample(shards: Path) -> None:
    short = pairs.Utterance(-1, "v", audio.encode_flac(np.ones(1600, np.float32) * 0.1), "flac")
    pairs.write_speech_shard(pairs.speech_shard(shards, "x", 0), [pairs.ShardUtterance("set/001", "", short)])
    with pytest.raises(DataError, match="set/001 cannot be used"):
        PairArrays.open(shards).build_log_mels()
