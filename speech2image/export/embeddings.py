"""Export of a generator alone: a model folder that draws embeddings made elsewhere.

    generator.onnx     condition [batch, size], noise [batch, 100] -> picture [batch, 3, side, side]
    model.json         as of the other routes, with "route": "embeddings"

For generators trained on published text embeddings, whose encoder is in no file. The folder appears only if
ONNX Runtime then gives what torch gives.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from speech2image.errors import SettingsError
from speech2image.export.direct import convert
from speech2image.export.folder import MAX_BYTES, check_folder, check_size, write_folder
from speech2image.export.parity import Inputs, Parity
from speech2image.models.gan.one_stage import CONDITION_SIZE
from speech2image.training.core.checkpoint import read_facts
from speech2image.training.core.networks import load_generator

COMPARED = 8
"""Embeddings that are compared on."""


def export_generator(
    generator: nn.Module,
    folder: str | os.PathLike[str],
    *,
    name: str,
    licence: str,
    embeddings: NDArray[np.float32],
    noise_size: int = 100,
    max_bytes: int = MAX_BYTES,
    **card: Any,
) -> Parity:
    """Write the model folder of a generator alone.

    Args:
        generator: as of `direct.export_direct`.
        folder: to write; an older model folder there is replaced.
        name: the model's name.
        licence: of the weights.
        embeddings: some to compare on, [n, size]; the first `COMPARED` are.
        noise_size: length of the noise vector.
        max_bytes: the most each network may take.
        **card: more JSON values for `model.json`.

    Returns:
        The differences found, which `model.json` states too; those of embeddings are 0.

    Raises:
        CheckpointError: ONNX Runtime gives something else than torch, or the generator does not draw from
            embeddings of this length. Nothing is written.
        SettingsError: a network larger than `max_bytes`; fewer than two embeddings. Nothing is written.
        OutputError: the folder cannot be written, or holds something that is no model.
    """
    folder = Path(folder)
    check_folder(folder)
    if embeddings.ndim != 2 or len(embeddings) < 2:
        raise SettingsError(
            "comparing needs at least two embeddings [n, size], not an array of shape "
            f"{list(embeddings.shape)}"
        )
    some = torch.from_numpy(embeddings[:COMPARED].astype(np.float32))
    inputs = Inputs("", len(some), lambda rows: (some[rows],))
    contents, sizes, parity = convert(nn.Identity(), generator, inputs, noise_size)
    check_size(contents, max_bytes)
    facts = {"route": "embeddings", "name": name, "licence": licence, **card, **sizes}
    write_folder(folder, contents, {**facts, "parity": parity.stated()})
    return parity


def export_checkpoint(
    generator: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    embeddings: NDArray[np.float32] | None = None,
    **options: Any,
) -> Parity:
    """`export_generator` for a training checkpoint; its averaged weights are taken, and made-up embeddings by
    default.

    Raises:
        CheckpointError: the checkpoint is damaged or of another kind; else as `export_generator`.
    """
    check_folder(Path(folder))
    drawing, noise_size = load_generator(generator)
    if embeddings is None:
        size = condition_size(read_facts(generator))
        embeddings = np.random.default_rng(0).standard_normal((COMPARED, size)).astype(np.float32)
    return export_generator(drawing, folder, embeddings=embeddings, noise_size=noise_size, **options)


def condition_size(facts: Mapping[str, Any]) -> int:
    """Length of the conditions that a generator's checkpoint draws from."""
    networks = facts["settings"].get("networks", {})
    return int(networks.get("condition", CONDITION_SIZE))
