"""Model folders exported from small networks in torch, of both routes and with a condition prior."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tiny_model import speech
from tiny_networks import MatrixGenerator, MeanEncoder
from torch import nn

from speech2image.export import cascade, direct
from speech2image.models.condition_prior import ConditionPrior, SpokenGenerator
from speech2image.models.text_encoder import PRESETS, TextEncoder
from speech2image.training.core.checkpoint import save_checkpoint

SIZE, PRIOR_NOISE, OWN_NOISE = 16, 5, 7
FIRST, SECOND = (speech(), 16000), (speech(1.3, seed=1), 16000)
TEXT_ENCODER = replace(PRESETS["toy"], output=16)


def spoken_generator() -> SpokenGenerator:
    rng = np.random.default_rng(0)
    said = rng.standard_normal((60, SIZE)).astype(np.float32)
    features = (said + rng.standard_normal((60, SIZE))).astype(np.float32)
    prior = ConditionPrior.fit(said, features, features.mean(0), n_predicted=3, noise_size=PRIOR_NOISE)
    torch.manual_seed(1)
    return SpokenGenerator(prior, MatrixGenerator(SIZE, OWN_NOISE), OWN_NOISE).eval()


def write_with_prior(folder: Path) -> direct.Parity:
    torch.manual_seed(0)
    whole = spoken_generator()
    return direct.export_direct(
        MeanEncoder(SIZE), whole, folder, name="mine", licence="CC0-1.0", noise_size=whole.noise_size
    )


def pixels(pictures: list[Image.Image]) -> np.ndarray:
    return np.stack([np.asarray(picture, np.int16) for picture in pictures])


def text_encoder(size: int = 16) -> TextEncoder:
    torch.manual_seed(0)
    return TextEncoder(replace(TEXT_ENCODER, output=size)).eval()


def write_cascade(folder: Path, generator: nn.Module | None = None, **options: object) -> dict[str, float]:
    wanted = {"name": "mine", "licence": "CC0-1.0", "noise_size": 7} | options
    return cascade.export_cascade(text_encoder(), generator or MatrixGenerator(), folder, **wanted)  # type: ignore[arg-type]


def save_trained(path: Path, kind: str, settings: dict[str, object], module: nn.Module) -> None:
    """A checkpoint as a training of `kind` writes it."""
    settings = json.loads(json.dumps(settings))
    ema = {"module": module.state_dict(), "updates": 1}
    save_checkpoint(path, {"kind": kind, "settings": settings, "step": 1, "seconds": 0.0, "ema": ema})
