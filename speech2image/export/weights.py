"""Plain weights: the averaged network of a checkpoint as safetensors, without the training's state."""

import json
import os
from pathlib import Path

from safetensors.torch import save_file

from speech2image.errors import OutputError
from speech2image.files import writing
from speech2image.training.core.checkpoint import averaged_weights, building_from, load_checkpoint


def write_weights(checkpoint: str | os.PathLike[str], out: str | os.PathLike[str]) -> Path:
    """Write the averaged weights of a checkpoint under the module's own names.

    Args:
        checkpoint: of any training.
        out: `NAME.safetensors`; its metadata hold "format" (pt, as other programs expect), "kind" and the
            training's "settings" as JSON.

    Raises:
        CheckpointError: the checkpoint is damaged.
        OutputError: `out` has another suffix or cannot be written.
    """
    out = Path(out)
    if out.suffix != ".safetensors":
        raise OutputError(f"{out}: weights are written as NAME.safetensors")
    state = load_checkpoint(checkpoint)
    with building_from(checkpoint):
        weights = {name: tensor.contiguous() for name, tensor in averaged_weights(state).items()}
    metadata = {"format": "pt", "kind": state["kind"], "settings": json.dumps(state["settings"])}
    with writing(out) as temporary:
        save_file(weights, temporary, metadata=metadata)
    return out
