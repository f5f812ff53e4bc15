"""Voices of spoken captions: patterns, mixtures, delivery, and an even sample of what could be said."""

from pathlib import Path

import numpy as np
import pytest

from speech2image import tts
from speech2image.data.entries import Entry
from speech2image.data.speech import voices
from speech2image.data.speech.speaking import (
    UtteranceSpec,
    VoicePlan,
    first_utterances,
    plan_utterances,
    speak_utterance,
    specs_digest,
)
from speech2image.data.speech.voices import MIXTURE, choose_voices, kokoro_speakers, voices_here
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


def planned(patterns: tuple[str, ...], held_out: tuple[str, ...] = (), **settings: str) -> VoicePlan:
    found = voices_here(patterns, held_out)
    seen, kept_out = choose_voices(patterns, held_out, found)
    speakers = kokoro_speakers(found, kept_out)
    return VoicePlan(tuple(seen), tuple(kept_out), augment=0.0, speakers=speakers, **settings)


def test_every_utterance_of_the_mixing_voice_is_another_mixture_without_held_out_speakers(
    engines: list,
) -> None:
    specs = plan_utterances(entries(40), planned((MIXTURE,), ("kokoro/am_held",)))
    assert {spec.voice for spec in specs} == {MIXTURE} and len({spec.mixture for spec in specs}) > 60
    mixed = {speaker for spec in specs for speaker, _ in parse(spec.mixture)}
    assert mixed == {"af_a", "af_b", "bm_c"}
    spoken = speak_utterance(specs[0])
    assert engines == [(f"kokoro/{specs[0].mixture}", {"seed": specs[0].seed, "threads": 1})]
    assert spoken.utterance.voice == MIXTURE and spoken.effects == {"mixture": specs[0].mixture}


def test_the_mixing_voice_is_there_only_by_name_and_with_two_speakers(engines: list) -> None:
    assert MIXTURE not in voices_here(("kokoro/*",), ())
    with pytest.raises(SettingsError, match="at least two are needed, there are 1"):
        plan_utterances(entries(1), planned((MIXTURE,), ("kokoro/a*",)))


def test_a_mixture_given_by_name_is_a_voice_not_a_pattern(engines: list) -> None:
    name = "kokoro/af_a*0.6+bm_c*0.4"
    voice_plan = planned((name,))
    assert voice_plan.voices == (name,) and voice_plan.speakers == ("af_a", "af_b", "bm_c", "am_held")
    with pytest.raises(SettingsError, match="mixes in kokoro/bm_c, which is held out"):
        planned((name,), ("kokoro/bm_c",))


def test_a_varied_delivery_is_drawn_by_the_seed_and_recorded(engines: list) -> None:
    specs = plan_utterances(entries(20), planned(("piper/joe",), delivery="varied"))
    effects = [speak_utterance(spec).effects["delivery"] for spec in specs]
    assert [how for _, how in engines] == [
        {"seed": spec.seed, "threads": 1, **effect} for spec, effect in zip(specs, effects, strict=True)
    ]
    rates, variations = (np.array([effect[key] for effect in effects]) for key in ("rate", "variation"))
    assert 0.8 <= rates.min() < 0.9 and 1.1 < rates.max() <= 1.25
    assert 0.5 <= variations.min() < 0.7 and 1.1 < variations.max() <= 1.3
    assert speak_utterance(specs[0]).effects["delivery"] == effects[0]
    assert set(
        speak_utterance(plan_utterances(entries(1), planned(("flite/slt",), delivery="varied"))[0]).effects
    ) == {"delivery"}


def test_an_even_delivery_leaves_what_was_planned_before_as_it_was(engines: list) -> None:
    spec = UtteranceSpec("a", 0, "a flower", "flite/slt", 7, False, "opus")
    assert specs_digest([spec]) == "a7de666d28673742"
    assert speak_utterance(spec).effects == {}


def test_the_first_utterances_are_an_even_sample_that_grows(engines: list) -> None:
    specs = plan_utterances(entries(500), planned(("flite/slt",)))
    first = first_utterances(specs, 200)
    assert first_utterances(specs[::-1], 400)[:200] == first and len(set(first)) == 200
    assert sorted(first_utterances(specs, 5000), key=specs.index) == specs
    per_hundred = np.bincount([int(spec.sample) // 100 for spec in first])
    assert per_hundred.min() > 25 and 70 < sum(spec.caption for spec in first) < 130


@pytest.mark.parametrize(
    ("found", "chosen"),
    [
        (["kokoro/af_heart", "piper/joe", "flite/slt", "espeak-ng/en-us"], ["kokoro/af_heart", "piper/joe"]),
        (["flite/slt", "festival/kal", "espeak-ng/en-us"], ["flite/slt", "festival/kal"]),
        (
            ["espeak-ng/en-029", "espeak-ng/en-gb", "espeak-ng/en-gb-scotland", "espeak-ng/en-us"],
            ["espeak-ng/en-gb", "espeak-ng/en-us"],
        ),
        (["espeak-ng/de", "espeak-ng/fr", "espeak-ng/it"], ["espeak-ng/de", "espeak-ng/fr"]),
        (["flite/slt", "espeak-ng/en-us", "reader/1"], ["flite/slt", "reader/1"]),
    ],
)
def test_default_voices_are_the_most_natural(found: list[str], chosen: list[str]) -> None:
    assert choose_voices((), (), found) == (chosen, [])


def test_held_out_voices_added_later_speak_alone() -> None:
    found = ["flite/slt", "flite/rms"]
    assert choose_voices((), ("flite/rms",), found, held_out_alone=True) == ([], ["flite/rms"])
    assert choose_voices(("*",), ("flite/rms",), found, held_out_alone=True) == (["flite/slt"], ["flite/rms"])
