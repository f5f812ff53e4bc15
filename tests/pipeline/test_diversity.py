"""Choice among more pictures: near-duplicates go, the first stays, the same pictures give the same choice."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from tiny_model import make_model, speech

import speech2image
from speech2image.pipeline import diversity
from speech2image.pipeline.diversity import candidates, describe
from speech2image.pipeline.generator import ConditionedGenerator
from speech2image.pipeline.noise import MAX_PICTURES

CLIP = (speech(1.5), 16_000)


def photograph(seed: int, noise: float = 0.0) -> Image.Image:
    """Smooth made-up fields of colour; with `noise` nearly the same picture as without."""
    rng = np.random.default_rng(seed)
    fields = Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8))
    pixels = np.asarray(fields.resize((96, 96), Image.Resampling.BICUBIC), np.float64)
    return Image.fromarray((pixels + noise * rng.standard_normal(pixels.shape)).clip(0, 255).astype(np.uint8))


def most_different(pictures: list[Image.Image], n: int) -> list[int]:
    return diversity.most_different(np.stack([describe(picture) for picture in pictures]), n)


def distance(first: Image.Image, second: Image.Image) -> float:
    return float(np.linalg.norm(describe(first) - describe(second)))


def test_near_duplicates_are_not_chosen_while_others_are_left() -> None:
    pictures = [photograph(seed, noise) for seed in range(4) for noise in (0.0, 4.0)]
    chosen = most_different(pictures, 4)
    assert chosen[0] == 0
    assert sorted(place // 2 for place in chosen) == [0, 1, 2, 3]
    assert most_different(pictures, 4) == chosen


def test_every_picture_is_chosen_once_though_all_are_equal() -> None:
    assert sorted(most_different([photograph(0)] * 5, 5)) == [0, 1, 2, 3, 4]


def test_more_are_chosen_as_fewer_are_and_further_ones() -> None:
    pictures = [photograph(seed) for seed in range(9)]
    assert most_different(pictures, 6)[:3] == most_different(pictures, 3)


def test_distance_sees_colour_and_shape() -> None:
    edge = np.zeros((64, 64, 3), np.uint8)
    edge[:, 32:] = 128
    upright, lying, dim = (Image.fromarray(a) for a in (edge, edge.transpose(1, 0, 2).copy(), edge // 2))
    noisy = Image.fromarray((edge + np.random.default_rng(0).integers(0, 4, edge.shape)).astype(np.uint8))
    near = distance(upright, noisy)
    assert 0 < near < distance(upright, dim) / 2
    assert near < distance(upright, lying) / 2
    red, blue = Image.new("RGB", (64, 64), "red"), Image.new("RGB", (64, 64), "blue")
    assert distance(red, blue) > 0.3
    assert distance(red, red) == 0


@pytest.mark.parametrize(("n", "drawn"), [(1, 1), (2, 4), (8, 16), (6_000, MAX_PICTURES), (10_000, 10_000)])
def test_there_are_twice_as_many_pictures_or_four_times_as_many_samples(n: int, drawn: int) -> None:
    assert candidates(n, samples=False) == drawn
    assert candidates(n, samples=True) == (1 if n == 1 else min(2 * drawn, MAX_PICTURES))


def test_a_route_chooses_among_the_pictures_of_its_seed(tmp_path) -> None:
    route = speech2image.load(make_model(tmp_path / "m"))
    every, chosen = route.translate(CLIP, 8, 3), route.translate(CLIP, 4, 3, diverse=True)
    assert every.noise_rows == tuple(range(8))
    assert chosen.noise_rows == tuple(most_different(every.images, 4))
    assert chosen.images == [every.images[row] for row in chosen.noise_rows]
    assert chosen.images[0] == every.images[0]
    (one,) = route.translate_many([CLIP], 4, 3, diverse=True)
    assert one.images == chosen.images
    assert route.translate(CLIP, 1, 3, diverse=True) == route.translate(CLIP, 1, 3)
    with pytest.raises(speech2image.SettingsError, match="n must be"):
        route.translate(CLIP, 0, diverse=True)


def test_samples_of_a_condition_prior_are_compared_and_others_never_drawn(tmp_path) -> None:
    class Counting:
        """Stands for the generator's session: pictures whose brightness is their condition's."""

        name, drawn = "generator", 0

        def __call__(self, condition: np.ndarray, noise: np.ndarray) -> np.ndarray:
            self.drawn += len(condition)
            return np.broadcast_to(condition[:, :1, None, None], (len(condition), 3, 8, 8))

    def prior(embedding: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Two kinds of samples, by the noise's sign, and little else."""
        return np.sign(noise[:, :1]) * 0.5 + 0.01 * noise

    counting, card = Counting(), {"picture_size": 8, "noise_size": 6, "embedding_size": 4}
    model = SimpleNamespace(card=card | {"prior_noise_size": 6})
    generator = ConditionedGenerator(model, counting, prior)  # type: ignore[arg-type]
    z = generator.noise(4, 0, diverse=True)
    rows, pictures = zip(*generator.draw_each(np.zeros(4, np.float32), z, 4), strict=True)
    assert len(z) == 16 and counting.drawn == 4
    assert list(generator.draw_each(np.zeros(4, np.float32), z, 4, only=2)) == [(rows[2], pictures[2])]
    assert counting.drawn == 5
    assert rows[0] == 0 and sorted(set(rows)) == sorted(rows)
    assert np.sign(z[rows[1], 0]) != np.sign(z[0, 0])
    assert pictures[0] == generator.draw(np.zeros(4, np.float32), z[0])
