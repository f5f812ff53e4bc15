"""Reader of `.caffemodel` weights, a protocol buffer, without Caffe.

Only the part of Caffe's schema that holds weights is declared; the rest of a file is skipped by protobuf.
Both of Caffe's layer lists are read: `layers` (before 2015) and `layer` (since).
"""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from speech2image.errors import CheckpointError, require

Message = Any
"""A protocol-buffer message, or its class: protobuf makes them at run time."""

# Message -> fields (name, number, protobuf type, repeated), as in Caffe's src/caffe/proto/caffe.proto.
_SCHEMA: dict[str, list[tuple[str, int, str, bool]]] = {
    "BlobShape": [("dim", 1, "int64", True)],
    "BlobProto": [
        ("num", 1, "int32", False),
        ("channels", 2, "int32", False),
        ("height", 3, "int32", False),
        ("width", 4, "int32", False),
        ("data", 5, "float", True),
        ("shape", 7, "BlobShape", False),
        ("double_data", 8, "double", True),
    ],
    "LayerParameter": [("name", 1, "string", False), ("blobs", 7, "BlobProto", True)],
    "V1LayerParameter": [("name", 4, "string", False), ("blobs", 6, "BlobProto", True)],
    "NetParameter": [
        ("name", 1, "string", False),
        ("layers", 2, "V1LayerParameter", True),
        ("layer", 100, "LayerParameter", True),
    ],
}


def read_caffemodel(path: Path) -> dict[str, list[Tensor]]:
    """Blobs of every layer that has some: name -> [weight, bias] as float32, in the shapes stored.

    Raises:
        CheckpointError: the file is no protocol buffer of this kind, or a blob has not the size of its shape.
        MissingExtraError: protobuf is not installed.
    """
    net = net_parameter()()
    decode_error = require("google.protobuf.message", extra="train").DecodeError
    try:
        net.ParseFromString(path.read_bytes())
        layers = {layer.name: [_tensor(blob) for blob in layer.blobs] for layer in _layers(net)}
    except (decode_error, ValueError, OSError) as error:
        raise CheckpointError(f"{path} is damaged or no Caffe model: {error}") from error
    if not layers:
        raise CheckpointError(f"{path} is no Caffe model: it holds no layers")
    return {name: blobs for name, blobs in layers.items() if blobs}


def _layers(net: Message) -> list[Message]:
    return [*net.layers, *net.layer]


def _tensor(blob: Message) -> Tensor:
    old_shape = [blob.num, blob.channels, blob.height, blob.width]
    shape = list(blob.shape.dim) if blob.HasField("shape") else old_shape
    values = np.array(blob.data or blob.double_data, dtype=np.float32)
    return torch.from_numpy(values.reshape(shape))


@cache
def net_parameter() -> Message:
    """The message class of a whole model file, `caffe.NetParameter`, built from the schema above."""
    pool = require("google.protobuf.descriptor_pool", extra="train").DescriptorPool()
    pool.Add(_file_descriptor())
    factory = require("google.protobuf.message_factory", extra="train")
    return factory.GetMessageClass(pool.FindMessageTypeByName("caffe.NetParameter"))


def _file_descriptor() -> Message:
    descriptors = require("google.protobuf.descriptor_pb2", extra="train")
    file = descriptors.FileDescriptorProto(name="caffe_weights.proto", package="caffe", syntax="proto2")
    for message, fields in _SCHEMA.items():
        described = file.message_type.add(name=message)
        for name, number, kind, repeated in fields:
            _describe(descriptors.FieldDescriptorProto, described, name, number, kind, repeated)
    return file


def _describe(kinds: Message, message: Message, name: str, number: int, kind: str, repeated: bool) -> None:
    label = kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL
    field = message.field.add(name=name, number=number, label=label)
    if kind in _SCHEMA:
        field.type, field.type_name = kinds.TYPE_MESSAGE, f".caffe.{kind}"
        return
    field.type = getattr(kinds, f"TYPE_{kind.upper()}")
    field.options.packed = repeated and kind != "string"
