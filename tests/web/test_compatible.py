"""Addresses in the shape of well-known interfaces: words of a recording, pictures of a sentence."""

import base64
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_cascade import HEARD, make_cascade
from tiny_model import SIZE, make_model
from web_server import client_of

from speech2image import load


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A model called mine beside the cascade that belongs to it: the direct route tells no words."""
    folder = tmp_path_factory.mktemp("compatible")
    make_cascade(folder / "mine-cascade")
    return make_model(folder / "mine")


@pytest.fixture(scope="module")
def both(model: Path) -> Iterator:
    with client_of(model) as client:
        yield client


# ---- words ----


def test_words_of_a_recording(both, clip: Path, model: Path) -> None:
    answers = [
        both.post("/v1/transcriptions", content=clip.read_bytes()),
        both.post("/v1/transcriptions?model=mine&route=cascade", files={"file": clip.read_bytes()}),
        both.post("/v1/audio/transcriptions", files={"file": clip.read_bytes()}, data={"model": "mine"}),
        both.post("/v1/transcriptions", files={"audio": clip.read_bytes()}, data={"route": "cascade"}),
    ]
    recognized = load(model, route="cascade").recognize(clip)
    for answer in answers:
        told = answer.json()
        assert (told["text"], told["model"], told["route"]) == (HEARD, "mine-cascade", "cascade")
        assert told["speech_seconds"] == 1.5 and "domain" not in told
        assert [(word["text"], word["confidence"]) for word in told["words"]] == [
            (word.text, word.confidence) for word in recognized.words
        ]


def test_what_clients_of_others_send(both, clip: Path) -> None:
    sent = {"model": "mine", "language": "en", "temperature": "0", "prompt": "flowers", "stream": "false"}
    sent |= {"response_format": "verbose_json", "timestamp_granularities[]": "segment"}
    told = both.post("/v1/audio/transcriptions", files={"file": clip.read_bytes()}, data=sent).json()
    (segment,) = told.pop("segments")
    assert told == {"task": "transcribe", "language": "english", "duration": 1.5, "text": HEARD}
    assert (segment["start"], segment["end"], segment["text"]) == (0, 1.5, HEARD)
    assert segment["avg_logprob"] < 0
    text = both.post("/v1/transcriptions?response_format=text", content=clip.read_bytes())
    assert (text.text, text.headers["content-type"]) == (f"{HEARD}\n", "text/plain; charset=utf-8")


@pytest.mark.parametrize(
    ("fields", "status", "code", "told"),
    [
        ({"response_format": "srt"}, 422, "unsupported", "json, text, verbose_json; not 'srt'"),
        ({"language": "de"}, 422, "unsupported", "English alone; not 'de'"),
        ({"stream": "true"}, 422, "unsupported", "/v1/live"),
        ({"timestamp_granularities[]": ["word", "segment"]}, 422, "unsupported", "may be segment"),
        ({"model": "whisper-1"}, 404, "unknown", "there are: mine"),
        ({"route": "direct"}, 404, "tells_no_words", "take the route 'cascade'"),
        ({"temperature": "warm"}, 422, "invalid", "temperature: "),
        ({"diarize": "1"}, 422, "invalid", "diarize: "),
        ({"model": ["mine", "mine"]}, 422, "invalid", "'model' is there twice"),
    ],
)
def test_what_is_refused(both, clip: Path, fields: dict, status: int, code: str, told: str) -> None:
    answer = both.post("/v1/transcriptions", files={"file": clip.read_bytes()}, data=fields)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert told in answer.json()["detail"]


def test_recordings_that_say_nothing(both, clip: Path) -> None:
    for files in ({"file": b"x"}, {"sound": clip.read_bytes()}, {"model": (None, "mine")}):
        assert both.post("/v1/transcriptions", files=files).status_code == 422
    assert both.post("/v1/transcriptions", content=b"").status_code == 422
    twice = {name: clip.read_bytes() for name in ("file", "audio")}
    assert both.post("/v1/transcriptions", files=twice).status_code == 400


def test_a_model_that_tells_no_words(client, clip: Path) -> None:
    answer = client.post("/v1/transcriptions", content=clip.read_bytes())
    assert (answer.status_code, answer.json()["code"]) == (404, "tells_no_words")


def test_words_that_cannot_be_drawn_are_told(tmp_path: Path, clip: Path) -> None:
    with client_of(make_cascade(tmp_path / "other", vocabulary="bird wing")) as client:
        assert client.post("/v1/images", content=clip.read_bytes()).json()["code"] == "no_words"
        assert client.post("/v1/transcriptions", content=clip.read_bytes()).json()["text"] == HEARD


# ---- pictures ----


def opened(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


def test_pictures_of_a_sentence(both, model: Path) -> None:
    told = both.post("/v1/images/generations", json={"prompt": HEARD, "n": 2, "seed": 3}).json()
    assert (told["model"], told["seed"], told["size"]) == ("mine-cascade", 3, f"{SIZE}x{SIZE}")
    assert abs(told["created"] - 1.7e9) < 1e9  # seconds
    expected = load(model, route="cascade").draw_text(HEARD, 2, 3).images
    for one, image in zip(told["data"], expected, strict=True):
        assert set(one) == {"b64_json"}
        assert np.array_equal(np.asarray(opened(base64.b64decode(one["b64_json"]))), np.asarray(image))


def test_what_clients_of_others_ask_for(both) -> None:
    asked = {"prompt": HEARD, "model": "mine", "size": f"{SIZE}x{SIZE}", "response_format": "url", "n": None}
    asked |= {
        "quality": "hd",
        "style": "vivid",
        "user": "me",
        "background": "opaque",
        "output_format": "webp",
    }
    (one,) = both.post("/v1/images/generations", json=asked).json()["data"]
    head, _, content = one["url"].partition(",")
    assert head == "data:image/webp;base64" and set(one) == {"url"}
    assert opened(base64.b64decode(content)).format == "WEBP"


@pytest.mark.parametrize(
    ("asked", "status", "code", "told"),
    [
        ({"size": "512x512"}, 422, "unsupported", f"auto or {SIZE}x{SIZE}"),
        ({"n": 0}, 422, "invalid", "n: "),
        ({"n": 17}, 422, "setting", "from 1 to 16"),
        ({"response_format": "png"}, 422, "invalid", "response_format: "),
        ({"stream": True}, 422, "invalid", "stream: "),
        ({"model": "dall-e-3"}, 404, "unknown", "there are: mine"),
        ({"prompt": "a" * 401}, 422, "sentence_too_long", "at most 400"),
        ({"prompt": ""}, 422, "no_sentence", "empty"),
        ({"mask": "x"}, 422, "invalid", "mask: "),
    ],
)
def test_what_is_not_drawn(both, asked: dict, status: int, code: str, told: str) -> None:
    answer = both.post("/v1/images/generations", json={"prompt": HEARD} | asked)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert told in answer.json()["detail"]


def test_the_key_is_asked_for(model: Path, clip: Path, monkeypatch) -> None:
    monkeypatch.setenv("SPEECH2IMAGE_API_KEY", "secret")
    with client_of(model) as client:
        for headers, status in (({}, 401), ({"Authorization": "Bearer secret"}, 200)):
            sent = client.post("/v1/transcriptions", content=clip.read_bytes(), headers=headers)
            drawn = client.post("/v1/images/generations", json={"prompt": HEARD}, headers=headers)
            assert (sent.status_code, drawn.status_code) == (status, status)
