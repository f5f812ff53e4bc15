"""Work folder of an evaluation: which evaluation it belongs to, and whether that was finished."""

import json
from pathlib import Path
from typing import Any

from speech2image.errors import OutputError
from speech2image.files import check_writable, writing

NOTE = "run.json"


def check_out(out: Path) -> None:
    """Check, before any work is done, that a report can be written to `out`.

    Raises:
        OutputError: `out` is a file, or cannot be written.
    """
    if out.is_file():
        raise OutputError(f"{out} is a file; name a folder for the report")
    check_writable(out / "results.json")


def open_work(out: Path, identity: dict[str, Any]) -> Path:
    """Give `out/work` for the evaluation that `identity` describes; emptied if a finished one lay there.

    Args:
        out: folder of the report.
        identity: all that decides what is drawn, as JSON values.

    Raises:
        OutputError: an unfinished evaluation of something else lies there, or it cannot be written.
    """
    work = out / "work"
    check_writable(work / NOTE)
    note = _read(work / NOTE)
    if note is not None and note["identity"] != identity:
        if not note["finished"]:
            raise OutputError(_unfinished(out, note["identity"], identity))
        for path in (*work.glob("*.npy"), *work.glob("*.jsonl")):
            path.unlink()
    _write(work / NOTE, {"identity": identity, "finished": False})
    return work


def finish_work(work: Path) -> None:
    """Note that the report is written, so that another evaluation may take the folder."""
    note = _read(work / NOTE) or {"identity": {}}
    _write(work / NOTE, note | {"finished": True})


def _unfinished(out: Path, there: dict[str, Any], wanted: dict[str, Any]) -> str:
    differing = [key for key in {**wanted, **there} if there.get(key) != wanted.get(key)]
    return (
        f"{out} holds an unfinished evaluation of model '{there.get('model')}', which differs from this one "
        f"in {', '.join(differing)}; finish it with its own settings, choose another --out, or delete "
        f"{out / 'work'}"
    )


def _read(path: Path) -> dict[str, Any] | None:
    try:
        note = json.loads(path.read_text(encoding="utf-8"))
        return {"identity": dict(note["identity"]), "finished": bool(note["finished"])}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(path: Path, note: dict[str, Any]) -> None:
    with writing(path) as temporary:
        temporary.write_text(json.dumps(note, indent=1), encoding="utf-8")
