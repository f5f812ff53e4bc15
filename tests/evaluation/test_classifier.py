"""The classifier of Inception Score and class accuracy, fitted or brought; sets of enough pictures."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from evaluation_parts import PIXELS, N, PerfectRoute, TinyNetwork, by_name, run, teacher, with_validation

from speech2image.data.corpora.toy import COLOURS
from speech2image.data.pairs import write_shards
from speech2image.data.shards.arrays import PairArrays
from speech2image.errors import CheckpointError, SettingsError
from speech2image.evaluation.real_set import smaller_than, training_photographs
from speech2image.evaluation.realism import score_classifier
from speech2image.evaluation.results import CEILING, SHUFFLED
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


def seen_in_training(folder: Path) -> Path:
    """A toy set whose classes are colours, so that those of the test pictures are trained on."""
    colours = list(COLOURS)
    samples = [replace(s, label=colours.index(s.class_name.split()[0])) for s in with_validation()]
    write_shards(samples, folder)
    PairArrays.open(folder).save_teacher(teacher(N))
    return folder


def test_class_accuracy_of_a_set_whose_classes_are_trained_on(tmp_path: Path) -> None:
    data = seen_in_training(tmp_path / "toy")
    options = {"measures": ("class-accuracy",)}
    results = run(data, tmp_path / "right", network=TinyNetwork(), **options)
    rows = by_name(results["pictures"])
    ceiling, drawn, floor = rows[CEILING], rows["kept out"], rows[SHUFFLED]
    assert drawn["class_accuracy"] > 0.8, "what is drawn is the photograph"
    assert ceiling["class_accuracy"] == pytest.approx(drawn["class_accuracy"], abs=0.2)
    assert floor["class_accuracy"] < 0.5 and rows["noise"]["class_accuracy"] < 0.5
    for row in rows.values():
        low, high = row["class_accuracy_interval"]
        assert low <= row["class_accuracy"] <= high
    assert "fid" not in drawn and results["not_measured"] == {}
    assert results["classifier"]["classes"] == 6

    route = PerfectRoute(PairArrays.open(data))
    route.photographs = route.photographs[..., ::-1]  # red for blue, and blue for red
    swapped = by_name(run(data, tmp_path / "swapped", route, TinyNetwork(), **options)["pictures"])
    assert swapped[CEILING] == ceiling
    assert swapped["kept out"]["class_accuracy"] < 0.5


def test_class_accuracy_is_not_measured_where_the_classifier_knows_other_classes(
    shards: Path, tmp_path: Path
) -> None:
    network = TinyNetwork()
    both = run(shards, tmp_path / "a", network=network, limit=4, measures=("class-accuracy", "class-map"))
    assert "unseen classes" in both["not_measured"]["class-accuracy"]
    assert "class_accuracy" not in both["pictures"][0] and "class_map" in both["pictures"][0]
    assert both["classifier"] is None, "none is fitted for nothing"
    data = seen_in_training(tmp_path / "toy")
    options = {"measures": ("class-accuracy", "inception-score"), "limit": 4}
    run(data, tmp_path / "b", network=network, **options)
    file = str(tmp_path / "b" / "classifier.npz")
    brought = run(data, tmp_path / "c", network=network, classifier=file, **options)
    assert "leave --classifier out" in brought["not_measured"]["class-accuracy"]
    assert "is" in brought["pictures"][0] and "class_accuracy" not in brought["pictures"][0]
