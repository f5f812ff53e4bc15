"""Condition prior: samples an image feature given a speech embedding, by noisy kernel regression.

A speech embedding lies near the mean of the features of all pictures it could describe. A generator fed with
that mean draws one picture, whatever the noise. unCLIP (Ramesh et al. 2022) therefore trains a network, the
prior, that samples a feature for a caption. Here the feature is a weighted mean over training pictures with
similar descriptions (kernel regression: Nadaraya 1964, Watson 1964), with noise in the weights.
"""

from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from speech2image.errors import CheckpointError, DataError, SettingsError

if TYPE_CHECKING:
    from speech2image.models.flow_prior import FlowPrior

NEAREST, SHARPNESS, NOISE_WEIGHT = 16, 4.0, 2.5
"""Of the weights of neighbours: a softmax over `NOISE_WEIGHT` times what the noise prefers minus `SHARPNESS`
times the distance, in units of that to the neighbour number `NEAREST`. Two or three of about so many get most
of the weight."""

OLD_BUFFERS = {
    "read": "regression",
    "told": "predicted_basis",
    "others": "residual_basis",
    "described": "neighbour_keys",
    "inside": "neighbour_values",
    "outside": "neighbour_residuals",
    "length": "predicted_length",
    "borrowed": "residual_blend",
}
"""Buffer in checkpoints of version 0.1 -> its name now."""


class ConditionPrior(nn.Module):
    """Samples a feature of the image teacher that fits a speech embedding.

    A ridge regression predicts the feature. In the directions in which its predictions vary most, the feature
    is as predicted, blended with the weighted mean of the neighbours' values. In all other directions (the
    residual) it is the neighbours' alone.

    Args:
        size: of embeddings and features.
        n_predicted: number of directions taken from the prediction, 1 to `size`.
        noise_size: number of residual directions kept of neighbours; length of the noise.
        pictures: number of neighbours.
    """

    mean: Tensor
    regression: Tensor
    predicted_basis: Tensor
    residual_basis: Tensor
    neighbour_keys: Tensor
    neighbour_values: Tensor
    neighbour_residuals: Tensor
    predicted_length: Tensor
    residual_blend: Tensor

    def __init__(
        self, size: int = 1024, n_predicted: int = 32, noise_size: int = 100, pictures: int = 8000
    ) -> None:
        super().__init__()
        self.noise_size = noise_size
        if not 1 <= n_predicted <= size or not 1 <= noise_size <= size:
            raise SettingsError(
                f"n_predicted is {n_predicted} and noise_size {noise_size}; "
                f"both must lie between 1 and {size}"
            )
        if pictures < 1:
            raise SettingsError(f"pictures is {pictures}; at least one must be a neighbour")
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("regression", torch.zeros(size, n_predicted))
        self.register_buffer("predicted_basis", torch.zeros(size, n_predicted))
        self.register_buffer("residual_basis", torch.zeros(size, noise_size))
        self.register_buffer("neighbour_keys", torch.zeros(pictures, n_predicted))
        self.register_buffer("neighbour_values", torch.zeros(pictures, n_predicted))
        self.register_buffer("neighbour_residuals", torch.zeros(pictures, noise_size))
        self.register_buffer("predicted_length", torch.zeros(()))
        self.register_buffer("residual_blend", torch.zeros(()))

    @classmethod
    def from_state(cls, state: dict[str, Tensor]) -> "ConditionPrior":
        """The prior that a checkpoint holds; buffers may have the names of version 0.1 (`OLD_BUFFERS`).

        Raises:
            CheckpointError: it is of an earlier form.
        """
        state = {OLD_BUFFERS.get(name, name): buffer for name, buffer in state.items()}
        if "neighbour_keys" not in state:
            raise CheckpointError(
                "the checkpoint holds a condition prior of an earlier form; fit it anew with: "
                "speech2image train condition-prior"
            )
        size, n_predicted = state["predicted_basis"].shape
        pictures, noise_size = state["neighbour_residuals"].shape
        prior = cls(size, n_predicted, noise_size, pictures)
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
        n_predicted: int = 32,
        noise_size: int = 100,
        pictures: int = 8000,
        residual_blend: float = 0.4,
        seed: int = 0,
    ) -> "ConditionPrior":
        """Fit on training material.

        Args:
            speech: speech embeddings [n, size].
            features: the teacher's features of the pictures described, [n, size].
            mean: of the teacher's features, [size].
            owners: number of the picture that each embedding describes, [n]: several embeddings of one
                picture are averaged into its key; by default each describes a picture of its own.
            n_predicted: directions taken from the prediction; at most as many as can be found.
            noise_size: further directions in which pictures vary.
            pictures: at most so many become neighbours, chosen at random.
            residual_blend: share of the neighbours' values in the predicted directions, 0 to 1: less binds
                pictures more closely to the words, more makes them more like photographs.
            seed: of the choice.

        Raises:
            DataError: no embedding, or not one feature for each.
            SettingsError: a size or share out of range.
        """
        if not len(speech) or speech.shape != features.shape:
            raise DataError(
                f"a condition prior needs as many speech embeddings as features, got {speech.shape} and "
                f"{features.shape}"
            )
        if not 0 <= residual_blend <= 1:
            raise SettingsError(
                f"residual_blend is {residual_blend}; give 0 (as predicted) to 1 (as the neighbours are)"
            )
        # Directions only: embeddings and features have different scales, and lengths say little of content.
        queries, targets = unit(speech - mean), unit(features - mean)
        weights = ridge(queries, targets)
        # The predictions vary most where speech explains most of a feature: PCA of predictions, not of
        # features, whose largest directions (background, pose) nobody speaks of.
        directions = principal(queries @ weights)[1]
        _, first, owner = np.unique(
            np.arange(len(speech)) if owners is None else owners, return_index=True, return_inverse=True
        )
        chosen = np.sort(np.random.default_rng(seed).permutation(len(first))[:pictures])
        prior = cls(speech.shape[1], n_predicted, noise_size, len(chosen))
        basis = np.ascontiguousarray(directions[:, :n_predicted])
        regression: NDArray[np.float32] = weights @ basis
        predicted: NDArray[np.float32] = targets @ basis
        residual: NDArray[np.float32] = targets - predicted @ basis.T
        residual_basis = np.ascontiguousarray(principal(residual)[1][:, :noise_size])
        keys = np.zeros((len(first), n_predicted), np.float32)
        np.add.at(keys, owner, unit(queries @ regression))
        neighbours = first[chosen]
        kept: NDArray[np.float32] = residual[neighbours] @ residual_basis
        # Restore the length that the directions left out took away, or drawn features would be too short
        # and the generator would draw washed-out pictures from them.
        kept = unit(kept) * np.linalg.norm(residual[neighbours], axis=1, keepdims=True)
        prior.mean.copy_(torch.from_numpy(mean))
        prior.regression.copy_(torch.from_numpy(regression))
        prior.predicted_basis.copy_(torch.from_numpy(basis))
        prior.residual_basis.copy_(torch.from_numpy(residual_basis))
        for buffer, rows in (
            (prior.neighbour_keys, unit(keys[chosen])),
            (prior.neighbour_values, predicted[neighbours]),
            (prior.neighbour_residuals, kept),
        ):
            # in half precision, as models are stored: rounding must not choose other neighbours
            buffer.copy_(torch.from_numpy(rows.astype(np.float16).astype(np.float32)))
        prior.predicted_length.fill_(float(np.sqrt((predicted**2).sum(1).mean())))
        prior.residual_blend.fill_(residual_blend)
        return prior

    def sample(
        self, condition: Float[Tensor, "batch size"], rng: torch.Generator
    ) -> Float[Tensor, "batch size"]:
        """As `forward`, with noise drawn from `rng`: what a generator is trained on.

        Every row has a residual blend of its own, 0 to 1, so that a prior's may be chosen after the training.
        """
        noise = torch.randn(len(condition), self.noise_size, generator=rng)
        return self(condition, noise, residual_blend=torch.rand(len(condition), generator=rng))

    def forward(
        self,
        condition: Float[Tensor, "batch size"],
        noise: Float[Tensor, "batch noise"],
        residual_blend: Float[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, "batch size"]:
        """Draw a feature for each speech embedding.

        Args:
            condition: speech embeddings of any scale.
            noise: standard normal numbers.
            residual_blend: of each row; None takes the prior's own.

        Returns:
            Features around the mean, at a scale where real ones have unit length.
        """
        query = F.normalize((condition - self.mean) @ self.regression, dim=1)
        similarity = query @ self.neighbour_keys.T
        nearest = similarity.topk(min(NEAREST, len(self.neighbour_keys)), dim=1).values
        # Distance 0 at the nearest key and 1 at the last of the `NEAREST`: the kernel's width follows the
        # density of training pictures, so rare descriptions have neighbours, too.
        distance = (nearest[:, :1] - similarity) / (nearest[:, :1] - nearest[:, -1:]).clamp_min(1e-6)
        # The noise prefers neighbours whose residual points its way: near noise vectors draw near features,
        # which an independent random choice of neighbours would not.
        preference = noise @ F.normalize(self.neighbour_residuals, dim=1).T
        weights = torch.softmax(NOISE_WEIGHT * preference - SHARPNESS * distance, dim=1)
        blend = self.residual_blend if residual_blend is None else residual_blend[:, None]
        regressed = (1 - blend) * self.predicted_length * query
        predicted = regressed + blend * (weights @ self.neighbour_values)
        # A mean of residuals is shorter than each of them; give it their mean length.
        length = weights @ self.neighbour_residuals.norm(dim=1, keepdim=True)
        residual = length * F.normalize(weights @ self.neighbour_residuals, dim=1)
        return self.mean + predicted @ self.predicted_basis.T + residual @ self.residual_basis.T


class SpokenGenerator(nn.Module):
    """A prior and the generator of pictures behind it: (speech embedding, noise) -> picture.

    Args:
        prior: samples the feature; takes the first part of the noise.
        generator: draws the picture; takes the rest.
        noise_size: length of the generator's own noise.
    """

    def __init__(self, prior: "ConditionPrior | FlowPrior", generator: nn.Module, noise_size: int) -> None:
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
