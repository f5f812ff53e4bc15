import torch

from speech2image.models.speech_detector import PRESETS, SpeechDetector


def test_small_enough() -> None:
    assert sum(p.numel() for p in SpeechDetector(PRESETS["small"]).parameters()) < 100_000


def test_a_probability_for_every_four_frames_begun() -> None:
    torch.manual_seed(0)
    detector = SpeechDetector(PRESETS["small"]).eval()
    for frames in (64, 65, 66, 67, 68, 301):
        found = detector(torch.randn(2, 40, frames), torch.tensor([frames, 64]))
        assert found.shape == (2, -(-frames // 4))
        assert (found[1, 16:] == 0).all()
        assert ((found[0] > 0) & (found[0] < 1)).all()


def test_padding_never_changes_the_answer() -> None:
    torch.manual_seed(0)
    detector = SpeechDetector(PRESETS["small"]).eval()
    clip = torch.randn(1, 40, 131)
    alone = detector(clip, torch.tensor([131]))
    batch = torch.full((2, 40, 250), 1e3)
    batch[:1, :, :131] = clip
    together = detector(batch, torch.tensor([131, 250]))
    assert torch.allclose(together[:1, :33], alone, atol=1e-6)


def test_threshold_is_even() -> None:
    torch.manual_seed(0)
    detector = SpeechDetector(PRESETS["toy"]).eval()
    clip, frames = torch.randn(1, 40, 100), torch.tensor([100])
    logits = detector.logits(clip, frames)[0]
    detector.threshold.fill_(float(logits.detach().median()))
    found = detector(clip, frames)
    assert ((found > 0.5) == (logits > logits.median())).all()


def test_a_batch_of_one_trains() -> None:
    detector = SpeechDetector(PRESETS["toy"]).train()
    detector(torch.randn(1, 40, 80), torch.tensor([80])).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in detector.parameters())
