"""Flow prior: samples an image feature given a speech embedding, by a small network that moves noise.

Flow matching (Lipman et al. 2023; rectified flow: Liu et al. 2023): on the straight line from noise x0 to a
feature x1, x_t = (1 - t) x0 + t x1, a network learns the mean velocity x1 - x0 given x_t, t and the speech.
Following it from noise at t = 0 to t = 1 samples a feature. It stands in the place of the kernel regression
(`condition_prior.py`), which can only give means of two or three training pictures.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from speech2image.errors import CheckpointError, DataError, SettingsError
from speech2image.models.condition_prior import ConditionPrior, principal, ridge, unit

_FREQUENCIES = 8
"""Pairs of sine and cosine that tell the network the time."""


Track = Callable[[Iterable[int], str, int], Iterable[int]]


@dataclass(frozen=True)
class FlowPriorSettings:
    """Of a flow prior and its training.

    Attributes:
        n_predicted: directions of the prediction that say what was said.
        noise_size: principal directions of the features that are sampled; length of the noise.
        width, blocks: of the network.
        euler_steps: of a sample; they are unrolled when the network is exported.
        steps: of the training.
        batch_size: of the training.
        learning_rate: Adam's at the beginning; falls to 0 along a cosine.
        ema_decay: of the averaged weights that are kept.
        residual_blend: share of the sample's own values in the predicted directions, 0 (as predicted) to 1:
            less binds pictures to the words, more makes them more like photographs.
        condition_noise: of what was said, as a share of its length: embeddings of pictures that the speech
            encoder was trained on lie nearer to their features than others will.
        seed: of everything random.
    """

    n_predicted: int = 32
    noise_size: int = 128
    width: int = 256
    blocks: int = 2
    euler_steps: int = 8
    steps: int = 1500
    batch_size: int = 128
    learning_rate: float = 1e-3
    ema_decay: float = 0.995
    residual_blend: float = 0.4
    condition_noise: float = 0.3
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("n_predicted", "noise_size", "width", "blocks", "euler_steps", "steps", "batch_size"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} is {getattr(self, name)}; give at least 1")
        if not 0 <= self.ema_decay < 1:
            raise SettingsError(f"ema_decay is {self.ema_decay}; give 0 to less than 1")
        if not 0 <= self.residual_blend <= 1:
            raise SettingsError(
                f"residual_blend is {self.residual_blend}; give 0 (as predicted) to 1 (as sampled)"
            )
        if self.condition_noise < 0:
            raise SettingsError(f"condition_noise is {self.condition_noise}; give 0 or more")


class Velocity(nn.Module):
    """Velocity of a feature on its way from noise: residual blocks that time and condition shift.

    Args:
        size: of features.
        condition: of what was said.
        width, blocks: of the network.
    """

    def __init__(self, size: int, condition: int, width: int, blocks: int) -> None:
        super().__init__()
        self.said, self.time = nn.Linear(condition, width), nn.Linear(2 * _FREQUENCIES, width, bias=False)
        self.given = nn.Sequential(nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.first = nn.Linear(size, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(blocks))
        self.shifts = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.inner = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.outer = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.norm, self.last = nn.LayerNorm(width), nn.Linear(width, size)
        for layer in (*self.outer, self.last):  # every block begins as the identity, the velocity as 0
            nn.init.zeros_(layer.weight)  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(
        self,
        x: Float[Tensor, "batch size"],
        t: Float[Tensor, "times 1"],
        condition: Float[Tensor, "batch condition"],
    ) -> Float[Tensor, "batch size"]:
        """Velocity at `x` at the time `t`, 0 (noise) to 1 (feature); one time may serve all rows, [1, 1]."""
        angles = t * torch.pi * torch.arange(1, _FREQUENCIES + 1, dtype=x.dtype, device=x.device)
        times = torch.cat([torch.sin(angles), torch.cos(angles)], dim=1)
        given = self.given(self.said(condition) + self.time(times))
        h = self.first(x)
        for norm, shift, inner, outer in zip(self.norms, self.shifts, self.inner, self.outer, strict=True):
            h = h + outer(F.silu(inner(norm(h)) + shift(given)))
        velocity: Tensor = self.last(F.silu(self.norm(h)))
        return velocity


class FlowPrior(nn.Module):
    """Samples a feature of the image teacher that fits a speech embedding.

    A ridge regression predicts the feature; the directions in which its predictions vary most say what was
    said. The feature is sampled in its own principal directions, each at the same spread; in the directions
    of the prediction, the sample is blended with it.

    Args:
        settings: of its sizes.
        size: of embeddings and features.
    """

    mean: Tensor
    regression: Tensor
    predicted_basis: Tensor
    predicted_length: Tensor
    residual_blend: Tensor
    basis: Tensor
    centre: Tensor
    spread: Tensor

    def __init__(self, settings: FlowPriorSettings, size: int = 1024) -> None:
        super().__init__()
        self.settings, self.noise_size = settings, settings.noise_size
        if settings.n_predicted > size or settings.noise_size > size:
            raise SettingsError(
                f"n_predicted is {settings.n_predicted} and noise_size {settings.noise_size}; both must lie "
                f"between 1 and {size}"
            )
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("regression", torch.zeros(size, settings.n_predicted))
        self.register_buffer("predicted_basis", torch.zeros(size, settings.n_predicted))
        self.register_buffer("predicted_length", torch.zeros(()))
        self.register_buffer("residual_blend", torch.tensor(settings.residual_blend))
        self.register_buffer("basis", torch.zeros(size, settings.noise_size))
        self.register_buffer("centre", torch.zeros(settings.noise_size))
        self.register_buffer("spread", torch.ones(settings.noise_size))
        self.register_buffer("euler_steps", torch.tensor(settings.euler_steps))
        self.velocity = Velocity(settings.noise_size, settings.n_predicted, settings.width, settings.blocks)

    @classmethod
    def from_state(cls, state: dict[str, Tensor]) -> "FlowPrior":
        """The prior that a checkpoint holds.

        Raises:
            CheckpointError: it is of an earlier form.
        """
        if "predicted_basis" not in state:
            raise CheckpointError(
                "the checkpoint holds a flow prior of an earlier form; train it anew with: "
                "speech2image train condition-prior --kind flow"
            )
        size, noise_size = state["basis"].shape
        settings = FlowPriorSettings(
            n_predicted=state["regression"].shape[1],
            noise_size=noise_size,
            width=len(state["velocity.first.bias"]),
            blocks=sum(name.startswith("velocity.norms.") and name.endswith(".bias") for name in state),
            euler_steps=int(state["euler_steps"]),
        )
        prior = cls(settings, size)
        prior.load_state_dict(state)
        return prior.eval()

    @classmethod
    def fit(
        cls,
        speech: NDArray[np.float32],
        features: NDArray[np.float32],
        mean: NDArray[np.float32],
        settings: FlowPriorSettings | None = None,
        track: Track | None = None,
    ) -> "FlowPrior":
        """Train on speech embeddings and features of the pictures described, both [n, size].

        Args:
            speech: speech embeddings.
            features: the teacher's features, a row for each embedding.
            mean: of the teacher's features, [size].
            settings: of sizes and training.
            track: shows how far the training is: takes the steps, a label and their number.

        Raises:
            DataError: no embedding, or not one feature for each.
            SettingsError: a size is out of range.
        """
        if not len(speech) or speech.shape != features.shape:
            raise DataError(
                f"a flow prior needs as many speech embeddings as features, got {speech.shape} and "
                f"{features.shape}"
            )
        settings = settings or FlowPriorSettings()
        torch.manual_seed(settings.seed)
        prior = cls(settings, speech.shape[1])
        # Directions only, as of the kernel regression: lengths say little of content.
        queries, targets = unit(speech - mean), unit(features - mean)
        weights = ridge(queries, targets)
        directions = np.ascontiguousarray(principal(queries @ weights)[1][:, : settings.n_predicted])
        centre = targets.mean(0)
        basis = np.ascontiguousarray(principal(targets - centre)[1][:, : settings.noise_size])
        prior.mean.copy_(torch.from_numpy(mean))
        prior.regression.copy_(torch.from_numpy(weights @ directions))
        prior.predicted_basis.copy_(torch.from_numpy(directions))
        prior.predicted_length.fill_(float(np.sqrt(((targets @ directions) ** 2).sum(1).mean())))
        prior.basis.copy_(torch.from_numpy(basis))
        coordinates = torch.from_numpy(targets @ basis)
        prior.centre.copy_(coordinates.mean(0))
        prior.spread.copy_(coordinates.std(0, correction=0).clamp_min(1e-6))
        prior.train_velocity(prior.said(torch.from_numpy(speech)), coordinates, track)
        return prior.eval()

    def train_velocity(
        self,
        said: Float[Tensor, "n condition"],
        coordinates: Float[Tensor, "n size"],
        track: Track | None = None,
    ) -> None:
        """Train the network on what was said and the features' coordinates in the basis."""
        settings, n = self.settings, len(said)
        rng = torch.Generator().manual_seed(settings.seed)
        targets = (coordinates - self.centre) / self.spread
        optimizer = torch.optim.Adam(self.velocity.parameters(), lr=settings.learning_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps)
        average = torch.optim.swa_utils.AveragedModel(
            self.velocity, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(settings.ema_decay)
        )
        self.velocity.train()
        steps = range(settings.steps)
        for _ in steps if track is None else track(steps, "flow prior", settings.steps):
            rows = torch.randint(n, (settings.batch_size,), generator=rng)
            x1, c = targets[rows], said[rows]
            loosened = c + settings.condition_noise * F.normalize(torch.randn(c.shape, generator=rng), dim=1)
            x0 = torch.randn(x1.shape, generator=rng)
            t = torch.rand(len(rows), 1, generator=rng)
            velocity = self.velocity((1 - t) * x0 + t * x1, t, F.normalize(loosened, dim=1))
            loss = F.mse_loss(velocity, x1 - x0)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.velocity.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            average.update_parameters(self.velocity)
        self.velocity.load_state_dict(average.module.state_dict())
        self.velocity.eval()

    def sample(
        self, condition: Float[Tensor, "batch size"], rng: torch.Generator
    ) -> Float[Tensor, "batch size"]:
        """As `forward`, with noise drawn from `rng`: what a generator is trained on."""
        return self(condition, torch.randn(len(condition), self.noise_size, generator=rng))

    def said(self, condition: Float[Tensor, "batch size"]) -> Float[Tensor, "batch said"]:
        """What speech predicts of the feature, of length 1."""
        return F.normalize((condition - self.mean) @ self.regression, dim=1)

    def forward(
        self, condition: Float[Tensor, "batch size"], noise: Float[Tensor, "batch noise"]
    ) -> Float[Tensor, "batch size"]:
        """Draw a feature for each speech embedding.

        Args:
            condition: speech embeddings of any scale.
            noise: standard normal numbers.

        Returns:
            Features around the mean, at a scale where real ones have about unit length.
        """
        said, x, steps = self.said(condition), noise, self.settings.euler_steps
        for step in range(steps):
            t = noise.new_full((1, 1), step / steps)
            x = x + self.velocity(x, t, said) / steps
        # The directions left out took length away, and from short features washed-out pictures are drawn.
        feature = F.normalize((self.centre + self.spread * x) @ self.basis.T, dim=1)
        sampled = feature @ self.predicted_basis
        predicted = self.predicted_length * said - sampled
        return self.mean + feature + (1 - self.residual_blend) * predicted @ self.predicted_basis.T


def prior_from_state(state: dict[str, Tensor]) -> ConditionPrior | FlowPrior:
    """The condition prior that a checkpoint holds, of either kind.

    Raises:
        CheckpointError: it is of an earlier form.
    """
    return FlowPrior.from_state(state) if "euler_steps" in state else ConditionPrior.from_state(state)
