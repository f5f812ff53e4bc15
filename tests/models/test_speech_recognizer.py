"""The recognizer: padding changes nothing, the cache equals full recomputation, a batch of one works."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from speech2image.errors import SettingsError, SpeechError
from speech2image.models.speech_recognizer import (
    PRESETS,
    SpeechRecognizer,
    SpeechRecognizerSettings,
    normalised,
    sinusoids,
)


@pytest.fixture(params=[0, 7], ids=["plain", "with convolution"])
def recognizer(request) -> SpeechRecognizer:
    torch.manual_seed(0)
    return SpeechRecognizer(replace(PRESETS["toy"], decoder_layers=2, convolution=request.param)).eval()


def clips(*lengths: int, pad: int = 0, filling: float = 0.0):
    rng = np.random.default_rng(0)
    batch = torch.full((len(lengths), 40, max(lengths) + pad), filling)
    for row, n in zip(batch, lengths, strict=True):
        row[:, :n] = torch.from_numpy(rng.normal(-8, 3, (40, n)).astype(np.float32))
    return batch, torch.tensor(lengths)


TOKENS = torch.tensor([[1, 5, 6, 7, 3], [1, 9, 9, 2, 8]])


@torch.no_grad()
def test_padding_changes_nothing(recognizer):
    log_mel, n_frames = clips(150, 91)
    wider, _ = clips(150, 91, pad=57, filling=99.0)
    heard, written = recognizer(log_mel, n_frames, TOKENS)
    heard_wider, written_wider = recognizer(wider, n_frames, TOKENS)
    torch.testing.assert_close(written, written_wider, atol=1e-4, rtol=0)
    assert heard.n_steps.tolist() == heard_wider.n_steps.tolist() == [38, 23]
    for row, n in enumerate(heard.n_steps):
        torch.testing.assert_close(heard.ctc[row, :n], heard_wider.ctc[row, :n], atol=1e-4, rtol=0)


@torch.no_grad()
def test_a_batch_of_one_gives_what_the_batch_gives(recognizer):
    log_mel, n_frames = clips(150, 91)
    heard, written = recognizer(log_mel, n_frames, TOKENS)
    alone, written_alone = recognizer(log_mel[1:, :, :91], n_frames[1:], TOKENS[1:])
    torch.testing.assert_close(alone.memory[0], heard.memory[1, : len(alone.memory[0])], atol=1e-4, rtol=0)
    torch.testing.assert_close(written_alone[0], written[1], atol=1e-4, rtol=0)


def test_a_batch_of_one_trains(recognizer):
    log_mel, n_frames = clips(70)
    heard, written = recognizer.train()(log_mel, n_frames, TOKENS[:1])
    (heard.ctc.mean() + written.mean()).backward()
    gradients = [p.grad for p in recognizer.parameters()]
    assert all(g is not None and g.isfinite().all() for g in gradients)


@torch.no_grad()
def test_cache_equals_full_recomputation(recognizer):
    log_mel, n_frames = clips(150, 91)
    heard, written = recognizer(log_mel, n_frames, TOKENS)
    cache = recognizer.decoder.start(heard.memory)
    for place in range(TOKENS.shape[1]):
        step, cache = recognizer.decoder(TOKENS[:, place : place + 1], cache, heard.n_steps)
        torch.testing.assert_close(step[:, 0], written[:, place], atol=1e-5, rtol=0)
    several, _ = recognizer.decoder(TOKENS, recognizer.decoder.start(heard.memory), heard.n_steps)
    torch.testing.assert_close(several, written)


@torch.no_grad()
def test_later_tokens_never_change_earlier_ones(recognizer):
    log_mel, n_frames = clips(150, 91)
    changed = TOKENS.clone()
    changed[:, 3:] = 4
    _, written = recognizer(log_mel, n_frames, TOKENS)
    _, other = recognizer(log_mel, n_frames, changed)
    torch.testing.assert_close(written[:, :3], other[:, :3])
    assert not torch.allclose(written[:, 3:], other[:, 3:])


@torch.no_grad()
def test_outputs_are_probabilities_and_depend_on_the_speech(recognizer):
    log_mel, n_frames = clips(150, 150)
    heard, written = recognizer(log_mel, n_frames, TOKENS[:1].repeat(2, 1))
    torch.testing.assert_close(written.exp().sum(2), torch.ones(2, 5))
    torch.testing.assert_close(heard.ctc.exp().sum(2), torch.ones(2, 38))
    assert not torch.allclose(written[0], written[1])


def test_a_clip_too_short_is_refused(recognizer):
    log_mel, n_frames = clips(63)
    with pytest.raises(SpeechError, match="too short: 63 frames"):
        recognizer.encoder(log_mel, n_frames)


def test_normalised_bands_have_no_mean_and_no_level():
    log_mel, n_frames = clips(150, 91, filling=5.0)
    x = normalised(log_mel, n_frames)
    assert x[1, :, :91].mean(1).abs().max() < 1e-4 and x[1, :, 91:].abs().max() == 0
    assert x[1, :, :91].std() == pytest.approx(1, abs=0.01)
    channel = torch.linspace(-3, 3, 40)[:, None]
    torch.testing.assert_close(normalised(2.0 * log_mel + channel, n_frames), x, atol=1e-3, rtol=0)


def test_positions():
    table = sinusoids(torch.arange(50), 8)
    assert table.shape == (50, 8)
    torch.testing.assert_close(table[3, 0], torch.tensor(3.0).sin())
    assert table[3, 7] == pytest.approx(np.cos(3e-4), abs=1e-6)
    torch.testing.assert_close(sinusoids(torch.arange(7, 9), 8), table[7:9])


def test_settings_are_checked():
    with pytest.raises(SettingsError, match="heads"):
        SpeechRecognizerSettings(width=100, heads=3)
    with pytest.raises(SettingsError, match="odd"):
        SpeechRecognizerSettings(convolution=4)


def test_shipped_preset_is_small_enough():
    parameters = sum(p.numel() for p in SpeechRecognizer(PRESETS["cpu"]).parameters())
    assert 2 * parameters < 16e6  # bytes as float16
