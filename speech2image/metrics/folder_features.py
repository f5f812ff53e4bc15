"""Features of a folder of pictures, computed once and kept under a digest of all they depend on.

They lie in parts of some hundred pictures, so that an interrupted computation goes on where it stopped and
memory does not grow with the number of pictures.
"""

import atexit
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from speech2image.data.entries import file_digest
from speech2image.data.pictures import list_pictures, stream_pictures
from speech2image.data.progress import progress
from speech2image.errors import DataError, OutputError
from speech2image.files import check_writable, writing
from speech2image.metrics.feature_network import FeatureNetwork
from speech2image.metrics.frechet import Moments

PART = 256
"""Files a part."""
_VERSION = 1
"""To be raised when the same picture would get other features."""


@dataclass(frozen=True)
class FolderFeatures:
    """Features of a folder's pictures, on disk.

    Attributes:
        folder: where the pictures lie.
        digest: of names, bytes, network and size.
        parts: the files that hold the features.
        n: readable pictures.
        broken: (name, what is wrong) of the files that are no pictures.
    """

    folder: Path
    digest: str
    parts: list[Path]
    n: int
    broken: list[tuple[str, str]]

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """The features in parts, [up to 256, dim] each."""
        return (_read(path)["features"] for path in self.parts)

    def all(self) -> NDArray[np.float32]:
        """All features at once, [n, dim]: 8 MB for a thousand pictures at 2048-d."""
        return np.concatenate(list(self.blocks()))

    def names(self) -> list[str]:
        """Names of the pictures, in the order of the features."""
        return [name for path in self.parts for name in _read(path)["names"].tolist()]

    def moments(self, dim: int) -> Moments:
        """Mean and covariance, part by part."""
        moments = Moments(dim)
        for block in self.blocks():
            moments.update(block)
        return moments


def user_cache() -> Path:
    """Where features are kept by default: `$XDG_CACHE_HOME/speech2image`, or `~/.cache/speech2image`.

    Where that cannot be written (no home, or a user without a name) it is a temporary folder, which goes when
    Python ends: one of a fixed name could be somebody else's.
    """
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "speech2image"
        check_writable(cache / "part")
        return cache
    except (RuntimeError, OutputError):  # Path.home() raises the first
        temporary = tempfile.mkdtemp(prefix="speech2image-")
        atexit.register(shutil.rmtree, temporary, ignore_errors=True)
        return Path(temporary)


def folder_features(
    folder: str | os.PathLike[str], network: FeatureNetwork, cache: Path, size: int | None = None
) -> FolderFeatures:
    """Features of every readable picture of a folder, from `cache` where they lie already.

    Args:
        folder: pictures, subfolders included.
        network: what measures them.
        cache: folder to keep features in.
        size: first cut the central square and scale it to this side.

    Raises:
        DataError: no folder, no picture files, or none that can be read.
        OutputError: `cache` cannot be written.
    """
    folder, names = Path(folder), list_pictures(folder)
    digest = content_digest(folder, names, network, size)
    place = cache / "features" / digest
    check_writable(place / "part")
    parts = [place / f"{start:08}.npz" for start in range(0, len(names), PART)]
    shares = [names[start : start + PART] for start in range(0, len(names), PART)]
    todo = [(part, own) for part, own in zip(parts, shares, strict=True) if not _is_whole(part)]
    with progress(f"features of {folder.name}", sum(len(own) for _, own in todo)) as shown:
        for part, own in todo:
            _write(part, folder, own, network, size, shown.advance)
    broken = [(str(a), str(b)) for part in parts for a, b in _read(part)["broken"].tolist()]
    n = len(names) - len(broken)
    if not n:
        raise DataError(f"none of the {len(names)} files in {folder} is a readable picture: {broken[0][1]}")
    return FolderFeatures(folder, digest, parts, n, broken)


def content_digest(folder: Path, names: list[str], network: FeatureNetwork, size: int | None) -> str:
    """Digest of file names and bytes, network, weights and size: the same only for the same features."""
    digest = hashlib.sha256(repr((_VERSION, network.name, network.checksum, network.dim, size)).encode())
    for name in names:
        digest.update(repr((name, file_digest(folder / name))).encode())
    return digest.hexdigest()[:32]


def _write(
    part: Path,
    folder: Path,
    names: list[str],
    network: FeatureNetwork,
    size: int | None,
    done: Callable[[int], None],
) -> None:
    """Compute one part; `done` is told of every few files."""
    features, read, broken = [np.zeros((0, network.dim), np.float32)], [], []
    for batch in stream_pictures(folder, size, names=names):
        features.append(network(batch.pictures))
        read += batch.names
        broken += batch.broken
        done(len(batch.names) + len(batch.broken))
    with writing(part) as temporary, open(temporary, "wb") as file:
        np.savez(
            file,
            features=np.concatenate(features),
            names=np.array(read, dtype=np.str_),
            broken=np.array(broken, dtype=np.str_).reshape(-1, 2),
        )


def _is_whole(part: Path) -> bool:
    """Whether a part is there and can be read; a damaged one is computed again."""
    try:
        return set(_read(part)) == {"features", "names", "broken"}
    except Exception:  # a damaged archive raises whatever zip or numpy stumbles upon
        return False


def _read(part: Path) -> dict[str, NDArray]:
    with part.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}
