"""Whisper's encoder and the head on it: padding and level change nothing; ONNX computes the same."""

import pytest
import tiny_whisper
import torch

from speech2image.audio.front_ends import WHISPER
from speech2image.errors import SpeechError
from speech2image.export.onnx import to_onnx, with_float16_weights
from speech2image.models.pretrained_speech_encoder import (
    PoolingHeadSettings,
    PretrainedEncoderSettings,
    PretrainedSpeechEncoder,
    mean_of_pairs,
)
from speech2image.models.whisper import sinusoids
from speech2image.pipeline.onnx import Session

SETTINGS = PretrainedEncoderSettings(tiny_whisper.SETTINGS, PoolingHeadSettings(width=32, heads=2, output=48))
LENGTHS = [131, 114, 180]


def made(seed: int = 0) -> PretrainedSpeechEncoder:
    torch.manual_seed(seed)
    encoder = PretrainedSpeechEncoder(SETTINGS).eval()
    encoder.backbone.load_state_dict(tiny_whisper.encoder().state_dict())
    return encoder


def clips(lengths: list[int], filling: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    frames = torch.full((len(lengths), 80, max(lengths)), filling)
    for i, (clip, n) in enumerate(zip(frames, lengths, strict=True)):
        clip[:, :n] = torch.rand(80, n, generator=torch.Generator().manual_seed(i)) * 2 - 0.8
    return frames, torch.tensor(lengths)


@torch.inference_mode()
def test_padding_changes_nothing() -> None:
    encoder = made()
    together = encoder(*clips(LENGTHS, filling=torch.nan))
    for i, n in enumerate(LENGTHS):
        frames, lengths = clips(LENGTHS)
        alone = encoder(frames[i : i + 1, :, :n], lengths[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-5, rtol=1e-4)


@torch.inference_mode()
def test_states_depend_on_their_clip_alone() -> None:
    backbone = tiny_whisper.encoder()
    together, n_steps = backbone(*clips(LENGTHS, filling=torch.nan))
    assert n_steps.tolist() == [66, 57, 90]
    for i, (n, steps) in enumerate(zip(LENGTHS, n_steps, strict=True)):
        alone, _ = backbone(clips(LENGTHS)[0][i : i + 1, :, :n], torch.tensor([n]))
        torch.testing.assert_close(together[i, :steps], alone[0], atol=1e-5, rtol=1e-4)


@torch.inference_mode()
def test_the_level_changes_nothing() -> None:
    encoder, (frames, n_frames) = made(), clips(LENGTHS)
    quieter = encoder(frames - 0.7, n_frames)
    torch.testing.assert_close(encoder(frames, n_frames), quieter, atol=1e-4, rtol=1e-4)


def test_gradients_reach_every_weight() -> None:
    encoder = made().train()
    encoder(*clips(LENGTHS)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())
    assert all(parameter.grad.abs().sum() > 0 for parameter in encoder.backbone.parameters())


def test_means_of_pairs_leave_padding_out() -> None:
    states = torch.arange(10.0).view(2, 5, 1)
    states[1, 3:] = torch.nan
    means, n_steps = mean_of_pairs(states, torch.tensor([5, 3]))
    assert n_steps.tolist() == [3, 2]
    assert means[0, 0].tolist() == [0.5, 2.5, 4.0] and means[1, 0, :2].tolist() == [5.5, 7.0]


def test_positions_are_whispers() -> None:
    found = sinusoids(1500, 384)
    assert found.shape == (1500, 384)
    assert found[0].tolist() == [0.0] * 192 + [1.0] * 192
    assert found[7, 0] == pytest.approx(0.6569866)  # sin 7
    assert found[1000, 191] == pytest.approx(0.0998334, abs=1e-6)  # sin(1000 / 10000)


def test_short_clips_are_refused() -> None:
    with pytest.raises(SpeechError, match=f"need at least {WHISPER.min_frames}"):
        made()(*clips([WHISPER.min_frames - 1]))


@torch.inference_mode()
def test_onnx_computes_the_same_at_any_length_and_batch() -> None:
    encoder = made()
    model = with_float16_weights(to_onnx(encoder, clips([131, 120]), "speech_encoder"))
    session = Session(model.SerializeToString(), ("log_mel", "n_frames"), ("speech_embedding",), "encoder")
    for lengths in ([114], [115], LENGTHS, [301]):
        frames, n_frames = clips(lengths)
        found = session(frames.numpy(), n_frames.numpy())
        torch.testing.assert_close(torch.from_numpy(found), encoder(frames, n_frames), atol=5e-3, rtol=1e-2)
