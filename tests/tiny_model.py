"""A model folder of a few hundred kilobytes, made with `onnx` alone, and a second of made-up speech."""

import hashlib
import json
import wave
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

SIZE, EMBEDDING, NOISE = 8, 16, 6


def encoder_network() -> onnx.ModelProto:
    """Mean log-mel over the valid frames, then a matrix."""
    weight = np.random.default_rng(1).standard_normal((40, EMBEDDING)).astype(np.float32)
    return _network(
        [
            helper.make_node("ReduceSum", ["log_mel", "axis"], ["total"], keepdims=0),
            helper.make_node("Cast", ["n_frames"], ["count"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["count", "one"], ["count_column"]),
            helper.make_node("Div", ["total", "count_column"], ["mean"]),
            helper.make_node("MatMul", ["mean", "weight"], ["speech_embedding"]),
        ],
        {"log_mel": ("batch", 40, "frames"), "n_frames": ("batch",)},
        {"speech_embedding": ("batch", EMBEDDING)},
        {"axis": np.array([2]), "one": np.array([1]), "weight": weight},
    )


def generator_network() -> onnx.ModelProto:
    """tanh of a matrix times condition plus a matrix times noise."""
    rng = np.random.default_rng(2)
    pixels = 3 * SIZE * SIZE
    return _network(
        [
            helper.make_node("MatMul", ["condition", "from_condition"], ["a"]),
            helper.make_node("MatMul", ["noise", "from_noise"], ["b"]),
            helper.make_node("Add", ["a", "b"], ["c"]),
            helper.make_node("Tanh", ["c"], ["d"]),
            helper.make_node("Reshape", ["d", "shape"], ["picture"]),
        ],
        {"condition": ("batch", EMBEDDING), "noise": ("batch", NOISE)},
        {"picture": ("batch", 3, SIZE, SIZE)},
        {
            "from_condition": rng.standard_normal((EMBEDDING, pixels)).astype(np.float32) / 8,
            "from_noise": rng.standard_normal((NOISE, pixels)).astype(np.float32) / 4,
            "shape": np.array([-1, 3, SIZE, SIZE]),
        },
    )


def make_model(folder: Path, **card: Any) -> Path:
    """Write a whole model folder; `card` overrides what its model.json says."""
    folder.mkdir(parents=True)
    files = {}
    for name, network in (("speech_encoder", encoder_network()), ("generator", generator_network())):
        content = network.SerializeToString()
        (folder / f"{name}.onnx").write_bytes(content)
        files[name] = {"file": f"{name}.onnx", "sha256": hashlib.sha256(content).hexdigest()}
    whole: dict[str, Any] = {
        "format": "speech2image direct route 1",
        "name": folder.name,
        "licence": "CC0-1.0",
        "picture_size": SIZE,
        "embedding_size": EMBEDDING,
        "noise_size": NOISE,
        "files": files,
    }
    (folder / "model.json").write_text(json.dumps(whole | card))
    return folder


def speech(seconds: float = 1.0, seed: int = 0) -> NDArray[np.float32]:
    """A buzzing tone with a wandering pitch and some noise, 16 kHz."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * 16000)) / 16000
    phase = 2 * np.pi * np.cumsum(120 + 40 * (seed + 1) * np.sin(7 * t)) / 16000
    buzz = sum(np.sin(k * phase) / k for k in range(1, 12 + 5 * seed))
    return (0.1 * buzz + 0.01 * rng.standard_normal(t.size)).astype(np.float32)


def write_wav(path: Path, seconds: float = 1.0, seed: int = 0) -> Path:
    """Write `speech` as a 16-bit wav file."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes((speech(seconds, seed) * 32767).astype("<i2").tobytes())
    return path


def _network(
    nodes: list[Any], inputs: dict[str, Any], outputs: dict[str, Any], weights: dict[str, NDArray[Any]]
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, _kind(name), shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, _kind(name), shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def _kind(name: str) -> int:
    return TensorProto.INT64 if name == "n_frames" else TensorProto.FLOAT
