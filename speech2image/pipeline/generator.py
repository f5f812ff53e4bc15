"""Generator: draws pictures of an embedding and noise, the last step of every route."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from speech2image.errors import CheckpointError, SettingsError
from speech2image.pipeline import images
from speech2image.pipeline.diversity import candidates, describe, most_different
from speech2image.pipeline.noise import MAX_PICTURES, check_count, noise
from speech2image.pipeline.onnx import Session
from speech2image.pipeline.registry import Model

AT_ONCE = 256
"""Samples of the condition prior at once, which compares each with all its neighbours."""


class Generator:
    """A generator and, where the model has one, the condition prior before it.

    Args:
        generator: condition [batch, size] and noise [batch, its noise] -> pictures [batch, 3, side, side].
        prior: embedding [batch, size] and noise [batch, prior_noise] -> condition [batch, size]; None where
            embeddings are the conditions.
        prior_noise: so much of a noise vector goes into the prior, the rest into the generator.
    """

    def __init__(self, generator: Session, prior: Session | None = None, prior_noise: int = 0) -> None:
        self.name: str = generator.name
        self._generator, self._prior = generator, prior
        self._prior_noise = 0 if prior is None else prior_noise

    @property
    def has_prior(self) -> bool:
        """Whether there is a condition prior."""
        return self._prior is not None

    def conditions(self, embeddings: NDArray[np.float32], z: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the generator draws from: embeddings [batch, size], whole noise vectors [batch, noise]."""
        if self._prior is None:
            return embeddings
        conditions: NDArray[np.float32] = self._prior(embeddings, z[:, : self._prior_noise])
        return conditions

    def pictures(self, conditions: NDArray[np.float32], z: NDArray[np.float32]) -> NDArray[np.float32]:
        """Pictures [batch, 3, side, side] in [-1, 1] of conditions and whole noise vectors."""
        pictures: NDArray[np.float32] = self._generator(conditions, z[:, self._prior_noise :])
        return pictures


class ConditionedGenerator:
    """Draws with a model's generator, and checks that it fits its card.

    Args:
        model: the folder the networks came from.
        generator: its `Session`.
        prior: `Session` of the condition prior, if the model has one.
    """

    def __init__(self, model: Model, generator: Session, prior: Session | None = None) -> None:
        self.picture_size: int = model.card["picture_size"]
        self.noise_size: int = model.card["noise_size"]
        self.embedding_size: int = model.card["embedding_size"]
        self._network = Generator(generator, prior, model.card.get("prior_noise_size", 0))

    def noise(self, n: int, seed: int, diverse: bool = False) -> NDArray[np.float32]:
        """Noise vectors of `n` pictures [n, noise_size]; if `diverse`, of as many as to choose `n` of.

        Raises:
            SettingsError: `n` or `seed` is out of its range.
        """
        rows = candidates(check_count(n), self._network.has_prior) if diverse else n
        return noise(rows, self.noise_size, seed)

    def draw(self, embedding: NDArray[np.float32], z: NDArray[np.float32]) -> Image.Image:
        """One picture: larger batches take more memory and, measured for 1 to 16, the same time a picture.

        Raises:
            CheckpointError: the generator does not fit its `model.json`.
        """
        return self.picture(self.condition(embedding, z), z)

    def condition(self, embedding: NDArray[np.float32], z: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the generator draws from, [size]: of an embedding [size] and a noise vector [noise_size]."""
        row: NDArray[np.float32] = self._network.conditions(embedding[None], z[None])[0]
        return row

    def picture(self, condition: NDArray[np.float32], z: NDArray[np.float32]) -> Image.Image:
        """The picture of a condition [size] and a noise vector [noise_size].

        Raises:
            CheckpointError: as `draw`.
        """
        picture = self._network.pictures(condition[None], z[None])
        expected = (1, 3, self.picture_size, self.picture_size)
        if picture.shape != expected:
            raise CheckpointError(
                f"{self._network.name} gave a picture of shape {list(picture.shape)}, "
                f"its model.json states {list(expected)}"
            )
        return images.to_image(picture[0])

    def draw_each(
        self, embedding: NDArray[np.float32], z: NDArray[np.float32], n: int, only: int | None = None
    ) -> Iterator[tuple[int, Image.Image]]:
        """Draw `n` pictures, one after the other: of all noise vectors, or of those that differ most.

        Args:
            embedding: what to draw, [size].
            z: as many noise vectors as there are pictures, or more, [m, noise_size]; see `noise`.
            n: pictures.
            only: the place among the `n` of the one picture to draw, from 0; None draws all.

        Returns:
            A generator of pairs: the noise vector's place in `z`, the picture.

        Raises:
            CheckpointError: as `draw`.
        """
        drawn: dict[int, Image.Image] = {}
        if len(z) == n:
            rows = list(range(n))
        elif self._network.has_prior:
            blocks = (z[start : start + AT_ONCE] for start in range(0, len(z), AT_ONCE))
            sampled = [self._network.conditions(np.repeat(embedding[None], len(b), 0), b) for b in blocks]
            rows = most_different(np.concatenate(sampled), n)
        else:
            drawn = {row: self.draw(embedding, vector) for row, vector in enumerate(z)}
            rows = most_different(np.stack([describe(picture) for picture in drawn.values()]), n)
        for row in rows if only is None else rows[only : only + 1]:
            yield row, drawn[row] if drawn else self.draw(embedding, z[row])

    def walk(
        self,
        first: ArrayLike,
        second: ArrayLike,
        alphas: NDArray[np.float32],
        z: NDArray[np.float32],
    ) -> list[Image.Image]:
        """Pictures between two embeddings [size] under one noise vector: of alpha c1 + (1 - alpha) c2.

        c1 and c2 are what the generator draws from for the two. The prior's outputs are interpolated, not its
        inputs: the prior picks other neighbours at each step, so the walk would jump.

        Raises:
            CheckpointError: as `draw`.
            SettingsError: an embedding has another shape or is not finite.
        """
        both = np.stack([self.check(first), self.check(second)])
        both = self._network.conditions(both, np.stack([z, z]))
        return [self.picture(condition, z) for condition in between(both[0], both[1], alphas)]

    def generate(self, embedding: ArrayLike, n: int, seed: int) -> list[Image.Image]:
        """Draw `n` pictures of one embedding [size]; picture k depends on `seed` and k alone.

        Raises:
            SettingsError: `n` or `seed` is out of range; the embedding has another shape or is not finite.
        """
        condition = self.check(embedding)
        return [self.draw(condition, row) for row in self.noise(n, seed)]

    @property
    def has_prior(self) -> bool:
        """Whether there is a condition prior."""
        return self._network.has_prior

    def sample_features(self, embedding: ArrayLike, n: int, seed: int) -> NDArray[np.float32]:
        """What the generator draws `generate` from, [n, size]; raises as `generate`."""
        checked = self.check(embedding)
        return np.stack([self.condition(checked, row) for row in self.noise(n, seed)])

    def draw_features(self, feature: ArrayLike, n: int, seed: int) -> list[Image.Image]:
        """Pictures of one feature [size] under the generator's noise of `generate`, which it raises as."""
        checked = self.check(feature)
        return [self.picture(checked, row) for row in self.noise(n, seed)]

    def checked(self, embedding: NDArray[np.float32], network: Session) -> NDArray[np.float32]:
        """The one row of what `network` gave, [1, size] -> [size].

        Raises:
            CheckpointError: it is of another shape than `model.json` states.
        """
        if embedding.shape != (1, self.embedding_size):
            raise CheckpointError(
                f"{network.name} gave an embedding of shape {list(embedding.shape)}, "
                f"its model.json states [1, {self.embedding_size}]"
            )
        row: NDArray[np.float32] = embedding[0]
        return row

    def check(self, embedding: ArrayLike) -> NDArray[np.float32]:
        """An embedding [size] as the model draws from.

        Raises:
            SettingsError: it has another shape or is not finite.
        """
        condition = np.asarray(embedding, dtype=np.float32)
        if condition.shape != (self.embedding_size,) or not np.isfinite(condition).all():
            raise SettingsError(
                f"an embedding of this model (speech embedding or text embedding) is {self.embedding_size} "
                f"finite numbers, not an array of shape {list(condition.shape)}"
            )
        return condition


def walk_alphas(steps: int) -> NDArray[np.float32]:
    """The share of the first recording at each step of a walk, from 1 down to 0, [steps].

    Raises:
        SettingsError: `steps` is not a whole number from 2 to 10,000.
    """
    if check_count(steps, "steps") < 2:
        raise SettingsError(f"steps must be a whole number from 2 to {MAX_PICTURES}, not {steps!r}")
    return np.linspace(1, 0, steps, dtype=np.float32)


def between(
    first: NDArray[np.float32], second: NDArray[np.float32], alphas: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The embedding at each step of a walk, alpha f1 + (1 - alpha) f2, [steps, size]."""
    shares = alphas[:, None]
    return shares * first + (1 - shares) * second
