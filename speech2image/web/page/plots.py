"""Pictures of sound, drawn with Pillow: the waveform and the log-mel spectrogram of what was heard."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from speech2image.audio import FLOOR_DB

WIDTH, HEIGHT = 720, 96
_INK = (47, 111, 79)
# Dark to light, as perceived: night, plum, coral, straw.
_SHADES = np.array(
    [[20, 18, 38], [86, 40, 104], [190, 62, 92], [247, 150, 88], [253, 236, 178]], dtype=np.float64
)
_FLOOR = FLOOR_DB / 10 * np.log(10.0)  # the least value of a log-mel


def plot_waveform(waveform: NDArray[np.float32], width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    """The envelope of 16 kHz samples, shape [n], the loudest as high as the picture; clear behind."""
    edges = np.linspace(0, len(waveform), width + 1).astype(int)
    edges = np.minimum(edges, len(waveform) - 1)
    low, high = (np.array(f.reduceat(waveform, edges[:-1])) for f in (np.minimum, np.maximum))
    scale = max(float(np.abs(waveform).max()), 1e-6)
    middle = (height - 1) / 2
    rows = np.arange(height)[:, None]
    inside = (rows >= np.floor(middle * (1 - high / scale))) & (rows <= np.ceil(middle * (1 - low / scale)))
    pixels = np.zeros((height, width, 4), np.uint8)
    pixels[..., :3] = _INK
    pixels[..., 3] = np.where(inside, 255, 0)
    return Image.fromarray(pixels)


def plot_spectrogram(log_mel: NDArray[np.float32], width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    """A log-mel [40, frames] in colour: time to the right, pitch upwards, louder is lighter."""
    level = np.clip(1 - log_mel[::-1] / _FLOOR, 0, 1) * (len(_SHADES) - 1)
    below = np.minimum(level.astype(int), len(_SHADES) - 2)
    share = (level - below)[..., None]
    colours = _SHADES[below] * (1 - share) + _SHADES[below + 1] * share
    picture = Image.fromarray(colours.round().astype(np.uint8))
    return picture.resize((width, height), Image.Resampling.BILINEAR)
