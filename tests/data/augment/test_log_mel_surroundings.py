"""Surroundings of spoken log-mels: what was said stays, in its order; power adds up."""

import numpy as np
import pytest
import torch

from speech2image.audio.front_ends import PAPER
from speech2image.data.augment.log_mel import (
    FLOOR,
    NEPERS_PER_DB,
    LogMelSurroundings,
    OtherVoices,
    add_background,
    add_echo,
    add_silence,
    surround,
    telephone,
)

NEVER = LogMelSurroundings(background=0, room=0, telephone=0, silence=0)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def clips(batch: int = 6, frames: int = 120) -> tuple[torch.Tensor, torch.Tensor]:
    log_mel = -3 * torch.rand(batch, 40, frames, generator=generator(1))
    return log_mel, torch.randint(70, frames + 1, (batch,), generator=generator(2))


def test_nothing_happens_where_nothing_is_asked_for() -> None:
    log_mel, n_frames = clips()
    same, n_same = surround(log_mel, n_frames, NEVER, generator(), backgrounds=None)
    valid = torch.arange(same.shape[2]) < n_frames[:, None]
    assert torch.equal(n_same, n_frames)
    assert torch.equal(
        same.masked_fill(~valid[:, None], 0), log_mel[..., : same.shape[2]].masked_fill(~valid[:, None], 0)
    )


def test_silence_is_put_in_and_every_frame_of_speech_stays_in_order() -> None:
    log_mel, n_frames = clips(32)
    longer, n_longer = add_silence(log_mel, n_frames, LogMelSurroundings(silence=1.0), generator())
    assert (n_longer > n_frames).any() and (n_longer >= n_frames).all()
    assert longer.shape[2] == int(n_longer.max())
    for clip, n, before in zip(longer, n_longer, range(32), strict=True):
        spoken = clip[:, : int(n)]
        spoken = spoken[:, (spoken > FLOOR + 1e-3).any(0)]
        torch.testing.assert_close(spoken, log_mel[before, :, : int(n_frames[before])])


def test_an_echo_trails_and_falls_by_sixty_decibels_in_its_time() -> None:
    click = torch.full((1, 40, 100), -40.0)
    click[:, :, 10] = 0.0
    settings = LogMelSurroundings(room=1.0, room_seconds=(0.5, 0.5), room_db=(0.0, 0.0))
    heard = add_echo(click, settings, generator())[0, 0]
    assert heard[9] == pytest.approx(-40.0, abs=1.0)
    assert float(heard[21] - heard[31]) / NEPERS_PER_DB == pytest.approx(60 * 0.1 / 0.5, abs=0.1)
    energy = (heard[11:91].exp()).sum()
    assert float(energy) == pytest.approx(1.0, abs=0.02)


def test_backgrounds_come_at_the_level_asked_for() -> None:
    log_mel = torch.full((4, 40, 90), FLOOR)
    log_mel[:, :, 5] = -1.0
    settings = LogMelSurroundings(background=1.0, background_db=(20.0, 20.0))
    noisy = add_background(log_mel, lambda n, frames, _: torch.zeros(n, 40, frames), settings, generator())
    torch.testing.assert_close(
        noisy[:, :, 50], torch.full((4, 40), -1.0 - 20 * NEPERS_PER_DB), atol=1e-3, rtol=0
    )


def test_a_telephone_takes_low_and_high_bands_away() -> None:
    log_mel, _ = clips()
    heard = telephone(log_mel, 1.0, generator())
    hertz = torch.tensor(PAPER.band_hertz)
    inside = (hertz >= 300) & (hertz <= 3400)
    assert torch.equal(heard[:, inside], log_mel[:, inside])
    assert (heard[:, ~inside] <= log_mel[:, ~inside] - 10).all()
    assert 5 < int(inside.sum()) < 40


class TwoVoices:
    """Two recordings, told apart by their level."""

    def log_mel(self, u: int) -> np.ndarray:
        return np.full((40, 50 + u), -1.0 - u, np.float32)

    def n_frames(self) -> np.ndarray:
        return np.array([50, 51])


def test_other_voices_are_as_long_as_asked_and_loudest_at_zero() -> None:
    sounds = OtherVoices(TwoVoices())(3, 130, generator())
    assert sounds.shape == (3, 40, 130)
    assert torch.allclose(sounds.amax((1, 2)), torch.zeros(3), atol=1e-6)


def test_the_same_generator_gives_the_same_surroundings() -> None:
    log_mel, n_frames = clips()
    always = LogMelSurroundings(background=1, room=1, telephone=0.5, silence=1)
    voices = OtherVoices(TwoVoices())
    one, other = (surround(log_mel, n_frames, always, generator(s), voices) for s in (5, 5))
    assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])
    different, _ = surround(log_mel, n_frames, always, generator(6), voices)
    assert different.shape != one[0].shape or not torch.equal(different, one[0])
