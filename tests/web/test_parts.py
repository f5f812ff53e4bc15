"""The parts of the page without a browser: pictures of sound, HTML, sentences without an engine."""

import asyncio
import base64
import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from tiny_model import speech

import speech2image
from speech2image import audio, tts
from speech2image.web import markup, sketch
from speech2image.web.refusals import Refused
from speech2image.web.service import Heard, Service
from speech2image.web.settings import Settings


def test_waveform_picture_follows_the_envelope() -> None:
    waveform = np.zeros(16_000, np.float32)
    waveform[8_000:12_000] = speech(0.25)
    drawn = np.asarray(sketch.waveform_picture(waveform, 160, 41))[..., 3] > 0
    height = drawn.sum(axis=0)
    assert drawn.shape == (41, 160)
    assert (height[:78] <= 2).all()
    assert height[80:120].mean() > 10
    assert drawn.any(axis=1)[[0, 40]].any()  # the loudest reaches the edge


def test_spectrogram_picture_has_low_pitch_below() -> None:
    log_mel = np.full((40, 100), -18.42, np.float32)
    log_mel[:5, 50:] = 0.0  # a low hum in the second half
    light = np.asarray(sketch.spectrogram_picture(log_mel, 100, 80)).sum(axis=-1).astype(int)
    assert light[76, 90] > 600
    assert light[10, 90] < 120 and light[76, 10] < 120


def test_what_comes_from_outside_is_escaped(tiny: Path) -> None:
    result = speech2image.load(tiny).translate((speech(1.5), 16_000), 2)
    shown = Heard(speech(1.5), SimpleNamespace(**vars(result), grid=result.grid, seconds=0.1), "direct")
    shown.result.transcript = shown.result.model = "<script>alert(1)</script>\"'"
    html = markup.pictures(shown, "<b>") + markup.notice("<i>")
    assert "<script" not in html and "<b>" not in html and "<i>" not in html
    assert "Understood: <q>&lt;script&gt;" in html


def test_typed_speech_loses_nothing() -> None:
    pytest.importorskip("gradio")
    from speech2image.web.actions import decode, float_wav

    waveform = speech(1.5)
    assert np.array_equal(audio.load(float_wav(waveform)), waveform)
    assert decode(markup.data_url(b"abc", "audio/wav;codecs=x")) == b"abc"


@pytest.mark.parametrize(
    "wrong", ["", "abc", "data:audio/wav;base64", "data:,abc", "data:x;base64,?", "/etc/passwd"]
)
def test_recordings_that_are_none(wrong: str) -> None:
    pytest.importorskip("gradio")
    from speech2image.web.actions import decode

    with pytest.raises(Refused, match="did not arrive whole"):
        decode(wrong)


@pytest.fixture
def service(tiny: Path):
    service = Service(Settings(models=(str(tiny),), threads=1))
    yield service
    service.close()


def act(service: Service, name: str, *arguments: object) -> object:
    from speech2image.web.actions import Actions

    request = SimpleNamespace(client=SimpleNamespace(host="127.0.0.1"))
    return asyncio.run(getattr(Actions(service), name)(*arguments, request))


def test_no_engine_tells_how_to_get_one(service: Service, monkeypatch) -> None:
    pytest.importorskip("gradio")
    monkeypatch.setattr(tts, "available_voices", lambda **_: [])
    recording, shown = act(service, "speak", "a red flower")
    assert recording == ""
    assert "pip install" in shown and "apt-get install flite" in shown


def test_a_sentence_that_is_too_long(service: Service) -> None:
    pytest.importorskip("gradio")
    assert "at most 400 characters" in act(service, "speak", "flower " * 100)[1]


def test_a_spoken_sentence_becomes_pictures(service: Service, tiny: Path, monkeypatch) -> None:
    pytest.importorskip("gradio")
    monkeypatch.setattr(tts, "speak", lambda text: speech(1.5, seed=len(text)))
    recording, _ = act(service, "speak", "red")
    shown, heard, _ = act(service, "translate", recording, 1, 7, "tiny", "direct")
    address = shown.split('<img src="')[1].split('"')[0]
    picture = Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))
    expected = speech2image.load(tiny).translate((speech(1.5, seed=3), 16_000), 1, 7).images[0]
    assert np.array_equal(np.asarray(picture), np.asarray(expected))
    assert "<audio" in heard


def test_problems_become_notices(service: Service) -> None:
    gradio = pytest.importorskip("gradio")
    silence = markup.data_url(audio.encode_flac(np.zeros(32_000, np.float32)), "audio/flac")
    assert "no speech heard" in act(service, "translate", silence, 8, 0, "tiny", "direct")[0]
    assert "no model" in act(service, "translate", silence, 8, 0, "horses", "direct")[0]
    assert act(service, "translate", "", 8, 0, "tiny", "direct") == (gradio.update(),) * 3
    assert "first description" in act(service, "interpolate", "", silence, 9, 0, "tiny", "direct")


def test_examples_say_what_their_readme_says() -> None:
    pytest.importorskip("gradio")
    from speech2image.web.page import find_examples

    folder, captions = find_examples()
    readme = (folder / "README.md").read_text()
    assert set(captions) == {path.name for path in folder.glob("*.opus")}
    assert all(f"`{name}`" in readme and caption in readme for name, caption in captions.items())
