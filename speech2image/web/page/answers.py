"""What the page is told: what was heard, pictures to look at, pictures to keep, walks."""

import base64
import io
from collections.abc import Sequence
from typing import Any

from PIL import Image

from speech2image import audio
from speech2image.pipeline import images
from speech2image.pipeline.base import Heard, Interpolation
from speech2image.pipeline.domains import Decision
from speech2image.pipeline.recipe import Recipe
from speech2image.web.page.plots import plot_spectrogram, plot_waveform
from speech2image.web.service import RenderResult

THUMBNAIL = 192
"""Pixels a side of the picture of an example."""
_FRAME_MILLISECONDS = 140
_REST_MILLISECONDS = 700  # at both ends of a walk
_FILM_QUALITY = 88


def heard(result: RenderResult, sound: bool) -> dict[str, Any]:
    """What a model heard; with `sound`, also what it listened to: waveform, log-mel, the recording itself."""
    told = result.result
    decision = Decision(told.domain, told.confidence, told.domains)
    fields: dict[str, Any] = {"model": told.model, "route": result.route, "seed": told.seed}
    fields |= _heard(Heard(told.transcript, told.words, decision))
    if sound and len(result.waveform):
        fields["recording"] = {
            "seconds": len(result.waveform) / audio.SAMPLE_RATE,
            "sound": data_url(audio.encode_flac(result.waveform), "audio/flac"),
            "wave": data_url(images.encode(plot_waveform(result.waveform)), "image/png"),
            "mel": data_url(view(plot_spectrogram(told.log_mel)), "image/webp"),
        }
    return fields


def _heard(heard: Heard) -> dict[str, Any]:
    words = [{"text": word.text, "confidence": word.confidence} for word in heard.words]
    return {"transcript": heard.transcript, "words": words} | heard.decision._asdict()


def interpolation(result: Interpolation) -> dict[str, Any]:
    """The pictures between two recordings, to look at, and what was heard in either."""
    return {
        "model": result.model,
        "seed": result.seed,
        "seconds": result.seconds,
        "alphas": result.alphas,
        "heard": [_heard(one) for one in result.heard],
        "pictures": [data_url(view(image), "image/webp") for image in result.images],
    }


def view(image: Image.Image) -> bytes:
    """A picture to look at, as WebP; the one that is kept is a PNG."""
    return images.encode(image, "WEBP", preview=True)


def thumbnail(image: Image.Image) -> bytes:
    """A small WebP."""
    return view(image.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS))


def animation(pictures: Sequence[Image.Image], kind: str, recipe: Recipe | None = None) -> bytes:
    """A walk there and back without end, as "gif" or "webp"; a WebP keeps its `recipe`."""
    frames = [*pictures, *pictures[-2:0:-1]]
    ends = {0, len(pictures) - 1}
    durations = [_REST_MILLISECONDS if k in ends else _FRAME_MILLISECONDS for k in range(len(frames))]
    buffer = io.BytesIO()
    options: dict[str, Any] = {"quality": _FILM_QUALITY} if kind == "webp" else {}
    options |= recipe.options("WEBP") if recipe else {}
    frames[0].save(
        buffer, kind.upper(), save_all=True, append_images=frames[1:], duration=durations, loop=0, **options
    )
    return buffer.getvalue()


def data_url(content: bytes, kind: str) -> str:
    """Content as an address that holds it."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
