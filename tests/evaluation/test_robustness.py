"""Conditions do what they say; the table follows what is heard; the detector's refusals are counted."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from evaluation_parts import PerfectRoute, run
from numpy.typing import NDArray

from speech2image import audio
from speech2image.data.augment.acoustic_conditions import ACOUSTIC_CONDITIONS, changed
from speech2image.data.corpora.toy import HELD_OUT_VOICE
from speech2image.data.shards.arrays import PairArrays
from speech2image.evaluation.report.markdown import table
from speech2image.evaluation.report.sections import sections
from speech2image.evaluation.results import write_row
from speech2image.evaluation.robustness import make_groups
from speech2image.evaluation.utterances import GROUPS

BY_NAME = {condition.name: condition for condition in ACOUSTIC_CONDITIONS}


def spoken(seconds: float = 1.5, seed: int = 0) -> NDArray[np.float32]:
    t = np.arange(int(seconds * 16000)) / 16000
    buzz = sum(np.sin(2 * np.pi * k * 140 * t) / k for k in range(1, 30))
    return (0.2 * buzz * (np.sin(2 * np.pi * 3 * t) > -0.7)).astype(np.float32)


def under(name: str, sound: NDArray[np.float32]) -> NDArray[np.float32]:
    return changed(BY_NAME[name], sound, np.random.default_rng(0), [spoken(seed=1)])


def test_conditions_change_as_they_say() -> None:
    sound = spoken()
    clean = under("clean", sound)
    assert np.corrcoef(clean, sound)[0, 1] == pytest.approx(1)
    for db in (20, 10, 5):
        noisy = under(f"noise, {db} dB", sound)
        share = np.corrcoef(noisy, sound)[0, 1] ** 2
        assert share == pytest.approx(1 / (1 + 10 ** (-db / 10)), abs=0.06)
    for rate in (0.8, 0.9, 1.1, 1.2, 1.3):
        assert len(under(f"speed {rate}", sound)) == pytest.approx(len(sound) / rate, abs=2)
    edges = under("1 s of silence before and after", sound)
    assert len(edges) == len(sound) + 32000 and np.abs(edges[:16000]).max() < 0.01
    assert np.abs(edges[:16000]).max() > 0
    assert len(under("a pause of 0.5 s inside", sound)) == len(sound) + 8000
    spectrum = np.abs(np.fft.rfft(under("telephone, 300 to 3400 Hz", sound)))
    assert spectrum[len(spectrum) // 2 + 200 :].max() < 0.01 * spectrum.max()
    room = under("room, RT60 0.5 s", sound)
    assert 0.4 < np.corrcoef(room, sound)[0, 1] ** 2 < 0.7


def test_conditions_are_repeatable_and_never_too_short() -> None:
    for condition in ACOUSTIC_CONDITIONS:
        sounds = [changed(condition, spoken(0.66), np.random.default_rng(3), [spoken()]) for _ in range(2)]
        assert np.array_equal(*sounds)
        assert len(sounds[0]) >= audio.MIN_SAMPLES and np.abs(sounds[0]).max() <= 1
        assert sounds[0].dtype == np.float32


def test_groups_are_of_synthesizers_natural_voices_and_people(shards: Path) -> None:
    arrays = PairArrays.open(shards)
    groups = make_groups(arrays, ["toy/anna"], [HELD_OUT_VOICE], 5)
    assert [group.voices for group in groups] == ["heard, synthesizers", "kept out, synthesizers"]
    assert all(len(group.utterances) <= 5 for group in groups)
    arrays.utterance_voice = np.char.replace(arrays.utterance_voice, HELD_OUT_VOICE, "reader/7")
    groups = make_groups(arrays, ["toy/anna"], ["reader/7"], 5)
    assert [group.voices for group in groups] == ["heard, synthesizers", "kept out, people"]
    assert set(arrays.utterance_voice[groups[1].utterances]) == {"reader/7"}
    spoken = np.flatnonzero(arrays.utterance_voice == "reader/7")
    arrays.utterance_voice[spoken[::2]] = "piper/a"
    groups = make_groups(arrays, ["toy/anna"], ["piper/a", "reader/7"], 5)
    names = [group.voices for group in groups]
    assert names == ["heard, synthesizers", "kept out, natural voices", "kept out, people"]
    assert set(names) < set(GROUPS)


class HearingRoute(PerfectRoute):
    """Knows a recording by its correlation with those of the data set."""

    def __init__(self, arrays: PairArrays) -> None:
        super().__init__(arrays)
        self.known = {audio.load(encoded).tobytes(): index for encoded, index in self.pictured.items()}

    def embed(self, speech: Any) -> NDArray[np.float32]:
        if isinstance(speech, bytes):
            return super().embed(speech)
        best = max(self.known, key=lambda clip: _alike(np.frombuffer(clip, np.float32), speech[0]))
        return self.features[self.known[best]]


def _alike(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    if len(first) != len(second):
        return -1.0
    return float(first @ second / (np.linalg.norm(first) * np.linalg.norm(second) + 1e-9))


def test_table(shards: Path, tmp_path: Path) -> None:
    arrays = PairArrays.open(shards)
    chosen = {"measures": ("retrieval", "colours", "robustness"), "robustness_utterances": 6}
    results = run(shards, tmp_path, HearingRoute(arrays), **chosen)
    rows = results["robustness"]
    assert [row["condition"] for row in rows] == 2 * [condition.name for condition in ACOUSTIC_CONDITIONS]
    assert {row["utterances"] for row in rows} == {5, 6}
    kept_out = {row["condition"]: row for row in rows if row["voices"] == "kept out, synthesizers"}
    assert kept_out["clean"]["R@10"] == kept_out["noise, 20 dB"]["R@10"] == 1
    assert kept_out["clean"]["agreement"] > 0.6
    assert kept_out["speed 1.2"]["mAP"] < kept_out["clean"]["mAP"]
    for row in rows:
        assert row["missed"] is None
        low, high = row["mAP_interval"]
        assert low <= row["mAP"] <= high
    others = {"settings": {"measures": chosen["measures"]}, "network": None, **results}
    (section,) = [one for one in sections(others) if one.title == "Difficult conditions"]
    assert "no speech detector" in section.text
    text = table(section.head, section.rows)
    assert "| ceiling |" in text and "| floor: utterances shuffled |" in text
    assert [chart.title for chart in section.charts] == ["R@10, %", "mAP, %", "colour, %"]
    for chart in section.charts:
        assert list(chart.series) == ["heard, synthesizers", "kept out, synthesizers"]
        assert len(chart.series["heard, synthesizers"]) == len(ACOUSTIC_CONDITIONS)
    again = HearingRoute(arrays)
    again.embed = None  # type: ignore[assignment, method-assign]
    assert run(shards, tmp_path, again, **chosen)["robustness"] == rows
    one = run(shards, tmp_path, again, **chosen, robustness_groups=("kept out, synthesizers",))
    assert one["robustness"] == [row for row in rows if row["voices"] == "kept out, synthesizers"]


def test_refused_utterances_are_counted(shards: Path, tmp_path: Path) -> None:
    from speech2image.evaluation.robustness import Robustness

    arrays = PairArrays.open(shards)
    detector = SimpleNamespace(has_speech=lambda log_mel: log_mel.shape[1] > 263)
    measures = Robustness(HearingRoute(arrays), arrays, detector, None, None, tmp_path, 0, 20)  # type: ignore[arg-type]
    groups = make_groups(arrays, [], [HELD_OUT_VOICE], 4)
    rows = {row.facts["condition"]: row for row in measures.rows(groups, ACOUSTIC_CONDITIONS)}
    assert rows["1 s of silence before and after"].value("missed") == 0
    assert rows["clean"].value("missed") == 1
    written = write_row("robustness", rows["clean"])
    assert written["missed_interval"] == [1, 1] and written["R@10"] is written["agreement"] is None
