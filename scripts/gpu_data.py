"""How a prepared shards folder travels to a GPU machine: the codings of its members, and unpacking them.

A pack is `pack.json` beside `part-00.zip`, `part-01.zip` ... Each member becomes one or two files of an
ordinary shards folder, so that the ordinary trainings run there unchanged:

    pictures-000000.tar                  the shard as it is, without captions
    speech-<part>-000000.tar             the shard's rows without audio
    log_mel-<shard>-<digest>.webp        the shard's log-mels as one grey picture -> arrays/log_mel-...npy
    log_mel-<shard>-<digest>.frames.npy  frames of each utterance
    teacher.u1.npz                       roots of the teacher's features in 256 steps -> arrays/teacher.npy
    speech_embeddings.i1.npz             embeddings in 255 steps a column -> arrays/speech_embeddings.npy
    teacher.safetensors                  weights of the teacher, as they are
"""

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from speech2image.audio import FLOOR_DB, N_MELS
from speech2image.data.shard_plan import run_tasks
from speech2image.errors import DataError
from speech2image.files import writing

FORMAT = "speech2image-gpu-pack-1"
MANIFEST = "pack.json"
UNPACKED = "unpacked.json"
TEACHER_WEIGHTS = "teacher.safetensors"
STRIP_FRAMES = 16_000
"""Frames side by side in one strip of a log-mel picture; WebP allows 16,383 pixels."""
STRIP_HEIGHT = 48
"""40 bands, filled up to whole blocks of the codec."""
DB_PER_NEPER = 10 / float(np.log(10))


def encode_log_mels(frames: NDArray[np.float16], quality: int) -> bytes:
    """Log-mels [total, 40] (natural log, -80 dB to 0) as one grey WebP picture, strips below each other."""
    decibels = np.asarray(frames, np.float32) * DB_PER_NEPER
    grey = np.clip(np.round((decibels / -FLOOR_DB + 1) * 255), 0, 255).astype(np.uint8)
    strips = -(-len(grey) // STRIP_FRAMES)
    length = STRIP_FRAMES if strips > 1 else len(grey)
    grey = np.pad(grey, ((0, strips * length - len(grey)), (0, STRIP_HEIGHT - N_MELS)), mode="edge")
    picture = np.concatenate([strip.T for strip in np.split(grey, strips)])
    out = io.BytesIO()
    Image.fromarray(picture).convert("RGB").save(out, "WEBP", quality=quality, method=2)
    return out.getvalue()


def decode_log_mels(data: bytes, total: int) -> NDArray[np.float16]:
    """What `encode_log_mels` made of `total` frames, [total, 40]."""
    picture = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))[..., 1]
    strips = picture.reshape(-1, STRIP_HEIGHT, picture.shape[1])[:, :N_MELS]
    grey = strips.transpose(0, 2, 1).reshape(-1, N_MELS)[:total]
    return ((grey.astype(np.float32) / 255 - 1) * (-FLOOR_DB / DB_PER_NEPER)).astype(np.float16)


def encode_features(features: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Features >= 0 as the roots' share of the largest root, in 256 steps."""
    peak = float(np.max(features))
    steps = np.round(np.sqrt(np.asarray(features, np.float32) / max(peak, 1e-12)) * 255)
    return {"steps": steps.astype(np.uint8), "peak": np.float32(peak)}  # type: ignore[dict-item]


def decode_features(coded: Any) -> NDArray[np.float16]:
    """What `encode_features` coded."""
    return (np.square(coded["steps"].astype(np.float32) / 255) * coded["peak"]).astype(np.float16)


def encode_embeddings(embeddings: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Embeddings [n, size] in 255 steps of each column's own range about its mean."""
    wide = np.asarray(embeddings, np.float32)
    mean = wide.mean(0)
    scale = np.maximum(np.abs(wide - mean).max(0), 1e-12)
    return {"steps": np.round((wide - mean) / scale * 127).astype(np.int8), "mean": mean, "scale": scale}


def decode_embeddings(coded: Any) -> NDArray[np.float16]:
    """What `encode_embeddings` coded."""
    return (coded["steps"].astype(np.float32) / 127 * coded["scale"] + coded["mean"]).astype(np.float16)


def unpack(parts: Sequence[Path], folder: Path, workers: int = 1) -> list[str]:
    """Put what the parts hold into `folder`, a shards folder; parts that are there already are skipped.

    Args:
        parts: `part-*.zip`, with `pack.json` beside the first.
        folder: made if absent.
        workers: processes.

    Returns:
        Names of the parts that are still missing.

    Raises:
        DataError: a part or the manifest is absent or damaged, or `folder` holds another pack.
    """
    manifest = read_manifest(parts[0].parent)
    _same_pack(manifest, folder)
    done = unpacked(folder)
    for part in parts:
        if part.name in done:
            continue
        _check(part, manifest)
        with zipfile.ZipFile(part) as archive:
            names = archive.namelist()
        list(run_tasks(_place, [(part, name, folder) for name in names], workers))
        done = [*done, part.name]
        with writing(folder / UNPACKED) as temporary:
            temporary.write_text(json.dumps(done))
    return missing(folder)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The pack's manifest.

    Raises:
        DataError: there is none, or it is of something else.
    """
    path = folder / MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise DataError(
            f"no readable {MANIFEST} in {folder} ({error}); it travels with every part"
        ) from error
    if manifest.get("format") != FORMAT:
        raise DataError(f"{path} is no manifest of pack_for_gpu ({FORMAT}); pack again")
    return manifest


def unpacked(folder: Path) -> list[str]:
    """Names of the parts that lie unpacked in `folder`."""
    path = folder / UNPACKED
    return list(json.loads(path.read_text())) if path.exists() else []


def missing(folder: Path) -> list[str]:
    """Names of the parts that `folder` still lacks."""
    return sorted(set(read_manifest(folder)["parts"]) - set(unpacked(folder)))


def digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _same_pack(manifest: dict[str, Any], folder: Path) -> None:
    target = folder / MANIFEST
    if target.exists() and read_manifest(folder) != manifest:
        raise DataError(f"{folder} holds another pack; give an empty folder")
    if not target.exists():
        with writing(target) as temporary:
            temporary.write_text(json.dumps(manifest, indent=1))


def _check(part: Path, manifest: dict[str, Any]) -> None:
    """Whether the part is whole and of this pack."""
    stated = manifest["parts"].get(part.name)
    if stated is None:
        raise DataError(f"{part.name} is not of this pack, which has {', '.join(manifest['parts'])}")
    if not part.is_file():
        raise DataError(f"no part {part}; bring it over")
    if digest(part) != stated["sha256"]:
        size = f"{part.stat().st_size} bytes, should be {stated['bytes']}"
        raise DataError(f"{part} is damaged: its checksum differs from {MANIFEST}'s ({size}); bring it again")


def _place(task: tuple[Path, str, Path]) -> None:
    """Write the files that one member stands for."""
    part, name, folder = task
    with zipfile.ZipFile(part) as archive:
        data = archive.read(name)
        if name.endswith(".webp"):
            stem = name.removesuffix(".webp")
            frames = np.load(io.BytesIO(archive.read(f"{stem}.frames.npy")))
    arrays = folder / "arrays"
    if name.endswith(".webp"):
        offsets = np.concatenate([[0], np.cumsum(frames)]).astype(np.int64)
        _save(arrays / f"{stem}.offsets.npy", offsets)
        _save(arrays / f"{stem}.npy", decode_log_mels(data, int(offsets[-1])))
    elif name == "teacher.u1.npz":
        _save(arrays / "teacher.npy", decode_features(np.load(io.BytesIO(data))))
    elif name == "speech_embeddings.i1.npz":
        _save(arrays / "speech_embeddings.npy", decode_embeddings(np.load(io.BytesIO(data))))
    elif not name.endswith(".frames.npy"):
        with writing(folder / name) as temporary:
            temporary.write_bytes(data)


def _save(path: Path, array: NDArray[Any]) -> None:
    with writing(path) as temporary:
        np.save(temporary, array)


def total_bytes(paths: Iterable[str | os.PathLike[str]]) -> int:
    """Bytes of some files together."""
    return sum(os.stat(path).st_size for path in paths)
