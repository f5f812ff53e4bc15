import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from tiny_model import EMBEDDING, NOISE, SIZE, encoder_network, generator_network

from speech2image.errors import CheckpointError, SettingsError
from speech2image.pipeline import onnx
from speech2image.pipeline.noise import noise
from speech2image.pipeline.onnx import Session

GENERATOR = (("condition", "noise"), ("picture",), "g.onnx")
FIRST = [0.918484, 1.609997, 0.241825, 0.167796]


def test_noise_is_the_same_for_good() -> None:
    """The first values for seed 0, so that a change of the recipe cannot pass unseen."""
    assert noise(1, 4, 0)[0].tolist() == pytest.approx(FIRST, abs=1e-6)


@pytest.mark.parametrize("size", [1, 7, 100])
def test_noise_row_does_not_depend_on_n(size: int) -> None:
    assert np.array_equal(noise(3, size, 5), noise(8, size, 5)[:3])
    assert not np.array_equal(noise(3, size, 5), noise(3, size, 6))


def test_noise_is_standard_normal() -> None:
    z = noise(2000, 101, 3)
    assert z.dtype == np.float32
    assert abs(z.mean()) < 0.01
    assert abs(z.std() - 1) < 0.01
    assert abs((np.abs(z) < 1).mean() - 0.6827) < 0.005
    correlation = np.corrcoef(z, rowvar=False) - np.eye(101)
    assert np.abs(correlation).max() < 0.12


@pytest.mark.parametrize("n", [0, -1, 2.0, 2.5, "3", True, None, 10_001, 10**30])
def test_noise_count(n: object) -> None:
    with pytest.raises(SettingsError, match="n must be a whole number from 1 to 10000"):
        noise(n, 4, 0)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", [-1, 0.5, "0", None, 2**64])
def test_noise_seed(seed: object) -> None:
    with pytest.raises(SettingsError, match="seed must be a whole number from 0"):
        noise(1, 4, seed)  # type: ignore[arg-type]


def test_numpy_numbers_are_numbers() -> None:
    assert np.array_equal(noise(np.int64(2), 4, np.uint8(7)), noise(2, 4, 7))  # type: ignore[arg-type]


def test_session_runs() -> None:
    session = Session(generator_network().SerializeToString(), *GENERATOR, threads=1)
    picture = session(np.zeros((2, EMBEDDING), np.float32), np.zeros((2, NOISE), np.float32))
    assert picture.shape == (2, 3, SIZE, SIZE)
    assert not picture.any()


def test_as_many_runs_at_once_as_there_are_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx, "default_threads", lambda: 2)
    session = Session(generator_network().SerializeToString(), *GENERATOR, threads=1)
    own, lock, at_once = session._session, threading.Lock(), [0, 0]
    both = threading.Barrier(2, timeout=30)

    class Slow:
        def run(self, *given: object) -> object:
            with lock:
                at_once[0] += 1
                at_once[1] = max(at_once)
            both.wait()  # two runs always meet here
            with lock:
                at_once[0] -= 1
            return own.run(*given)

    session._session = Slow()
    with ThreadPoolExecutor(6) as pool:
        condition, z = np.zeros((1, EMBEDDING), np.float32), np.zeros((1, NOISE), np.float32)
        pictures = list(pool.map(lambda _: session(condition, z), range(6)))
    assert len(pictures) == 6 and at_once == [0, 2]


def test_session_refuses_other_networks() -> None:
    with pytest.raises(CheckpointError, match=r"g\.onnx is not this project's.*log_mel"):
        Session(encoder_network().SerializeToString(), *GENERATOR)
    with pytest.raises(CheckpointError, match="cannot be opened"):
        Session(b"certainly not ONNX", *GENERATOR)
    with pytest.raises(CheckpointError, match="cannot be opened"):
        Session(generator_network().SerializeToString()[:-200], *GENERATOR)


def test_session_refuses_other_shapes() -> None:
    session = Session(generator_network().SerializeToString(), *GENERATOR)
    with pytest.raises(CheckpointError, match="does not run"):
        session(np.zeros((1, 3), np.float32), np.zeros((1, NOISE), np.float32))


@pytest.mark.parametrize("threads", [0, -2, 1.5])
def test_threads(threads: object) -> None:
    with pytest.raises(SettingsError, match="threads must be"):
        Session(generator_network().SerializeToString(), *GENERATOR, threads=threads)  # type: ignore[arg-type]


def test_session_refuses_numbers_that_are_not_finite() -> None:
    model = generator_network()
    for value in ("nan", "inf"):
        weight = model.graph.initializer[0]
        array = numpy_helper.to_array(weight).copy()
        array[0, 5] = float(value)
        weight.CopyFrom(numpy_helper.from_array(array, weight.name))
        session = Session(model.SerializeToString(), *GENERATOR)
        with pytest.raises(CheckpointError, match=r"g\.onnx gave nan in 'picture'"):
            # 0 * inf is NaN, too
            session(np.zeros((1, EMBEDDING), np.float32), np.zeros((1, NOISE), np.float32))


@pytest.mark.parametrize("kind", ["UINT8", "DOUBLE", "FLOAT16", "INT64", "BOOL"])
def test_session_refuses_outputs_of_other_types(kind: str) -> None:
    model = generator_network()
    to = getattr(TensorProto, kind)
    model.graph.node[-1].output[0] = "floats"
    model.graph.node.append(helper.make_node("Cast", ["floats"], ["picture"], to=to))
    model.graph.output[0].type.tensor_type.elem_type = to
    with pytest.raises(CheckpointError, match=rf"not this project's.*tensor\({kind.lower()}\)"):
        Session(model.SerializeToString(), *GENERATOR)


def test_session_refuses_sequences(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their operators are not allowed; even if one were, its output would not be."""
    model = generator_network()
    model.graph.node[-1].output[0] = "floats"
    model.graph.node.append(helper.make_node("SequenceConstruct", ["floats"], ["picture"]))
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_sequence_value_info("picture", TensorProto.FLOAT, None))
    with pytest.raises(CheckpointError, match="operator 'SequenceConstruct'"):
        Session(model.SerializeToString(), *GENERATOR)
    monkeypatch.setattr(onnx, "check_network", lambda *_: None)
    with pytest.raises(CheckpointError, match=r"not this project's.*seq\(tensor\(float\)\)"):
        Session(model.SerializeToString(), *GENERATOR)


def test_session_refuses_inputs_of_other_types() -> None:
    model = generator_network()
    model.graph.input[1].type.tensor_type.elem_type = TensorProto.STRING
    model.graph.node[1].input[0] = "condition"
    model.graph.initializer[1].CopyFrom(model.graph.initializer[0])
    model.graph.initializer[1].name = "from_noise"
    with pytest.raises(CheckpointError, match=r"not this project's.*tensor\(string\)"):
        Session(model.SerializeToString(), *GENERATOR)
