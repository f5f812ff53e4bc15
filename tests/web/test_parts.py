"""The parts of the page without a browser: pictures of sound, HTML, sentences without an engine."""

import base64
import io
import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_cascade import HEARD, make_cascade
from tiny_model import SIZE, make_model, speech
from understood_route import UnderstoodRoute
from web_server import client_of

import speech2image
from speech2image import audio, tts
from speech2image.errors import DataError, SettingsError
from speech2image.pipeline import images
from speech2image.pipeline.generator import ConditionedGenerator
from speech2image.pipeline.recipe import read_recipe
from speech2image.web import registry
from speech2image.web.errors import CODES
from speech2image.web.page import answers, plots
from speech2image.web.page.examples import find_examples
from speech2image.web.page.templates import ASSETS
from speech2image.web.page.views import float_wav, render
from speech2image.web.service import Service
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


def test_no_engine_has_a_code_of_its_own(page, monkeypatch) -> None:
    monkeypatch.setattr(tts, "available_voices", lambda **_: [])
    answer = page.post("/page/speech", content="a red flower")
    assert (answer.status_code, answer.json()["code"]) == (503, "not_installed")


@pytest.mark.parametrize("sentence", ["flower " * 100, "flower " * 100_000, "\N{CHERRY BLOSSOM}" * 401])
def test_a_sentence_that_is_too_long(page, sentence: str) -> None:
    assert "at most 400 characters" in told(page.post("/page/speech", content=sentence.encode()))


def test_no_sentence(page) -> None:
    assert "sentence is empty" in told(page.post("/page/speech", content=b" "))


def events(answer) -> list[dict]:
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


def test_a_spoken_sentence_becomes_pictures(page, tiny: Path, monkeypatch) -> None:
    """Each step is an event; the picture looked at is that of the library in WebP, the one kept in PNG."""
    monkeypatch.setattr(tts, "speak", lambda text: speech(1.5, seed=len(text)))
    recording = page.post("/page/speech", content="red").content
    settings = "n=2&seed=7&model=tiny&route=direct&diverse=0"
    seen = events(page.post(f"/page/pictures?{settings}", content=recording))
    expected = speech2image.load(tiny).translate((speech(1.5, seed=3), 16_000), 2, 7).images
    assert [event["event"] for event in seen] == ["heard", "picture", "picture", "done"]
    assert [event["k"] for event in seen[1:3]] == [0, 1]
    for event, image in zip(seen[1:3], expected, strict=True):
        assert event["url"] == answers.data_url(answers.view(image), "image/webp")
    sound = seen[0]["recording"]["sound"].partition(",")[2]
    assert np.allclose(audio.load(base64.b64decode(sound)), audio.load(recording), atol=1e-4)
    kept = page.post(f"/page/picture?{settings}&k=1", content=recording)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(kept.content))), np.asarray(expected[1]))
    recipe = json.loads(Image.open(io.BytesIO(kept.content)).text["speech2image"])["speech2image"]
    assert (recipe["model"], recipe["seed"], recipe["noise_rows"]) == ("tiny", 7, [1])
    sheet = page.post(f"/page/picture?{settings}", content=recording)
    assert Image.open(io.BytesIO(sheet.content)).size == images.grid(expected).size
    assert "k must be less than 2" in told(page.post(f"/page/picture?{settings}&k=2", content=recording))
    again = events(page.post(f"/page/pictures?{settings}&sound=0", content=recording))
    assert "recording" not in again[0] and again[1:3] == seen[1:3]


def test_near_duplicates_are_left_out(page, tiny: Path, clip: Path) -> None:
    """Unless they are wanted; what is kept is what was shown, and says of which row of the noise it is."""
    route = speech2image.load(tiny)
    chosen = route.translate(clip, 4, 2, diverse=True)
    assert chosen.noise_rows != (0, 1, 2, 3)
    for settings, expected in (("", chosen), ("&diverse=0", route.translate(clip, 4, 2))):
        shown = events(page.post(f"/page/pictures?n=4&seed=2{settings}", content=clip.read_bytes()))[1:-1]
        assert [event["k"] for event in shown] == [0, 1, 2, 3]
        urls = [answers.data_url(answers.view(image), "image/webp") for image in expected.images]
        assert [event["url"] for event in shown] == urls
        kept = page.post(f"/page/picture?n=4&seed=2&k=3{settings}", content=clip.read_bytes())
        with Image.open(io.BytesIO(kept.content)) as picture:
            assert np.array_equal(np.asarray(picture), np.asarray(expected.images[3]))
            recipe = json.loads(picture.text["speech2image"])["speech2image"]
        assert recipe["noise_rows"] == [expected.noise_rows[3]]


def test_what_is_kept_says_what_drew_it_unless_that_is_switched_off(
    page, clip: Path, other_clip: Path, tmp_path: Path
) -> None:
    both = {"first": clip.read_bytes(), "second": other_clip.read_bytes()}
    asked = {
        "/page/picture?n=2": {"content": clip.read_bytes()},
        "/page/interpolation?n=3&form=png": {"files": both},
        "/page/interpolation?n=3&form=webp": {"files": both},
    }
    file = tmp_path / "kept"
    for path, body in asked.items():
        file.write_bytes(page.post(f"{path}&seed=4", **body).content)
        assert (read_recipe(file).model, read_recipe(file).seed) == ("tiny", 4)
        file.write_bytes(page.post(f"{path}&seed=4&recipe=0", **body).content)
        with pytest.raises(DataError, match="has no recipe"):
            read_recipe(file)


def test_a_sentence_is_drawn_through_text_where_a_route_reads_it(tmp_path: Path) -> None:
    make_cascade(tmp_path / "mine-cascade")
    model = make_model(tmp_path / "mine")
    text = {"content-type": "text/plain"}
    with client_of(model, page=True) as page:
        told = events(page.post("/page/pictures?n=1&seed=3", content=HEARD, headers=text))
        expected = speech2image.load(model, route="cascade").draw_text(HEARD, 1, 3).images[0]
        assert (told[0]["transcript"], told[0]["route"]) == (HEARD, "cascade")
        assert told[1]["url"] == answers.data_url(answers.view(expected), "image/webp")
        assert "recording" not in told[0]


def test_a_model_without_text_refuses_sentences(page) -> None:
    answer = page.post("/page/pictures", content="a red flower", headers={"content-type": "text/plain"})
    assert (answer.status_code, answer.json()["code"]) == (404, "reads_no_text")


class OtherRoute(UnderstoodRoute):
    """Hears something that the model does not draw."""

    def tell(self, *values):
        return replace(super().tell(*values), domain="other", domains=("flower", "bird", "other"))


def test_what_is_about_something_else_is_drawn_when_asked_for(tiny: Path, clip: Path, monkeypatch) -> None:
    monkeypatch.setitem(registry.OPENERS, "direct", lambda *given: OtherRoute(speech2image.load(given[0])))
    with client_of(tiny, page=True) as page:
        told = events(page.post("/page/pictures?n=2", content=clip.read_bytes()))
        assert [event["event"] for event in told] == ["heard", "other"]
        assert (told[0]["domain"], told[0]["domains"]) == ("other", ["flower", "bird", "other"])
        told = events(page.post("/page/pictures?n=2&anyway=1", content=clip.read_bytes()))
        assert [event["event"] for event in told] == ["heard", "picture", "picture", "done"]


def test_what_fails_on_the_way_is_the_last_event(tiny: Path, clip: Path, monkeypatch) -> None:
    route = speech2image.load(tiny)
    drawn = []

    def draw(*given):
        drawn.append(given)
        if len(drawn) == 2:
            raise SettingsError("the second cannot be drawn")
        return ConditionedGenerator.draw(route.generator, *given)

    monkeypatch.setattr(route.generator, "draw", draw)
    monkeypatch.setitem(registry.OPENERS, "direct", lambda *_: route)
    with client_of(tiny, page=True) as page:
        told = events(page.post("/page/pictures?n=3&diverse=0", content=clip.read_bytes()))
    assert [event["event"] for event in told] == ["heard", "picture", "problem"]
    assert (told[-1]["code"], told[-1]["detail"]) == ("setting", "the second cannot be drawn")


def test_walks_are_animations(page, tiny: Path, clip: Path, other_clip: Path) -> None:
    """There and back: between the two ends, each picture twice."""
    files = {"first": clip.read_bytes(), "second": other_clip.read_bytes()}
    expected = speech2image.load(tiny).interpolate(clip, other_clip, 5, 3)
    told = page.post("/page/interpolation?n=5&seed=3", files=files).json()
    assert told["pictures"][4] == answers.data_url(answers.view(expected.images[4]), "image/webp")
    assert told["alphas"] == expected.alphas
    for form in ("gif", "webp"):
        answer = page.post(f"/page/interpolation?n=5&seed=3&form={form}", files=files)
        assert answer.headers["content-type"] == f"image/{form}"
        with Image.open(io.BytesIO(answer.content)) as film:
            assert (film.format, film.n_frames) == (form.upper(), 8)
    row = page.post("/page/interpolation?n=5&seed=3&form=png", files=files).content
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(row))), np.asarray(expected.grid()))


def test_examples_have_the_picture_that_is_drawn_of_them(page, tiny: Path) -> None:
    folder, captions = find_examples()
    name = next(iter(captions))
    shown = page.get(f"/examples/{name}/picture")
    assert shown.content == answers.thumbnail(speech2image.load(tiny).translate(folder / name).images[0])
    assert page.get("/examples/nothing.opus/picture").status_code == 404
    with Image.open(io.BytesIO(page.get("/preview.jpg").content)) as preview:
        assert (preview.format, preview.size) == ("JPEG", (4 * SIZE, 2 * SIZE))


def test_the_page_says_who_it_is(page) -> None:
    html = page.get("/").text
    assert "<title>speech2image: say it and see it</title>" in html
    assert '<meta property="og:image" content="http://127.0.0.1/preview.jpg">' in html
    assert page.get("/assets/icon.svg").headers["content-type"] == "image/svg+xml"
    assert page.get("/assets/page.html").status_code == 404


ROLES = {
    "text": (4.5, ("ink", "soft", "leaf"), ("paper", "card")),
    "text in fields": (4.5, ("ink", "soft"), ("field",)),
    "text of remarks": (4.5, ("ink",), ("warn",)),
    "text under the pointer": (4.5, ("ink",), ("leaf-soft",)),
    "the ring of the focus": (3.0, ("leaf",), ("paper", "card", "warn")),
    "the border of fields": (3.0, ("soft",), ("card",)),
    "white on buttons": (4.5, ("white",), ("button", "live")),
}
"""What -> its least contrast (WCAG 2.2, 1.4.3 and 1.4.11), its colours, what is behind it."""


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb (WCAG 2.2)."""
    shares = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_colours_can_be_told_apart(scheme: int) -> None:
    blocks = re.findall(r":root \{(.*?)\}", (ASSETS / "page.css").read_text(), re.DOTALL)
    assert len(blocks) == 2  # the dark one after the light one
    colours = dict(re.findall(r"--s2i-([\w-]+): (#\w{6})", blocks[scheme])) | {"white": "#ffffff"}
    for role, (least, fronts, backs) in ROLES.items():
        for front, back in itertools.product(fronts, backs):
            dark, light = sorted(luminance(colours[name]) for name in (front, back))
            contrast = (light + 0.05) / (dark + 0.05)
            assert contrast >= least, f"{role}: {front} on {back} has {contrast:.2f}"


def test_visitors_read_nothing_for_programmers() -> None:
    """The page has a sentence of its own, in plain words, for what visitors may meet."""
    wording = dict(re.findall(r"^  (\w+): '(.+?)'", (ASSETS / "wording.js").read_text(), re.MULTILINE))
    passing = {CODES[status] for status in (401, 408, 413, 422, 429, 503)}
    heard = {"no_speech", "no_words", "empty", "too_short", "too_long", "unreadable", "setting", "stopping"}
    typed = {"no_sentence", "sentence_too_long", "reads_no_text", "not_installed"}
    assert passing | heard | typed <= set(wording)
    for code, sentence in wording.items():
        assert re.fullmatch(r"[A-Z][A-Za-z ,.:]+", sentence), code
        assert "pip" not in sentence.split(), code


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
