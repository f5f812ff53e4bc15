"""What a picture may still be once something was said about it.

A speech embedding lies near the mean of the features of all pictures it could describe. A generator fed with
that mean draws one picture, whatever the noise. unCLIP (Ramesh et al. 2022) therefore trains a network, the
prior, that draws a feature for a caption; here a Gaussian does it, fitted in closed form.
"""

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from speech2image.errors import DataError, SettingsError


class ConditionPrior(nn.Module):
    """Draws a feature of the image teacher that fits a speech embedding.

    A linear regression predicts the feature. The directions in which its predictions vary most are what
    speech tells: there the feature is as predicted, at the length real features have. In all other directions
    it is drawn from the distribution of real ones, narrowed by the factor `variation`.

    Args:
        size: of embeddings and features.
        told: number of directions that speech decides, 1 to `size`.
        noise_size: number of further directions that are drawn; length of the noise vector.
    """

    mean: Tensor
    read: Tensor
    told: Tensor
    drawn: Tensor
    length: Tensor
    variation: Tensor

    def __init__(self, size: int = 1024, told: int = 16, noise_size: int = 100) -> None:
        super().__init__()
        self.noise_size = noise_size
        if not 1 <= told <= size or not 1 <= noise_size <= size:
            raise SettingsError(
                f"told is {told} and noise_size {noise_size}; both must lie between 1 and {size}"
            )
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("read", torch.zeros(size, told))
        self.register_buffer("told", torch.zeros(size, told))
        self.register_buffer("drawn", torch.zeros(size, noise_size))
        self.register_buffer("length", torch.zeros(()))
        self.register_buffer("variation", torch.ones(()))

    @classmethod
    def from_state(cls, state: dict[str, Tensor]) -> "ConditionPrior":
        """The prior that a checkpoint holds."""
        size, told = state["told"].shape
        prior = cls(size, told, state["drawn"].shape[1])
        prior.load_state_dict(state)
        return prior

    @classmethod
    def fit(
        cls,
        speech: NDArray[np.float32],
        features: NDArray[np.float32],
        mean: NDArray[np.float32],
        *,
        told: int = 16,
        noise_size: int = 100,
        variation: float = 0.8,
    ) -> "ConditionPrior":
        """Fit on training material.

        Args:
            speech: speech embeddings [n, size].
            features: the teacher's features of the pictures described, [n, size].
            mean: of the teacher's features, [size].
            told: directions that speech decides; at most as many as can be found.
            noise_size: further directions in which pictures vary.
            variation: share of the spread of real features that is drawn, 0 to 1: less binds pictures more
                closely to what was said, more makes them more varied.

        Raises:
            DataError: no embedding, or not one feature for each.
        """
        if not len(speech) or speech.shape != features.shape:
            raise DataError(
                f"a condition prior needs as many speech embeddings as features, got {speech.shape} and "
                f"{features.shape}"
            )
        said, real = unit(speech - mean), unit(features - mean)
        regression = ridge(said, real)
        directions = principal(said @ regression)[1]
        prior = cls(speech.shape[1], told, noise_size)
        kept = np.ascontiguousarray(directions[:, :told])
        inside: NDArray[np.float32] = real @ kept
        outside: NDArray[np.float32] = real - inside @ kept.T
        spread, rest = principal(outside)
        prior.mean.copy_(torch.from_numpy(mean))
        prior.read.copy_(torch.from_numpy(regression @ kept))
        prior.told.copy_(torch.from_numpy(kept))
        prior.drawn.copy_(torch.from_numpy((rest * np.sqrt(spread))[:, :noise_size]))
        prior.length.fill_(float(np.sqrt((inside**2).sum(1).mean())))
        prior.variation.fill_(variation)
        return prior

    def forward(
        self,
        condition: Float[Tensor, "batch size"],
        noise: Float[Tensor, "batch noise"],
        variation: Float[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, "batch size"]:
        """Draw a feature for each speech embedding.

        Args:
            condition: speech embeddings of any scale.
            noise: standard normal numbers.
            variation: of each row; None takes the prior's own.

        Returns:
            Features around the mean, at a scale where real ones have unit length.
        """
        told = F.normalize((condition - self.mean) @ self.read, dim=1) * self.length
        noise = noise * (self.variation if variation is None else variation[:, None])
        return self.mean + told @ self.told.T + noise @ self.drawn.T


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
    scaled: NDArray[np.float32] = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
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
