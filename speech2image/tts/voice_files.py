"""The folder of voice files: where Piper's and Kokoro's networks lie for this user."""

import os
from pathlib import Path

VARIABLE = "SPEECH2IMAGE_VOICES"
"""Environment variable that names the folder."""


def folder(engine: str) -> Path:
    """Folder of an engine's files: `$SPEECH2IMAGE_VOICES/ENGINE`.

    Without the variable the folder is `$XDG_DATA_HOME/speech2image/voices`, or
    `~/.local/share/speech2image/voices`.
    """
    data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return Path(os.environ.get(VARIABLE) or data / "speech2image" / "voices") / engine
