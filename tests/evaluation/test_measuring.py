"""A perfect and a deaf model get the figures due to them, between floor and ceiling; work goes on."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from evaluation_parts import PIXELS, N, PerfectRoute, TinyNetwork, by_name, run, teacher, with_validation
from numpy.typing import NDArray

from speech2image.data.corpora.toy import HELD_OUT_VOICE
from speech2image.data.pairs import write_shards
from speech2image.data.shards.arrays import PairArrays
from speech2image.errors import CheckpointError, DataError, SpeechError
from speech2image.evaluation import colours
from speech2image.evaluation.drawing import BLOCK
from speech2image.evaluation.real_set import Photographs
from speech2image.evaluation.results import (
    CEILING,
    FEATURES,
    NOISE,
    PRIOR_SAMPLES,
    SHUFFLED,
    SPEECH,
    TRUE_WORDS,
)
from speech2image.evaluation.utterances import evenly
from speech2image.metrics.colour_agreement import agreement_of

DRAWN = "kept out"


def test_perfect_model_finds_every_picture(perfect: dict[str, Any], shards: Path) -> None:
    arrays = PairArrays.open(shards)
    kinds = [(row["classes"], row["voices"]) for row in perfect["retrieval"]]
    assert kinds[:4] == [(c, v) for c in ("seen", "unseen") for v in ("heard", "kept out")]
    for row in perfect["retrieval"][:4]:
        gallery = len(arrays.samples_of("val" if row["classes"] == "seen" else "test"))
        assert row["R@1"] == row["R@50"] == 1
        assert row["intervals"]["R@1"] == [1, 1]
        assert row["pictures"] == gallery
        assert row["chance"]["R@1"] == pytest.approx(1 / gallery)
    test = arrays.utterances_of("test")
    assert sum(row["queries"] for row in perfect["retrieval"][2:4]) == len(test)
    assert sum(row["queries"] for row in perfect["voice_by_voice"]) == len(test)
    assert perfect["voices"]["kept out"] == [HELD_OUT_VOICE]


def test_retrieval_has_its_ceiling_its_floors_and_a_smaller_gallery(perfect: dict[str, Any]) -> None:
    rows = by_name(perfect["retrieval"][4:])
    assert rows["kept out"]["pictures"] == 6
    assert rows[CEILING]["R@1"] == 1
    assert rows[CEILING]["mAP"] < 1
    assert rows[SHUFFLED]["R@1"] == 0
    assert rows[NOISE]["R@1"] < 0.5
    assert 0 <= rows[TRUE_WORDS]["R@1"] < 1


def test_perfect_model_draws_as_well_as_the_ceiling(perfect: dict[str, Any]) -> None:
    rows = by_name(perfect["pictures"])
    ceiling, drawn, noise = rows[CEILING], rows[DRAWN], rows[NOISE]
    assert list(rows)[::4] == [CEILING, NOISE]
    assert drawn["fid"] < 1e-3 and drawn["precision"] == drawn["recall"] == 1
    assert drawn["fid_equal"] == pytest.approx(ceiling["fid"], abs=0.2)
    assert noise["fid"] > 2 * ceiling["fid"] and noise["kid"] > drawn["kid"]
    assert noise["recall"] < drawn["recall"]
    assert rows[SHUFFLED]["fid"] == drawn["fid"]
    assert rows[SHUFFLED]["class_map"] < drawn["class_map"]
    for row in rows.values():
        for measure in ("fid", "class_map", "precision", "recall", "is"):
            low, high = row[f"{measure}_interval"]
            assert low <= row[measure] <= high or row[measure] == pytest.approx(low)
        assert 1 <= row["is"] <= perfect["classifier"]["classes"]
        assert row["n_equal"] == 6
    assert "tiny/means" in perfect["classifier"]["name"]


def test_drawing_the_photograph_reaches_the_ceiling_and_shuffling_falls(perfect: dict[str, Any]) -> None:
    rows = by_name(perfect["colours"])
    ceiling, drawn = rows[CEILING], rows[DRAWN]
    floor, noise = rows[SHUFFLED], rows[NOISE]
    assert ceiling["agreement"] > 0.8
    for key in ("agreement", "n", "described_pictures"):
        assert drawn[key] == ceiling[key] == rows["heard"][key]
    assert floor["interval"][1] < drawn["interval"][0]
    assert noise["interval"][1] < drawn["interval"][0]
    for row in rows.values():
        assert row["interval"][0] <= row["agreement"] <= row["interval"][1]


def test_ceiling_is_the_metric_of_the_package(perfect: dict[str, Any], shards: Path) -> None:
    photographs = Photographs(PairArrays.open(shards), PIXELS)
    _, pictures, captions = photographs.of("test")
    pairs = [(p, text) for p, own in zip(pictures, captions, strict=True) for text in own]
    assert pictures[0].shape == (PIXELS, PIXELS, 3)
    reader = colours.fit_reader(photographs)
    assert reader is not None
    expected = agreement_of(reader.read([p for p, _ in pairs]), [text for _, text in pairs])
    assert by_name(perfect["colours"])[CEILING]["agreement"] == pytest.approx(expected)


def test_a_model_that_draws_the_photograph_loses_no_variety_but_that_of_its_noise(
    perfect: dict[str, Any],
) -> None:
    rows = by_name(perfect["variety"])
    assert list(rows) == [CEILING, SPEECH]  # no condition prior
    assert rows[SPEECH]["picture_recall"] == rows[CEILING]["picture_recall"] > 0
    assert rows[SPEECH]["distance"] == 0 < rows[CEILING]["distance"]
    assert rows[SPEECH]["n"] == rows[CEILING]["n"] == 6


def test_a_prior_that_gives_one_feature_alone_loses_the_variety(shards: Path, tmp_path: Path) -> None:
    route = PerfectRoute(PairArrays.open(shards))
    one = route.features[0]
    route.samples_features = True
    route.sample_features = lambda vector, n, seed: np.repeat(one[None], n, 0)  # type: ignore[method-assign]
    rows = by_name(run(shards, tmp_path, route, TinyNetwork(), measures=("variety",))["variety"])
    assert list(rows) == [CEILING, FEATURES, PRIOR_SAMPLES, SPEECH]
    assert rows[FEATURES]["picture_recall"] == rows[CEILING]["picture_recall"] > 0
    assert rows[PRIOR_SAMPLES]["condition_recall"] == rows[SPEECH]["condition_recall"] == 0
    assert rows[FEATURES]["condition_recall"] == rows[CEILING]["condition_recall"] > 0
    assert rows[PRIOR_SAMPLES]["picture_recall"] == 0


def test_pictures_pass_in_blocks(perfect: dict[str, Any], network: TinyNetwork) -> None:
    assert sum(network.batches) > 2 * BLOCK
    assert max(network.batches) <= BLOCK


def test_deaf_model_finds_nothing(shards: Path, tmp_path: Path) -> None:
    route = PerfectRoute(PairArrays.open(shards))
    route.embed = lambda audio: route.features[0]  # type: ignore[method-assign]
    results = run(shards, tmp_path, route, TinyNetwork(), measures=("retrieval", "colours", "fid"))
    assert all(row["R@10"] < 0.95 and row["R@1"] < 0.2 for row in results["retrieval"][:4])
    rows = by_name(results["colours"])
    assert rows[DRAWN]["agreement"] < rows[CEILING]["interval"][0]
    pictures = by_name(results["pictures"])
    assert pictures[DRAWN]["fid"] > pictures[CEILING]["fid"]
    assert "kid" not in pictures[DRAWN] and results["classifier"] is None


def test_interrupted_work_goes_on_and_ends_the_same(shards: Path, tmp_path: Path) -> None:
    arrays, options = PairArrays.open(shards), {"measures": ("colours", "fid")}
    whole = run(shards, tmp_path / "whole", network=TinyNetwork(), **options)
    route, every = PerfectRoute(arrays), PerfectRoute.generate
    heard: list[bytes] = []

    def stop_at(calls: int) -> Any:
        def generate(embedding: NDArray[np.float32], n: int, seed: int) -> Any:
            if len(route.asked) == calls:
                raise KeyboardInterrupt
            return every(route, embedding, n, seed)

        return generate

    route.generate = stop_at(BLOCK + 5)  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        run(shards, tmp_path / "part", route, TinyNetwork(), **options)
    again = PerfectRoute(arrays)
    again.embed = lambda audio: heard.append(audio)  # type: ignore[method-assign, assignment, return-value]
    assert run(shards, tmp_path / "part", again, TinyNetwork(), **options) == whole
    assert heard == []
    sheet = len(whole["sheet"]["rows"])
    drawn = sum(row["n"] for row in whole["pictures"][1:] if row["id"] != SHUFFLED)
    assert len(again.asked) == drawn - BLOCK + sheet


def test_features_of_photographs_are_kept_for_the_next_model(
    shards: Path, tmp_path: Path, perfect: dict[str, Any]
) -> None:
    before = sorted((shards / "arrays").glob("features-*.npy"))
    network = TinyNetwork()
    run(shards, tmp_path / "a", network=network, measures=("fid",), limit=4)
    assert sum(network.batches) == 4 + 4 + 4
    assert sorted((shards / "arrays").glob("features-*.npy")) == before
    other = TinyNetwork()
    other.checksum = "1" * 64
    run(shards, tmp_path / "b", network=other, measures=("fid",), limit=4)
    assert sum(other.batches) == 12 + 4 + 4 + 4


class Edges(TinyNetwork):
    """Mean difference of neighbours, in %, after enlarging as the evaluating network does."""

    name, dim, checksum = "tiny/edges", 3, "e" * 64

    def __call__(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        large = torch.nn.functional.interpolate(
            torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255, size=(48, 48), mode="bilinear"
        )
        return 100 * large.diff(dim=3).abs().mean((2, 3)).numpy()


def test_smaller_pictures_meet_the_same_photographs(shards: Path, tmp_path: Path) -> None:
    """A model cannot gain by drawing less detail than the photographs have."""
    whole, small = PerfectRoute(PairArrays.open(shards)), PerfectRoute(PairArrays.open(shards))
    small.picture_size = PIXELS // 4
    small.photographs = small.photographs.reshape(-1, 8, 4, 8, 4, 3).mean((2, 4)).astype(np.uint8)
    rows = [
        by_name(run(shards, tmp_path / name, route, Edges(), measures=("fid",))["pictures"])
        for name, route in (("whole", whole), ("small", small))
    ]
    assert rows[0][CEILING] == rows[1][CEILING]
    assert rows[0][DRAWN]["fid"] < 1e-3 < 1e-2 < rows[1][DRAWN]["fid"]


def test_pictures_per_utterance_and_noise(shards: Path, tmp_path: Path) -> None:
    arrays = PairArrays.open(shards)
    route, spoken = PerfectRoute(arrays), len(arrays.utterances_of("test", [HELD_OUT_VOICE]))
    results = run(shards, tmp_path, route, pictures_per_utterance=3, seed=5, measures=("colours",))
    told = by_name(results["colours"])[DRAWN]["n"]
    assert told % 3 == 0 and 2 * spoken < told <= 3 * spoken
    seeds = [seed for n, seed in route.asked if n == 3]
    assert len(set(seeds[:spoken])) == spoken
    assert sorted(seeds[:spoken]) == sorted(seeds[spoken : 2 * spoken])
    assert {seed for n, seed in route.asked if n == 4} == {5}


def test_limit_spreads_and_keeps_galleries_whole(
    shards: Path, tmp_path: Path, perfect: dict[str, Any]
) -> None:
    assert evenly(np.arange(100, 111), 3).tolist() == [100, 105, 110]
    assert evenly(np.arange(4), 9).tolist() == [0, 1, 2, 3]
    limited = run(shards, tmp_path, limit=6, measures=("retrieval",))
    for row, whole in zip(limited["retrieval"][:4], perfect["retrieval"][:4], strict=True):
        assert row["queries"] == 6 < whole["queries"]
        assert (row["pictures"], row["R@1"]) == (whole["pictures"], 1)
    assert limited["sheet"] == perfect["sheet"]
    assert perfect["sheet"]["photographs"] is True
    assert limited["colours"] == limited["pictures"] == []


def test_voices_that_are_not_drawn(shards: Path, tmp_path: Path, perfect: dict[str, Any]) -> None:
    chosen = {"measures": ("colours", "fid", "class-map"), "drawn": ("kept out",)}
    few = run(shards, tmp_path, network=TinyNetwork(), **chosen)
    whole = {row["pictures"]: row for row in perfect["pictures"]}
    names = [row["pictures"] for row in few["pictures"]]
    assert names == [name for name in whole if name != "drawn from voices heard in training"]
    for row in few["pictures"][:2]:
        assert row["fid"] == whole[row["pictures"]]["fid"]
    assert "drawn from voices heard in training" not in [row["pictures"] for row in few["colours"]]


def test_only_what_is_drawn_is_listened_to(shards: Path, tmp_path: Path, perfect: dict[str, Any]) -> None:
    chosen = {"measures": ("retrieval", "colours"), "drawn": ("kept out",), "only_drawn": True}
    few = run(shards, tmp_path, **chosen)
    kinds = {(row["classes"], row["voices"]) for row in few["retrieval"]}
    assert ("unseen", "kept out") in kinds and {("seen", "kept out"), ("unseen", "heard")}.isdisjoint(kinds)
    whole = {(row["classes"], row["voices"], row["pictures"]): row for row in perfect["retrieval"]}
    for row in few["retrieval"]:
        if row["voices"] in ("kept out", CEILING):
            same = whole[row["classes"], row["voices"], row["pictures"]]
            assert all(row[key] == same[key] for key in ("queries", "R@1", "mAP"))
    assert few["colours"][:2] == perfect["colours"][:2]


def test_natural_voices_are_measured_by_themselves(tmp_path: Path) -> None:
    """Every other utterance of the voice kept out, and all of one heard in training, become natural ones."""
    voices = {"toy/ben": "kokoro/mix", HELD_OUT_VOICE: "kokoro/af_river"}
    renamed = [
        replace(
            sample,
            utterances=tuple(
                replace(one, voice=voices.get(one.voice, one.voice) if i % 2 else one.voice)
                for one in sample.utterances
            ),
        )
        for i, sample in enumerate(with_validation())
    ]
    write_shards(renamed, tmp_path / "shards")
    PairArrays.open(tmp_path / "shards").save_teacher(teacher(N))
    route = PerfectRoute(PairArrays.open(tmp_path / "shards"))
    route.transcribe = lambda audio: "a red disc"  # type: ignore[attr-defined]
    chosen = ("retrieval", "colours", "fid", "words")
    results = run(tmp_path / "shards", tmp_path / "out", route, TinyNetwork(), measures=chosen)
    found = {row["voices"] for row in results["retrieval"] if row["classes"] == "unseen"}
    groups = {"heard", "heard, natural voices", "kept out", "kept out, natural voices"}
    assert groups < found and {row["voices"] for row in results["words"]} == groups
    by_voice = {row["voice"]: row["voices"] for row in results["voice_by_voice"]}
    assert by_voice["kokoro/af_river"] == "kept out, natural voices"
    assert by_voice["kokoro/mix"] == "heard, natural voices" and by_voice["toy/anna"] == "heard"
    for table in ("colours", "pictures"):
        rows = by_name(results[table])
        assert groups < set(rows)
        assert rows["kept out, natural voices"]["n"] > 2


def test_route_with_text_has_its_words_counted(shards: Path, tmp_path: Path) -> None:
    route = PerfectRoute(PairArrays.open(shards))
    route.transcribe = lambda audio: "a red disc"  # type: ignore[attr-defined]
    results = run(shards, tmp_path, route, measures=("words",))
    rows = by_name(results["words"], "voices")
    assert list(rows) == [
        f"{kind}{part}" for kind in ("kept out", "heard") for part in ("", ", not augmented")
    ]
    for kind in ("kept out", "heard"):
        assert 0 < rows[f"{kind}, not augmented"]["utterances"] < rows[kind]["utterances"]
    assert all(0 < row["wer"] <= 1 for row in rows.values())
    assert results["not_measured"] == {}


def test_model_that_hears_no_numbers_is_refused(shards: Path, tmp_path: Path) -> None:
    route = PerfectRoute(PairArrays.open(shards))
    route.embed = lambda audio: np.full(16, np.nan, np.float32)  # type: ignore[method-assign]
    with pytest.raises(CheckpointError, match="not finite"):
        run(shards, tmp_path, route)


def test_unusable_recording_is_named(shards: Path, tmp_path: Path) -> None:
    route = PerfectRoute(PairArrays.open(shards))

    def embed(audio: bytes) -> NDArray[np.float32]:
        raise SpeechError("silence")

    route.embed = embed  # type: ignore[method-assign]
    with pytest.raises(DataError, match=r"utterance \d+ of .*: silence"):
        run(shards, tmp_path, route)
