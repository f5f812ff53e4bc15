"""Preprocessing of pictures before the evaluating network, and the real part of it."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_network import pictures

from speech2image.errors import DataError
from speech2image.metrics.feature_network import Inception, load_inception
from speech2image.models.inception import InceptionV3


class Watcher(InceptionV3):
    """Keeps what it is given."""

    def __init__(self):
        with torch.device("meta"):
            super().__init__("mixed_6e")
        self.given = []

    def to(self, *args, **options):
        return self

    def forward(self, x):
        self.given.append(x.clone())
        return x.mean((2, 3))


@pytest.fixture
def watched():
    watcher = Watcher()
    return watcher, Inception(watcher, "watched", "0", torch.device("cpu"))


def test_preprocessing_is_that_of_pytorch_fid(watched):
    watcher, network = watched
    given = pictures(2, side=40)
    network(given)
    expected = torch.tensor(given).permute(0, 3, 1, 2).float() / 255
    expected = 2 * F.interpolate(expected, (299, 299), mode="bilinear", align_corners=False) - 1
    torch.testing.assert_close(watcher.given[0], expected)


def test_sizes_may_be_mixed_and_change_nothing_for_each_other(watched):
    _, network = watched
    large, small = pictures(1, side=50)[0], pictures(1, side=20, seed=1)[0]
    together = network([large, small])
    np.testing.assert_array_equal(together, np.concatenate([network([large]), network([small])]))


def test_many_pictures_go_in_parts(watched):
    watcher, network = watched
    assert network(pictures(35, side=8)).shape == (35, 3)
    assert [len(x) for x in watcher.given] == [16, 16, 3]
    assert network([]).shape == (0, 768)


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((0, 8, 3), np.uint8),
    ],
    ids=["grey", "rgba", "float", "empty"],
)
def test_what_is_no_picture_is_refused(watched, picture):
    with pytest.raises(DataError, match=r"features need uint8 \[h, w, 3\]"):
        watched[1]([picture])


def test_the_real_network(shared):
    """Equal pictures have equal features; different ones differ; nothing depends on the batch."""
    network = load_inception(shared / "weights" / "inception_v3_fid_mixed6e.fp16.safetensors")
    assert network.name == "inception-v3-2015-12-05/mixed_6e"
    assert network.checksum.startswith("fff0a5c3")
    given = pictures(2, side=64)
    features = network(np.concatenate([given, given[:1]]))
    assert features.shape == (3, 768)
    np.testing.assert_allclose(features[0], features[2], atol=1e-5)
    np.testing.assert_allclose(features[:1], network(given[:1]), atol=1e-5)
    assert np.abs(features[0] - features[1]).max() > 0.1
