"""Several data sets as one: every number still leads to what it led to in its own set."""

from pathlib import Path

import numpy as np
import pytest
from small_sets import sample

from speech2image.data.pairs import write_shards
from speech2image.data.shards.arrays import PairArrays
from speech2image.data.training_sets import JoinedArrays, JoinedRows, open_arrays, parts_of
from speech2image.errors import DataError


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    for name, numbers in (("one", range(7)), ("two", range(10, 14))):
        samples = [sample(i, split="test" if i % 3 == 2 else "train") for i in numbers]
        write_shards(samples, tmp_path / name, samples_per_shard=3)
    return [tmp_path / "one", tmp_path / "two"]


def test_one_folder_is_opened_as_it_is_and_two_become_one(folders: list[Path]) -> None:
    assert isinstance(open_arrays(folders[:1]), PairArrays)
    joined = open_arrays(folders)
    assert isinstance(joined, JoinedArrays) and [len(part.ids) for part in parts_of(joined)] == [7, 4]
    with pytest.raises(DataError, match="named twice"):
        open_arrays([folders[0], folders[0]])


def test_numbers_run_on_from_set_to_set(folders: list[Path]) -> None:
    joined = open_arrays(folders)
    one, two = (PairArrays.open(folder) for folder in folders)
    assert joined.ids == one.ids + two.ids and joined.captions == one.captions + two.captions
    assert set(joined.labels[:7]) & set(joined.labels[7:]) == set()
    assert [joined.class_names[label] for label in joined.labels] == [
        part.class_names[label] for part in (one, two) for label in part.labels
    ]
    for u, (part, v) in enumerate([(one, v) for v in range(14)] + [(two, v) for v in range(8)]):
        assert joined.ids[joined.utterance_sample[u]] == part.ids[part.utterance_sample[v]]
        assert joined.utterance_voice[u] == part.utterance_voice[v]
        np.testing.assert_array_equal(joined.log_mel(u), part.log_mel(v))
    np.testing.assert_array_equal(joined.n_frames(), [*one.n_frames(), *two.n_frames()])


def test_splits_and_voices_choose_from_both(folders: list[Path]) -> None:
    joined = open_arrays(folders)
    assert joined.samples_of("test").tolist() == [2, 5, 8]
    assert joined.utterances_of("test", voices=["v1"]).tolist() == [5, 11, 17]
    assert joined.voices == ["v0", "v1"]


def test_pictures_are_read_row_by_row(folders: list[Path]) -> None:
    joined, two = open_arrays(folders), PairArrays.open(folders[1])
    pictures = joined.pictures(32)
    assert isinstance(pictures, JoinedRows) and pictures.shape == (11, 38, 38, 3) and len(pictures) == 11
    np.testing.assert_array_equal(pictures[8], two.pictures(32)[1])
    np.testing.assert_array_equal(pictures[np.int64(10), 3:9, 2:5], two.pictures(32)[3, 3:9, 2:5])


def test_features_are_laid_end_to_end(folders: list[Path]) -> None:
    for n, folder in zip((7, 4), folders, strict=True):
        PairArrays.open(folder).save_teacher(np.full((n, 2, 1024), n, np.float16))
        PairArrays.open(folder).save_embeddings(np.full((2 * n, 1024), n, np.float16))
    joined = open_arrays(folders)
    assert joined.teacher[:, 1, 0].tolist() == [7] * 7 + [4] * 4
    assert joined.embeddings[:, 5].tolist() == [7] * 14 + [4] * 8
    PairArrays.open(folders[1]).save_teacher(np.zeros((4, 1, 1024), np.float16))
    with pytest.raises(DataError, match="different numbers of crops"):
        _ = open_arrays(folders).teacher
