"""A cascade of a few hundred kilobytes, made with `onnx` alone; its recognizer always hears the same."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tiny_model import EMBEDDING, NOISE, SIZE, generator_network

HEARD = "a red flower"


class Says:
    """A recognizer that hears its own words, whatever is said; `heard` counts the recordings."""

    def __init__(self, text: str, name: str = "fake") -> None:
        self.text, self.name, self.heard = text, name, 0

    def transcribe(self, waveform: NDArray[np.float32]) -> str:
        self.heard += 1
        assert waveform.ndim == 1 and waveform.dtype == np.float32
        return self.text


def text_network() -> onnx.ModelProto:
    """Mean over the letters' rows in a table."""
    table = np.random.default_rng(3).standard_normal((71, EMBEDDING)).astype(np.float32) * 5
    nodes = [
        helper.make_node("Gather", ["table", "letters"], ["rows"]),
        helper.make_node("ReduceMean", ["rows"], ["text_embedding"], axes=[1], keepdims=0),
    ]
    return _network(
        nodes, {"letters": ("batch", 201)}, {"text_embedding": ("batch", EMBEDDING)}, {"table": table}
    )


def make_recognizer(folder: Path, words: str = HEARD, silent: bool = False) -> Path:
    """A recognizer's folder: its decoder writes `words` whatever it hears, nothing if `silent`."""
    pieces = [f"{word} " for word in words.split()]
    size = 2 + len(pieces)
    following = np.full((size, size), -30.0, np.float32)  # END, 2, 3, ..., END
    following[0, 1] = following[1, 2] = following[size - 1, 1] = 0
    for token in range(2, size - 1):
        following[token, token + 1] = 0
    contents = {
        "recognizer_encoder.onnx": _listening(size, silent).SerializeToString(),
        "recognizer_decoder.onnx": _writing(following).SerializeToString(),
    }
    folder.mkdir(parents=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    files = {name: {"sha256": hashlib.sha256(content).hexdigest()} for name, content in contents.items()}
    card = {"format": "speech2image-recognizer-1", "pieces": pieces, "files": files}
    (folder / "recognizer.json").write_text(json.dumps(card))
    return folder


def make_cascade(folder: Path, words: str | None = HEARD, silent: bool = False, **card: Any) -> Path:
    """Write a whole cascade; without `words` one without a recognizer. `card` goes into its model.json."""
    folder.mkdir(parents=True)
    files = {}
    for name, network in (("text_encoder", text_network()), ("generator", generator_network())):
        content = network.SerializeToString()
        (folder / f"{name}.onnx").write_bytes(content)
        files[name] = {"file": f"{name}.onnx", "sha256": hashlib.sha256(content).hexdigest()}
    whole: dict[str, Any] = {
        "format": "speech2image cascade route 1",
        "route": "cascade",
        "name": folder.name,
        "licence": "CC0-1.0",
        "picture_size": SIZE,
        "embedding_size": EMBEDDING,
        "noise_size": NOISE,
        "files": files,
    }
    if words is not None:
        make_recognizer(folder / "recognizer", words, silent)
        whole["recognizer"] = "recognizer"
    (folder / "model.json").write_text(json.dumps(whole | card))
    return folder


def _listening(size: int, silent: bool) -> onnx.ModelProto:
    """A step for each frame; CTC finds every token as likely, or is sure of the blank."""
    row = np.full((1, 1, size), -np.log(size), np.float32)
    if silent:
        row[:] = -30
        row[:, :, 0] = 0
    nodes = [
        helper.make_node("ReduceMean", ["log_mel"], ["mean"], axes=[1], keepdims=0),  # [1, frames]
        helper.make_node("Unsqueeze", ["mean", "last"], ["column"]),  # [1, frames, 1]
        helper.make_node("Mul", ["column", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "row"], ["ctc"]),
        helper.make_node("Unsqueeze", ["column", "front"], ["memory_keys"]),  # [1, 1, 1, frames, 1]
        helper.make_node("Identity", ["memory_keys"], ["memory_values"]),
        helper.make_node("Identity", ["n_frames"], ["unused"]),
    ]
    weights = {
        "last": np.array([2]),
        "front": np.array([0, 1]),
        "zero": np.zeros(1, np.float32),
        "row": row,
    }
    outputs: dict[str, Any] = {"ctc": (1, "steps", size)}
    outputs |= dict.fromkeys(("memory_keys", "memory_values"), (1, 1, 1, "steps", 1))
    return _network(nodes, {"log_mel": (1, 40, "frames"), "n_frames": (1,)}, outputs, weights)


def _writing(following: NDArray[np.float32]) -> onnx.ModelProto:
    """The next token from the last one alone; keys and values grow by one."""
    nodes = [
        helper.make_node("Gather", ["table", "tokens"], ["next"]),
        helper.make_node("Gather", ["one", "tokens"], ["own"]),  # [n]
        helper.make_node("Reshape", ["own", "shape"], ["grown"]),
        helper.make_node("Concat", ["keys", "grown"], ["new_keys"], axis=3),
        helper.make_node("Concat", ["values", "grown"], ["new_values"], axis=3),
        helper.make_node("ReduceMax", ["memory_keys"], ["unused_keys"]),
        helper.make_node("ReduceMax", ["memory_values"], ["unused_values"]),
    ]
    size = len(following)
    cache = (1, "n", 1, "length", 1)
    inputs: dict[str, Any] = {"tokens": ("n",), "keys": cache, "values": cache}
    inputs |= dict.fromkeys(("memory_keys", "memory_values"), (1, 1, 1, "steps", 1))
    outputs: dict[str, Any] = {"next": ("n", size)}
    outputs |= dict.fromkeys(("new_keys", "new_values"), (1, "n", 1, "longer", 1))
    weights = {"table": following, "one": np.ones(size, np.float32), "shape": np.array([1, -1, 1, 1, 1])}
    return _network(nodes, inputs, outputs, weights)


def _network(
    nodes: list[Any], inputs: dict[str, Any], outputs: dict[str, Any], weights: dict[str, NDArray[Any]]
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, _kind(name), shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def _kind(name: str) -> int:
    return TensorProto.INT64 if name in ("letters", "tokens", "n_frames") else TensorProto.FLOAT
