"""Packs a prepared shards folder into few files that travel to a GPU machine.

    python scripts/pack_for_gpu.py --data shards/flowers --teacher googlenet.safetensors --out pack \
        --picture-size 256 --part-megabytes 40

Parts hold pictures and log-mels in lossy codings; `pack.json` says how much was lost. `train_on_gpu.py
unpack` makes a shards folder of them again. Packing goes on where it stopped (`OUT/members`, deleted at the
end).
"""

import argparse
import hashlib
import io
import json
import os
import shutil
import sys
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gpu_data
import numpy as np
from PIL import Image

from speech2image.data.arrays import PairArrays
from speech2image.data.pairs import (
    Sample,
    Spoken,
    Utterance,
    picture_shards,
    speech_shards,
    write_picture_shard,
    write_speech_shard,
)
from speech2image.data.pictures import central_square, open_picture
from speech2image.data.shard_header import read_header
from speech2image.data.shard_plan import run_tasks
from speech2image.data.shard_reading import stream_pictures
from speech2image.errors import SettingsError, Speech2ImageError
from speech2image.files import writing

MEMBER_OVERHEAD = 400
"""Bytes a zip needs for a member's name and place, and more."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        manifest = pack(**vars(options))
    except Speech2ImageError as error:
        print(f"pack_for_gpu: {error}", file=sys.stderr)
        return 1
    for name, part in manifest["parts"].items():
        print(f"{options.out / name}  {part['bytes'] / 1e6:.1f} MB")
    for kind, size in manifest["megabytes"].items():
        print(f"  {kind:18} {size:.1f} MB")
    print(json.dumps(manifest["errors"]))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="prepared shards folder")
    parser.add_argument("--out", type=Path, required=True, help="folder for the parts")
    parser.add_argument(
        "--teacher", type=Path, help="weights of the image teacher (.safetensors), to go along"
    )
    parser.add_argument(
        "--picture-size", type=int, default=256, help="largest size to train at: 64, 128 or 256"
    )
    parser.add_argument(
        "--picture-quality",
        type=int,
        help="WebP quality of re-encoded pictures; default: those small enough stay as they are, others 85",
    )
    parser.add_argument(
        "--speech",
        choices=("log-mels", "embeddings", "both"),
        default="log-mels",
        help="embeddings: of a speech encoder that is trained already, for generators alone",
    )
    parser.add_argument("--log-mel-quality", type=int, default=70, help="WebP quality of the log-mels")
    parser.add_argument("--part-megabytes", type=float, default=40.0, help="largest part, in 10^6 bytes")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    return parser


def pack(
    data: Path,
    out: Path,
    teacher: Path | None = None,
    picture_size: int = 256,
    picture_quality: int | None = None,
    speech: str = "log-mels",
    log_mel_quality: int = 70,
    part_megabytes: float = 40.0,
    workers: int = 1,
) -> dict[str, Any]:
    """Write the parts and `pack.json`; arguments as the command line's.

    Raises:
        DataError: the data set lacks teacher features, or its shards are damaged.
        SettingsError: a member does not fit into a part.
        OutputError: `out` cannot be written.
    """
    arrays = PairArrays.open(data, workers=workers)
    settings: dict[str, Any] = {
        "picture_size": picture_size,
        "picture_quality": picture_quality,
        "speech": speech,
    }
    settings |= {"log_mel_quality": log_mel_quality}
    members = out / "members" / _key(arrays, settings)
    members.mkdir(parents=True, exist_ok=True)
    side = round(picture_size * 304 / 256)
    pictures = [(shard, members, side, picture_quality) for shard in picture_shards(data)]
    list(run_tasks(_pack_pictures, pictures, workers))
    errors = _pack_arrays(arrays, members, speech)
    for shard in speech_shards(data):
        _pack_rows(shard, members)
    if speech != "embeddings":
        errors["log_mel_db"] = _pack_log_mels(arrays, members, log_mel_quality, workers)
    if teacher is not None:
        shutil.copyfile(teacher, members / gpu_data.TEACHER_WEIGHTS)
    manifest: dict[str, Any] = {"format": gpu_data.FORMAT, **settings, "pictures": len(arrays.ids)}
    manifest |= {"utterances": len(arrays.utterance_sample), "errors": errors}
    sizes = _deflated(members)
    manifest["megabytes"] = _megabytes(sizes)
    manifest["parts"] = _write_parts(members, sizes, out, int(part_megabytes * 1e6))
    with writing(out / gpu_data.MANIFEST) as temporary:
        temporary.write_text(json.dumps(manifest, indent=1))
    shutil.rmtree(out / "members")
    return manifest


def _key(arrays: PairArrays, settings: dict[str, Any]) -> str:
    """Digest of what the members are made from."""
    shards = [
        read_header(path).identity for path in (*picture_shards(arrays.folder), *speech_shards(arrays.folder))
    ]
    return hashlib.sha256(json.dumps([settings, shards]).encode()).hexdigest()[:12]


def _pack_pictures(task: tuple[Path, Path, int, int | None]) -> None:
    """One picture shard, its pictures no larger than needed."""
    shard, members, side, quality = task
    target = members / shard.name
    if target.exists():
        return
    samples = [_lighter(sample, side, quality) for sample in stream_pictures([shard])]
    write_picture_shard(target, samples, _derived(read_header(shard).identity, side, quality))


def _lighter(sample: Sample, side: int, quality: int | None) -> Sample:
    short = min(open_picture(sample.image, sample.id).size)
    if quality is None and short <= side:
        return replace(sample, captions=())
    square = Image.fromarray(central_square(sample.image, min(side, short), sample.id))
    out = io.BytesIO()
    square.save(out, "WEBP", quality=85 if quality is None else quality, method=4)
    return replace(sample, captions=(), image=out.getvalue(), image_suffix="webp")


def _derived(original: str, *changes: object) -> str:
    return hashlib.sha256(f"{original} {changes}".encode()).hexdigest()[:16]


def _pack_rows(shard: Path, members: Path) -> None:
    """A speech shard without its audio; its log-mels go along under the same digest."""
    header = read_header(shard)
    if (members / shard.name).exists():
        return
    spoken = [Spoken(row["id"], "", Utterance(-1, row["voice"], b"", row["suffix"])) for row in header.rows]
    write_speech_shard(members / shard.name, spoken, header.identity)


def _pack_arrays(arrays: PairArrays, members: Path, speech: str) -> dict[str, Any]:
    """Teacher features and, if asked for, speech embeddings; returns how far they are from the originals."""
    coded = gpu_data.encode_features(arrays.teacher)
    _save_npz(members / "teacher.u1.npz", coded)
    errors = {"teacher_cosine_least": _least_cosine(arrays.teacher, gpu_data.decode_features(coded))}
    if speech != "log-mels":
        coded = gpu_data.encode_embeddings(arrays.speech_embeddings)
        _save_npz(members / "speech_embeddings.i1.npz", coded)
        back = gpu_data.decode_embeddings(coded)
        errors["speech_embedding_cosine_least"] = _least_cosine(arrays.speech_embeddings, back)
    return errors


def _save_npz(path: Path, arrays: dict[str, Any]) -> None:
    with writing(path) as temporary:
        np.savez(temporary, **arrays)


def _least_cosine(original: Any, coded: Any) -> float:
    a, b = (np.asarray(x, np.float32).reshape(-1, x.shape[-1]) for x in (original, coded))
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return round(float(((a * b).sum(1) / np.maximum(norms, 1e-12)).min()), 6)


def _pack_log_mels(arrays: PairArrays, members: Path, quality: int, workers: int) -> dict[str, float]:
    """All log-mels; returns root mean square and largest error in decibels."""
    arrays.build_log_mels()
    tasks = []
    for shard in speech_shards(arrays.folder):
        stem = f"log_mel-{shard.stem}-{read_header(shard).identity}"
        tasks.append((arrays.folder / "arrays" / f"{stem}.npy", members / f"{stem}.webp", quality))
    found = list(run_tasks(_pack_log_mel, tasks, workers))
    squares, numbers, largest = zip(*found, strict=True)
    return {"rms": round((sum(squares) / sum(numbers)) ** 0.5, 3), "largest": round(max(largest) + 5e-3, 2)}


def _pack_log_mel(task: tuple[Path, Path, int]) -> tuple[float, int, float]:
    """One shard's log-mels; returns sum of squared errors, how many values, and the largest error (dB)."""
    source, target, quality = task
    frames = np.load(source)
    if not target.exists():
        offsets = np.load(source.with_name(f"{source.stem}.offsets.npy"))
        np.save(target.with_suffix(".frames.npy"), np.diff(offsets).astype(np.int32))
        with writing(target) as temporary:
            temporary.write_bytes(gpu_data.encode_log_mels(frames, quality))
    back = gpu_data.decode_log_mels(target.read_bytes(), len(frames))
    error = (back.astype(np.float32) - frames.astype(np.float32)) * gpu_data.DB_PER_NEPER
    return float(np.square(error, dtype=np.float64).sum()), error.size, float(np.abs(error).max(initial=0))


def _deflated(members: Path) -> dict[str, int]:
    """Bytes of every member once deflated."""
    paths = sorted(path for path in members.iterdir() if not path.name.startswith("."))
    return {path.name: len(zlib.compress(path.read_bytes())) for path in paths}


def _megabytes(sizes: dict[str, int]) -> dict[str, float]:
    """Of each kind of member."""
    kinds = {"pictures": "pictures-", "log-mels": "log_mel-", "speech rows": "speech-"}
    kinds |= {"teacher features": "teacher.u1", "embeddings": "speech_embeddings"}
    kinds |= {"teacher weights": gpu_data.TEACHER_WEIGHTS}
    return {
        kind: round(sum(size for name, size in sizes.items() if name.startswith(prefix)) / 1e6, 2)
        for kind, prefix in kinds.items()
    }


def _write_parts(members: Path, sizes: dict[str, int], out: Path, limit: int) -> dict[str, dict[str, Any]]:
    """Spread the members over parts of at most `limit` bytes; returns name -> bytes, checksum, members."""
    for old in out.glob("part-*.zip"):
        old.unlink()
    parts = {}
    for i, names in enumerate(_bins(sizes, limit)):
        path = out / f"part-{i:02d}.zip"
        with writing(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in names:
                archive.write(members / name, name)
        parts[path.name] = {"bytes": os.stat(path).st_size, "sha256": gpu_data.digest(path), "members": names}
    return parts


def _bins(sizes: dict[str, int], limit: int) -> list[list[str]]:
    """First fit, largest first; members that belong together stay together."""
    bins: list[tuple[int, list[str]]] = []
    for size, names in sorted(_groups(sizes), reverse=True):
        if size > limit:
            raise SettingsError(f"{names[0]} alone takes {size / 1e6:.1f} MB; allow larger parts")
        place = next((i for i, (used, _) in enumerate(bins) if used + size <= limit), None)
        if place is None:
            bins.append((size, names))
        else:
            bins[place] = (bins[place][0] + size, bins[place][1] + names)
    return [names for _, names in bins]


def _groups(sizes: dict[str, int]) -> Iterator[tuple[int, list[str]]]:
    """Size in a part and names; a log-mel picture goes with its lengths."""
    for name in sizes:
        if name.endswith(".frames.npy"):
            continue
        names = [name]
        if name.endswith(".webp"):
            names.append(f"{name.removesuffix('.webp')}.frames.npy")
        yield sum(sizes[each] + MEMBER_OVERHEAD for each in names), names


if __name__ == "__main__":
    sys.exit(main())
