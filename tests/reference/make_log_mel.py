"""Writes log_mel.json: log-mel values computed one by one in plain Python, without NumPy or the package.

Origin: the front end of Li et al. (2020) and the mel filter bank of the HTK Book, spelled out with the
discrete Fourier sum of each frequency. Run: python tests/reference/make_log_mel.py
"""

import cmath
import itertools
import json
import math
import random
from pathlib import Path

FRAMES = [0, 1, 31, 63]


def samples() -> list[int]:
    """10,480 made-up 16-bit samples: a vowel-like sum of harmonics that glides, and noise."""
    noise, phase, result = random.Random(2020), 0.0, []
    for n in range(10_480):
        phase += 2 * math.pi * (110 + 40 * n / 10_480) / 16_000
        vowel = sum(math.sin(k * phase) / k * (2 if k in (6, 7, 11) else 1) for k in range(1, 30))
        result.append(round(4000 * vowel + noise.gauss(0, 60)))
    return result


def mel(frequency: float) -> float:
    return 2595 * math.log10(1 + frequency / 700)


def band_powers(frame: list[float]) -> list[float]:
    windowed = [x * (0.54 - 0.46 * math.cos(2 * math.pi * n / 399)) for n, x in enumerate(frame)]
    corners = [mel(20) + (mel(8000) - mel(20)) * i / 41 for i in range(42)]
    hertz = [700 * (10 ** (m / 2595) - 1) for m in corners]
    powers = [0.0] * 40
    for k in range(257):
        turn = cmath.exp(-2j * math.pi * k / 512)
        value, factor = 0j, 1 + 0j
        for x in windowed:
            value += x * factor
            factor *= turn
        frequency = k * 16_000 / 512
        for band in range(40):
            low, centre, high = hertz[band : band + 3]
            weight = min((frequency - low) / (centre - low), (high - frequency) / (high - centre))
            powers[band] += max(0.0, weight) * abs(value) ** 2
    return powers


def main() -> None:
    integers = samples()
    signal = [x / 32768 for x in integers]
    mean = sum(signal) / len(signal)
    centred = [x - mean for x in signal]
    emphasised = [centred[0]] + [b - 0.97 * a for a, b in itertools.pairwise(centred)]
    spectrogram = [band_powers(emphasised[160 * t : 160 * t + 400]) for t in range(64)]
    loudest = max(map(max, spectrogram))
    rows = [[round(math.log(max(p / loudest, 1e-8)), 4) for p in spectrogram[t]] for t in FRAMES]
    table = {
        "origin": "tests/reference/make_log_mel.py: plain Python sums, no shared code",
        "frames": FRAMES,
        "log_mel": rows,
        "samples": integers,
    }
    Path(__file__).with_name("log_mel.json").write_text(json.dumps(table) + "\n")


if __name__ == "__main__":
    main()
