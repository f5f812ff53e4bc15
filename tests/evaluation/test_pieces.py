"""The parts by themselves: utterances, halves, rows on disk, the work folder, charts."""

from pathlib import Path

import numpy as np
import pytest

from speech2image.data.corpora.toy import HELD_OUT_VOICE
from speech2image.data.shards.arrays import PairArrays
from speech2image.errors import DataError, OutputError
from speech2image.evaluation.real_set import halves
from speech2image.evaluation.report.plots import svg
from speech2image.evaluation.report.sections import Chart
from speech2image.evaluation.results import LABELS
from speech2image.evaluation.run import finish_work, open_work
from speech2image.evaluation.utterances import (
    VOICES,
    caption_of,
    choose_utterances,
    main_voices,
    one_a_caption,
    shuffled,
    split_evaluation_voices,
    utterance_groups,
)
from speech2image.metrics.colour_words import main_colours
from speech2image.metrics.estimate import Estimate
from speech2image.metrics.registry import COLOURS, PICTURES


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
    heard, kept_out = split_evaluation_voices(arrays, ["toy/anna"])
    assert kept_out == ["toy/anna", HELD_OUT_VOICE]
    assert heard == ["toy/ben", "toy/cleo", "toy/dora"]


def test_without_a_voice_kept_out_the_voices_heard_take_its_place(shards: Path) -> None:
    arrays = PairArrays.open(shards)
    assert main_voices(arrays, ["toy/anna"], [HELD_OUT_VOICE]) == ("kept out", [HELD_OUT_VOICE])
    assert main_voices(arrays, ["toy/anna"], ["toy/nobody"]) == ("heard", ["toy/anna"])
    arrays.utterance_sample = arrays.utterance_sample[arrays.utterances_of("train")]
    arrays.utterance_voice = arrays.utterance_voice[: len(arrays.utterance_sample)]
    with pytest.raises(DataError, match=r"no utterance in .* is about a test picture"):
        split_evaluation_voices(arrays)


def test_people_kept_out_have_rows_of_their_own(shards: Path) -> None:
    arrays = PairArrays.open(shards)
    cells = utterance_groups(arrays, ["toy/anna"], [HELD_OUT_VOICE], None)
    assert {cell.voices for cell in cells} == {"heard", "kept out"}
    spoken = np.flatnonzero(arrays.utterance_voice == HELD_OUT_VOICE)
    arrays.utterance_voice[spoken[::2]] = "reader/7"
    found = {
        cell.voices: set(arrays.utterance_voice[cell.utterances])
        for cell in utterance_groups(arrays, ["toy/anna"], [HELD_OUT_VOICE, "reader/7"], None)
        if cell.split == "test"
    }
    assert found == {"heard": {"toy/anna"}, "kept out": {HELD_OUT_VOICE}, "kept out, people": {"reader/7"}}
    alone = utterance_groups(arrays, ["toy/anna"], ["reader/7"], None)
    assert {cell.voices for cell in alone} == {"heard", "kept out"}


def test_natural_voices_have_rows_of_their_own(shards: Path) -> None:
    arrays = PairArrays.open(shards)
    names = ("kokoro/af_river", "piper/en_US-joe-medium", "reader/7")
    arrays.utterance_voice = arrays.utterance_voice.astype("U30")
    spoken = np.flatnonzero(arrays.utterance_voice == HELD_OUT_VOICE)
    for start, name in enumerate(names):
        arrays.utterance_voice[spoken[start + 1 :: 4]] = name
    arrays.utterance_voice[arrays.utterance_voice == "toy/ben"] = "kokoro/mix"
    heard, kept_out = ["kokoro/mix", "toy/anna"], [HELD_OUT_VOICE, *names]
    cells = {
        cell.voices: cell for cell in utterance_groups(arrays, heard, kept_out, None) if cell.split == "test"
    }
    found = {name: set(arrays.utterance_voice[cell.utterances]) for name, cell in cells.items()}
    assert found == {
        "heard": {"toy/anna"},
        "heard, natural voices": {"kokoro/mix"},
        "kept out": {HELD_OUT_VOICE},
        "kept out, natural voices": set(names[:2]),
        "kept out, people": {"reader/7"},
    }
    assert set(found) < set(VOICES) == set(LABELS["pictures"]) - {"noise", "shuffled", "ceiling"}
    alone = {cell.voices for cell in utterance_groups(arrays, ["kokoro/mix"], list(names), None)}
    assert alone == {"heard", "kept out", "kept out, people"}


def test_every_caption_counts_once(shards: Path) -> None:
    arrays = PairArrays.open(shards)
    arrays.utterance_sample = np.array([0, 0, 1, 1, 1, 2, 2])
    arrays.utterance_caption = np.array([0, 0, 0, 0, 1, -1, -1])
    chosen = one_a_caption(arrays, np.arange(7))
    assert chosen.tolist() == [0, 3, 4, 5, 6]


def test_shuffling_gives_nobody_a_caption_of_its_own_picture() -> None:
    owners = np.repeat(np.arange(6), [1, 2, 3, 4, 5, 15])
    order = shuffled(owners, 3)
    assert sorted(order) == list(range(30))
    assert (owners[order] != owners).all()
    assert (order == shuffled(owners, 3)).all()
    with pytest.raises(DataError, match="too few pictures"):
        shuffled(np.array([1, 1, 2]), 0)


def test_halves_share_every_class() -> None:
    labels = np.random.default_rng(0).permutation(np.repeat([3, 5, 9], [4, 7, 10]))
    first, second = halves(labels)
    assert sorted([*first, *second]) == list(range(21))
    assert abs(len(first) - len(second)) == 1
    for label in (3, 5, 9):
        assert abs((labels[first] == label).sum() - (labels[second] == label).sum()) <= 1


def test_unfinished_work_of_another_model_is_kept(tmp_path: Path) -> None:
    work = open_work(tmp_path, {"model": "first", "seed": 0})
    (work / "rows.npy").write_bytes(b"precious")
    with pytest.raises(OutputError, match=r"unfinished evaluation of model 'first'.*differs.* in model"):
        open_work(tmp_path, {"model": "second", "seed": 0})
    assert (work / "rows.npy").read_bytes() == b"precious"
    assert open_work(tmp_path, {"model": "first", "seed": 0}) == work
    with pytest.raises(OutputError, match="in seed, figure"):
        open_work(tmp_path, {"model": "first", "seed": 1, "figure": 3})
    finish_work(work)
    assert (work / "rows.npy").exists()
    open_work(tmp_path, {"model": "second", "seed": 0})
    assert not (work / "rows.npy").exists()


def test_plots_are_repeatable_and_escape_labels() -> None:
    fid, shares = PICTURES[0], COLOURS[0]
    bars = Chart("t", fid, {"": {"a < b": Estimate(10, (5, 20)), "c": Estimate(5)}})
    drawn = svg(bars)
    assert drawn == svg(bars) and drawn.startswith("<svg")
    inches = float(drawn.partition('width="')[2].partition("pt")[0]) / 72
    assert 2 * 96 * inches + 32 <= 1280 - 2 * 32 - 15, "two, a gap, margins and a scroll bar"
    assert "a &lt; b" in drawn and "a < b" not in drawn and "lower is better" in drawn
    assert ">10.000<" in drawn and ">5.000<" in drawn, "letters stay letters"
    assert drawn != svg(Chart("t", fid, {"": {"a < b": Estimate(10, (5, 20)), "c": Estimate(6)}}))
    points = svg(Chart("t", shares, {name: {"clean": Estimate(0.0)} for name in ("heard", "kept out")}))
    assert "heard" in points and "kept out" in points and "colour, % (higher is better)" in points
