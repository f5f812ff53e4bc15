"""Evaluation: a perfect and a deaf model get the figures due to them; reports are whole; bad input told."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tiny_model import EMBEDDING, SIZE, make_model

from speech2image import cli
from speech2image.commands import training
from speech2image.data.arrays import PairArrays
from speech2image.data.pairs import Sample, read_shards, write_shards
from speech2image.data.toy import HELD_OUT_VOICE, toy_samples
from speech2image.errors import (
    CheckpointError,
    DataError,
    OutputError,
    SettingsError,
    Speech2ImageError,
    SpeechError,
)
from speech2image.evaluation import Settings, evaluate, evenly, measure, split_voices
from speech2image.evaluation_colours import (
    DRAWN,
    PHOTOGRAPHS,
    SHUFFLED,
    Photographs,
    bootstrap_interval,
    caption_of,
    choose_utterances,
    shuffled,
)
from speech2image.metrics.colour_agreement import agreement
from speech2image.metrics.colour_words import main_colours

N, PIXELS = 72, 32


def _samples() -> Iterator[Sample]:
    """Toy samples; of the training ones every fifth is "val", one of its captions in the held-out voice."""
    for i, sample in enumerate(toy_samples(N)):
        if sample.split == "train" and i % 5 == 0:
            first, second = sample.utterances
            spoken = (first, replace(second, voice=HELD_OUT_VOICE))
            sample = replace(sample, split="val", utterances=spoken)
        yield sample


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    """Shards with train, val and test, and teacher features of the tiny model's size."""
    folder = tmp_path_factory.mktemp("evaluation") / "toy"
    write_shards(_samples(), folder)
    PairArrays.open(folder).save_teacher(_teacher(N))
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return make_model(tmp_path_factory.mktemp("models") / "tiny")


def _teacher(n: int) -> NDArray[np.float16]:
    return np.random.default_rng(0).standard_normal((n, 2, EMBEDDING)).astype(np.float16)


class PerfectRoute:
    """Knows each recording's picture: hears its teacher feature, draws the photograph itself."""

    name, picture_size = "perfect", PIXELS

    def __init__(self, arrays: PairArrays) -> None:
        self.model = SimpleNamespace(card={"embedding_size": EMBEDDING})
        self.features = arrays.teacher.astype(np.float32).mean(1)
        index = {name: i for i, name in enumerate(arrays.ids)}
        spoken = [(u.audio, s.id) for s in read_shards(arrays.folder) for u in s.utterances]
        self.pictured = {audio: index[name] for audio, name in spoken}
        self.photographs = Photographs(arrays, PIXELS)._squares
        self.asked: list[tuple[int, int]] = []

    def embed(self, audio: bytes) -> NDArray[np.float32]:
        return self.features[self.pictured[audio]]

    def generate(self, embedding: NDArray[np.float32], n: int, seed: int) -> list[Image.Image]:
        self.asked.append((n, seed))
        nearest = int(np.abs(self.features - embedding).sum(1).argmin())
        return [Image.fromarray(self.photographs[nearest])] * n


def _measure(shards: Path, route: Any = None, **settings: Any) -> dict[str, Any]:
    arrays = PairArrays.open(shards)
    options = Settings(data=shards, out=Path("unused"), **settings)
    return measure(options, arrays, route or PerfectRoute(arrays))[0]


@pytest.fixture(scope="module")
def perfect(shards: Path) -> dict[str, Any]:
    return _measure(shards)


def _colours(results: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["pictures"]: row for row in results["colours"]}


def test_perfect_model_finds_every_picture(perfect: dict[str, Any], shards: Path) -> None:
    arrays = PairArrays.open(shards)
    kinds = [(row["classes"], row["voices"]) for row in perfect["retrieval"]]
    assert kinds[:4] == [(c, v) for c in ("seen", "unseen") for v in ("heard", "kept out")]
    assert kinds[4] == ("unseen", "the true words, no speech")
    for row in perfect["retrieval"][:4]:
        gallery = len(arrays.samples_of("val" if row["classes"] == "seen" else "test"))
        assert row["R@1"] == row["R@50"] == 1
        assert row["pictures"] == gallery
        assert row["chance"]["R@1"] == pytest.approx(1 / gallery)
        assert row["chance"]["R@50"] == 1
    assert 0 <= perfect["retrieval"][4]["R@1"] < 1
    test = arrays.utterances_of("test")
    assert sum(row["queries"] for row in perfect["retrieval"][2:4]) == len(test)
    assert sum(row["queries"] for row in perfect["voice_by_voice"]) == len(test)
    assert perfect["voices"]["kept out"] == [HELD_OUT_VOICE]


def test_drawing_the_photograph_reaches_the_ceiling_and_shuffling_falls(perfect: dict[str, Any]) -> None:
    rows = _colours(perfect)
    ceiling, drawn, floor = rows[PHOTOGRAPHS], rows[DRAWN["kept out"]], rows[SHUFFLED]
    assert ceiling["agreement"] > 0.8
    for key in ("agreement", "n", "interval", "described_pictures"):
        assert drawn[key] == ceiling[key] == rows[DRAWN["heard"]][key]
    assert floor["n"] == drawn["n"]
    assert floor["interval"][1] < drawn["interval"][0]
    for row in rows.values():
        assert row["interval"][0] <= row["agreement"] <= row["interval"][1]


def test_ceiling_is_the_metric_of_the_package(perfect: dict[str, Any], shards: Path) -> None:
    photographs = Photographs(PairArrays.open(shards), PIXELS)
    _, pictures, captions = photographs.of("test")
    pairs = [(p, text) for p, own in zip(pictures, captions, strict=True) for text in own]
    assert pictures[0].shape == (PIXELS, PIXELS, 3)
    expected = agreement(photographs.fit(), [p for p, _ in pairs], [text for _, text in pairs])
    assert _colours(perfect)[PHOTOGRAPHS]["agreement"] == pytest.approx(expected)


def test_deaf_model_finds_nothing(shards: Path) -> None:
    route = PerfectRoute(PairArrays.open(shards))
    route.embed = lambda audio: route.features[0]  # type: ignore[method-assign]
    results = _measure(shards, route)
    assert all(row["R@10"] < 0.95 and row["R@1"] < 0.2 for row in results["retrieval"][:4])
    rows = _colours(results)
    assert rows[DRAWN["kept out"]]["agreement"] < rows[PHOTOGRAPHS]["interval"][0]


def test_pictures_per_utterance_and_noise(shards: Path) -> None:
    arrays = PairArrays.open(shards)
    route = PerfectRoute(arrays)
    results = _measure(shards, route, pictures_per_utterance=3, seed=5)
    drawn = _colours(results)[DRAWN["kept out"]]
    assert drawn["n"] == 3 * drawn["captions"]
    colour_seeds = [seed for n, seed in route.asked if n == 3]
    half = len(colour_seeds) // 2
    assert len(set(colour_seeds)) == half
    assert sorted(colour_seeds[:half]) == sorted(colour_seeds[half:])
    assert {seed for n, seed in route.asked if n == 4} == {5}


def test_limit_spreads_and_keeps_galleries_whole(shards: Path, perfect: dict[str, Any]) -> None:
    assert evenly(np.arange(100, 111), 3).tolist() == [100, 105, 110]
    assert evenly(np.arange(4), 9).tolist() == [0, 1, 2, 3]
    limited = _measure(shards, limit=6)
    for row, whole in zip(limited["retrieval"][:4], perfect["retrieval"][:4], strict=True):
        assert row["queries"] == 6 < whole["queries"]
        assert (row["pictures"], row["R@1"]) == (whole["pictures"], 1)
    assert limited["sheet"] == perfect["sheet"]


def test_sheet_shows_distinct_colours_of_unseen_classes_in_kept_out_voices(shards: Path) -> None:
    arrays = PairArrays.open(shards)
    test = arrays.utterances_of("test", [HELD_OUT_VOICE])
    chosen = choose_utterances(arrays, test, 8, seed=0)
    colours = [main_colours(caption_of(arrays, int(u))) for u in chosen]
    there = {main_colours(caption_of(arrays, int(u))) for u in test} - {()}
    assert len(there) == 4
    assert set(colours[:4]) == there
    assert len(set(arrays.utterance_sample[chosen].tolist())) == len(chosen) == 8
    assert set(chosen.tolist()) <= set(test.tolist())


def test_held_out_voices_of_the_training_count_as_kept_out(shards: Path) -> None:
    arrays = PairArrays.open(shards)
    heard, kept_out = split_voices(arrays, ["toy/anna"])
    assert kept_out == ["toy/anna", HELD_OUT_VOICE]
    assert heard == ["toy/ben", "toy/cleo", "toy/dora"]


def test_shuffling_gives_nobody_a_caption_of_its_own_picture() -> None:
    owners = np.repeat(np.arange(6), [1, 2, 3, 4, 5, 15])
    order = shuffled(owners, 3)
    assert sorted(order) == list(range(30))
    assert (owners[order] != owners).all()
    assert (order == shuffled(owners, 3)).all()
    with pytest.raises(DataError, match="too few pictures"):
        shuffled(np.array([1, 1, 2]), 0)


def test_bootstrap_interval() -> None:
    ones = np.ones(400)
    assert bootstrap_interval(ones, ones, 0) == (1, 1)
    low, high = bootstrap_interval(np.tile([0.0, 1.0], 200), ones, 0)
    assert (low, high) == pytest.approx((0.451, 0.549), abs=0.008)
    low, high = bootstrap_interval(np.tile([0.0, 4.0], 50), np.full(100, 4.0), 0)
    assert (low, high) == pytest.approx((0.402, 0.598), abs=0.015)


def test_report(shards: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "report"
    results = evaluate(Settings(data=shards, out=out, model=str(model), threads=1, limit=8))
    assert sorted(path.name for path in out.iterdir()) == ["grid.png", "results.json", "results.md"]
    text = (out / "results.json").read_text()
    assert json.loads(text) == results
    card = json.loads((model / "model.json").read_text())
    sums = {name: entry["sha256"] for name, entry in card["files"].items()}
    assert results["model"] == {
        "name": "tiny",
        "picture_size": SIZE,
        "bytes": sum((model / f"{name}.onnx").stat().st_size for name in sums),
        "sha256": sums,
    }
    assert results["data"]["pictures"] == {"test": 12, "train": 47, "val": 13}
    markdown = (out / "results.md").read_text()
    assert "| unseen | kept out | 8 | 12 | " in markdown
    assert str(tmp_path) not in text + markdown
    assert str(shards.parent) not in text + markdown
    with Image.open(out / "grid.png") as picture:
        assert picture.width == 230 + 4 * SIZE + 3 * 2
    evaluate(Settings(data=shards, out=tmp_path / "again", model=str(model), threads=1, limit=8))
    for name in ("results.json", "results.md", "grid.png"):
        assert (tmp_path / "again" / name).read_bytes() == (out / name).read_bytes()


def test_without_val_the_rows_of_seen_classes_are_missing_and_told(model: Path, tmp_path: Path) -> None:
    shards = tmp_path / "toy"
    write_shards(toy_samples(48), shards)
    PairArrays.open(shards).save_teacher(_teacher(48))
    words = ["evaluate", "--data", str(shards), "--out", str(tmp_path / "out"), "--model", str(model)]
    assert cli.main(words) == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert {row["classes"] for row in results["retrieval"]} == {"unseen"}
    assert "--validation" in (tmp_path / "out" / "results.md").read_text()


def test_captions_without_colours_leave_colours_out(model: Path, tmp_path: Path) -> None:
    shards = tmp_path / "toy"
    plain = (replace(s, captions=tuple("a thing" for _ in s.captions)) for s in toy_samples(24))
    write_shards(plain, shards)
    PairArrays.open(shards).save_teacher(_teacher(24))
    results = evaluate(Settings(data=shards, out=tmp_path / "out", model=str(model), threads=1))
    assert results["colours"] == []
    assert "name no main colour" in (tmp_path / "out" / "results.md").read_text()


def _shards_of(folder: Path, samples: list[Sample], teacher: int = EMBEDDING) -> Path:
    write_shards(samples, folder)
    if teacher:
        PairArrays.open(folder).save_teacher(np.zeros((len(samples), 1, teacher), np.float16))
    return folder


def _bad_sets(folder: Path) -> dict[str, tuple[Path, type[Exception], str]]:
    samples = list(toy_samples(24))
    seen = [
        replace(s, utterances=tuple(u for u in s.utterances if u.voice != HELD_OUT_VOICE)) for s in samples
    ]
    silent = [replace(s, utterances=()) for s in samples]
    train = [s for s in samples if s.split == "train"]
    return {
        "no kept-out voice": (_shards_of(folder / "a", seen), DataError, "--held-out-voices"),
        "no speech": (_shards_of(folder / "b", silent), DataError, "no speech"),
        "no test": (_shards_of(folder / "c", train), DataError, "split 'test'"),
        "no train": (
            _shards_of(folder / "d", [s for s in samples if s.split == "test"]),
            DataError,
            "split 'train'",
        ),
        "no teacher": (_shards_of(folder / "e", samples, teacher=0), DataError, "prepare teacher"),
        "another teacher": (_shards_of(folder / "f", samples, teacher=7), CheckpointError, "another teacher"),
        "no shards": (folder / "g", DataError, "no picture shards"),
    }


def test_unfit_data_is_told_and_leaves_nothing(model: Path, tmp_path: Path) -> None:
    for name, (data, kind, words) in _bad_sets(tmp_path).items():
        with pytest.raises(kind) as caught:
            evaluate(Settings(data=data, out=tmp_path / "out", model=str(model), threads=1))
        assert words in str(caught.value), name
        assert not list((tmp_path / "out").iterdir()), name


def test_unfit_settings(shards: Path, model: Path, tmp_path: Path) -> None:
    good = Settings(data=shards, out=tmp_path / "out", model=str(model), threads=1)
    (tmp_path / "file").write_text("")
    for change, kind, words in (
        ({"model": "flwers"}, CheckpointError, "unknown model 'flwers'"),
        ({"held_out_voices": ("nobody",)}, SettingsError, "no utterance by nobody"),
        ({"limit": 1}, SettingsError, "limit"),
        ({"pictures_per_utterance": 0}, SettingsError, "pictures_per_utterance"),
        ({"seed": -1}, SettingsError, "seed"),
        ({"out": tmp_path / "file"}, OutputError, "is a file"),
        ({"out": tmp_path / "file" / "deeper"}, OutputError, "cannot write"),
    ):
        with pytest.raises(kind, match=words):
            evaluate(replace(good, **change))
    assert not (tmp_path / "out" / "results.json").exists()


def test_model_that_hears_no_numbers_is_refused(shards: Path) -> None:
    route = PerfectRoute(PairArrays.open(shards))
    route.embed = lambda audio: np.full(EMBEDDING, np.nan, np.float32)  # type: ignore[method-assign]
    with pytest.raises(CheckpointError, match="not finite"):
        _measure(shards, route)


def test_unusable_recording_is_named(shards: Path) -> None:
    route = PerfectRoute(PairArrays.open(shards))

    def embed(audio: bytes) -> NDArray[np.float32]:
        raise SpeechError("silence")

    route.embed = embed  # type: ignore[method-assign]
    with pytest.raises(DataError, match=r"utterance \d+ of .*: silence"):
        _measure(shards, route)


def test_missing_module_is_not_called_a_missing_extra() -> None:
    with pytest.raises(Speech2ImageError, match=r"incomplete.*speech2image\.no_such_module"):
        training._import("no_such_module")
