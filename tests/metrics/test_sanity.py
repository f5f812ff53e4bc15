"""Whether the figures can be trusted: what every measure must do, on pictures spoilt more and more.

In CI a small random network stands for Inception-v3; where the real one is at hand it is tried too.
"""

import numpy as np
import pytest
from PIL import Image, ImageFilter
from small_network import RandomNetwork, pictures

from speech2image.data.pictures import list_pictures, read_picture
from speech2image.errors import DataError
from speech2image.metrics.feature_network import load_inception
from speech2image.metrics.frechet import Moments, frechet_distance
from speech2image.metrics.inception_score import inception_score
from speech2image.metrics.kernel import kernel_distance
from speech2image.metrics.picture_classifier import PictureClassifier
from speech2image.metrics.precision_recall import precision_recall
from speech2image.metrics.retrieval import average_precisions, ranks, retrieval
from speech2image.metrics.word_errors import content_word_error_rate, word_error_rate


def blurred(given, strength):
    made = [Image.fromarray(p).filter(ImageFilter.GaussianBlur(p.shape[0] * strength)) for p in given]
    return np.stack([np.asarray(image) for image in made])


def noisy(given, strength):
    noise = np.random.default_rng(7).normal(0, 255 * strength, given.shape)
    return np.clip(given + noise, 0, 255).astype(np.uint8)


def shifted(given, strength):
    """Red up, blue down."""
    return np.clip(given + np.array([255, 0, -255]) * strength, 0, 255).astype(np.uint8)


SPOILING = {
    "blur": (blurred, (0.01, 0.03, 0.08)),
    "noise": (noisy, (0.04, 0.12, 0.3)),
    "colour": (shifted, (0.05, 0.15, 0.4)),
}


@pytest.fixture(scope="module")
def network():
    return RandomNetwork()


@pytest.fixture(scope="module")
def real(network):
    return network(pictures(120))


def fid(x, y):
    return frechet_distance(Moments.of(x), Moments.of(y))


def test_fid_of_a_set_with_itself_is_nought(real):
    assert fid(real, real) == pytest.approx(0, abs=1e-6)
    assert fid(real, real[::-1]) == pytest.approx(0, abs=1e-6)


def test_fid_of_gaussians_tends_to_the_closed_form():
    """N(0, I) and N(m, 4 I) in 5 dimensions: |m|^2 + 5 (2 - 1)^2."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40_000, 5)), rng.normal(size=(40_000, 5)) * 2 + [1, 0, 0, 2, 0]
    assert fid(x, y) == pytest.approx(5 + 5, rel=0.02)


def test_fid_of_few_pictures_is_too_high(network):
    """The bias every docstring warns of: halves of one set, the smaller the further apart."""
    features = network(pictures(400))
    found = [fid(features[:n], features[n : 2 * n]) for n in (25, 50, 200)]
    assert found[0] > found[1] > found[2] > 0


@pytest.mark.parametrize("kind", SPOILING)
def test_fid_and_kid_rise_as_pictures_are_spoilt(network, real, kind):
    spoil, strengths = SPOILING[kind]
    spoilt = [network(spoil(pictures(120), strength)) for strength in strengths]
    fids = [fid(real, features) for features in spoilt]
    kids = [kernel_distance(real, features, subsets=1)[0] for features in spoilt]
    assert 0 < fids[0] < fids[1] < fids[2]
    assert kids[0] < kids[1] < kids[2]


@pytest.mark.slow
@pytest.mark.parametrize("kind", SPOILING)
def test_fid_of_the_real_network_rises_as_flowers_are_spoilt(shared, kind):
    network = load_inception(shared / "weights" / "inception_v3_fid_mixed6e.fp16.safetensors")
    folder = shared / "data" / "oxford102" / "images"
    names = list_pictures(folder)[:480:60]
    flowers = np.stack([read_picture(folder / name, 128) for name in names])
    spoil, strengths = SPOILING[kind]
    own = network(flowers)
    found = [fid(own, network(spoil(flowers, strength))) for strength in strengths]
    assert 0 < found[0] < found[1] < found[2]


def test_order_of_sets_does_not_matter(network, real):
    other = network(pictures(80, seed=5))
    assert fid(real, other) == pytest.approx(fid(other, real))
    assert kernel_distance(real, other[:80], subsets=1, subset_size=2000)[0] != 0


def test_inception_score_lies_between_one_and_the_classes(network):
    """A classifier of the four colours: one colour scores 1, all four nearly 4, grey mixtures between."""
    colours = np.array([[220, 20, 20], [20, 220, 20], [20, 20, 220], [220, 220, 20]])
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 300)
    given = np.clip(colours[labels][:, None, None] + rng.normal(0, 15, (300, 8, 8, 3)), 0, 255).astype(
        np.uint8
    )
    features = network(given)
    classifier = PictureClassifier.fit(features, labels, "four colours")

    def score(rows, **options):
        return inception_score(classifier.probabilities(rows), **options)[0]

    every, one = score(features), score(features[labels == 2])
    grey = score(network(given // 4 + 96))
    assert 1 <= one < 1.05
    assert 3.3 < every <= 4
    assert 1 <= grey < every
    assert score(features, splits=1) <= 4


def test_precision_and_recall_fall_apart(network, real):
    """Spoilt pictures lose precision; a few pictures over and over lose recall."""
    fresh = network(pictures(120, seed=3))
    good = precision_recall(real, fresh)
    assert min(good) > 0.6
    assert precision_recall(real, network(shifted(pictures(120, seed=3), 0.4)))[0] < 0.5
    few = np.tile(fresh[:5], (24, 1))
    assert precision_recall(real, few)[1] < good[1] / 2


def test_retrieval_by_hand():
    """Five pictures of classes a a b b b, two queries.

    Query 0 (picture 0) orders 2, 0, 1, 3, 4: place 2; class a at places 2 and 3: (1/2 + 2/3) / 2.
    Query 1 (picture 4) orders 4, 3, 0, 2, 1: place 1; class b at places 1, 2, 4: (1 + 1 + 3/4) / 3.
    """
    scores = np.array([[4.0, 3.0, 5.0, 2.0, 1.0], [3.0, 1.0, 2.0, 4.0, 5.0]])
    labels, targets = np.array([0, 0, 1, 1, 1]), np.array([0, 4])
    assert ranks(scores, targets).tolist() == [1, 0]
    found = average_precisions(scores, labels[targets, None] == labels)
    assert found == pytest.approx([(1 / 2 + 2 / 3) / 2, (1 + 1 + 3 / 4) / 3])


def test_a_similarity_that_is_no_number_is_no_hit():
    scores = np.array([[0.1, np.nan, 0.3]])
    for call in (
        lambda: ranks(scores, np.array([1])),
        lambda: average_precisions(scores, np.array([[True, False, False]])),
    ):
        with pytest.raises(DataError, match="not a number"):
            call()
    features = np.ones((3, 4), np.float32)
    with pytest.raises(DataError, match="not a number"):
        retrieval(features * np.nan, features, np.arange(3), np.arange(3))


def test_word_errors_by_hand():
    """One substitution (red -> read), one deletion (a), one insertion (very) on 6 + 3 words."""
    said = ["the bird has a red belly", "small blue wings"]
    understood = ["the bird has read belly", "small very blue wings"]
    assert word_error_rate(said, understood) == pytest.approx(3 / 9)
    assert content_word_error_rate(said, understood) == pytest.approx(1 / 5)  # bird red belly, blue wings
