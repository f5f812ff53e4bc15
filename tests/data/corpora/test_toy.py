"""The toy set: same seed, same samples; classes, voices and words can be told apart."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from speech2image import audio
from speech2image.data.corpora.toy import (
    COLOURS,
    GROUNDS,
    HELD_OUT_VOICE,
    OTHER_SENTENCES,
    SENTENCE,
    SHAPES,
    UNSEEN,
    VOICES,
    is_toy,
    say,
    syllables,
    toy_sample,
    toy_samples,
    write_examples,
)
from speech2image.data.prepare import PrepareSettings, prepare
from speech2image.data.shards.arrays import PairArrays
from speech2image.errors import SettingsError


def test_seed_decides_all() -> None:
    assert list(toy_samples(6, seed=3)) == list(toy_samples(6, seed=3))
    assert [s.image for s in toy_samples(6, seed=3)] != [s.image for s in toy_samples(6, seed=4)]
    assert list(toy_samples(6))[5] == toy_sample(5)


def test_every_round_holds_every_class_and_unseen_ones_are_test_alone() -> None:
    samples = list(toy_samples(24))
    assert sorted(s.label for s in samples) == list(range(1, 25))
    assert {tuple(s.class_name.split()) for s in samples if s.split == "test"} == UNSEEN


def test_held_out_voice_is_heard_in_test_alone() -> None:
    for sample in toy_samples(24):
        voices = [u.voice for u in sample.utterances]
        assert voices.count(HELD_OUT_VOICE) == (2 if sample.split == "test" else 0)
        assert sorted({u.caption for u in sample.utterances}) == [0, 1]


def test_picture_shows_the_colour_of_its_caption() -> None:
    """The pixel farthest from grey, or the lightest, is nearest to the colour named."""
    for sample in toy_samples(24):
        pixels = np.asarray(Image.open(io.BytesIO(sample.image))).reshape(-1, 3).astype(float)
        corner = pixels[0]
        shape = pixels[np.abs(pixels - corner).sum(1) > 0.8 * np.abs(pixels - corner).sum(1).max()].mean(0)
        nearest = min(COLOURS, key=lambda name: np.abs(shape - COLOURS[name]).sum())
        assert nearest == sample.captions[0].split()[1]


def test_words_differ() -> None:
    said = {word for text in (SENTENCE, *OTHER_SENTENCES) for word in text.split() if "{" not in word}
    words = {*COLOURS, *SHAPES, *GROUNDS, *(word for word in said if len(word) > 2)}
    assert len({syllables(word) for word in words}) == len(words)
    assert len({syllables(word) for word in ("a", "on", "is")}) == 3


def test_speech_is_usable_and_a_word_sounds_the_same_in_one_voice() -> None:
    """Log-mels of a word by the same voice are nearer to each other than to those of another word."""
    mean = {}
    for word in ("red", "green", "blue"):
        for take in range(2):
            waveform = say(f"{word} {word} {word}", VOICES[0], np.random.default_rng(take))
            assert np.abs(waveform).max() <= 1
            mean[word, take] = np.maximum(audio.log_mel(audio.load((waveform, 16000))), -6).mean(1)
    for word, other in (("red", "green"), ("green", "blue"), ("blue", "red")):
        same = np.abs(mean[word, 0] - mean[word, 1]).mean()
        assert same < 0.5 * np.abs(mean[word, 0] - mean[other, 0]).mean()


@pytest.mark.parametrize(("n", "size"), [(0, 76), (5, 8)])
def test_too_small(n: int, size: int) -> None:
    with pytest.raises(SettingsError, match="need at least"):
        toy_samples(n, size=size)


def test_prepared_toy_set(tmp_path: Path) -> None:
    prepare(PrepareSettings("toy", tmp_path, limit=24, samples_per_shard=10))
    arrays = PairArrays.open(tmp_path)
    assert len(arrays.ids) == 24 and len(arrays.samples_of("test")) == len(UNSEEN)
    assert HELD_OUT_VOICE in arrays.voices
    assert not len(arrays.utterances_of("train", voices=[HELD_OUT_VOICE]))
    assert arrays.pictures(64).shape == (24, 76, 76, 3)
    assert is_toy(arrays.voices) and not is_toy([*arrays.voices, "flite/slt"]) and not is_toy([])


def test_examples_name_every_colour_once(tmp_path: Path) -> None:
    write_examples(tmp_path / "examples")
    clips = sorted((tmp_path / "examples").iterdir())
    assert sorted(clip.name.partition("-")[0] for clip in clips) == sorted(COLOURS)
    assert all(audio.log_mel(audio.load(clip)).shape[1] >= audio.MIN_FRAMES for clip in clips)
