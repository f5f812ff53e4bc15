import numpy as np
import pytest
from tiny_model import EMBEDDING, NOISE, SIZE, encoder_network, generator_network

from speech2image.errors import CheckpointError, SettingsError
from speech2image.runtime import Session, noise

GENERATOR = (("condition", "noise"), "picture", "g.onnx")
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
    picture = session(condition=np.zeros((2, EMBEDDING), np.float32), noise=np.zeros((2, NOISE), np.float32))
    assert picture.shape == (2, 3, SIZE, SIZE)
    assert not picture.any()


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
        session(condition=np.zeros((1, 3), np.float32), noise=np.zeros((1, NOISE), np.float32))


@pytest.mark.parametrize("threads", [0, -2, 1.5])
def test_threads(threads: object) -> None:
    with pytest.raises(SettingsError, match="threads must be"):
        Session(generator_network().SerializeToString(), *GENERATOR, threads=threads)  # type: ignore[arg-type]
