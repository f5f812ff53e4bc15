"""download: fetches published data sets, weights and voices."""

import tarfile
from pathlib import Path
from typing import Annotated

import tyro

from speech2image.commands.flags import parse
from speech2image.errors import DataError, OutputError, SettingsError


def run(command: str, arguments: list[str]) -> None:
    """Parse `arguments` and fetch what they name."""
    parse(download, command, arguments)


def download(
    names: Annotated[tuple[str, ...], tyro.conf.Positional] = (),
    out: Path | None = None,
    unpack: bool = True,
) -> None:
    """Fetch published data sets, weights and voices; without a name, list them with their licences.

    An interrupted download goes on where it stopped. Files are compared with their published checksums where
    these are known, and put in place whole.

    Example: speech2image download googlenet inception --out weights

    Args:
        names: what to fetch.
        out: folder to write; by default the one that is named like it (voices go to $SPEECH2IMAGE_VOICES).
        unpack: unpack archives beside themselves.
    """
    from speech2image.models.published import PUBLISHED

    unknown = [name for name in names if name not in PUBLISHED]
    if unknown:
        raise SettingsError(f"unknown: {', '.join(unknown)}; there are: {', '.join(PUBLISHED)}")
    for name in names or PUBLISHED:
        found = PUBLISHED[name]
        print(f"{name}: {found.what}, {found.megabytes:,.0f} MB\n  licence: {found.licence}")
        print(f"  for: {found.used_by}\n  from: {found.files[0].url}", flush=True)
        if names:
            _fetch(name, _folder(name, out), unpack)


def _folder(name: str, out: Path | None) -> Path:
    from speech2image.models.published import PUBLISHED
    from speech2image.tts import voice_files

    if out is not None:
        return out
    return voice_files.folder("kokoro").parent if PUBLISHED[name].voices else Path(name)


def _fetch(name: str, folder: Path, unpack: bool) -> None:
    from speech2image.data.downloading import fetch
    from speech2image.data.progress import progress
    from speech2image.models.published import PUBLISHED

    found = PUBLISHED[name]
    with progress(name, max(1, int(found.megabytes * 1e6))) as shown:
        for file in found.files:
            path = folder / file.path
            checksum = fetch(file.url, path, file.checksum, shown.advance)
            compared = "as published" if file.checksum else "its published checksum is not known here"
            print(f"  {path}: {compared} ({checksum})", flush=True)
            if unpack and path.name.endswith((".tgz", ".tar.gz", ".tar.bz2")):
                _unpack(path)


def _unpack(path: Path) -> None:
    """Unpack an archive into its folder, once: a file beside it says that it was done."""
    done = path.with_name(f"{path.name}.unpacked")
    if done.exists():
        return
    print(f"  unpacks {path.name}", flush=True)
    try:
        with tarfile.open(path) as archive:
            archive.extractall(path.parent, filter="data")
    except tarfile.TarError as error:
        raise DataError(f"{path} is no archive or damaged ({error}); delete it and start again") from error
    except OSError as error:
        raise OutputError(
            f"cannot unpack {path}: {error.strerror or error}; make room, or use --no-unpack"
        ) from error
    done.touch()
