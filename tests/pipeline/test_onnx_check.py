"""Hostile networks: refused before ONNX Runtime sees them; every network of this project passes."""

import random
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from tiny_model import generator_network

from speech2image.errors import CheckpointError
from speech2image.pipeline import registry
from speech2image.pipeline.onnx import Session
from speech2image.pipeline.onnx_check import MAX_FIELDS, OPERATORS, VOICE, check_network

SIGNATURE = (("condition", "noise"), ("picture",), "g.onnx")
SHIPPED = sorted(registry.MODELS_FOLDER.glob("*/*.onnx"))


@pytest.fixture
def no_session(monkeypatch: pytest.MonkeyPatch) -> None:
    def made(*_: object, **__: object) -> None:
        raise AssertionError("a session was made")

    monkeypatch.setattr(onnxruntime, "InferenceSession", made)


def _external(tensor: TensorProto, location: str) -> None:
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", "4")):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value


def _external_weight(model: onnx.ModelProto) -> None:
    _external(model.graph.initializer[0], "../../etc/passwd")


def _external_constant(model: onnx.ModelProto) -> None:
    value = numpy_helper.from_array(np.zeros(1, np.float32), "c")
    _external(value, "beside.bin")
    model.graph.node.append(helper.make_node("Constant", [], ["c"], value=value))


def _location_alone(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL


def _entries_alone(model: onnx.ModelProto) -> None:
    entry = model.graph.initializer[0].external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"


def _node(operator: str, domain: str = "") -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        model.graph.node.append(helper.make_node(operator, ["c"], ["x"], domain=domain))

    return change


def _endless_loop(model: onnx.ModelProto) -> None:
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
        ],
        [helper.make_tensor_value_info("go_on", TensorProto.BOOL, [])],
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "true"))
    model.graph.node.append(helper.make_node("Loop", ["", "true"], [], body=body))


def _network_in_an_attribute(model: onnx.ModelProto) -> None:
    """Of an operator that is allowed."""
    attribute = model.graph.node[0].attribute.add()
    attribute.name, attribute.type = "body", onnx.AttributeProto.GRAPH
    attribute.g.CopyFrom(helper.make_graph([], "inside", [], []))


def _function(model: onnx.ModelProto) -> None:
    made = helper.make_function(
        "", "Tanh", ["x"], ["y"], [helper.make_node("Loop", ["x"], ["y"])], [helper.make_opsetid("", 17)]
    )
    model.functions.append(made)


def _sparse_weight(model: onnx.ModelProto) -> None:
    model.graph.sparse_initializer.add().dims.append(1)


def _training(model: onnx.ModelProto) -> None:
    model.training_info.add()


HOSTILE: dict[Callable[[onnx.ModelProto], None], str] = {
    _external_weight: "takes weights from another file",
    _external_constant: "takes weights from another file",
    _location_alone: "takes weights from another file",
    _entries_alone: "takes weights from another file",
    _endless_loop: "operator 'Loop'|a network in another",
    _network_in_an_attribute: "a network in another",
    _function: "holds more than operators and weights",
    _sparse_weight: "holds more than operators and weights",
    _training: "holds more than operators and weights",
    _node("Scan"): "operator 'Scan'",
    _node("If"): "operator 'If'",
    _node("RandomNormal"): "operator 'RandomNormal'",
    _node("SequenceAt"): "operator 'SequenceAt'",
    _node("\x1b[2Jevil\n"): r"operator '\\x1b\[2Jevil",
    _node(""): "operator ''|cannot be opened",
    _node("EPContext", "com.microsoft"): "EPContext|com.microsoft",
    _node("Tanh", "com.microsoft"): "operator of 'com.microsoft'",
}


@pytest.mark.parametrize("change", HOSTILE, ids=lambda change: change.__qualname__)
def test_more_than_weights_and_operators_is_refused_before_a_session_is_made(no_session, change) -> None:
    model = generator_network()
    change(model)
    with pytest.raises(CheckpointError, match=HOSTILE[change]) as caught:
        Session(model.SerializeToString(), *SIGNATURE)
    assert "g.onnx" in str(caught.value) and "\x1b" not in str(caught.value)


def test_weights_in_a_file_of_the_machine_do_not_reach_a_picture(tmp_path, monkeypatch) -> None:
    """ONNX Runtime itself would read this file, which lies below the working directory."""
    monkeypatch.chdir(tmp_path)
    secret = np.full(12, 0.5, np.float32)
    Path("secret.bin").write_bytes(secret.tobytes())
    weight = numpy_helper.from_array(secret, "w")
    graph = helper.make_graph(
        [helper.make_node("Identity", ["w"], ["picture"])],
        "g",
        [],
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, [12])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    _external(model.graph.initializer[0], "secret.bin")
    model.graph.initializer[0].external_data[2].value = "48"
    content = model.SerializeToString()
    read = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"]).run(None, {})[0]
    assert np.array_equal(read, secret)
    with pytest.raises(CheckpointError, match="takes weights from another file"):
        Session(content, (), ("picture",), "g.onnx")


def test_voices_of_others_may_use_more_but_no_loops_and_no_other_files() -> None:
    for operator, domain in (("STFT", ""), ("QLinearMatMul", ""), ("FusedMatMul", "com.microsoft")):
        model = generator_network()
        _node(operator, domain)(model)
        check_network(model.SerializeToString(), "voice.onnx", VOICE)
        with pytest.raises(CheckpointError, match=operator):
            check_network(model.SerializeToString(), "g.onnx")
    for change in (
        _node("EPContext", "com.microsoft"),
        _node("Tanh", "elsewhere"),
        _endless_loop,
        _external_weight,
        _function,
    ):
        model = generator_network()
        change(model)
        with pytest.raises(CheckpointError, match="is refused"):
            check_network(model.SerializeToString(), "voice.onnx", VOICE)


def test_a_second_value_of_a_field_is_checked_too() -> None:
    """Protobuf joins messages that come twice and takes the last of two operators' names."""
    node = helper.make_node("Tanh", ["c"], ["d"]).SerializeToString()
    node += helper.make_node("Loop", [], []).SerializeToString()
    graph = b"\x0a" + _length(node) + node
    with pytest.raises(CheckpointError, match="Loop"):
        check_network(generator_network().SerializeToString() + b"\x3a" + _length(graph) + graph, "g")


def test_a_file_of_onnx_runtimes_own_format_is_refused(no_session) -> None:
    with pytest.raises(CheckpointError, match=r"cannot be opened|no ONNX file"):
        Session(b"\x18\x00\x00\x00ORTM" + bytes(200), *SIGNATURE)


def test_an_onnx_file_that_looks_like_the_own_format_is_read_as_what_was_checked() -> None:
    """Bytes 4 to 8 are that format's mark; a field in front of the network may hold them."""
    front = b"\x12\x06\x00\x00ORTM"  # producer_name
    content = front + generator_network().SerializeToString()
    assert content[4:8] == b"ORTM"
    session = Session(content, *SIGNATURE, threads=1)
    assert session.inputs == ("condition", "noise")


def test_too_many_fields_are_refused() -> None:
    with pytest.raises(CheckpointError, match="more than 100,000 fields"):
        check_network(b"\x08\x01" * (MAX_FIELDS + 1), "g")


@pytest.mark.parametrize(
    "content",
    [
        b"\x0f",
        b"\x08" + b"\xff" * 20,
        b"\x3a\xff\xff\xff\xff\x0f",
        b"\x3a\x02\x0a\x7f",
        b"\x3b\x3c",
        b"\x3a" + b"\xff" * 9,
        struct.pack("<Q", 2**63) * 3,
    ],
)
def test_a_damaged_encoding_is_refused(content: bytes) -> None:
    with pytest.raises(CheckpointError, match=r"cannot be opened|refused"):
        check_network(content, "g")


def test_any_damage_is_refused_or_harmless() -> None:
    """Changed, cut and lengthened files: an error of this package's or a session, never anything else."""
    whole = generator_network().SerializeToString()
    rng = random.Random(0)
    refused = 0
    for _ in range(300):
        content = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            content[rng.choice([rng.randrange(len(content)), rng.randrange(300)])] = rng.randrange(256)
        content = content[: rng.randrange(len(content))] if rng.random() < 0.3 else content
        try:
            Session(bytes(content), *SIGNATURE, threads=1)
        except CheckpointError:
            refused += 1
    assert refused > 100


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_shipped_networks_pass(path: Path) -> None:
    check_network(path.read_bytes(), str(path))


def test_operators_that_may_not_end_or_repeat_are_not_listed() -> None:
    assert not OPERATORS & {"Loop", "Scan", "If", "SequenceMap", "StringConcat"}
    assert not any("Random" in operator or operator in ("Bernoulli", "Multinomial") for operator in OPERATORS)
    known = {schema.name for schema in onnx.defs.get_all_schemas() if schema.domain == ""}
    assert known >= OPERATORS


def _length(content: bytes) -> bytes:
    size, made = len(content), b""
    while size > 127:
        made, size = made + bytes([size & 127 | 128]), size >> 7
    return made + bytes([size])
