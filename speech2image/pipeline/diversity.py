"""Choice among more pictures: those that differ most, so that none is nearly another's copy.

Where a condition prior samples what the generator draws from, four times as many samples are compared, and
pictures that are not chosen are never drawn. Without a prior twice as many small pictures are compared: the
colours of 8 x 8 fields, and of 4 x 4 fields how strong edges of eight directions are (histograms of oriented
gradients: Dalal and Triggs 2005).
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from speech2image.pipeline.noise import MAX_PICTURES

_SIDE, _COLOUR_FIELDS, _EDGE_FIELDS, _DIRECTIONS = 64, 8, 4, 8
_FAINT = 4.0
"""Levels from pixel to pixel; weaker edges are noise."""
_EDGE_WEIGHT = 160.0
"""Of 16 drawn flowers of one recording, the 8 chosen then lie farthest apart for an Inception network."""


def candidates(n: int, samples: bool) -> int:
    """How many to choose `n` from, 10,000 at most: four times as many samples of a prior, or twice as many
    pictures, which take time to draw.

    A single picture is the first one, so there is no other candidate.
    """
    return 1 if n == 1 else max(n, min((4 if samples else 2) * n, MAX_PICTURES))


def most_different(rows: NDArray[np.floating], n: int) -> list[int]:
    """Places of `n` rows that differ from one another: the first, then always the one that is farthest from
    the nearest already chosen (farthest-point traversal: Gonzalez 1985). The same rows give the same choice.

    Args:
        rows: what pictures are compared by, [m, size], at least `n`.
        n: how many to choose, from 1.
    """
    chosen, nearest = [0], np.full(len(rows), np.inf)
    while len(chosen) < n:
        nearest = np.minimum(nearest, np.linalg.norm(rows - rows[chosen[-1]], axis=1))
        nearest[chosen] = -1  # equal pictures have the distance 0, and none may be chosen twice
        chosen.append(int(nearest.argmax()))
    return chosen


def describe(picture: Image.Image) -> NDArray[np.float64]:
    """Colours and edges of an RGB picture's fields, [320]: nearer rows, more alike pictures."""
    small = picture.convert("YCbCr").resize((_SIDE, _SIDE), Image.Resampling.BOX)
    colours = np.asarray(small.resize((_COLOUR_FIELDS, _COLOUR_FIELDS), Image.Resampling.BOX), np.float64)
    down, across = np.gradient(np.asarray(small, np.float64)[..., 0])
    # direction of the edge, not its sign: a dark petal on a light ground has the edges of the reverse
    direction = np.arctan2(down, across) % np.pi
    # upright and level edges, the most frequent, fall into the middle of a bin, not on the border of two
    binned = (direction / np.pi * _DIRECTIONS + 0.5).astype(int) % _DIRECTIONS
    strength = np.maximum(np.hypot(down, across) - _FAINT, 0)[..., None] * (
        binned[..., None] == np.arange(_DIRECTIONS)
    )
    width = _SIDE // _EDGE_FIELDS
    edges = strength.reshape(_EDGE_FIELDS, width, _EDGE_FIELDS, width, _DIRECTIONS).mean((1, 3))
    edges = np.sqrt(edges) / _EDGE_FIELDS * _EDGE_WEIGHT  # roots tame single strong edges
    return np.concatenate([colours.ravel() / _COLOUR_FIELDS, edges.ravel()]) / 255
