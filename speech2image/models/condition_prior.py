"""What a picture may still be once something was said about it.

A speech embedding lies near the mean of the features of all pictures it could describe. A generator fed with
that mean draws one picture, whatever the noise. unCLIP (Ramesh et al. 2022) therefore trains a network, the
prior, that draws a feature for a caption. Here training pictures of which much the same was said lend theirs,
a kernel regression (Nadaraya 1964, Watson 1964) with noise in its weights.
"""

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from speech2image.errors import CheckpointError, DataError, SettingsError

NEAREST, NEARNESS, CHANCE = 16, 4.0, 2.5
"""What decides which pictures lend: how alike the descriptions are, measured by how alike the first `NEAREST`
are, and the noise. The noise chooses two or three of about so many."""


class ConditionPrior(nn.Module):
    """Draws a feature of the image teacher that fits a speech embedding.

    A linear regression predicts the feature. The directions in which its predictions vary most are what
    speech tells; there the feature is as predicted, mixed with those of the lending pictures. In all other
    directions it is theirs.

    Args:
        size: of embeddings and features.
        told: number of directions that speech decides, 1 to `size`.
        noise_size: number of further directions that are kept of lending pictures; length of the noise.
        pictures: number of pictures that may lend.
    """

    mean: Tensor
    read: Tensor
    told: Tensor
    others: Tensor
    described: Tensor
    inside: Tensor
    outside: Tensor
    length: Tensor
    borrowed: Tensor

    def __init__(self, size: int = 1024, told: int = 32, noise_size: int = 100, pictures: int = 8000) -> None:
        super().__init__()
        self.noise_size = noise_size
        if not 1 <= told <= size or not 1 <= noise_size <= size:
            raise SettingsError(
                f"told is {told} and noise_size {noise_size}; both must lie between 1 and {size}"
            )
        if pictures < 1:
            raise SettingsError(f"pictures is {pictures}; at least one must lend its feature")
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("read", torch.zeros(size, told))
        self.register_buffer("told", torch.zeros(size, told))
        self.register_buffer("others", torch.zeros(size, noise_size))
        self.register_buffer("described", torch.zeros(pictures, told))
        self.register_buffer("inside", torch.zeros(pictures, told))
        self.register_buffer("outside", torch.zeros(pictures, noise_size))
        self.register_buffer("length", torch.zeros(()))
        self.register_buffer("borrowed", torch.zeros(()))

    @classmethod
    def from_state(cls, state: dict[str, Tensor]) -> "ConditionPrior":
        """The prior that a checkpoint holds.

        Raises:
            CheckpointError: it is of an earlier form.
        """
        if "described" not in state:
            raise CheckpointError(
                "the checkpoint holds a condition prior of an earlier form; fit it anew with: "
                "speech2image train condition-prior"
            )
        size, told = state["told"].shape
        pictures, noise_size = state["outside"].shape
        prior = cls(size, told, noise_size, pictures)
        prior.load_state_dict(state)
        return prior

    @classmethod
    def fit(
        cls,
        speech: NDArray[np.float32],
        features: NDArray[np.float32],
        mean: NDArray[np.float32],
        owners: NDArray[np.int64] | None = None,
        *,
        told: int = 32,
        noise_size: int = 100,
        pictures: int = 8000,
        borrowed: float = 0.4,
        seed: int = 0,
    ) -> "ConditionPrior":
        """Fit on training material.

        Args:
            speech: speech embeddings [n, size].
            features: the teacher's features of the pictures described, [n, size].
            mean: of the teacher's features, [size].
            owners: number of the picture that each embedding describes, [n]: what was said of one picture in
                several embeddings counts together; by default each describes one of its own.
            told: directions that speech decides; at most as many as can be found.
            noise_size: further directions in which pictures vary.
            pictures: at most so many lend their features, chosen at random.
            borrowed: their part in what was said, 0 to 1: less binds pictures more closely to the words, more
                makes them more like photographs.
            seed: of the choice.

        Raises:
            DataError: no embedding, or not one feature for each.
            SettingsError: a size or part out of range.
        """
        if not len(speech) or speech.shape != features.shape:
            raise DataError(
                f"a condition prior needs as many speech embeddings as features, got {speech.shape} and "
                f"{features.shape}"
            )
        if not 0 <= borrowed <= 1:
            raise SettingsError(f"borrowed is {borrowed}; give 0 (as predicted) to 1 (as the pictures are)")
        said, real = unit(speech - mean), unit(features - mean)
        regression = ridge(said, real)
        directions = principal(said @ regression)[1]
        _, first, owner = np.unique(
            np.arange(len(speech)) if owners is None else owners, return_index=True, return_inverse=True
        )
        chosen = np.sort(np.random.default_rng(seed).permutation(len(first))[:pictures])
        prior = cls(speech.shape[1], told, noise_size, len(chosen))
        kept = np.ascontiguousarray(directions[:, :told])
        reading: NDArray[np.float32] = regression @ kept
        inside: NDArray[np.float32] = real @ kept
        outside: NDArray[np.float32] = real - inside @ kept.T
        others = np.ascontiguousarray(principal(outside)[1][:, :noise_size])
        described = np.zeros((len(first), told), np.float32)
        np.add.at(described, owner, unit(said @ reading))
        lenders = first[chosen]
        lent: NDArray[np.float32] = outside[lenders] @ others
        # what the further directions leave out of a feature is made up for in length
        lent = unit(lent) * np.linalg.norm(outside[lenders], axis=1, keepdims=True)
        prior.mean.copy_(torch.from_numpy(mean))
        prior.read.copy_(torch.from_numpy(reading))
        prior.told.copy_(torch.from_numpy(kept))
        prior.others.copy_(torch.from_numpy(others))
        for buffer, rows in (
            (prior.described, unit(described[chosen])),
            (prior.inside, inside[lenders]),
            (prior.outside, lent),
        ):
            # in half precision, as models are stored: rounding must not choose other pictures
            buffer.copy_(torch.from_numpy(rows.astype(np.float16).astype(np.float32)))
        prior.length.fill_(float(np.sqrt((inside**2).sum(1).mean())))
        prior.borrowed.fill_(borrowed)
        return prior

    def forward(
        self,
        condition: Float[Tensor, "batch size"],
        noise: Float[Tensor, "batch noise"],
        borrowed: Float[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, "batch size"]:
        """Draw a feature for each speech embedding.

        Args:
            condition: speech embeddings of any scale.
            noise: standard normal numbers.
            borrowed: of each row; None takes the prior's own.

        Returns:
            Features around the mean, at a scale where real ones have unit length.
        """
        said = F.normalize((condition - self.mean) @ self.read, dim=1)
        alike = said @ self.described.T
        nearest = alike.topk(min(NEAREST, len(self.described)), dim=1).values
        behind = (nearest[:, :1] - alike) / (nearest[:, :1] - nearest[:, -1:]).clamp_min(1e-6)
        liked = noise @ F.normalize(self.outside, dim=1).T
        weights = torch.softmax(CHANCE * liked - NEARNESS * behind, dim=1)
        part = self.borrowed if borrowed is None else borrowed[:, None]
        told = (1 - part) * self.length * said + part * (weights @ self.inside)
        length = weights @ self.outside.norm(dim=1, keepdim=True)
        outside = length * F.normalize(weights @ self.outside, dim=1)
        return self.mean + told @ self.told.T + outside @ self.others.T


class SpokenGenerator(nn.Module):
    """A prior and the generator of pictures behind it: (speech embedding, noise) -> picture.

    Args:
        prior: draws the feature; takes the first part of the noise.
        generator: draws the picture; takes the rest.
        noise_size: length of the generator's own noise.
    """

    def __init__(self, prior: ConditionPrior, generator: nn.Module, noise_size: int) -> None:
        super().__init__()
        self.prior, self.generator = prior, generator
        self.noise_size = prior.noise_size + noise_size

    def forward(
        self, condition: Float[Tensor, "batch size"], noise: Float[Tensor, "batch noise"]
    ) -> Float[Tensor, "batch 3 side side"]:
        """Draw pictures, RGB in [-1, 1]."""
        feature = self.prior(condition, noise[:, : self.prior.noise_size])
        pictures: Tensor = self.generator(feature, noise[:, self.prior.noise_size :])
        return pictures


def unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows scaled to length 1; a row of zeros stays."""
    lengths: NDArray[np.float32] = np.linalg.norm(rows, axis=1, keepdims=True).astype(np.float32, copy=False)
    scaled: NDArray[np.float32] = np.divide(rows, np.maximum(lengths, 1e-12))
    return scaled


def ridge(inputs: NDArray[np.float32], outputs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Ridge regression without a constant: [d, e], so that inputs [n, d] @ it comes near outputs [n, e].

    The penalty is the mean square of an input's entry.
    """
    rows = inputs.astype(np.float64)
    moments = rows.T @ rows / len(rows)
    moments += np.eye(len(moments)) * np.trace(moments) / len(moments)
    solution: NDArray[np.float32] = np.linalg.solve(moments, rows.T @ outputs / len(rows)).astype(np.float32)
    return solution


def principal(rows: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Second moments of rows [n, d] along their principal directions: falling [d], and the directions [d, d]
    as columns."""
    moments, directions = np.linalg.eigh(rows.T.astype(np.float64) @ rows / len(rows))
    return (
        np.maximum(moments[::-1], 0.0).astype(np.float32),
        np.ascontiguousarray(directions[:, ::-1]).astype(np.float32),
    )
