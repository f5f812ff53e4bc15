"""Picture batches: another class always, each picture once an epoch, the same batch for the same step."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from speech2image.data.shards.arrays import PairArrays
from speech2image.errors import DataError, SettingsError
from speech2image.training.core.picture_batches import OtherClassSampler, PictureBatches


class Memory(PairArrays):
    """A data set in memory: picture i is all i; teacher row i is i (+ 0.5); utterance: 1000 + item."""

    side = 19

    @property
    def teacher(self) -> NDArray[np.float16]:
        crops = np.arange(len(self.labels))[:, None, None] + np.array([0.0, 0.5])[None, :, None]
        return np.broadcast_to(crops, (len(self.labels), 2, 1024)).astype(np.float16)

    @property
    def embeddings(self) -> NDArray[np.float16]:
        return np.repeat(1000 + self.utterance_sample[:, None], 1024, axis=1).astype(np.float16)

    def pictures(self, size: int) -> NDArray[np.uint8]:
        values = np.arange(len(self.labels), dtype=np.uint8)[:, None, None, None]
        return np.broadcast_to(values, (len(self.labels), self.side, self.side, 3)).copy()


def memory(n: int = 10, classes: int = 3, utterances_each: int = 3, kind: type[Memory] = Memory) -> Memory:
    owners = np.repeat(np.arange(n), utterances_each)
    return kind(
        folder=Path("nowhere"),
        ids=[str(i) for i in range(n)],
        labels=np.arange(n, dtype=np.int64) % classes,
        class_names={},
        splits=np.full(n, "train"),
        captions=[("a", "b", "c")] * n,
        utterance_sample=owners,
        utterance_caption=np.zeros_like(owners),
        utterance_voice=np.full(len(owners), "voice"),
    )


def picture_numbers(pictures: NDArray[np.float32]) -> NDArray[np.int64]:
    return np.rint((pictures[:, 0, 0, 0] + 1) * 127.5).astype(np.int64)


@given(labels=st.lists(st.integers(-3, 5), min_size=2, max_size=30), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_a_mismatched_item_is_always_of_another_class(labels: list[int], seed: int) -> None:
    known = np.array(labels, dtype=np.int64)
    items = np.arange(len(known), dtype=np.int64)[::2] if len(set(labels[::2])) > 1 else np.arange(len(known))
    if len(set(known[items])) < 2:
        with pytest.raises(DataError, match="1 class"):
            OtherClassSampler(items, known)
        return
    drawn = OtherClassSampler(items, known).draw(np.tile(items, 20), np.random.default_rng(seed))
    assert set(drawn) <= set(items)
    assert (known[drawn] != known[np.tile(items, 20)]).all()


def test_every_item_of_another_class_is_drawn_equally_often() -> None:
    labels = np.array([0, 1, 1, 2, 0, 2, 2], dtype=np.int64)
    other = OtherClassSampler(np.arange(7, dtype=np.int64), labels)
    drawn = other.draw(np.full(20_000, 1, dtype=np.int64), np.random.default_rng(0))
    share = np.bincount(drawn, minlength=7) / 20_000
    np.testing.assert_allclose(share, [0.2, 0, 0, 0.2, 0.2, 0.2, 0.2], atol=0.015)


def test_batches_hold_other_classes_and_their_own_pictures_and_conditions() -> None:
    arrays = memory(12)
    batches = PictureBatches(arrays, np.arange(12), 16, 5, seed=1, speech_fraction=0.5)
    for step in range(12):
        batch = batches(step)
        np.testing.assert_array_equal(picture_numbers(batch.pictures), batch.indices)
        assert batch.mismatched_pictures is not None
        others = picture_numbers(batch.mismatched_pictures)
        assert (arrays.labels[batch.indices] != arrays.labels[others]).all()
        for conditions, items in ((batch.conditions, batch.indices), (batch.mismatched_conditions, others)):
            np.testing.assert_array_equal(np.floor(conditions[:, 0]) % 1000, items)
        assert batch.pictures.dtype == batch.conditions.dtype == np.float32


def test_speech_fraction_decides_where_conditions_come_from() -> None:
    arrays = memory(10)
    for fraction, low, high in ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (0.25, 0.15, 0.35)):
        batches = PictureBatches(arrays, np.arange(10), 16, 20, seed=0, speech_fraction=fraction)
        spoken = np.concatenate([batches(step).conditions[:, 0] >= 1000 for step in range(20)])
        assert low <= spoken.mean() <= high
    drawn = PictureBatches(arrays, np.arange(10), 16, 20, 0, speech_fraction=0.0)(0).conditions[:, 0]
    assert {0.0, 0.5} == set(drawn % 1), "both teacher crops are drawn"


def test_only_allowed_utterances_are_drawn() -> None:
    class Numbered(Memory):
        @property
        def embeddings(self) -> NDArray[np.float16]:
            return np.arange(8, dtype=np.float16)[:, None].repeat(1024, axis=1)

    voices = memory(4, classes=2, utterances_each=2, kind=Numbered)
    batches = PictureBatches(voices, np.arange(4), 16, 8, 0, utterances=np.array([7, 1, 3, 5]))
    seen = {float(value) for step in range(5) for value in batches(step).conditions[:, 0]}
    assert seen == {1.0, 3.0, 5.0, 7.0}


def test_each_picture_once_an_epoch_over_all_ranks() -> None:
    arrays, indices = memory(21), np.array([20, 3, 4, 5, 7, 8, 9, 11, 13], dtype=np.int64)
    ranks = [PictureBatches(arrays, indices, 16, 2, seed=3, rank=r, world_size=2) for r in range(2)]
    shown = np.concatenate([ranks[r](step).indices for step in range(9) for r in range(2)])
    epochs = shown.reshape(4, 9)
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), np.sort(indices))
    assert not (epochs[0] == epochs[1]).all()


def test_a_step_is_the_same_whatever_came_before() -> None:
    def batches(seed: int = 5) -> PictureBatches:
        return PictureBatches(memory(11), np.arange(11), 16, 4, seed=seed, speech_fraction=0.5)

    walked = batches()
    for step in range(7):
        last = walked(step)
    fresh = batches()(6)
    for name in ("pictures", "conditions", "mismatched_pictures", "mismatched_conditions", "indices"):
        np.testing.assert_array_equal(getattr(last, name), getattr(fresh, name))
    assert not np.array_equal(batches(6)(6).indices, fresh.indices)


def test_crops_and_flips_cut_from_the_stored_picture() -> None:
    stored = np.arange(2 * 5 * 5 * 3, dtype=np.uint8).reshape(2, 5, 5, 3)

    class Textured(Memory):
        def pictures(self, size: int) -> NDArray[np.uint8]:
            return stored

    arrays = memory(2, classes=2, kind=Textured)
    batches = PictureBatches(arrays, np.arange(2), 3, 2, seed=0)

    def cut(item: int, top: int, left: int, flip: int) -> NDArray[np.uint8]:
        return stored[item, top : top + 3, left : left + 3][:, ::flip].transpose(2, 0, 1)

    seen = set()
    for step in range(120):
        batch = batches(step)
        for picture, item in zip(np.rint((batch.pictures + 1) * 127.5), batch.indices, strict=True):
            places = [
                (top, left, flip)
                for top in range(3)
                for left in range(3)
                for flip in (1, -1)
                if np.array_equal(picture, cut(item, top, left, flip))
            ]
            assert len(places) == 1
            seen.add(places[0])
    assert len(seen) == 18, "every crop and both mirrorings come up"


def test_errors_say_what_to_do() -> None:
    arrays = memory(6)
    with pytest.raises(DataError, match=r"1 class .* at least 2 classes"):
        PictureBatches(arrays, np.array([0, 3]), 16, 2, 0)
    with pytest.raises(DataError, match="0 class"):
        PictureBatches(arrays, np.array([], dtype=np.int64), 16, 2, 0)
    with pytest.raises(DataError, match="smaller than the crop of 64"):
        PictureBatches(arrays, np.arange(6), 64, 2, 0)
    with pytest.raises(SettingsError, match=r"speech_fraction is 1\.5"):
        PictureBatches(arrays, np.arange(6), 16, 2, 0, speech_fraction=1.5)
    with pytest.raises(SettingsError, match="rank"):
        PictureBatches(arrays, np.arange(6), 16, 2, 0, rank=2, world_size=2)
    arrays.utterance_sample = np.array([0, 1, 2, 3, 4])
    with pytest.raises(DataError, match="1 of 6 training pictures have no utterance"):
        PictureBatches(arrays, np.arange(6), 16, 2, 0)
    mixed = PictureBatches(arrays, np.arange(6), 16, 6, 0, speech_fraction=0.9)
    batch = mixed(0)
    assert batch.conditions[batch.indices == 5][0, 0] < 1000, "no utterance: the teacher's feature"
