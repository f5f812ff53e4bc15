"""Cached teacher features: what they hold, and that an interruption costs nothing."""

import io

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from speech2image.data import features as module
from speech2image.data.features import cache_teacher_features
from speech2image.data.pairs import Sample, write_shards
from speech2image.data.shards.arrays import PairArrays
from speech2image.errors import DataError, SettingsError
from speech2image.models.teacher.googlenet import GoogLeNet, ten_crops

N = 5


def picture(i):
    """A smooth random picture, not square, different for every i."""
    small = np.random.default_rng(i).integers(0, 256, (6, 7, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((140, 120), Image.Resampling.BICUBIC)


def sample(i):
    out = io.BytesIO()
    picture(i).save(out, "PNG")
    return Sample(f"set/{i:03d}", out.getvalue(), "png", i % 2, f"class {i % 2}", "train", (f"caption {i}",))


@pytest.fixture
def arrays(tmp_path):
    write_shards([sample(i) for i in range(N)], tmp_path, samples_per_shard=2)
    return PairArrays.open(tmp_path)


@pytest.fixture(scope="module")
def teacher():
    torch.manual_seed(0)
    teacher = GoogLeNet()
    for name, weight in teacher.named_parameters():
        torch.nn.init.kaiming_normal_(weight) if name.endswith("weight") else weight.fill_(0.05)
    return teacher


def interrupted_after(pictures, monkeypatch):
    """Let the teacher see so many pictures, then stop as a user would; returns the list of calls."""
    calls = []
    compute = module._features

    def stop(samples, *rest):
        if len(calls) == pictures:
            raise KeyboardInterrupt
        calls.append(samples[0].id)
        return compute(samples, *rest)

    monkeypatch.setattr(module, "_features", stop)
    return calls


@pytest.mark.parametrize(("crops", "which"), [(1, [0]), (2, [0, 5]), (10, list(range(10)))])
def test_features_are_the_teachers_of_each_pictures_crops(arrays, teacher, crops, which):
    path = cache_teacher_features(arrays, teacher, crops=crops, crops_at_once=7)
    cached = arrays.teacher
    assert path == arrays.folder / "arrays" / "teacher.npy"
    assert cached.shape == (N, crops, 1024) and cached.dtype == np.float16
    for i in (0, N - 1):
        expected = teacher.features(ten_crops(np.asarray(picture(i)))[which])
        similarity = F.cosine_similarity(torch.from_numpy(cached[i].astype(np.float32)), expected)
        assert similarity.min() > 0.999
        wrong = torch.from_numpy(cached[1].astype(np.float32))
        assert F.cosine_similarity(wrong, expected).max() < similarity.min()


def test_an_interrupted_run_goes_on_and_equals_an_uninterrupted_one(arrays, teacher, tmp_path, monkeypatch):
    cache_teacher_features(arrays, teacher, crops=1, crops_at_once=1)
    whole = np.array(arrays.teacher)
    (tmp_path / "arrays" / "teacher.npy").unlink()
    with monkeypatch.context() as patch:
        interrupted_after(3, patch)
        with pytest.raises(KeyboardInterrupt):
            cache_teacher_features(arrays, teacher, crops=1, crops_at_once=1)
    assert not (tmp_path / "arrays" / "teacher.npy").exists()
    with monkeypatch.context() as patch:
        calls = interrupted_after(N, patch)
        cache_teacher_features(arrays, teacher, crops=1, crops_at_once=1)
    assert calls == ["set/003", "set/004"]
    np.testing.assert_array_equal(arrays.teacher, whole)
    assert sorted(p.name for p in (tmp_path / "arrays").iterdir()) == ["teacher.json", "teacher.npy"]


def test_a_finished_run_is_not_repeated_but_other_weights_or_crops_are(arrays, teacher, monkeypatch):
    cache_teacher_features(arrays, teacher, crops=1)
    calls = interrupted_after(100, monkeypatch)
    cache_teacher_features(arrays, teacher, crops=1)
    assert calls == []
    other = GoogLeNet()
    cache_teacher_features(arrays, other, crops=1)
    assert len(calls) == 3  # one a shard
    cache_teacher_features(arrays, other, crops=2)
    assert len(calls) == 6 and arrays.teacher.shape[1] == 2


def test_the_old_file_stays_until_the_new_one_is_complete(arrays, teacher, monkeypatch):
    arrays.save_teacher(np.ones((N, 2, 1024)))
    interrupted_after(1, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        cache_teacher_features(arrays, teacher, crops=1, crops_at_once=1)
    assert (arrays.teacher == 1).all()


@pytest.mark.parametrize(("crops", "at_once"), [(3, 20), (0, 20), (10, 0)])
def test_other_numbers_of_crops_are_refused(arrays, teacher, crops, at_once):
    with pytest.raises(SettingsError, match="choose 1, 2 or 10"):
        cache_teacher_features(arrays, teacher, crops=crops, crops_at_once=at_once)


def test_pictures_that_vanished_are_noticed(arrays, teacher):
    (arrays.folder / "pictures-000002.tar").unlink()
    with pytest.raises(DataError, match=r"pictures-000002\.tar"):
        cache_teacher_features(arrays, teacher, crops=1)
    with pytest.raises(DataError, match="missing"):
        _ = arrays.teacher
