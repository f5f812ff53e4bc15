"""The speech encoder: padding never counts, one clip is enough, ONNX computes the same."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from speech2image.errors import SpeechError
from speech2image.export.onnx import trace
from speech2image.models.speech_encoder import PRESETS, MaskedBatchNorm, SpeechEncoder, reverse_valid

ALL = pytest.mark.parametrize("name", PRESETS)


def encoder_of(name: str, seed: int = 0) -> SpeechEncoder:
    """A preset's encoder whose running statistics are not those of its first day."""
    torch.manual_seed(seed)
    encoder = SpeechEncoder(replace(PRESETS[name], dropout=0.0))
    encoder(clips(3, 150), torch.tensor([150, 90, 64]))
    return encoder


def clips(batch: int, frames: int, seed: int = 1) -> Tensor:
    return torch.randn(batch, 40, frames, generator=torch.Generator().manual_seed(seed)) * 3 - 8


def test_paper_has_its_size():
    parameters = sum(p.numel() for p in SpeechEncoder(PRESETS["paper"]).parameters())
    assert abs(parameters / 1e6 - 11.7) < 0.1


def test_shipped_encoder_is_small():
    encoder = SpeechEncoder(PRESETS["small"])
    assert sum(p.numel() for p in encoder.parameters()) <= 4.0e6


@ALL
def test_paddings_length_and_content_do_not_count(name):
    encoder = encoder_of(name).eval()
    n_frames = torch.tensor([131, 64, 100])
    batch = clips(3, 131)
    alone = torch.cat([encoder(clip[None, :, :n], n[None]) for clip, n in zip(batch, n_frames, strict=True)])
    longer = torch.full((3, 40, 517), float("nan"))
    longer[..., :131] = batch
    longer[1, :, 64:] = 1e9
    assert torch.allclose(encoder(longer, n_frames), alone, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(alone[0], alone[1], rtol=1e-2, atol=1e-4)


@ALL
def test_padding_does_not_count_in_training(name):
    batch, n_frames = clips(2, 130), torch.tensor([130, 70])
    tight, wide = encoder_of(name).train(), encoder_of(name).train()
    padded = torch.cat([batch, torch.full((2, 40, 77), 50.0)], dim=2)
    padded[1, :, 70:] = -999.0
    expected, found = tight(batch, n_frames), wide(padded, n_frames)
    assert torch.allclose(found, expected, rtol=1e-3, atol=1e-5)
    for (key, a), b in zip(tight.state_dict().items(), wide.state_dict().values(), strict=True):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-5), key


@ALL
@pytest.mark.parametrize("training", [True, False])
def test_batch_of_one(name, training):
    encoder = encoder_of(name).train(training)
    embedding = encoder(clips(1, 64), torch.tensor([64]))
    assert embedding.shape == (1, 1024)
    assert embedding.isfinite().all()
    embedding.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())


def test_rows_do_not_see_each_other_in_evaluation():
    encoder = encoder_of("small").eval()
    batch, n_frames = clips(4, 120), torch.tensor([120, 64, 99, 70])
    order = torch.tensor([2, 0, 3, 1])
    assert torch.allclose(encoder(batch, n_frames)[order], encoder(batch[order], n_frames[order]), atol=1e-6)


def test_short_clip_is_refused():
    encoder = encoder_of("toy").eval()
    with pytest.raises(SpeechError, match=r"63 frames.*at least 64"):
        encoder(clips(2, 100), torch.tensor([100, 63]))


def test_more_frames_than_there_are_is_refused():
    with pytest.raises(SpeechError, match="holds only 100"):
        encoder_of("toy")(clips(2, 100), torch.tensor([100, 101]))


def test_masked_batch_norm_counts_valid_steps_only():
    norm = MaskedBatchNorm(5)
    x = clips(3, 40)[:, :5]
    mask = torch.arange(40) < torch.tensor([40, 7, 22])[:, None]
    found = norm((x * mask[:, None]), mask).transpose(1, 2)[mask]
    valid = x.transpose(1, 2)[mask]
    expected = torch.nn.BatchNorm1d(5)
    assert torch.allclose(found, expected(valid), atol=1e-5)
    assert torch.allclose(norm.running_mean, expected.running_mean, atol=1e-5)
    assert torch.allclose(norm.running_variance, expected.running_var, atol=1e-4)


def test_statistics_are_float32_under_bfloat16():
    norm = MaskedBatchNorm(4)
    x = (1000 + clips(8, 200)[:, :4]).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        norm(x, torch.ones(8, 200, dtype=torch.bool))
    expected = 0.9 + 0.1 * x.transpose(0, 1).flatten(1).var(1)
    assert torch.allclose(norm.running_variance, expected, rtol=1e-3)


def test_reverse_valid():
    x = torch.tensor([[1.0, 2, 3, 4], [5, 6, 7, 8]])[..., None]
    n_steps = torch.tensor([4, 2])
    assert reverse_valid(x, n_steps)[..., 0].tolist() == [[4, 3, 2, 1], [6, 5, 7, 8]]
    assert torch.equal(reverse_valid(reverse_valid(x, n_steps), n_steps), x)


def test_output_starts_at_the_teachers_mean():
    encoder = SpeechEncoder(PRESETS["toy"])
    mean = torch.rand(1024)
    encoder.set_teacher_mean(mean)
    assert torch.equal(encoder.teacher_mean, mean)
    assert torch.allclose(encoder(clips(2, 80), torch.tensor([80, 80])), mean.expand(2, -1), atol=1.0)
    assert "teacher_mean" in encoder.state_dict()


@ALL
def test_onnx_computes_the_same(name):
    onnxruntime = pytest.importorskip("onnxruntime")
    encoder = encoder_of(name).eval()
    example = (clips(2, 100), torch.tensor([100, 70]))
    free = {"log_mel": {0: "batch", 2: "frames"}, "n_frames": {0: "batch"}}
    network = trace(encoder, example, ["log_mel", "n_frames"], ["speech_embedding"], free)
    session = onnxruntime.InferenceSession(network.SerializeToString(), providers=["CPUExecutionProvider"])
    for batch, lengths in ((clips(1, 64), [64]), (clips(3, 173), [64, 173, 120]), (clips(1, 301), [301])):
        n_frames = torch.tensor(lengths)
        found = session.run(None, {"log_mel": batch.numpy(), "n_frames": n_frames.numpy()})[0]
        with torch.no_grad():
            expected = encoder(batch, n_frames)
        assert torch.allclose(torch.from_numpy(found), expected, rtol=1e-4, atol=1e-5)
