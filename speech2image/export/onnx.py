"""Conversion to ONNX: traces networks and stores large weights as float16, half the size, same arithmetic."""

import copy
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from speech2image import __version__
from speech2image.errors import CheckpointError
from speech2image.pipeline.registry import DOMAIN, STATES, WORDS

OPSET = 17
SMALLEST_HALVED = 1024
"""Weights of fewer numbers, and vectors, stay float32: they cost nothing and scale everything."""
HALVED = "_float16"
"""How a weight's name ends that is stored as float16."""


ARRAYS: dict[str, tuple[dict[str, dict[int, str]], dict[str, dict[int, str]]]] = {
    "speech_encoder": ({"log_mel": {2: "frames"}, "n_frames": {}}, {"speech_embedding": {}}),
    "condition_prior": ({"embedding": {}, "noise": {}}, {"feature": {}}),
    "generator": ({"condition": {}, "noise": {}}, {"picture": {}}),
    "speech_detector": ({"log_mel": {2: "frames"}, "n_frames": {}}, {"speech_probability": {1: "steps"}}),
    "text_encoder": ({"letters": {}}, {"text_embedding": {}}),
}
"""Network as it is written -> inputs and outputs, each with the dimensions whose length is not fixed (the
batch, dimension 0, never is). A model's card states the names; readers take them from there."""
FURTHER: dict[str, dict[int, str]] = {WORDS: {1: "steps"}, DOMAIN: {}, STATES: {1: "steps_of_20_ms"}}
"""The same of what a speech encoder may give beside the embedding."""


def to_onnx(
    module: nn.Module, example: tuple[torch.Tensor, ...], network: str, further: Sequence[str] = ()
) -> onnx.ModelProto:
    """`trace` for a network of a model folder, one of `ARRAYS`; `further` names outputs of `FURTHER` that a
    speech encoder gives beside the embedding."""
    inputs, outputs = ARRAYS[network]
    outputs = outputs | {name: FURTHER[name] for name in further}
    free = {name: {0: "batch", **lengths} for name, lengths in (inputs | outputs).items()}
    return trace(module, example, tuple(inputs), tuple(outputs), free)


def trace(
    module: nn.Module,
    example: tuple[torch.Tensor, ...],
    inputs: Sequence[str],
    outputs: Sequence[str],
    free: Mapping[str, Mapping[int, str]],
) -> onnx.ModelProto:
    """Trace `module` with the TorchScript exporter, which knows recurrent layers of any batch and length.

    Args:
        module: in evaluation mode.
        example: its inputs, any that fit.
        inputs: their names.
        outputs: the names of what it returns.
        free: name -> dimension -> the name of a length that is not fixed by the example.
    """
    with warnings.catch_warnings(), TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            example,
            path,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes={name: dict(lengths) for name, lengths in free.items()},
            opset_version=OPSET,
            dynamo=False,
        )
        model = onnx.load(path)
    for node in model.graph.node:
        node.doc_string = ""  # the exporter notes source paths of this machine here
    model.producer_name, model.producer_version = "speech2image", __version__
    return model


def with_float16_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose large float32 weights are float16, each followed by a Cast back to float32.

    Raises:
        CheckpointError: a weight is not finite or too large for float16.
    """
    model = copy.deepcopy(model)
    graph, casts = model.graph, []
    for weight in graph.initializer:
        array = numpy_helper.to_array(weight)
        if array.dtype != np.float32 or array.ndim < 2 or array.size < SMALLEST_HALVED:
            continue
        if not (np.abs(array) < np.finfo(np.float16).max).all():
            raise CheckpointError(
                f"the weight {weight.name} is not finite or too large: the training went wrong"
            )
        name = weight.name
        weight.CopyFrom(numpy_helper.from_array(array.astype(np.float16), name + HALVED))
        casts.append(helper.make_node("Cast", [name + HALVED], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    return model
