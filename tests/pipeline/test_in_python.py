"""Routes and results as a program and a notebook have them: forms of samples, pickles, equality, devices."""

import copy
import io
import multiprocessing
import pickle
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image
from tiny_cascade import make_cascade
from tiny_model import SIZE, make_model, speech

import speech2image
from speech2image.errors import SettingsError
from speech2image.pipeline.base import Route
from speech2image.pipeline.onnx import CPU, execution_providers


@pytest.fixture
def route(tmp_path) -> Route:
    return speech2image.load(make_model(tmp_path / "m"))


def test_samples_with_rate(route: Route) -> None:
    samples = speech(1.5)
    known = route.translate((samples, 16_000), 2, 3)
    assert route.translate(samples, 2, 3, rate=16_000) == known
    assert route.translate({"array": samples, "sampling_rate": 16_000}, 2, 3) == known
    assert np.array_equal(route.embed(samples, rate=16_000), known.speech_embedding)
    both = (speech(1.5, 1), samples)
    assert route.interpolate(*both, 3, rate=16_000) == route.interpolate(*((s, 16_000) for s in both), 3)
    assert [one.source for one in route.translate_many(both, rate=16_000)] == ["recording 1", "recording 2"]


def test_results_are_equal_if_their_pictures_are(route: Route) -> None:
    one, again = (route.translate((speech(), 16_000), 2, 3) for _ in range(2))
    assert one == again
    assert one != route.translate((speech(), 16_000), 2, 4)
    assert one != route.translate((speech(seed=1), 16_000), 2, 3)
    assert one != "a picture" and one != route.interpolate((speech(), 16_000), (speech(), 16_000))
    assert pickle.loads(pickle.dumps(one)) == one


def test_results_in_a_notebook(route: Route) -> None:
    result = route.translate((speech(), 16_000), 4)
    assert repr(result) == f"<Translation of a recording: 4 pictures of {SIZE} x {SIZE}, model='m', seed=0>"
    row = route.interpolate((speech(), 16_000), (speech(seed=1), 16_000), 3)
    assert repr(row) == f"<Interpolation: 3 pictures of {SIZE} x {SIZE}, model='m', seed=0>"
    assert repr(route) == f"<DirectRoute of the model 'm', {SIZE} x {SIZE}>"
    for shown in (result, row):
        with Image.open(io.BytesIO(shown._repr_png_())) as picture:
            assert picture.format == "PNG" and picture.size == shown.grid().size


def test_a_pickled_route_opens_anew(route: Route, tmp_path: Path, monkeypatch) -> None:
    known = route.translate((speech(), 16_000))
    pickled = pickle.dumps(route)
    assert len(pickled) < 2000  # no weights
    monkeypatch.chdir("/")
    for again in (pickle.loads(pickled), copy.deepcopy(route)):
        assert again is not route and again.translate((speech(), 16_000)) == known
    cascade = speech2image.load(make_cascade(tmp_path / "c"), recognizer=Says(), threads=1)
    again = pickle.loads(pickle.dumps(cascade))
    assert again.recognizer is not None and again.recognizer.name == "says"


class Says:
    """A recognizer of the user's own, which a pickle takes along."""

    name = "says"

    def transcribe(self, waveform: np.ndarray) -> str:
        return "a red flower"


def test_routes_in_other_processes(route: Route) -> None:
    clips = [(speech(seed=i), 16_000) for i in range(2)]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(route.translate, clips) == [route.translate(clip) for clip in clips]


def test_a_route_made_by_hand_has_no_way_back(route: Route) -> None:
    route._reopen = None
    with pytest.raises(TypeError, match=r"speech2image\.load"):
        pickle.dumps(route)


def test_devices(tmp_path: Path, monkeypatch) -> None:
    model = make_model(tmp_path / "m")
    known = speech2image.load(model).translate((speech(), 16_000))
    assert speech2image.load(model, device="cpu").translate((speech(), 16_000)) == known
    assert speech2image.load(model, providers=[CPU]).translate((speech(), 16_000)) == known
    with pytest.raises(SettingsError, match="unknown device 'gpu'; there are: cpu, cuda"):
        speech2image.load(model, device="gpu")
    with pytest.raises(SettingsError, match=r"no execution provider 'Tpu'; it has: .*CPUExecutionProvider"):
        speech2image.load(model, providers=["Tpu"])
    with pytest.raises(SettingsError, match="not both"):
        speech2image.load(model, device="cpu", providers=[CPU])
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CPU])
    with pytest.raises(SettingsError, match="on 'cuda'; install onnxruntime-gpu in place of onnxruntime"):
        speech2image.load(model, device="cuda")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", CPU])
    assert execution_providers("cuda") == ("CUDAExecutionProvider", CPU)


def test_networks_run_on_the_device_that_was_chosen(tmp_path: Path) -> None:
    """With whatever ONNX Runtime has besides the processor."""
    others = [name for name in onnxruntime.get_available_providers() if name != CPU]
    if not others:
        pytest.skip("this ONNX Runtime has the processor alone")
    model = make_model(tmp_path / "m")
    route = speech2image.load(model, providers=others[:1])
    assert route.generator._network._generator._session.get_providers() == [others[0], CPU]
    expected = speech2image.load(model).translate((speech(), 16_000))
    assert route.translate((speech(), 16_000)).images[0].size == expected.images[0].size
