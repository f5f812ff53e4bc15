"""The Inception Score's classifier, fitted to training photographs or brought; sets of enough pictures."""

from pathlib import Path

import numpy as np
import pytest
from evaluation_parts import PIXELS, TinyNetwork, by_name, run

from speech2image.data.shards.arrays import PairArrays
from speech2image.errors import CheckpointError, SettingsError
from speech2image.evaluation.real_set import smaller_than, training_photographs
from speech2image.evaluation.realism import score_classifier
from speech2image.evaluation.settings import EvaluationSettings, check
from speech2image.metrics.picture_classifier import PictureClassifier


def test_no_test_photograph_is_part_of_the_fitted_classifier(shards: Path, tmp_path: Path) -> None:
    arrays, network = PairArrays.open(shards), TinyNetwork()
    features, labels = training_photographs(arrays, PIXELS, network, 30)
    known = set(arrays.labels[arrays.samples_of("train")].tolist())
    assert set(labels.tolist()) == known
    assert known.isdisjoint(arrays.labels[arrays.samples_of("test")].tolist()), "a zero-shot split"
    there = arrays.labels[arrays.samples_of("train")]
    assert labels.tolist() == there.tolist(), "all of them, where each class has no more than five"
    assert sum(network.batches) == len(features) == len(labels)
    again = TinyNetwork()
    training_photographs(arrays, PIXELS, again, 30)
    assert again.batches == [], "features are kept"
    found = score_classifier("fitted", tmp_path, network, arrays, PIXELS, tmp_path)
    assert found is not None and found.description["classes"] == len(known)
    assert 0 <= found.description["right_on_photographs_held_back"] <= 1
    assert "training photographs" in found.description["name"]


def test_a_classifier_can_be_brought(shards: Path, tmp_path: Path) -> None:
    options = {"measures": ("inception-score",), "limit": 6}
    first = run(shards, tmp_path / "a", network=TinyNetwork(), **options)
    file = tmp_path / "a" / "classifier.npz"
    second = run(shards, tmp_path / "b", network=TinyNetwork(), classifier=str(file), **options)
    assert by_name(second["pictures"])["kept out"]["is"] == by_name(first["pictures"])["kept out"]["is"]
    assert second["classifier"]["sha256"] == first["classifier"]["sha256"]
    assert not (tmp_path / "b" / "classifier.npz").exists()


def test_a_classifier_of_another_network_is_refused(shards: Path, tmp_path: Path) -> None:
    arrays = PairArrays.open(shards)
    other = PictureClassifier(np.zeros((10, 3), np.float32), "of nine features")
    other.save(tmp_path / "other.npz")
    with pytest.raises(CheckpointError, match="'of nine features' reads 9 features, tiny/means gives 6"):
        score_classifier(str(tmp_path / "other.npz"), tmp_path, TinyNetwork(), arrays, PIXELS, tmp_path)
    with pytest.raises(SettingsError, match="neither fitted, imagenet nor a file"):
        check(EvaluationSettings(shards, tmp_path, classifier=str(tmp_path / "absent.npz")))


def test_sets_are_drawn_until_they_have_enough_pictures(shards: Path, tmp_path: Path) -> None:
    options = {"measures": ("fid", "kid"), "limit": 4}
    few = by_name(run(shards, tmp_path / "a", network=TinyNetwork(), **options)["pictures"])
    many = by_name(
        run(shards, tmp_path / "b", network=TinyNetwork(), least_pictures=10, **options)["pictures"]
    )
    assert few["kept out"]["n"] == 4
    assert many["kept out"]["n"] == many["noise"]["n"] == 12, "three of each of four utterances"
    assert EvaluationSettings(shards, tmp_path, least_pictures=2000).pictures_each(400) == 5


def test_photographs_that_are_enlarged_are_counted(shards: Path) -> None:
    arrays = PairArrays.open(shards)
    assert smaller_than(arrays, 10_000) == len(arrays.samples_of("test"))
    assert smaller_than(arrays, 1) == 0
