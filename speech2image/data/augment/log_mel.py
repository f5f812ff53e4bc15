"""Log-mel augmentation: random changes to batches of spectrograms, so that an encoder heeds the words alone.

All work on a whole batch at once: rate (SpecAugment's time-warp made even, Park et al. 2019), the length of
the vocal tract (VTLP, Jaitly and Hinton 2013), a channel's frequency response, additive noise in the power
domain, surroundings (other sounds, rooms, telephones, silence before, after and within), masked bands and
frames (SpecAugment). They approximate `effects` at a small part of the cost: sounds add in the power domain,
an echo is a decaying trail of power. What is random is drawn anew for every clip.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from speech2image.audio import FLOOR_DB, MIN_FRAMES
from speech2image.audio.front_ends import PAPER, FrontEnd
from speech2image.data.augment.effects import TELEPHONE_BAND

NEPERS_PER_DB = float(np.log(10) / 10)
"""Natural-log power per decibel."""

FRAME_SECONDS = 0.01
TELEPHONE_DB = -50.0
FLOOR = FLOOR_DB * NEPERS_PER_DB
LONGEST_ECHO = 80


class SpeechFrames(Protocol):
    """Log-mels of utterances."""

    def log_mel(self, u: int) -> NDArray[np.float32]: ...

    def n_frames(self) -> NDArray[np.int64]: ...


Backgrounds = Callable[[int, int, torch.Generator], Tensor]
"""(clips, frames, generator) -> log-mels of other sounds [clips, bands, frames], in nepers of power, loudest
value about 0."""


@dataclass(frozen=True)
class LogMelSurroundings:
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

    def scaled(self, strength: float) -> "LogMelSurroundings":
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

    def __init__(self, speech: SpeechFrames, front_end: FrontEnd = PAPER) -> None:
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
    settings: LogMelSurroundings,
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
    log_mel: Tensor, n_frames: Tensor, settings: LogMelSurroundings, generator: torch.Generator
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


def add_echo(log_mel: Tensor, settings: LogMelSurroundings, generator: torch.Generator) -> Tensor:
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
    # Clips become channels, so that one grouped convolution applies each clip's own echo to all its bands.
    folded = F.pad(power.transpose(0, 1), (LONGEST_ECHO, 0))
    trailing = F.conv1d(folded, kernel[:, None], groups=clips).transpose(0, 1)
    assert trailing.shape == (clips, bands, frames)
    result = log_mel.clone()
    result[happens] = trailing.clamp(min=1e-30).log()
    return result


def add_background(
    log_mel: Tensor, backgrounds: Backgrounds, settings: LogMelSurroundings, generator: torch.Generator
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
    outside = (hertz < TELEPHONE_BAND[0]) | (hertz > TELEPHONE_BAND[1])
    happens = torch.rand(len(log_mel), generator=generator) < share
    loss = happens[:, None] * outside * (TELEPHONE_DB * NEPERS_PER_DB)
    return log_mel + loss[..., None]


def _between(low_high: tuple[float, float], n: int, generator: torch.Generator) -> Tensor:
    low, high = low_high
    return low + (high - low) * torch.rand(n, generator=generator)


@dataclass(frozen=True)
class LogMelAugmentation:
    """How much of each change; 0 turns one off. What is random is drawn anew for every clip.

    Attributes:
        rate: speed changes by a factor in 1 +- this.
        vocal_tract: frequencies are scaled by a factor in 1 +- this.
        response_db: standard deviation of a channel's smooth frequency response.
        noise_probability: share of the clips that get noise.
        noise_db: range of the noise level below the clip's loudest mel value.
        time_masks: number of masked stretches of frames.
        time_mask_share: longest such stretch, as a share of the clip.
        band_masks: number of masked stretches of bands.
        band_mask_width: widest such stretch, in bands.
        surroundings: rooms, other sounds, telephones, silences; None for none of them.
    """

    rate: float = 0.15
    vocal_tract: float = 0.12
    response_db: float = 4.0
    noise_probability: float = 0.3
    noise_db: tuple[float, float] = (30.0, 70.0)
    time_masks: int = 2
    time_mask_share: float = 0.06
    band_masks: int = 2
    band_mask_width: int = 5
    surroundings: LogMelSurroundings | None = field(default_factory=LogMelSurroundings)

    def scaled(self, strength: float) -> "LogMelAugmentation":
        """The same changes at a strength of 0 (none) to 1 (these)."""
        return replace(
            self,
            rate=strength * self.rate,
            vocal_tract=strength * self.vocal_tract,
            response_db=strength * self.response_db,
            noise_probability=strength * self.noise_probability,
            time_mask_share=strength * self.time_mask_share,
            band_mask_width=round(strength * self.band_mask_width),
            surroundings=self.surroundings and self.surroundings.scaled(strength),
        )


def augment(
    log_mel: Tensor,
    n_frames: Tensor,
    settings: LogMelAugmentation,
    generator: torch.Generator,
    backgrounds: Backgrounds | None = None,
    front_end: FrontEnd = PAPER,
) -> tuple[Tensor, Tensor]:
    """Applies all changes to a batch on the CPU.

    Args:
        log_mel: frames of the front end, [batch, bands, frames].
        n_frames: valid frames [batch].
        settings: how much.
        generator: where all randomness comes from.
        backgrounds: sounds that may be put behind the speech.
        front_end: whose frames they are.

    Returns:
        The changed batch, of another number of frames, and its valid frames.
    """
    log_mel, n_frames = as_nepers(log_mel, n_frames, front_end)
    log_mel, n_frames = warp(log_mel, n_frames, settings.rate, settings.vocal_tract, generator, front_end)
    if settings.surroundings is not None:
        surroundings = settings.surroundings
        log_mel, n_frames = surround(log_mel, n_frames, surroundings, generator, backgrounds, front_end)
    batch, bands, _ = log_mel.shape
    log_mel = log_mel + smooth_spectra(batch, settings.response_db, generator, bands)[..., None]
    # Encoders are given clips relative to their loudest value, as `audio.log_mel` makes them.
    log_mel = relative_to_loudest(add_noise(log_mel, settings, generator), n_frames)
    return as_frames(mask_stretches(log_mel, n_frames, settings, generator), n_frames, front_end)


def as_nepers(log_mel: Tensor, n_frames: Tensor, front_end: FrontEnd) -> tuple[Tensor, Tensor]:
    """A front end's frames as natural logs of power relative to each clip's loudest, without its padding."""
    if front_end == PAPER:
        return log_mel, n_frames
    return relative_to_loudest(log_mel / front_end.per_neper, n_frames), n_frames - front_end.padding


def as_frames(log_mel: Tensor, n_frames: Tensor, front_end: FrontEnd) -> tuple[Tensor, Tensor]:
    """What `as_nepers` gave as the front end's frames again, the loudest value at 0, with its padding."""
    if front_end == PAPER:
        return log_mel, n_frames
    longer = F.pad(log_mel, (0, front_end.padding))
    silent = torch.arange(longer.shape[2]) >= n_frames[:, None]
    quiet = longer.masked_fill(silent[:, None], FLOOR)
    return quiet * front_end.per_neper, n_frames + front_end.padding


def warp(
    log_mel: Tensor,
    n_frames: Tensor,
    rate: float,
    vocal_tract: float,
    generator: torch.Generator,
    front_end: FrontEnd = PAPER,
) -> tuple[Tensor, Tensor]:
    """Changes each clip's speed and the length of the speaker's vocal tract, in one bilinear resampling."""
    speed = _around_one(len(log_mel), rate, generator)
    changed = (n_frames / speed).round().long().clamp(min=MIN_FRAMES)
    frames = torch.arange(int(changed.max())) * ((n_frames - 1) / (changed - 1))[:, None]
    time = torch.minimum(frames, (n_frames - 1)[:, None]) * (2 / (log_mel.shape[2] - 1)) - 1
    n_bands = log_mel.shape[1]
    factors = _around_one(len(log_mel), vocal_tract, generator)
    bands = warped_bands(factors, front_end) * (2 / (n_bands - 1)) - 1
    shape = (len(log_mel), n_bands, frames.shape[1])
    grid = torch.stack([time[:, None].expand(shape), bands[..., None].expand(shape)], dim=3)
    warped = F.grid_sample(log_mel[:, None], grid, padding_mode="border", align_corners=True)
    return warped[:, 0], changed


def warped_bands(factors: Tensor, front_end: FrontEnd = PAPER) -> Tensor:
    """For each factor [batch], the (fractional) band whose frequency is that of each band times the factor.

    Returns:
        [batch, bands], between 0 and the last; between two bands by their frequencies.
    """
    centres = torch.tensor(front_end.band_hertz)
    wanted = (centres * factors[:, None]).clamp(centres[0], centres[-1])
    above = torch.searchsorted(centres, wanted).clamp(1, len(centres) - 1)
    low, high = centres[above - 1], centres[above]
    return above - 1 + (wanted - low) / (high - low)


def smooth_spectra(
    batch: int, deviation_db: float, generator: torch.Generator, bands: int, points: int = 5
) -> Tensor:
    """Random smooth curves over the bands, [batch, bands], natural log."""
    knots = torch.randn(batch, 1, points, generator=generator) * (deviation_db * NEPERS_PER_DB)
    return F.interpolate(knots, bands, mode="linear", align_corners=True)[:, 0]


def add_noise(log_mel: Tensor, settings: LogMelAugmentation, generator: torch.Generator) -> Tensor:
    """Adds the power of a steady noise with a random smooth spectrum to some of the clips."""
    batch = len(log_mel)
    if settings.noise_probability <= 0:
        return log_mel
    quietest, loudest = settings.noise_db[1], settings.noise_db[0]
    level = -(loudest + (quietest - loudest) * torch.rand(batch, generator=generator)) * NEPERS_PER_DB
    level[torch.rand(batch, generator=generator) >= settings.noise_probability] = -torch.inf
    spectrum = level[:, None] + smooth_spectra(batch, 5.0, generator, log_mel.shape[1])
    ripple = 0.6 * torch.randn(log_mel.shape, generator=generator)
    return torch.logaddexp(log_mel, spectrum[..., None] + ripple)  # powers add up, phases cancel on average


def relative_to_loudest(log_mel: Tensor, n_frames: Tensor) -> Tensor:
    """Makes each clip's loudest value 0 again and cuts off at -80 dB, as `audio.log_mel` does."""
    padding = torch.arange(log_mel.shape[2]) >= n_frames[:, None]
    loudest = log_mel.amax(1).masked_fill(padding, -torch.inf).amax(1)
    return (log_mel - loudest[:, None, None]).clamp(min=FLOOR_DB * NEPERS_PER_DB)


def mask_stretches(
    log_mel: Tensor, n_frames: Tensor, settings: LogMelAugmentation, generator: torch.Generator
) -> Tensor:
    """Replaces random stretches of frames and of bands by the clip's mean value (SpecAugment)."""
    batch, bands, frames = log_mel.shape
    longest = settings.time_mask_share * n_frames
    time = _stretches(
        torch.full((batch,), float(frames)).minimum(n_frames), longest, frames, settings.time_masks, generator
    )
    widest = torch.full((batch,), float(settings.band_mask_width))
    band = _stretches(torch.full((batch,), float(bands)), widest, bands, settings.band_masks, generator)
    mean = log_mel.mean(dim=(1, 2), keepdim=True)
    return torch.where(time[:, None, :] | band[:, :, None], mean, log_mel)


def _stretches(length: Tensor, longest: Tensor, size: int, number: int, generator: torch.Generator) -> Tensor:
    """Where `number` random stretches lie within `length`, bool [batch, size]."""
    draw = torch.rand(2, len(length), number, generator=generator)
    width = draw[0] * (longest[:, None] + 1)
    start = draw[1] * (length[:, None] - width).clamp(min=0)
    position = torch.arange(size)[None, None]
    inside = (position >= start[..., None].floor()) & (position < (start.floor() + width.floor())[..., None])
    return inside.any(dim=1)


def _around_one(batch: int, spread: float, generator: torch.Generator) -> Tensor:
    return 1 + spread * (2 * torch.rand(batch, generator=generator) - 1)
