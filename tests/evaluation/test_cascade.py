"""The route through text is measured as every other: what it writes down, and what captions would give."""

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from evaluation_parts import TinyNetwork, run
from tiny_cascade import Says, make_cascade
from tiny_model import EMBEDDING, make_model

from speech2image.asr.backends import open_recognizer
from speech2image.data.shards.arrays import PairArrays
from speech2image.errors import DataError, SettingsError
from speech2image.evaluation import EvaluationSettings, embeddings, evaluate
from speech2image.evaluation import run as run_module
from speech2image.evaluation.paper import tables
from speech2image.evaluation.utterances import caption_of
from speech2image.pipeline import cascade as cascade_module
from speech2image.pipeline.cascade import CascadeRoute
from speech2image.pipeline.loading import load

MEASURES = ("retrieval", "colours", "words")


@pytest.fixture(scope="module")
def cascade(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_cascade(tmp_path_factory.mktemp("models") / "two-step")


def _settings(shards: Path, model: Path, out: Path, **more: Any) -> EvaluationSettings:
    chosen = EvaluationSettings(data=shards, out=out, model=str(model), threads=1, limit=8, resamples=40)
    return replace(chosen, **{"measures": MEASURES, **more})


def _route(folder: Path, text: str) -> CascadeRoute:
    opened = load(folder, recognizer=Says(text), vad=False)
    assert isinstance(opened, CascadeRoute)
    return opened


def test_report(shards: Path, cascade: Path, tmp_path: Path) -> None:
    results = evaluate(_settings(shards, cascade, tmp_path, measures=(*MEASURES, "robustness")))
    assert results["model"]["route"] == "cascade" and results["model"]["recognizer"]["name"] == "speech2image"
    assert set(results["model"]["sha256"]) == {"text_encoder", "generator"}
    assert [row["voices"] for row in results["words"]][::2] == ["kept out", "heard"]
    assert all(0 < row["wer"] <= 2 for row in results["words"])
    assert results["retrieval"] and results["colours"] and results["robustness"]
    assert set(results["not_measured"]) == set()
    text = (tmp_path / "results.md").read_text()
    assert "written down by the recognizer speech2image" in text and "content WER" in text


def test_what_is_embedded_is_what_was_written_down(shards: Path, cascade: Path, tmp_path: Path) -> None:
    arrays, route = PairArrays.open(shards), _route(cascade, "a red flower")
    chosen = np.array([1, 4, 5])
    found = embeddings.embed(route, arrays, chosen, tmp_path)
    assert np.allclose(found.of(chosen), route.embed_text("a red flower"))
    lines = [json.loads(line) for line in (tmp_path / "transcripts.jsonl").read_text().splitlines()]
    assert lines == [[u, "a red flower"] for u in chosen.tolist()]


def test_nothing_is_written_down_twice_even_after_an_interruption(
    shards: Path, cascade: Path, tmp_path: Path
) -> None:
    arrays, route = PairArrays.open(shards), _route(cascade, "a red flower")
    assert dict(embeddings.transcripts(route, arrays, np.array([1, 4]), tmp_path)) == dict.fromkeys(
        (1, 4), "a red flower"
    )
    with open(tmp_path / "transcripts.jsonl", "a") as file:
        file.write('[5, "a re')
    again = _route(cascade, "blue")
    written = list(embeddings.transcripts(again, arrays, np.array([0, 1, 4, 5]), tmp_path))
    assert written == [(0, "blue"), (1, "a red flower"), (4, "a red flower"), (5, "blue")]
    assert again.recognizer.heard == 2  # type: ignore[union-attr]


def test_recordings_without_words_are_measured_too(shards: Path, cascade: Path, tmp_path: Path) -> None:
    results = run(shards, tmp_path, _route(cascade, ""), measures=MEASURES, limit=4)
    assert all(row["wer"] == 1 for row in results["words"])
    assert all(np.isfinite(row["R@10"]) for row in results["retrieval"])


def test_captions_in_the_place_of_recordings(shards: Path, cascade: Path, tmp_path: Path) -> None:
    arrays, route = PairArrays.open(shards), _route(cascade, "never heard")
    chosen = np.array([0, 3, 6])
    found = embeddings.embed(route, arrays, chosen, tmp_path, captions=True)
    expected = [route.embed_text(caption_of(arrays, u)) for u in chosen.tolist()]
    assert np.allclose(found.of(chosen), expected) and found.vectors.shape == (3, EMBEDDING)
    silent = make_cascade(tmp_path / "texts", words=None)
    results = evaluate(
        _settings(shards, silent, tmp_path / "out", captions=True, measures=(*MEASURES, "robustness"))
    )
    assert results["words"] == results["robustness"] == []
    assert set(results["not_measured"]) == {"words", "robustness"}
    drawn = [row["pictures"] for row in results["colours"] if row["pictures"].startswith("drawn")]
    assert drawn[0] == "drawn from voices kept out" and "drawn from voices heard in training" not in drawn
    assert "Drawn from the captions as they are written" in (tmp_path / "out" / "results.md").read_text()
    assert results["settings"]["captions"] is True


def test_captions_that_are_not_known(shards: Path, cascade: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(embeddings, "caption_of", lambda arrays, u: "")
    with pytest.raises(DataError, match=r"words of utterance 0 .* are not known"):
        embeddings.embed(_route(cascade, "x"), PairArrays.open(shards), np.array([0]), tmp_path, True)
    monkeypatch.setattr(embeddings, "caption_of", lambda arrays, u: "?!")
    with pytest.raises(DataError, match=r"utterance 0 .* cannot be used: no word in"):
        embeddings.embed(_route(cascade, "x"), PairArrays.open(shards), np.array([0]), tmp_path, True)


def test_what_does_not_go_together(shards: Path, cascade: Path, model: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="--captions is for models of the route through text; 'tiny'"):
        evaluate(_settings(shards, model, tmp_path, captions=True))
    with pytest.raises(SettingsError, match="goes without text"):
        evaluate(_settings(shards, model, tmp_path, recognizer="pocketsphinx"))
    silent = make_cascade(tmp_path / "texts", words=None)
    for figure in (None, 3):
        with pytest.raises(SettingsError, match="no speech recognizer: measure it on captions"):
            evaluate(_settings(shards, silent, tmp_path / "out", figure=figure))
    pair = {"speech_encoder": tmp_path / "e", "generator": tmp_path / "g"}
    with pytest.raises(SettingsError, match="name a --model folder"):
        evaluate(_settings(shards, model, tmp_path, captions=True, **pair))
    with pytest.raises(SettingsError, match="--table decides"):
        evaluate(_settings(shards, model, tmp_path, captions=True, table=2, models=tmp_path))


def test_table_two_measures_every_route(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "load_inception", lambda path, layer: TinyNetwork())
    models = tmp_path / "models"
    make_model(models / "direct" / "model")
    make_model(models / "classifier")
    make_cascade(models / "two-step" / "model")
    make_cascade(models / "stackgan-v1-text", words=None)
    asked: list[str] = []

    def off_the_shelf(choice: str, *rest: Any, **more: Any) -> Any:
        if choice == "own":
            return open_recognizer(choice, *rest, **more)
        asked.append(choice)
        return SimpleNamespace(name="whisper folder", transcribe=lambda waveform: "a red flower")

    monkeypatch.setattr(cascade_module, "open_recognizer", off_the_shelf)
    chosen = _settings(shards, Path(), tmp_path / "out", network=tmp_path, measures=("colours", "words"))
    results = evaluate(replace(chosen, table=2, models=models, whisper=tmp_path / "tiny.en"))
    assert set(asked) == {f"whisper:{tmp_path / 'tiny.en'}"}
    rows = {row["row"]: row["results"] for row in results["rows"]}
    assert list(rows) == [
        "direct",
        "two-step-whisper",
        "two-step",
        "classifier",
        "stackgan-v1-text",
        "stackgan-v2-text",
    ]
    assert all(rows.values()) and not any(row["missing"] for row in results["rows"])
    routes = [row["model"]["route"] for row in rows.values()]
    assert routes == ["direct", "cascade", "cascade", "direct", "cascade", "cascade"]
    assert [bool(row["words"]) for row in rows.values()] == [False, True, True, False, False, False]
    assert [row["settings"].get("captions", False) for row in rows.values()] == [False] * 4 + [True] * 2
    assert rows["two-step-whisper"]["model"]["recognizer"] != rows["two-step"]["model"]["recognizer"]
    assert "Rows on text" in (tmp_path / "out" / "results.md").read_text()


def test_a_row_of_an_off_the_shelf_recognizer_is_skipped_without_one(shards: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    make_cascade(models / "two-step" / "model")
    make_model(models / "direct-given")
    chosen = _settings(shards, Path(), tmp_path / "out", measures=("words",))
    results = evaluate(replace(chosen, table=2, models=models))
    rows = {row["row"]: row for row in results["rows"]}
    skipped = "two-step-whisper is skipped: no off-the-shelf recognizer was given; .*--whisper"
    assert re.match(skipped, rows["two-step-whisper"]["missing"]) and rows["two-step"]["results"]
    assert rows["direct-given"]["results"] and "two-step-given" not in rows, "rows beyond the paper's"
    assert "(--encoder)" in rows["direct-given"]["label"]
    with pytest.raises(SettingsError, match="--whisper is for --table 2 and 3"):
        evaluate(replace(chosen, whisper=tmp_path))


def test_two_step_draws_with_the_generator_of_stackgan_v2_on_text() -> None:
    """Paper, IV-B: the stacked generator of the direct route; StackGAN-v1 is a row of its own."""
    for number in (2, 3):
        planned = {row.row: row for row in tables.TABLES[number].rows}
        assert not planned["two-step"].same_as and not planned["two-step"].captions
        assert planned["two-step-whisper"].same_as == "two-step"
    planned = {row.row: row for row in tables.TABLES[2].rows}
    assert planned["stackgan-v2-text"].same_as == "two-step" and planned["stackgan-v2-text"].captions
    assert not planned["stackgan-v1-text"].same_as and planned["stackgan-v1-text"].captions
