"""A small random network with the interface of the evaluating one, and pictures for it."""

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image


class RandomNetwork:
    """Two random convolutions; the mean over positions of both, 24 features."""

    name = "random/24"
    dim = 24
    checksum = "0" * 64

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self._first = torch.randn(8, 3, 3, 3, generator=generator)
        self._second = torch.randn(16, 8, 3, 3, generator=generator) / 8
        self.seen = 0

    def __call__(self, pictures) -> np.ndarray:
        self.seen += len(pictures)
        if not len(pictures):
            return np.zeros((0, self.dim), np.float32)
        small = [np.asarray(Image.fromarray(p).resize((32, 32), Image.Resampling.BILINEAR)) for p in pictures]
        x = torch.tensor(np.stack(small)).permute(0, 3, 1, 2).float() / 127.5 - 1
        first = F.relu(F.conv2d(x, self._first))
        second = F.relu(F.conv2d(first, self._second))
        return torch.cat([first.mean((2, 3)), second.mean((2, 3))], 1).numpy()


def pictures(n: int, side: int = 32, seed: int = 0) -> np.ndarray:
    """Coloured stripes of random colour, direction and width: uint8 [n, side, side, 3]."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:side, :side] / side
    made = []
    for _ in range(n):
        angle, waves, start = rng.uniform(0, np.pi), rng.uniform(2, 5), rng.uniform(0, 6)
        wave = np.sin(2 * np.pi * waves * (rows * np.sin(angle) + columns * np.cos(angle)) + start)
        one, other = rng.uniform(30, 225, 3), rng.uniform(30, 225, 3)
        made.append(np.where((wave > 0)[..., None], one, other))
    return np.stack(made).astype(np.uint8)
