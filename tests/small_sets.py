"""Small data sets made by the tests."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from speech2image import audio
from speech2image.data.entries import Entry, load_usable
from speech2image.data.pairs import Sample, Utterance
from speech2image.errors import DataError


def picture(colour: tuple[int, int, int] = (200, 30, 30), size: tuple[int, int] = (40, 40)) -> Image.Image:
    """A picture with a square of `colour` on black in its middle half."""
    array = np.zeros((size[1], size[0], 3), np.uint8)
    array[size[1] // 4 : -size[1] // 4, size[0] // 4 : -size[0] // 4] = colour
    return Image.fromarray(array)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def tone(pitch: float = 200.0, seconds: float = 0.8) -> np.ndarray:
    time = np.arange(int(seconds * 16000)) / 16000
    return (0.4 * np.sin(2 * np.pi * pitch * time)).astype(np.float32)


def sample(i: int, n_utterances: int = 2, split: str = "train") -> Sample:
    """Sample number `i`: class i % 3 + 1, a grey of 10 i, tones of 150 + 10 i Hz by voices v0, v1 ..."""
    spoken = tuple(
        Utterance(k % 2, f"v{k}", audio.encode_flac(tone(150 + 10 * i, 0.8 + 0.1 * k)), "flac")
        for k in range(n_utterances)
    )
    image = encoded(Image.new("RGB", (40 + i, 50), (10 * i, 10 * i, 10 * i)))
    captions = (f"caption {i}", f"other {i}")
    return Sample(
        f"set/{i:03d}", image, "png", i % 3 + 1, f"class {i % 3 + 1}", split, captions, spoken, "test"
    )


def load_entry(entry: Entry) -> Sample:
    """An entry's picture and recordings, of which all must be usable."""
    sample, problems = load_usable(entry)
    if sample is None or problems:
        raise DataError(problems[0])
    return sample


def write_manifest(folder: Path, rows: list[Any], name: str = "manifest.jsonl") -> Path:
    path = folder / name
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n")
    return path


def own_folder(folder: Path, n: int = 6, recordings: bool = False) -> Path:
    """A manifest of `n` pictures of two classes, the last two in test, each with two captions."""
    rows = []
    for i in range(n):
        (folder / f"{i}.png").write_bytes(encoded(picture((25 * i, 30, 30))))
        row = {
            "image": f"{i}.png",
            "class": "red" if i % 2 else "dark",
            "split": "train" if i < n - 2 else "test",
            "captions": [f"flower number {i}", f"a bloom with {i} petals"],
        }
        if recordings:
            (folder / f"{i}.flac").write_bytes(audio.encode_flac(tone(150 + 20 * i)))
            row["recordings"] = [{"audio": f"{i}.flac", "caption": 0, "voice": "ann"}]
        rows.append(row)
    return write_manifest(folder, rows)
