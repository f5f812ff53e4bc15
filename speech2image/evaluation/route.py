"""Model to measure: a shipped one, a model folder, or checkpoints exported for the occasion."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from speech2image.errors import require
from speech2image.evaluation.settings import EvaluationSettings
from speech2image.pipeline.base import Route
from speech2image.pipeline.loading import load

ANY_SIZE = 10**10
"""Checkpoints are measured whatever they take; only models to ship are held to a size."""


@contextmanager
def opened_route(settings: EvaluationSettings) -> Iterator[Route]:
    """The route that `settings` name, as users run it: through ONNX Runtime; but it refuses no recording.

    Raises:
        CheckpointError: the model or a checkpoint is unknown or damaged.
    """
    if settings.speech_encoder is None or settings.generator is None:
        yield load(
            settings.model, recognizer=settings.recognizer, threads=settings.threads, vad=False, words=False
        )
        return
    with TemporaryDirectory(prefix="speech2image-") as folder:
        model = Path(folder) / "model"
        require("speech2image.export.direct", "train").export_checkpoints(
            settings.speech_encoder,
            settings.generator,
            model,
            name=_name(settings.generator),
            licence="unstated",
            max_bytes=ANY_SIZE,
        )
        yield load(model, threads=settings.threads, vad=False, words=False)


def _name(checkpoint: Path) -> str:
    """`runs/gan128/checkpoint.safetensors` -> `gan128`."""
    own = checkpoint.resolve()
    return own.parent.name if own.stem == "checkpoint" else own.stem
