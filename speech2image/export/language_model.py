"""Export of a language model into a model that is there: a network that its decoder asks as it searches.

language_model.onnx   tokens [sentences, context] -> next [sentences, tokens], log-probabilities
"""

import copy
import os
from pathlib import Path

import numpy as np
import torch

from speech2image.asr.text import Vocabulary
from speech2image.errors import CheckpointError, SettingsError
from speech2image.export.folder import MAX_BYTES, add_network
from speech2image.export.onnx import to_onnx, with_float16_weights
from speech2image.export.parity import SAME, check_same
from speech2image.export.recognizer import SAME_FLOAT16
from speech2image.models.language_model import LanguageModel
from speech2image.pipeline.onnx import Session
from speech2image.pipeline.registry import read_card
from speech2image.pipeline.routes import LANGUAGE_MODEL
from speech2image.training.core.networks import load_language_model, training_facts

COMPARED = 64
"""Contexts that ONNX is compared with torch on."""


def add_language_model(
    folder: str | os.PathLike[str],
    language_model: LanguageModel,
    vocabulary: Vocabulary,
    weight: float,
    max_bytes: int = MAX_BYTES,
    **facts: object,
) -> dict[str, float]:
    """Give a model folder a language model, or another one; its other networks stay as they are.

    Args:
        folder: of a model with a decoder.
        language_model: trained on that decoder's pieces of text.
        vocabulary: these pieces.
        weight: of its log-probabilities beside the decoder's, from 0 to 1.
        max_bytes: the most the network may take.
        **facts: more that the card says of it.

    Returns:
        The largest difference of a log-probability from torch, with weights in float32 and as stored, which
        `model.json` states too.

    Raises:
        CheckpointError: the folder is no whole model, has no decoder or one of other pieces of text; or ONNX
            Runtime gives something else than torch.
        SettingsError: the weight is outside 0 to 1, or the network is too large.
        OutputError: the folder cannot be written.
    """
    model = read_card(Path(folder))
    if not 0 <= weight <= 1:
        raise SettingsError(f"the weight is {weight}; give a number from 0 to 1, such as 0.1")
    if model.decoder_pieces != vocabulary.pieces:
        own = f"writes in {len(model.decoder_pieces)} others" if model.decoder_pieces else "has none"
        raise CheckpointError(
            f"the language model foretells {len(vocabulary.pieces)} pieces of text of one decoder, and model "
            f"'{model.name}' {own}; train one for this model (train language-model --model)"
        )
    network = copy.deepcopy(language_model).cpu().float().eval()
    shape = network.settings
    whole = to_onnx(network, (torch.ones(2, shape.context, dtype=torch.int64),), LANGUAGE_MODEL)
    halved = with_float16_weights(whole)
    contexts = torch.randint(
        shape.tokens, (COMPARED, shape.context), generator=torch.Generator().manual_seed(0)
    )
    with torch.no_grad():
        expected = network(contexts).numpy()
    found: dict[str, float] = {}
    for name, onnx_model, bound in (
        ("language_model", whole, SAME),
        ("language_model_float16", halved, SAME_FLOAT16),
    ):
        session = Session(onnx_model.SerializeToString(), ("tokens",), ("next",), f"{LANGUAGE_MODEL}.onnx")
        found[name] = float(np.abs(session(contexts.numpy()) - expected).max())
        check_same(f"a log-probability of the {name.replace('_', ' ')}", found[name], bound)
    stated = {"context": shape.context, "weight": weight, **facts}
    add_network(model, LANGUAGE_MODEL, halved.SerializeToString(), found, max_bytes, {LANGUAGE_MODEL: stated})
    return found


def add_checkpoint(
    checkpoint: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    weight: float,
    max_bytes: int = MAX_BYTES,
) -> dict[str, float]:
    """`add_language_model` for the averaged weights of a language-model training."""
    network, vocabulary = load_language_model(checkpoint)
    facts = {"training": training_facts(checkpoint)}
    return add_language_model(folder, network, vocabulary, weight, max_bytes, **facts)
