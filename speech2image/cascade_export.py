"""A trained text encoder, generator and recogniser -> the model folder of the route through text.

    text_encoder.onnx     letters [batch, 201] -> text_embedding [batch, 1024]
    generator.onnx        condition [batch, 1024], noise [batch, 100] -> picture [batch, 3, side, side]
    recognizer/           what `training.recognizer_export` writes; or a folder beside it, for several models
    model.json            as of the direct route, with "route": "cascade" and the recogniser's folder

A folder without recogniser draws texts. It appears only if ONNX Runtime then gives what torch gives.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import nn

from speech2image.errors import SettingsError
from speech2image.export import (
    MAX_BYTES,
    check_folder,
    check_size,
    convert,
    detector_to_onnx,
    load_generator,
    write_folder,
)
from speech2image.parity import Parity, made_up_log_mels, of_captions
from speech2image.pretrained import CASCADE, DETECTOR, is_plain_name
from speech2image.transcription import Recognizer

INSIDE = "recognizer"
"""The folder of a recogniser that lies in its model's."""
CAPTIONS = (
    "a red flower with rounded petals",
    "This bird has a white belly, a grey back & a short, pointed beak!",
    "the petals of this flower are pink and the anther is yellow. " * 4,
    "x",
)
"""Compared on, where no captions are given; one is longer than the encoder reads."""


def export_cascade(
    text_encoder: nn.Module,
    generator: nn.Module,
    folder: str | os.PathLike[str],
    *,
    name: str,
    licence: str,
    noise_size: int = 100,
    recognizer: str | os.PathLike[str] | None = None,
    shared_recognizer: str | None = None,
    captions: Sequence[str] = (),
    max_bytes: int = MAX_BYTES,
    speech_detector: nn.Module | None = None,
    **card: Any,
) -> Parity:
    """Write the model folder of a route through text.

    Args:
        text_encoder: letters [batch, 201] -> [batch, size].
        generator: (condition [batch, size], noise [batch, noise_size]) -> pictures [batch, 3, side, side].
        folder: to write; an older model folder there is replaced.
        name: the model's name.
        licence: of the weights.
        noise_size: length of the noise vector.
        recognizer: an exported recogniser's folder, copied into the model's.
        shared_recognizer: the name of an exported recogniser's folder that will lie beside the model's, or
            came with the installation.
        captions: to compare on, at least two; made-up ones by default.
        max_bytes: the most all networks in the folder may take.
        speech_detector: refuses recordings without speech; None for a model that takes any sound.
        **card: more JSON values for `model.json`.

    Returns:
        The differences found, which `model.json` states too.

    Raises:
        CheckpointError: ONNX Runtime gives something else than torch; the networks do not fit each other; the
            recogniser's folder is damaged. Nothing is written.
        SettingsError: larger than `max_bytes`; two recognisers, or no plain name of one. Nothing is written.
        OutputError: the folder cannot be written, or holds something that is no model.
    """
    folder = Path(folder)
    check_folder(folder)
    named = _named(recognizer, shared_recognizer)
    contents, sizes, parity = convert(text_encoder, generator, of_captions(captions or CAPTIONS), noise_size)
    detected: dict[str, float] = {}
    if speech_detector is not None:
        contents[DETECTOR], detected = detector_to_onnx(speech_detector, made_up_log_mels())
    check_size(contents | _networks(recognizer), max_bytes)
    told = {"route": CASCADE, "name": name, "licence": licence, **named, **card, **sizes}
    told["parity"] = asdict(parity) | detected
    write_folder(folder, contents, told, None if recognizer is None else Path(recognizer))
    return parity


def export_checkpoints(
    text_encoder: str | os.PathLike[str],
    generator: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    recognizer: str | os.PathLike[str] | None = None,
    speech_detector: str | os.PathLike[str] | None = None,
    **options: Any,
) -> Parity:
    """`export_cascade` for training checkpoints; their averaged weights are taken.

    Args:
        recognizer: a checkpoint, or the folder of an exported recogniser; None for a model that draws texts.

    Raises:
        CheckpointError: a checkpoint is damaged or of another kind; else as `export_cascade`.
    """
    from speech2image.training.speech_detector import load_speech_detector
    from speech2image.training.text_encoder import load_text_encoder

    check_folder(Path(folder))
    encoder, (painter, noise_size) = load_text_encoder(text_encoder), load_generator(generator)
    detector = None if speech_detector is None else load_speech_detector(speech_detector)
    with _exported(recognizer) as ears:
        return export_cascade(
            encoder,
            painter,
            folder,
            noise_size=noise_size,
            recognizer=ears,
            speech_detector=detector,
            **options,
        )


@contextmanager
def _exported(recognizer: str | os.PathLike[str] | None) -> Iterator[Path | None]:
    """A recogniser's folder: the one given, or one made of a checkpoint for the occasion."""
    if recognizer is None or Path(recognizer).is_dir():
        yield None if recognizer is None else Path(recognizer)
        return
    from speech2image.training.recognizer_export import export_checkpoint

    with TemporaryDirectory(prefix="speech2image-") as folder:
        export_checkpoint(recognizer, Path(folder) / INSIDE)
        yield Path(folder) / INSIDE


def _named(recognizer: Any, shared: str | None) -> dict[str, str]:
    """What `model.json` says of the recogniser."""
    if recognizer is not None and shared is not None:
        raise SettingsError("give a recogniser to put into the model's folder, or the name of a shared one")
    if shared is not None and not is_plain_name(shared):
        raise SettingsError(f"a shared recogniser is named by its folder, without a path; not {shared!r}")
    if recognizer is None and shared is None:
        return {}
    return {"recognizer": INSIDE if shared is None else shared}


def _networks(recognizer: str | os.PathLike[str] | None) -> dict[str, bytes]:
    """The networks in a recogniser's folder, once it is found whole."""
    if recognizer is None:
        return {}
    files = Recognizer(recognizer, threads=1).card["files"]
    return {name.removesuffix(".onnx"): (Path(recognizer) / name).read_bytes() for name in files}
