"""The parts of the page without a browser: pictures of sound, HTML, sentences without an engine."""

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from tiny_model import speech
from web_server import client_of

import speech2image
from speech2image import audio, tts
from speech2image.web.page import plots, templates
from speech2image.web.page.views import find_examples, float_wav, render
from speech2image.web.service import RenderResult, Service
from speech2image.web.settings import ServerSettings


def test_waveform_picture_follows_the_envelope() -> None:
    waveform = np.zeros(16_000, np.float32)
    waveform[8_000:12_000] = speech(0.25)
    drawn = np.asarray(plots.plot_waveform(waveform, 160, 41))[..., 3] > 0
    height = drawn.sum(axis=0)
    assert drawn.shape == (41, 160)
    assert (height[:78] <= 2).all()
    assert height[80:120].mean() > 10
    assert drawn.any(axis=1)[[0, 40]].any()  # the loudest reaches the edge


def test_spectrogram_picture_has_low_pitch_below() -> None:
    log_mel = np.full((40, 100), -18.42, np.float32)
    log_mel[:5, 50:] = 0.0  # a low hum in the second half
    light = np.asarray(plots.plot_spectrogram(log_mel, 100, 80)).sum(axis=-1).astype(int)
    assert light[76, 90] > 600
    assert light[10, 90] < 120 and light[76, 10] < 120


def test_what_comes_from_outside_is_escaped(tiny: Path) -> None:
    result = speech2image.load(tiny).translate((speech(1.5), 16_000), 2)
    shown = RenderResult(
        speech(1.5), SimpleNamespace(**vars(result), grid=result.grid, seconds=0.1), "direct"
    )
    shown.result.transcript = shown.result.model = "<script>alert(1)</script>\"'"
    html = templates.pictures(shown, "<b>")
    assert "<script" not in html and "<b>" not in html
    assert "Understood: <q>&lt;script&gt;" in html


def test_typed_speech_loses_nothing() -> None:
    waveform = speech(1.5)
    assert np.array_equal(audio.load(float_wav(waveform)), waveform)


@pytest.fixture
def page(tiny: Path) -> Iterator:
    """The page of the tiny model, in this process."""
    with client_of(tiny, page=True) as client:
        yield client


def told(answer) -> str:
    assert 400 <= answer.status_code < 500 or answer.status_code == 503
    return answer.json()["detail"]


def test_no_engine_tells_how_to_get_one(page, monkeypatch) -> None:
    monkeypatch.setattr(tts, "available_voices", lambda **_: [])
    detail = told(page.post("/page/speech", content="a red flower"))
    assert "pip install" in detail and "apt-get install flite" in detail


@pytest.mark.parametrize("sentence", ["flower " * 100, "flower " * 100_000, "\N{CHERRY BLOSSOM}" * 401])
def test_a_sentence_that_is_too_long(page, sentence: str) -> None:
    assert "at most 400 characters" in told(page.post("/page/speech", content=sentence.encode()))


def test_no_sentence(page) -> None:
    assert told(page.post("/page/speech", content=b" ")) == "type a sentence first"


def test_a_spoken_sentence_becomes_pictures(page, tiny: Path, monkeypatch) -> None:
    monkeypatch.setattr(tts, "speak", lambda text: speech(1.5, seed=len(text)))
    recording = page.post("/page/speech", content="red").content
    parts = page.post("/page/pictures?n=1&seed=7&model=tiny&route=direct", content=recording).json()
    address = parts["pictures"].split('<img src="')[1].split('"')[0]
    picture = Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))
    expected = speech2image.load(tiny).translate((speech(1.5, seed=3), 16_000), 1, 7).images[0]
    assert np.array_equal(np.asarray(picture), np.asarray(expected))
    assert "<audio" in parts["heard"]


def test_problems_are_told(page) -> None:
    silence = audio.encode_flac(np.zeros(32_000, np.float32))
    assert "no speech heard" in told(page.post("/page/pictures", content=silence))
    assert "no model" in told(page.post("/page/pictures?model=horses", content=silence))
    assert "no body" in told(page.post("/page/pictures"))
    assert "n must be" in told(page.post("/page/pictures?n=17", content=silence))
    assert "'second' is missing" in told(page.post("/page/interpolation", files={"first": silence}))


def test_names_and_captions_are_escaped_in_the_page(tiny: Path) -> None:
    service = Service(ServerSettings(models=(str(tiny),), threads=1))
    html = render(service, {"a.opus": "<script>alert(1)</script>"})
    assert "&lt;script&gt;alert" in html and "<script>alert" not in html


def test_examples_say_what_their_readme_says() -> None:
    folder, captions = find_examples()
    readme = (folder / "README.md").read_text()
    assert set(captions) == {path.name for path in folder.glob("*.opus")}
    assert all(f"`{name}`" in readme and caption in readme for name, caption in captions.items())
