"""Voices of spoken captions: patterns, mixtures, delivery, and an even sample of what could be said."""

from pathlib import Path

import numpy as np
import pytest

from speech2image import tts
from speech2image.data import voices
from speech2image.data.entries import Entry
from speech2image.data.speaking import Casting, Line, first_lines, lines_digest, plan_lines, speak_line
from speech2image.data.voices import MIXTURE, choose_voices, kokoro_speakers, voices_here
from speech2image.errors import SettingsError
from speech2image.tts import Voice
from speech2image.tts.kokoro import parse

SPEAKERS = ("kokoro/af_a", "kokoro/af_b", "kokoro/bm_c", "kokoro/am_held")


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, float]]]:
    """Engines that hum; the list tells in which voice and how."""
    said: list[tuple[str, dict[str, float]]] = []

    def speak(text: str, voice: Voice, **delivery: float) -> np.ndarray:
        said.append((voice.id, delivery))
        return np.sin(np.arange(16_000, dtype=np.float32) / 10) * np.float32(0.5)

    found = [*SPEAKERS, "piper/joe", "flite/slt"]
    monkeypatch.setattr(
        tts, "available_voices", lambda timbres=False: [Voice(*id.split("/")) for id in found]
    )
    monkeypatch.setattr(tts, "find_voice", lambda id: Voice(*id.split("/", 1)))
    monkeypatch.setattr(tts, "speak", speak)
    voices._voice.cache_clear()
    yield said
    voices._voice.cache_clear()


def entries(n: int) -> list[Entry]:
    return [
        Entry(str(i), Path("none.png"), i, "flower", "train", (f"a flower of {i} petals", f"{i} red petals"))
        for i in range(n)
    ]


def cast(patterns: tuple[str, ...], held_out: tuple[str, ...] = (), **casting: str) -> Casting:
    found = voices_here(patterns, held_out)
    seen, kept_out = choose_voices(patterns, held_out, found)
    speakers = kokoro_speakers(found, kept_out)
    return Casting(tuple(seen), tuple(kept_out), augment=0.0, speakers=speakers, **casting)


def test_every_utterance_of_the_mixing_voice_is_another_mixture_without_held_out_speakers(
    engines: list,
) -> None:
    lines = plan_lines(entries(40), cast((MIXTURE,), ("kokoro/am_held",)))
    assert {line.voice for line in lines} == {MIXTURE} and len({line.mixture for line in lines}) > 60
    mixed = {speaker for line in lines for speaker, _ in parse(line.mixture)}
    assert mixed == {"af_a", "af_b", "bm_c"}
    spoken = speak_line(lines[0])
    assert engines == [(f"kokoro/{lines[0].mixture}", {"seed": lines[0].seed, "threads": 1})]
    assert spoken.utterance.voice == MIXTURE and spoken.effects == {"mixture": lines[0].mixture}


def test_the_mixing_voice_is_there_only_by_name_and_with_two_speakers(engines: list) -> None:
    assert MIXTURE not in voices_here(("kokoro/*",), ())
    with pytest.raises(SettingsError, match="at least two are needed, there are 1"):
        plan_lines(entries(1), cast((MIXTURE,), ("kokoro/a*",)))


def test_a_mixture_given_by_name_is_a_voice_not_a_pattern(engines: list) -> None:
    name = "kokoro/af_a*0.6+bm_c*0.4"
    casting = cast((name,))
    assert casting.voices == (name,) and casting.speakers == ("af_a", "af_b", "bm_c", "am_held")
    with pytest.raises(SettingsError, match="mixes in kokoro/bm_c, which is held out"):
        cast((name,), ("kokoro/bm_c",))


def test_a_varied_delivery_is_drawn_by_the_seed_and_recorded(engines: list) -> None:
    lines = plan_lines(entries(20), cast(("piper/joe",), delivery="varied"))
    effects = [speak_line(line).effects["delivery"] for line in lines]
    assert [how for _, how in engines] == [
        {"seed": line.seed, "threads": 1, **effect} for line, effect in zip(lines, effects, strict=True)
    ]
    rates, variations = (np.array([effect[key] for effect in effects]) for key in ("rate", "variation"))
    assert 0.8 <= rates.min() < 0.9 and 1.1 < rates.max() <= 1.25
    assert 0.5 <= variations.min() < 0.7 and 1.1 < variations.max() <= 1.3
    assert speak_line(lines[0]).effects["delivery"] == effects[0]
    assert set(speak_line(plan_lines(entries(1), cast(("flite/slt",), delivery="varied"))[0]).effects) == {
        "delivery"
    }


def test_an_even_delivery_leaves_what_was_planned_before_as_it_was(engines: list) -> None:
    line = Line("a", 0, "a flower", "flite/slt", 7, False, "opus")
    assert lines_digest([line]) == "a7de666d28673742"
    assert speak_line(line).effects == {}


def test_the_first_lines_are_an_even_sample_that_grows(engines: list) -> None:
    lines = plan_lines(entries(500), cast(("flite/slt",)))
    first = first_lines(lines, 200)
    assert first_lines(lines[::-1], 400)[:200] == first and len(set(first)) == 200
    assert sorted(first_lines(lines, 5000), key=lines.index) == lines
    per_hundred = np.bincount([int(line.sample) // 100 for line in first])
    assert per_hundred.min() > 25 and 70 < sum(line.caption for line in first) < 130
