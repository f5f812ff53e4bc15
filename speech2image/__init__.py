"""Say it and see it: a spoken description becomes pictures, without text in between.

    import speech2image

    model = speech2image.load("flowers-and-birds")
    result = model.translate("clip.wav", n=8, seed=0)
    result.grid().save("flower.png")

Names are resolved on first use, so importing this package loads nothing else.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from speech2image.errors import (
        CheckpointError,
        DataError,
        MissingExtraError,
        OutputError,
        SettingsError,
        Speech2ImageError,
        SpeechError,
    )
    from speech2image.pipeline.base import Interpolation, Route, Translation
    from speech2image.pipeline.cascade import CascadeRoute
    from speech2image.pipeline.direct import DirectRoute
    from speech2image.pipeline.loading import load
    from speech2image.pipeline.registry import available_models

__version__ = "0.2.0"

# Libraries that report to their makers read these when they are imported; this file comes before any of them.
# ONNX Runtime would also write an id of the machine below HOME, which switching it off later does not undo.
os.environ |= {
    "ORT_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}

_HOME = {
    "load": "pipeline.loading",
    "available_models": "pipeline.registry",
    "CascadeRoute": "pipeline.cascade",
    "DirectRoute": "pipeline.direct",
    "Interpolation": "pipeline.base",
    "Route": "pipeline.base",
    "Translation": "pipeline.base",
    "CheckpointError": "errors",
    "DataError": "errors",
    "MissingExtraError": "errors",
    "OutputError": "errors",
    "SettingsError": "errors",
    "Speech2ImageError": "errors",
    "SpeechError": "errors",
}

__all__ = [
    "CascadeRoute",
    "CheckpointError",
    "DataError",
    "DirectRoute",
    "Interpolation",
    "MissingExtraError",
    "OutputError",
    "Route",
    "SettingsError",
    "Speech2ImageError",
    "SpeechError",
    "Translation",
    "available_models",
    "load",
]


def __getattr__(name: str) -> Any:
    """Import a public name from the module that defines it, once."""
    if name not in _HOME:
        raise AttributeError(f"module 'speech2image' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"speech2image.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
