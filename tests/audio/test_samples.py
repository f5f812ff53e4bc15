"""Samples in memory: every layout of an array gives the same speech, and rates that are none are refused."""

import numpy as np
import pytest
from spoken import sentence

from speech2image import audio
from speech2image.errors import SpeechError


@pytest.mark.parametrize("kind", [">i2", ">i4", ">f4", ">f8", "<f2", "f16"])
def test_any_byte_order_and_width(kind: str) -> None:
    dtype = np.dtype(kind)
    scale = 2.0 ** (8 * dtype.itemsize - 1) - 1 if dtype.kind == "i" else 1.0
    samples = (sentence().astype(np.float64) * scale).astype(dtype)
    np.testing.assert_allclose(audio.load((samples, 16_000)), sentence(), atol=5e-4)


def matrix(samples: np.ndarray) -> np.ndarray:
    """What `np.matrix` makes of them, without its warning."""
    return np.atleast_2d(samples).view(np.matrix)


def test_any_layout_in_memory() -> None:
    speech = sentence()
    read_only = speech.copy()
    read_only.setflags(write=False)
    every_second = np.stack([speech, speech], axis=1).reshape(-1)[::2]
    for samples in (
        matrix(speech).T,
        speech[::-1].copy()[::-1],
        read_only,
        every_second,
        np.ma.array(speech),
    ):
        np.testing.assert_array_equal(audio.load((samples, 16_000)), speech)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros(20_000, dtype=[("left", "f4"), ("right", "f4")]), "got \\[\\('left'"),
        (np.zeros(20_000, dtype=object), "got object"),
        (np.zeros(20_000, dtype="M8[s]"), "got datetime64"),
        (np.array(0.5), r"shape .* got \[\]"),
        (np.ma.masked_greater(sentence(), 0.2), "masked; fill them"),
        (np.full(20_000, 1e300), "NaN or infinite"),
    ],
)
def test_arrays_that_are_no_samples(samples: np.ndarray, message: str) -> None:
    with pytest.raises(SpeechError, match=message):
        audio.load((samples, 16_000))


@pytest.mark.parametrize(
    "rate", [float("nan"), float("inf"), 0, -1, 10**400, 1e300, 2**31, np.float64("nan")]
)
def test_rates_out_of_range(rate: float) -> None:
    with pytest.raises(SpeechError, match="between 1000 and 768000 Hz"):
        audio.load((sentence(), rate))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "rate", [True, 3 + 0j, np.complex64(16_000), None, "16000", 16_000.5, np.array([16_000])]
)
def test_rates_that_are_no_whole_number(rate: object) -> None:
    with pytest.raises(SpeechError, match="whole number of Hz"):
        audio.load((sentence(), rate))  # type: ignore[arg-type]


@pytest.mark.parametrize("rate", [16_000, 16_000.0, np.int64(16_000), np.float32(16_000)])
def test_rates_of_any_type(rate: int) -> None:
    np.testing.assert_array_equal(audio.load((sentence(), rate)), sentence())


def test_every_form_of_samples_in_memory() -> None:
    speech = sentence()
    stereo = np.stack([speech, speech], axis=1)
    for source in (
        (speech, 16_000),
        (16_000, speech),
        {"array": speech, "sampling_rate": 16_000, "path": None},
        (speech.tolist(), 16_000),
        (matrix(speech), 16_000),
        (speech[None], 16_000),
        (stereo, 16_000),
        (stereo.T, 16_000),
        audio.with_rate(speech, 16_000),
    ):
        np.testing.assert_allclose(audio.load(source), speech, atol=1e-7)
    for source in ("clip.wav", (speech, 16_000), b"RIFF"):
        with pytest.raises(SpeechError, match="rate= belongs to samples without one"):
            audio.with_rate(source, 16_000)


def test_torch_tensors() -> None:
    torch = pytest.importorskip("torch")
    speech = torch.tensor(sentence())
    for tensor in (speech, speech[None], speech.double(), speech.clone().requires_grad_()):
        np.testing.assert_array_equal(audio.load((tensor, 16_000)), sentence())
    np.testing.assert_allclose(audio.load((16_000, speech.bfloat16())), sentence(), atol=4e-3)
