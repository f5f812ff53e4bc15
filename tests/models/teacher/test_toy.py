"""The toy teacher: frozen, always the same, and able to tell the toy set's colours and shapes apart."""

import io

import numpy as np
import torch
from PIL import Image

from speech2image.data.corpora.toy import CLASSES, draw
from speech2image.models.teacher.googlenet import ten_crops
from speech2image.models.teacher.toy import ToyTeacher


def crops(n: int) -> torch.Tensor:
    rng = np.random.default_rng(0)
    pngs = [draw(*CLASSES[i % len(CLASSES)], "dark" if i % 5 else "grey", 76, rng) for i in range(n)]
    return torch.cat([ten_crops(np.asarray(Image.open(io.BytesIO(png))), [0]) for png in pngs])


def test_nearest_neighbour_has_the_colour_and_mostly_the_shape() -> None:
    n = 144
    features = ToyTeacher().features(crops(n)).half().float()
    assert features.shape == (n, 1024) and features.min() >= 0
    centred = torch.nn.functional.normalize(features - features.mean(0), dim=1)
    nearest = (centred @ centred.T).fill_diagonal_(-1).argmax(1).tolist()
    found = [(CLASSES[i % 24], CLASSES[j % 24]) for i, j in enumerate(nearest)]
    assert np.mean([own[0] == other[0] for own, other in found]) > 0.95
    assert np.mean([own[1] == other[1] for own, other in found]) > 0.6


def test_is_always_the_same_and_frozen() -> None:
    torch.manual_seed(1)
    one = ToyTeacher()
    torch.manual_seed(2)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), ToyTeacher().parameters(), strict=True))
    assert not any(parameter.requires_grad for parameter in one.parameters())
