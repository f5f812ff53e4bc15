"""Eight-bit weights with and without sign: the same sums, and only where nothing else reads them."""

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from speech2image.pipeline import onnx as sessions
from speech2image.pipeline.onnx import Session
from speech2image.pipeline.onnx_eight_bits import has_vnni, with_sign

ROWS, INPUTS, OUTPUTS = 3, 64, 40
RNG = np.random.default_rng(0)
WEIGHT = RNG.integers(0, 256, (INPUTS, OUTPUTS), dtype=np.uint8)
WEIGHT[:, 0] = 255  # with large inputs, pairs of products overflow 16 bits
ZERO = RNG.integers(0, 256, OUTPUTS, dtype=np.uint8)
ZERO[0] = 0


def network(*further: onnx.NodeProto, packed: bool = True) -> onnx.ModelProto:
    """x [rows, inputs] in whole numbers of eight bits -> their products with `WEIGHT`, as float32."""
    zero = numpy_helper.from_array(ZERO, "zero")
    if packed:  # as ONNX Runtime's quantisation writes it
        zero = helper.make_tensor("zero", TensorProto.UINT8, [OUTPUTS], ZERO.tolist())
    nodes = [
        helper.make_node("Cast", ["x"], ["whole"], to=TensorProto.UINT8),
        helper.make_node("MatMulInteger", ["whole", "weight", "none", "zero"], ["sums"]),
        helper.make_node("Cast", ["sums"], ["y"], to=TensorProto.FLOAT),
        *further,
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", INPUTS])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", OUTPUTS])],
        [numpy_helper.from_array(WEIGHT, "weight"), numpy_helper.from_array(np.uint8(7), "none"), zero],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def stored(model: onnx.ModelProto) -> dict[str, NDArray[np.generic]]:
    return {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}


@pytest.mark.parametrize("packed", [True, False])
def test_weights_and_zero_points_are_less_by_128(packed: bool) -> None:
    model = network(packed=packed)
    found = onnx.load_from_string(with_sign(model.SerializeToString()))
    onnx.checker.check_model(found, full_check=True)
    assert list(found.graph.node) == list(model.graph.node)
    arrays = stored(found)
    assert arrays["weight"].dtype == arrays["zero"].dtype == np.int8
    assert np.array_equal(arrays["weight"], WEIGHT.astype(int) - 128)
    assert np.array_equal(arrays["zero"], ZERO.astype(int) - 128)
    assert np.array_equal(arrays["none"], np.uint8(7))


@pytest.mark.parametrize("name", ["weight", "zero"])
def test_what_something_else_reads_stays(name: str) -> None:
    content = network(helper.make_node("Cast", [name], ["other"], to=TensorProto.FLOAT)).SerializeToString()
    assert with_sign(content) == content


def test_a_network_without_such_weights_stays() -> None:
    model = network()
    del model.graph.node[1:]
    assert with_sign(model.SerializeToString()) == model.SerializeToString()
    assert with_sign(b"") == b""


@pytest.mark.parametrize("vnni", [False, has_vnni()])
def test_sums_are_exact(monkeypatch: pytest.MonkeyPatch, vnni: bool) -> None:
    monkeypatch.setattr(sessions, "has_vnni", lambda: vnni)
    session = Session(network().SerializeToString(), ("x",), ("y",), "n.onnx", threads=1)
    x = RNG.integers(0, 256, (ROWS, INPUTS))
    x[0] = 255
    expected = (x - 7) @ (WEIGHT.astype(int) - ZERO)
    assert np.array_equal(session(x.astype(np.float32)), expected)
