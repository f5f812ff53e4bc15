"""The route through text: from model folders, with any recognizer, and what it refuses."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_cascade import HEARD, Says, make_cascade, make_recognizer
from tiny_model import EMBEDDING, SIZE, make_model, speech, write_wav

import speech2image
from speech2image.asr import backends
from speech2image.asr.text import ALPHABET, NOTHING, PLACES, characters
from speech2image.errors import CheckpointError, MissingExtraError, SettingsError, SpeechError
from speech2image.pipeline import registry
from speech2image.pipeline.cascade import CascadeRoute

CLIP = (speech(), 16000)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return make_cascade(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def route(folder: Path) -> CascadeRoute:
    opened = speech2image.load(folder)
    assert isinstance(opened, CascadeRoute)
    return opened


def _opened(folder: Path, text: str, **options) -> CascadeRoute:
    opened = speech2image.load(folder, recognizer=Says(text), **options)
    assert isinstance(opened, CascadeRoute)
    return opened


def _bytes(images) -> list[bytes]:
    return [image.tobytes() for image in images]


def test_characters() -> None:
    row = characters("A-b é")
    assert row.shape == (201,) and row.dtype == np.int64
    assert row[:6].tolist() == [0, PLACES["-"], 1, PLACES[" "], NOTHING, NOTHING]
    assert PLACES["-"] == ALPHABET.rindex("-")
    assert (characters("x" * 300) == PLACES["x"]).all()
    assert characters("a" + "\u0130" * 300)[0] == 0  # letters that take more room in lower case
    for text in ("", "   ", "Цветок"):
        with pytest.raises(SettingsError, match="no known character"):
            characters(text)


def test_translate(route: CascadeRoute, tmp_path) -> None:
    result = route.translate(write_wav(tmp_path / "a.wav"), n=3, seed=4)
    assert (result.transcript, result.route, result.model, result.seed) == (HEARD, "cascade", "tiny", 4)
    assert [image.size for image in result.images] == [(SIZE, SIZE)] * 3
    assert result.log_mel.shape == (40, 98) and result.speech_embedding.shape == (EMBEDDING,)
    assert list(result.timings) == ["listen", "transcribe", "embed", "draw"]
    assert len(set(_bytes(result.images))) == 3
    assert _bytes(route.translate(CLIP, 3, 4).images) == _bytes(result.images)


def test_pictures_follow_the_words_alone(folder: Path) -> None:
    red, blue = _opened(folder, "a red flower"), _opened(folder, "a blue flower")
    first = red.translate(CLIP).images[0].tobytes()
    assert first == red.translate((speech(seed=1), 16000)).images[0].tobytes()
    assert first != blue.translate(CLIP).images[0].tobytes()


def test_a_text_is_drawn_as_if_it_had_been_heard(route: CascadeRoute) -> None:
    written, spoken = route.draw_text(HEARD, 2, 3), route.translate(CLIP, 2, 3)
    assert _bytes(written.images) == _bytes(spoken.images)
    assert (written.transcript, written.route, written.log_mel.shape) == (HEARD, "cascade", (40, 0))
    assert _bytes(route.draw_text("A white one!", 2, 3).images) != _bytes(spoken.images)


def test_steps_are_the_parts_of_translate(route: CascadeRoute) -> None:
    whole = route.translate(CLIP, 2, 9)
    assert route.transcribe(CLIP) == HEARD
    for embedding in (route.embed(CLIP), route.embed_text(HEARD)):
        assert np.array_equal(embedding, whole.speech_embedding)
    assert _bytes(route.generate(whole.speech_embedding, 2, 9)) == _bytes(whole.images)


def test_interpolate(folder: Path) -> None:
    class Turns(Says):
        def transcribe(self, waveform) -> str:
            super().transcribe(waveform)
            return ("a red flower", "one blue bird")[self.heard % 2 == 0]

    opened = speech2image.load(folder, recognizer=Turns(""))
    walk = opened.interpolate(CLIP, CLIP, steps=3, seed=2)
    ends = [opened.draw_text(text, seed=2).images[0].tobytes() for text in ("a red flower", "one blue bird")]
    assert [walk.images[0].tobytes(), walk.images[-1].tobytes()] == ends and ends[0] != ends[1]
    assert walk.alphas == [1, 0.5, 0]
    assert set(walk.timings) == {"listen", "transcribe", "embed", "draw"}
    with pytest.raises(SettingsError, match="steps must be"):
        opened.interpolate("a.wav", "b.wav", steps=1)


@pytest.mark.parametrize("heard", ["", "  ", "'"])
def test_no_words_heard(folder: Path, heard: str) -> None:
    opened = _opened(folder, heard)
    for work in (opened.translate, opened.embed, opened.transcribe):
        with pytest.raises(SpeechError, match=r"no words heard.*fake.*1\.0 s"):
            work(CLIP)


def test_own_recognizer_that_hears_nothing(tmp_path) -> None:
    opened = speech2image.load(make_cascade(tmp_path / "deaf", silent=True))
    with pytest.raises(SpeechError, match="no words heard"):
        opened.translate(CLIP)


def test_to_be_measured_no_recording_is_refused(folder: Path) -> None:
    opened = _opened(folder, "", vad=False)
    assert opened.transcribe(CLIP) == ""
    nothing = opened.embed(CLIP)
    assert np.array_equal(nothing, opened.embed_text(""))
    assert np.isfinite(nothing).all() and not np.allclose(nothing, opened.embed_text("a red flower"))


@pytest.mark.parametrize("text", ["", "  ", "Цветок", "!?.", "'' - ''"])
def test_text_without_words(route: CascadeRoute, text: str) -> None:
    for work in (route.draw_text, route.embed_text):
        with pytest.raises(SettingsError, match=r"no (word|known character) in"):
            work(text)


def test_text_without_known_words(tmp_path) -> None:
    folder = make_cascade(tmp_path / "tiny", vocabulary="a bird blue is red two")
    opened = _opened(folder, "Guten Tag, Vogel!")
    for work in (opened.draw_text, opened.embed_text):
        with pytest.raises(SettingsError, match="no known word in 'zxqv the': describe what"):
            work("zxqv the")
        with pytest.raises(SettingsError, match="no known word"):
            work("z" * 200 + " red")  # cut before the word is whole
        work("zxqv Red!")
        work("the 2")
    assert opened.transcribe(CLIP) == "Guten Tag, Vogel!"
    for work in (opened.translate, opened.embed):
        with pytest.raises(SpeechError, match="no known word heard in 'Guten Tag, Vogel!': describe what"):
            work(CLIP)
    measured = _opened(folder, "Guten Tag, Vogel!", vad=False)
    assert measured.translate(CLIP).transcript == "Guten Tag, Vogel!"
    assert np.isfinite(measured.embed_text("zxqv")).all()


@pytest.mark.parametrize(("n", "seed"), [(0, 0), (10_001, 0), (1, -1), (1.5, 0)])
def test_bad_count_is_refused_before_listening(folder: Path, n, seed) -> None:
    recognizer = Says("a")
    opened = speech2image.load(folder, recognizer=recognizer)
    with pytest.raises(SettingsError, match="must be"):
        opened.translate("no such file.wav", n, seed)
    with pytest.raises(SettingsError, match="must be"):
        opened.draw_text("a", n, seed)
    assert recognizer.heard == 0


def test_unusable_recordings_never_reach_the_recognizer(folder: Path, tmp_path) -> None:
    recognizer = Says("a red flower")
    opened = speech2image.load(folder, recognizer=recognizer)
    ten_minutes = (np.tile(speech(), 600), 16000)
    for source in (tmp_path / "absent.wav", (speech(0.01), 16000), (np.zeros(32000), 16000), ten_minutes):
        with pytest.raises(SpeechError):
            opened.translate(source)
    assert recognizer.heard == 0


def test_vad_comes_first(folder: Path) -> None:
    class Nobody:
        def is_speech(self, waveform) -> bool:
            return False

        def check(self, log_mel) -> None:
            raise SpeechError(f"no speech heard: {log_mel.shape}")

    opened = _opened(folder, "a red flower")
    opened.vad = Nobody()  # type: ignore[assignment]
    with pytest.raises(SpeechError, match="no speech heard"):
        opened.translate(CLIP)
    assert opened.draw_text("a red flower").images


def test_without_a_recognizer_it_draws_text(tmp_path) -> None:
    folder = make_cascade(tmp_path / "texts", words=None)
    opened = speech2image.load(folder)
    assert opened.draw_text(HEARD).images
    for work in (opened.translate, opened.embed, opened.transcribe):
        with pytest.raises(SettingsError, match=r"'texts' has no speech recognizer.*--text.*--recognizer"):
            work(CLIP)
    assert _opened(folder, "a red flower").translate(CLIP).transcript == HEARD


@pytest.mark.parametrize("place", ["inside", "beside", "shipped"])
def test_where_a_shared_recognizer_lies(tmp_path, monkeypatch, place: str) -> None:
    monkeypatch.setattr(registry, "MODELS_FOLDER", tmp_path / "shipped")
    folder = make_cascade(tmp_path / "models" / "mine", words=None, recognizer="words")
    with pytest.raises(CheckpointError, match="recognizer 'words', which lies neither"):
        speech2image.load(folder)
    homes = {"inside": folder, "beside": folder.parent, "shipped": tmp_path / "shipped"}
    make_recognizer(homes[place] / "words", "two birds")
    model = registry.find(folder)
    networks = sum(model.path(network).stat().st_size for network in model.networks)
    assert (model.size > networks) == (place == "inside")
    assert set(model.sha256) == {"text_encoder", "generator", "recognizer"}
    assert speech2image.load(folder).translate(CLIP).transcript == "two birds"


def test_damaged_folders(tmp_path) -> None:
    folder = make_cascade(tmp_path / "mine")
    path = folder / "recognizer" / "recognizer_decoder.onnx"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"recognizer_decoder.*damaged"):
        speech2image.load(folder)
    card = json.loads((folder / "model.json").read_text())
    for changes, message in (
        ({"route": "direct"}, "'speech2image cascade route 1' has no route 'direct'"),
        ({"route": "telepathy"}, "no route 'telepathy'"),
        ({"route": ["cascade"]}, "no route"),
        ({"recognizer": "../other"}, "'recognizer' is '../other'"),
        ({"recognizer": None}, "'recognizer' is None"),
        ({"vocabulary": ["a", "bird"]}, r"'vocabulary' is \['a', 'bird'\], not words"),
        ({"files": {"generator": card["files"]["generator"]}}, "file of 'text_encoder'"),
        ({"embedding_size": 7}, r"embedding of shape \[1, 16\]"),
    ):
        (folder / "model.json").write_text(json.dumps(card | changes))
        with pytest.raises(CheckpointError, match=message):
            _opened(folder, "a").translate(CLIP)


def test_the_route_that_belongs_to_a_model(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(registry, "MODELS_FOLDER", tmp_path)
    direct = make_model(tmp_path / "flowers")
    with pytest.raises(CheckpointError, match=r"no 'flowers-cascade' lies beside it.*export cascade"):
        speech2image.load("flowers", route="cascade")
    make_model(tmp_path / "flowers-cascade")  # a name alone is not enough
    with pytest.raises(CheckpointError, match="no 'flowers-cascade' lies"):
        speech2image.load("flowers", route="cascade")
    for path in sorted((tmp_path / "flowers-cascade").iterdir()):
        path.unlink()
    (tmp_path / "flowers-cascade").rmdir()
    make_cascade(tmp_path / "flowers-cascade")
    assert speech2image.load("flowers", route="cascade").name == "flowers-cascade"
    assert speech2image.load(direct / "model.json", route="cascade").name == "flowers-cascade"
    assert speech2image.load("flowers-cascade", route="direct").name == "flowers"
    assert speech2image.load("flowers", route="direct").name == speech2image.load("flowers").name == "flowers"
    with pytest.raises(SettingsError, match="unknown route 'telepathy'; there are: direct, "):
        speech2image.load("flowers", route="telepathy")
    make_cascade(tmp_path / "alone-cascade")
    with pytest.raises(CheckpointError, match=r"of the cascade route.*name a model of the direct route"):
        speech2image.load("alone-cascade", route="direct")


def test_recognizers_by_name(folder: Path, tmp_path, monkeypatch) -> None:
    other = make_recognizer(tmp_path / "other", "blue bird")
    opened = speech2image.load(folder, recognizer=f"own:{other}")
    assert opened.translate(CLIP).transcript == "blue bird"
    asked = []
    monkeypatch.setattr(backends, "Whisper", lambda name, threads: asked.append((name, threads)) or Says("x"))
    monkeypatch.setattr(backends, "PocketSphinx", lambda: asked.append("sphinx") or Says("y"))
    assert speech2image.load(folder, recognizer="whisper:base.en", threads=2).transcribe(CLIP) == "x"
    assert speech2image.load(folder, recognizer="pocketsphinx").transcribe(CLIP) == "y"
    assert asked == [("base.en", 2), "sphinx"]
    for choice in ("whisper", "whisper:", "own:", "ears", "pocketsphinx:en", ""):
        with pytest.raises(SettingsError, match=re.escape(f"unknown recognizer '{choice}'")):
            speech2image.load(folder, recognizer=choice)
    with pytest.raises(SettingsError, match="goes without text"):
        speech2image.load(make_model(tmp_path / "direct"), recognizer="pocketsphinx")


def test_a_recognizer_whose_package_is_missing_says_the_command(folder: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    with pytest.raises(MissingExtraError, match=r"speech2image\[asr\]"):
        speech2image.load(folder, recognizer="pocketsphinx")


def test_works_without_any_extra(folder: Path, tmp_path) -> None:
    clip = write_wav(tmp_path / "a.wav")
    blocked = ["torch", "onnx", "scipy", "safetensors", "webdataset", "jaxtyping", "beartype"]
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({blocked}));"
        f"import speech2image; print(speech2image.load({str(folder)!r}).translate({str(clip)!r}).transcript)"
    )
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert shown.stdout.strip() == HEARD
