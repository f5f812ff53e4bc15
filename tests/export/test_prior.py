"""A condition prior in a model folder: a network of its own, before the generator."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from exported import FIRST, OWN_NOISE, PRIOR_NOISE, SECOND, SIZE, pixels, spoken_generator, write_with_prior

import speech2image
from speech2image.errors import CheckpointError
from speech2image.export import cascade
from speech2image.models.text_encoder import PRESETS, TextEncoder
from speech2image.pipeline import images, registry
from speech2image.pipeline.direct import DirectRoute
from speech2image.pipeline.noise import noise


@pytest.fixture
def model(tmp_path: Path) -> DirectRoute:
    write_with_prior(tmp_path / "mine")
    opened = speech2image.load(tmp_path / "mine")
    assert isinstance(opened, DirectRoute)
    return opened


def drawn(conditions: torch.Tensor, z: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        pictures = spoken_generator().generator(conditions, z[:, PRIOR_NOISE:])
    return pixels([images.to_image(picture.numpy()) for picture in pictures])


def test_prior_and_generator_lie_apart_and_draw_what_torch_draws(model: DirectRoute, tmp_path: Path) -> None:
    card = json.loads((tmp_path / "mine" / "model.json").read_text())
    assert (card["noise_size"], card["prior_noise_size"]) == (PRIOR_NOISE + OWN_NOISE, PRIOR_NOISE)
    assert set(card["files"]) == {"speech_encoder", "condition_prior", "generator"}
    assert card["parity"]["picture"] < 1e-5
    found = model.translate(FIRST, n=3, seed=4)
    z = torch.from_numpy(noise(3, PRIOR_NOISE + OWN_NOISE, 4))
    embeddings = torch.from_numpy(found.speech_embedding).expand(3, -1)
    with torch.no_grad():
        conditions = spoken_generator().prior(embeddings, z[:, :PRIOR_NOISE])
    assert len(set(map(tuple, conditions.tolist()))) == 3, "noise must tell the conditions apart"
    assert np.abs(pixels(found.images) - drawn(conditions, z)).max() <= 2
    assert np.array_equal(pixels(model.generate(found.speech_embedding, 3, 4)), pixels(found.images))


def test_a_walk_mixes_what_the_prior_answers(model: DirectRoute) -> None:
    walk = model.interpolate(FIRST, SECOND, steps=5, seed=2)
    both = torch.from_numpy(np.stack([model.embed(FIRST), model.embed(SECOND)]))
    z = torch.from_numpy(noise(1, PRIOR_NOISE + OWN_NOISE, 2)).expand(5, -1)
    with torch.no_grad():
        ends = spoken_generator().prior(both, z[:2, :PRIOR_NOISE])
    shares = torch.tensor(walk.alphas)[:, None]
    conditions = shares * ends[0] + (1 - shares) * ends[1]
    assert np.abs(pixels(walk.images) - drawn(conditions, z)).max() <= 2
    for end, said in ((0, FIRST), (-1, SECOND)):
        alone = model.translate(said, seed=2).images
        assert np.array_equal(pixels([walk.images[end]]), pixels(alone))


def test_a_cascade_borrows_the_prior_with_the_generator(model: DirectRoute, tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoder = TextEncoder(replace(PRESETS["toy"], output=SIZE)).eval()
    lender = registry.find(tmp_path / "mine")
    cascade.export_cascade(encoder, lender, tmp_path / "texts", name="texts", licence="x")
    opened = speech2image.load(tmp_path / "texts")
    assert set(opened.model.shared) == {"condition_prior", "generator"}
    assert opened.model.card["prior_noise_size"] == PRIOR_NOISE
    embedding = model.embed(FIRST)
    assert np.array_equal(pixels(opened.generate(embedding, 2)), pixels(model.generate(embedding, 2)))


@pytest.mark.parametrize("stated", [None, 0, "5"])
def test_a_card_must_say_how_much_noise_the_prior_takes(tmp_path: Path, stated: object) -> None:
    write_with_prior(tmp_path / "mine")
    path = tmp_path / "mine" / "model.json"
    card = json.loads(path.read_text())
    del card["prior_noise_size"]
    path.write_text(json.dumps(card if stated is None else card | {"prior_noise_size": stated}))
    with pytest.raises(CheckpointError, match=r"'prior_noise_size' is .*, not a whole number from 1"):
        speech2image.load(tmp_path / "mine")


def test_a_prior_of_other_sizes_than_stated_is_refused(tmp_path: Path) -> None:
    write_with_prior(tmp_path / "mine")
    path = tmp_path / "mine" / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"prior_noise_size": PRIOR_NOISE + 1}))
    with pytest.raises(CheckpointError, match=r"condition_prior.onnx does not run"):
        speech2image.load(tmp_path / "mine").translate(FIRST)
