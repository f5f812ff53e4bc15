"""Kokoro's files: the network, the vocabulary of phonemes and the speakers' styles, as they are published.

kokoro/                     in the folder of voice files (`voice_files`)
  model.onnx                or onnx/*.onnx
  tokenizer.json            or config.json or vocab.json: phoneme -> token
  voices/af_heart.bin ...   a speaker each, float32 [n, 256]; or .npy; or archives: *.npz, *.bin
"""

import json
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speech2image.errors import CheckpointError, SettingsError
from speech2image.tts import voice_files

PUBLISHED = "https://huggingface.co/onnx-community/Kokoro-82M-v1.0-ONNX"
STYLE_SIZE = 256


def folder() -> Path:
    """Where the files lie."""
    return voice_files.folder("kokoro")


def network(place: Path) -> Path:
    """The network: model.onnx, onnx/model.onnx, or the first other file *.onnx.

    Raises:
        SettingsError: there is none; the message says where it is published.
    """
    files = [*sorted(place.glob("*.onnx")), *sorted(place.glob("onnx/*.onnx"))]
    if not files:
        raise SettingsError(
            f"Kokoro is not there: no network (*.onnx) in {place} (${voice_files.VARIABLE}/kokoro); put "
            f"onnx/model_quantized.onnx, tokenizer.json and voices/*.bin of {PUBLISHED} there: speech2image "
            "download kokoro does it (107 MB)"
        )
    return next((file for file in files if file.stem == "model"), files[0])


def vocabulary(place: Path) -> dict[str, int]:
    """Phoneme -> token.

    Raises:
        SettingsError: no file has it.
    """
    for name in ("vocab.json", "tokenizer.json", "config.json"):
        found = _vocabulary_of(place / name)
        if found:
            return found
    raise SettingsError(
        f"{place} has no vocabulary of phonemes: put tokenizer.json of {PUBLISHED} there, or config.json of "
        "hexgrad/Kokoro-82M"
    )


def _vocabulary_of(file: Path) -> dict[str, int] | None:
    if not file.is_file():
        return None
    try:
        content = json.loads(file.read_bytes())
        tokens = content.get("vocab") or content.get("model", {}).get("vocab") or {}
        return {str(phoneme): int(token) for phoneme, token in tokens.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{file} is not a vocabulary of phonemes: {error}") from error


@lru_cache(maxsize=4)
def speakers(place: Path) -> dict[str, Path]:
    """Names of the speakers and the files that hold their styles, in order of their names."""
    found: dict[str, Path] = {}
    for file in (*place.glob("*.npz"), *place.glob("*.bin"), *place.glob("voices/*")):
        if file.suffix in (".npz", ".bin") and zipfile.is_zipfile(file):
            found |= dict.fromkeys(_archive(file), file)
        elif file.suffix in (".bin", ".npy"):
            found[file.stem] = file
    return dict(sorted(found.items()))


def styles(place: Path, speaker: str) -> NDArray[np.float32]:
    """A speaker's styles, float32 [n, 256]: row n is for a sentence of n phonemes.

    Raises:
        CheckpointError: the file is damaged or something else.
    """
    file = speakers(place)[speaker]
    try:
        if zipfile.is_zipfile(file):
            array = _archive(file)[speaker]
        else:
            array = np.load(file) if file.suffix == ".npy" else np.fromfile(file, dtype="<f4")
        array = np.asarray(array, dtype=np.float32).reshape(-1, STYLE_SIZE)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{file} does not hold the styles of {speaker}: {error}") from error
    if not len(array) or not np.isfinite(array).all():
        raise CheckpointError(f"{file} does not hold the styles of {speaker}: empty or not finite")
    return array


def _archive(file: Path) -> Any:
    try:
        return np.load(file, allow_pickle=False)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{file} is not an archive of speakers' styles: {error}") from error
