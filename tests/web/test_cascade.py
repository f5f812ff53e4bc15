"""The route through text on the server: offered where a model has it, with what was heard."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_cascade import HEARD, make_cascade, make_recognizer
from tiny_model import make_model
from web_server import client_of

from speech2image import audio, load
from speech2image.errors import CheckpointError
from speech2image.pipeline import registry
from speech2image.web.page import answers
from speech2image.web.registry import open_registry
from speech2image.web.service import RenderResult

ROUTES = ("direct", "cascade")


@pytest.fixture
def both(tmp_path: Path) -> Path:
    """A model called mine beside the cascade that belongs to it."""
    make_cascade(tmp_path / "mine-cascade")
    return make_model(tmp_path / "mine")


def _routes_by_model(*names: Path) -> dict[str, list[str]]:
    registry = open_registry(names, 1)
    return {model: list(routes) for model, routes in registry.routes.items()}


def test_a_model_offers_the_cascade_beside_it(both: Path, clip: Path) -> None:
    with client_of(both) as client:
        assert client.get("/v1/models").json()["models"][0]["routes"] == ["direct", "cascade"]
        query = "/v1/images?format=json&n=2&seed=3&route="
        answer = client.post(query + "cascade", content=clip.read_bytes()).json()
        assert (answer["route"], answer["transcript"]) == ("cascade", HEARD)
        assert "transcript" not in client.post(query + "direct", content=clip.read_bytes()).json()
    shown = [Image.open(io.BytesIO(base64.b64decode(row["png"]))) for row in answer["pictures"]]
    expected = load(both, route="cascade").translate(clip, 2, 3).images
    assert len(shown) == 2
    assert all(np.array_equal(*map(np.asarray, pair)) for pair in zip(shown, expected, strict=True))


def test_a_text_is_drawn_by_the_route_that_reads(both: Path) -> None:
    with client_of(both) as client:
        answer = client.post("/v1/images?n=2&seed=3&format=json", json={"text": HEARD}).json()
        assert (answer["route"], answer["transcript"], answer["speech_seconds"]) == ("cascade", HEARD, 0)
        picture = client.post("/v1/images?seed=3&diverse=true&route=cascade", json={"text": HEARD})
        refused = client.post("/v1/images?route=direct", json={"text": HEARD})
    expected = load(both, route="cascade").draw_text(HEARD, 2, 3).images
    shown = [Image.open(io.BytesIO(base64.b64decode(row["png"]))) for row in answer["pictures"]]
    assert all(np.array_equal(*map(np.asarray, pair)) for pair in zip(shown, expected, strict=True))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(picture.content))), np.asarray(expected[0]))
    assert (refused.status_code, refused.json()["code"]) == (404, "reads_no_text")
    assert "the route 'direct' reads no text" in refused.json()["detail"]
    assert "take the route 'cascade'" in refused.json()["detail"]


@pytest.mark.parametrize(
    ("body", "status", "code", "told"),
    [
        (b'{"text": "a red"', 400, "malformed", "no JSON"),
        (b'{"text": "\\ud800"}', 400, "malformed", "no JSON"),
        (b'{"text": ""}', 422, "no_sentence", "empty"),
        (b'{"text": " \\n"}', 422, "no_sentence", "empty"),
        (b'{"text": "?!"}', 422, "setting", "no word in '?!'"),
        (b'{"text": "%s"}' % (b"a" * 401), 422, "sentence_too_long", "at most 400"),
        (b'{"text": "%s"}' % (b"a" * 20_001), 413, "too_large", "20000 bytes"),
        (b'{"text": 5}', 422, "invalid", "text: "),
        (b"{}", 422, "invalid", "text: Field required"),
        (b'{"text": "a red flower", "n": 2}', 422, "invalid", "n: Extra"),
        (b'["a red flower"]', 422, "invalid", "the body: "),
        (b"", 400, "malformed", "no JSON"),
    ],
)
def test_texts_that_cannot_be_drawn(both: Path, body: bytes, status: int, code: str, told: str) -> None:
    with client_of(both) as client:
        answer = client.post("/v1/images", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert told in answer.json()["detail"]


def test_a_model_that_reads_no_text_says_so(client) -> None:
    answer = client.post("/v1/images", json={"text": HEARD})
    assert (answer.status_code, answer.json()["code"]) == (404, "reads_no_text")
    assert "the model reads no text, only speech; take another model" in answer.json()["detail"]


def test_the_page_is_told_what_was_heard(both: Path, clip: Path) -> None:
    shown = {
        name: RenderResult(audio.load(clip), load(both, route=name).translate(clip), name) for name in ROUTES
    }
    told = answers.heard(shown["cascade"], sound=False)
    assert (told["transcript"], told["route"]) == (HEARD, "cascade")
    assert " ".join(word["text"] for word in told["words"]) == HEARD
    assert all(0 < word["confidence"] < 0.5 for word in told["words"])  # its CTC finds every token as likely
    assert answers.heard(shown["direct"], sound=False)["transcript"] is None


def test_a_cascade_alone_is_its_own_model(both: Path, clip: Path) -> None:
    with client_of(both.parent / "mine-cascade") as client:
        told = client.get("/v1/models").json()["models"]
        assert [(row["name"], row["routes"]) for row in told] == [("mine-cascade", ["cascade"])]
        answer = client.post("/v1/images?format=json", content=clip.read_bytes()).json()
        assert (answer["route"], answer["transcript"]) == ("cascade", HEARD)
        assert client.post("/v1/images?route=direct", content=clip.read_bytes()).status_code in (404, 422)


def test_no_words_heard_is_a_refusal(tmp_path: Path, clip: Path) -> None:
    with client_of(make_cascade(tmp_path / "deaf", silent=True)) as client:
        answer = client.post("/v1/images", content=clip.read_bytes())
    assert answer.status_code == 422 and "no words heard" in answer.text


def test_what_cannot_hear_is_not_offered(tmp_path: Path) -> None:
    make_cascade(tmp_path / "mine-cascade", words=None)
    assert _routes_by_model(make_model(tmp_path / "mine")) == {"mine": ["direct"]}
    with pytest.raises(CheckpointError, match="has it no recognizer"):
        _routes_by_model(tmp_path / "mine-cascade")


def test_installed_cascades_are_routes_of_their_models(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(registry, "MODELS_FOLDER", tmp_path)
    make_recognizer(tmp_path / "words")
    for name in ("flowers-and-birds", "birds"):
        make_model(tmp_path / name)
    make_cascade(tmp_path / "flowers-and-birds-cascade", words=None, recognizer="words")
    make_cascade(tmp_path / "texts-cascade", words=None)
    make_cascade(tmp_path / "alone-cascade")
    assert _routes_by_model() == {
        "flowers-and-birds": ["direct", "cascade"],
        "alone-cascade": ["cascade"],
        "birds": ["direct"],
    }
