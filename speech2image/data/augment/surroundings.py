"""Random surroundings of spoken log-mels: other sounds, rooms, telephones, silence before, after and within.

Like `speech_augmentation`, all work on whole batches of spectrograms; sounds add in the power domain, an echo
is a decaying trail of power. What is random is drawn anew for every clip.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from speech2image.audio import FLOOR_DB
from speech2image.audio.front_ends import PAPER, FrontEnd

NEPERS_PER_DB = float(np.log(10) / 10)
"""Natural-log power per decibel."""

FRAME_SECONDS = 0.01
TELEPHONE_HERTZ = (300.0, 3400.0)
TELEPHONE_DB = -50.0
FLOOR = FLOOR_DB * NEPERS_PER_DB
LONGEST_ECHO = 80


class HeardSpeech(Protocol):
    """Log-mels of utterances."""

    def log_mel(self, u: int) -> NDArray[np.float32]: ...

    def n_frames(self) -> NDArray[np.int64]: ...


Backgrounds = Callable[[int, int, torch.Generator], Tensor]
"""(clips, frames, generator) -> log-mels of other sounds [clips, bands, frames], in nepers of power, loudest
value about 0."""


@dataclass(frozen=True)
class Surroundings:
    """How often each happens (0 to 1), and how strong it is.

    Attributes:
        background: share of clips with other sounds behind them.
        background_db: how far the loudest speech is above the loudest background, in dB.
        room: share of clips in an echoing room.
        room_seconds: time in which the echo falls by 60 dB.
        room_db: loudness of the direct sound above the echo.
        telephone: share of clips through a telephone, 300 to 3,400 Hz.
        silence: share of clips with silence before and after, and as many with a pause within.
        edge_seconds: longest silence before, and after.
        pause_seconds: longest pause within.
    """

    background: float = 0.4
    background_db: tuple[float, float] = (3.0, 35.0)
    room: float = 0.3
    room_seconds: tuple[float, float] = (0.15, 0.8)
    room_db: tuple[float, float] = (0.0, 15.0)
    telephone: float = 0.1
    silence: float = 0.3
    edge_seconds: float = 0.8
    pause_seconds: float = 0.6

    def scaled(self, strength: float) -> "Surroundings":
        """The same, happening as often as `strength` (0 to 1) says."""
        return replace(
            self,
            background=strength * self.background,
            room=strength * self.room,
            telephone=strength * self.telephone,
            silence=strength * self.silence,
        )


class OtherVoices:
    """Backgrounds of one to three other people speaking at once.

    Args:
        speech: recordings of them, in frames of the front end.
        front_end: which.
    """

    def __init__(self, speech: HeardSpeech, front_end: FrontEnd = PAPER) -> None:
        self.speech, self.front_end = speech, front_end
        self.lengths = speech.n_frames() - front_end.padding

    def __call__(self, clips: int, frames: int, generator: torch.Generator) -> Tensor:
        return torch.stack([self._one(frames, generator) for _ in range(clips)])

    def _one(self, frames: int, generator: torch.Generator) -> Tensor:
        people = int(torch.randint(1, 4, (), generator=generator))
        chosen = torch.randint(len(self.lengths), (people,), generator=generator).tolist()
        together = torch.logsumexp(torch.stack([self._voice(u, frames, generator) for u in chosen]), 0)
        return together - together.max()

    def _voice(self, u: int, frames: int, generator: torch.Generator) -> Tensor:
        """A stretch of one recording, begun again as often as needed."""
        start = int(torch.randint(int(self.lengths[u]), (), generator=generator))
        places = (start + torch.arange(frames)) % int(self.lengths[u])
        return torch.from_numpy(self.speech.log_mel(u))[:, places] / self.front_end.per_neper


def surround(
    log_mel: Tensor,
    n_frames: Tensor,
    settings: Surroundings,
    generator: torch.Generator,
    backgrounds: Backgrounds | None = None,
    front_end: FrontEnd = PAPER,
) -> tuple[Tensor, Tensor]:
    """Puts each clip of a batch into random surroundings.

    Args:
        log_mel: [batch, bands, frames], natural log of power relative to each clip's loudest value.
        n_frames: valid frames [batch].
        settings: how often and how much.
        generator: where all randomness comes from.
        backgrounds: other sounds; None leaves `background` out.
        front_end: whose bands they are.

    Returns:
        The changed batch, of another number of frames and no longer relative to the loudest value, and its
        valid frames.
    """
    log_mel, n_frames = add_silence(log_mel, n_frames, settings, generator)
    log_mel = add_echo(log_mel, settings, generator)
    if backgrounds is not None and settings.background > 0:
        log_mel = add_background(log_mel, backgrounds, settings, generator)
    return telephone(log_mel, settings.telephone, generator, front_end), n_frames


def add_silence(
    log_mel: Tensor, n_frames: Tensor, settings: Surroundings, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Silence before and after some clips, and a pause somewhere within some."""
    batch = len(log_mel)
    edge = round(settings.edge_seconds / FRAME_SECONDS)
    pause = round(settings.pause_seconds / FRAME_SECONDS)
    happens = torch.rand(2, batch, generator=generator) < settings.silence
    draw = torch.rand(4, batch, generator=generator)
    before, after = ((happens[0] * draw[i] * edge).long() for i in (0, 1))
    within = (happens[1] * draw[2] * pause).long()
    where = ((0.1 + 0.8 * draw[3]) * n_frames).long()
    total = n_frames + before + within + after
    place = torch.arange(int(total.max())) - before[:, None]
    source = torch.where(place < where[:, None], place, place - within[:, None])
    silent = (source < 0) | (source >= n_frames[:, None])
    silent |= (place >= where[:, None]) & (place < (where + within)[:, None])
    source = source.clamp(0, log_mel.shape[2] - 1)[:, None].expand(-1, log_mel.shape[1], -1)
    moved = log_mel.gather(2, source)
    return moved.masked_fill(silent[:, None], FLOOR), total


def add_echo(log_mel: Tensor, settings: Surroundings, generator: torch.Generator) -> Tensor:
    """An exponentially decaying trail of power behind every frame of some clips."""
    batch = len(log_mel)
    happens = torch.rand(batch, generator=generator) < settings.room
    if not happens.any():
        return log_mel
    seconds = _between(settings.room_seconds, batch, generator)
    direct_db = _between(settings.room_db, batch, generator)
    time = torch.arange(1, LONGEST_ECHO + 1)
    echo = torch.exp(-60 * NEPERS_PER_DB * time * FRAME_SECONDS / seconds[:, None])
    echo = echo / echo.sum(1, keepdim=True) * torch.exp(-direct_db * NEPERS_PER_DB)[:, None]
    kernel = torch.cat([echo.flip(1), torch.ones(batch, 1)], 1)[happens]
    power = log_mel[happens].exp()
    clips, bands, frames = power.shape
    folded = F.pad(power.transpose(0, 1), (LONGEST_ECHO, 0))
    trailing = F.conv1d(folded, kernel[:, None], groups=clips).transpose(0, 1)
    assert trailing.shape == (clips, bands, frames)
    result = log_mel.clone()
    result[happens] = trailing.clamp(min=1e-30).log()
    return result


def add_background(
    log_mel: Tensor, backgrounds: Backgrounds, settings: Surroundings, generator: torch.Generator
) -> Tensor:
    """Adds the power of other sounds to some clips."""
    happens = torch.rand(len(log_mel), generator=generator) < settings.background
    n = int(happens.sum())
    if n == 0:
        return log_mel
    level = _between(settings.background_db, n, generator) * NEPERS_PER_DB
    loudest = log_mel[happens].amax((1, 2))
    sounds = backgrounds(n, log_mel.shape[2], generator)
    result = log_mel.clone()
    result[happens] = torch.logaddexp(log_mel[happens], sounds + (loudest - level)[:, None, None])
    return result


def telephone(
    log_mel: Tensor, share: float, generator: torch.Generator, front_end: FrontEnd = PAPER
) -> Tensor:
    """Some clips with nothing but 300 to 3,400 Hz."""
    hertz = torch.tensor(front_end.band_hertz)
    outside = (hertz < TELEPHONE_HERTZ[0]) | (hertz > TELEPHONE_HERTZ[1])
    happens = torch.rand(len(log_mel), generator=generator) < share
    loss = happens[:, None] * outside * (TELEPHONE_DB * NEPERS_PER_DB)
    return log_mel + loss[..., None]


def _between(low_high: tuple[float, float], n: int, generator: torch.Generator) -> Tensor:
    low, high = low_high
    return low + (high - low) * torch.rand(n, generator=generator)
