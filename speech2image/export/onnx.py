"""Conversion to ONNX: traces networks and stores large weights as float16 (half the size, same arithmetic) or
eight-bit numbers (a quarter of the size, faster arithmetic)."""

import copy
import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import nn

from speech2image import __version__
from speech2image.errors import CheckpointError
from speech2image.pipeline.registry import COUNTS, DOMAIN, STATES, WORDS

OPSET = 17
SMALLEST_HALVED = 1024
"""Weights of fewer numbers, and vectors, stay float32: they cost nothing and scale everything."""
HALVED = "_float16"
"""How a weight's name ends that is stored as float16."""
QUANTIZED, SCALE, ZERO, TRANSPOSED = "_quantized", "_scale", "_zero_point", "_Transposed"
"""How ONNX Runtime ends the names of a weight in eight bits and of what it is read by, a pair for each
output of a layer: (weight - zero point) * scale; and of one whose transpose is meant."""
EIGHT_BIT = ("MatMul", "Gather")
"""Operators whose weights become eight-bit numbers; convolutions with them are slower than in float32."""


ARRAYS: dict[str, tuple[dict[str, dict[int, str]], dict[str, dict[int, str]]]] = {
    "speech_encoder": ({"log_mel": {2: "frames"}, "n_frames": {}}, {"speech_embedding": {}}),
    "condition_prior": ({"embedding": {}, "noise": {}}, {"feature": {}}),
    "generator": ({"condition": {}, "noise": {}}, {"picture": {}}),
    "speech_detector": ({"log_mel": {2: "frames"}, "n_frames": {}}, {"speech_probability": {1: "steps"}}),
    "language_model": ({"tokens": {}}, {"next": {}}),
    "text_encoder": ({"letters": {}}, {"text_embedding": {}}),
    "word_vectors": ({COUNTS: {}}, {"text_embedding": {}}),
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


def with_eight_bit_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose matrices are eight-bit numbers, a scale for each output, and so is the arithmetic with
    them (ONNX Runtime's dynamic quantisation); what else is large is float16.

    Numbers without sign: of signed ones, processors without VNNI instructions add pairs in 16 bits, which
    overflow.

    Raises:
        CheckpointError: as `with_float16_weights`.
    """
    logging.disable(logging.WARNING)  # it advises to simplify the network first, which changes nothing here
    try:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "network.onnx"
            quantize_dynamic(
                copy.deepcopy(model),
                path,
                op_types_to_quantize=list(EIGHT_BIT),
                per_channel=True,
                weight_type=QuantType.QUInt8,
            )
            small = onnx.load(path)
    finally:
        logging.disable(logging.NOTSET)
    for notes in (small.metadata_props, small.graph.value_info, small.graph.quantization_annotation):
        del notes[:]
    default = [opset for opset in small.opset_import if opset.domain in ("", "ai.onnx")]
    del small.opset_import[:]
    small.opset_import.extend(default)
    small.producer_name, small.producer_version = model.producer_name, model.producer_version
    return with_float16_weights(small)


def in_eight_bits(model: onnx.ModelProto) -> bool:
    """Whether a network computes in eight bits."""
    return any(node.op_type == "MatMulInteger" for node in model.graph.node)


def weights_of(model: onnx.ModelProto) -> dict[str, NDArray[np.float32]]:
    """All floating weights of a network by the names they had when it was traced, as float32, whatever they
    are stored as."""
    stored = {one.name.removesuffix(HALVED): numpy_helper.to_array(one) for one in model.graph.initializer}
    bases = [name.removesuffix(QUANTIZED) for name in stored if name.endswith(QUANTIZED)]
    for base in (base for base in bases if base + SCALE in stored):
        quantized, scale, zero = (stored.pop(base + end) for end in (QUANTIZED, SCALE, ZERO))
        array = (quantized.astype(np.float32) - zero) * scale
        name = base.removesuffix(TRANSPOSED)
        stored[name] = array if name == base else array.T
    return {
        name: np.ascontiguousarray(array, dtype=np.float32)
        for name, array in stored.items()
        if np.issubdtype(array.dtype, np.floating)
    }
