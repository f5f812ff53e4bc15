"""Schemas of the HTTP interface's answers, as its OpenAPI description shows them."""

import base64
from collections.abc import Iterable
from dataclasses import replace
from enum import StrEnum
from itertools import repeat
from typing import Any, Literal

from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from speech2image import audio
from speech2image.asr.ctc import TranscribedWord
from speech2image.pipeline import images
from speech2image.pipeline.base import Interpolation, Translation
from speech2image.pipeline.recipe import Recipe
from speech2image.web.service import MAX_SENTENCE, RenderResult


class Problem(BaseModel):
    """Why there is no picture."""

    detail: str = Field(description="What came, what is allowed, what to do.")
    code: str = Field(
        description="What happened in one word, which stays when the sentence is worded anew: of the status "
        "(`busy`, `too_large` ...), of a recording (`unreadable`, `empty`, `too_short`, `too_long`, "
        "`no_speech`, `no_words`), of a setting (`setting`)."
    )


class Sentence(BaseModel):
    """What is to be drawn, in words."""

    model_config = ConfigDict(extra="forbid")

    text: str = Field(
        description="An English description; a route that reads text draws it.",
        json_schema_extra={"minLength": 1, "maxLength": MAX_SENTENCE},
    )


class Encoding(StrEnum):
    """What kind of file a picture is: PNG loses nothing, WebP and JPEG are small, to be looked at."""

    png = "png"
    webp = "webp"
    jpeg = "jpeg"


def _file(kind: str) -> Any:
    about = f"The {kind} file in base64, where that was asked for."
    return Field(None, description=about, json_schema_extra={"contentEncoding": "base64"})


class Picture(BaseModel):
    """One picture, as a file of the kind that was asked for."""

    png: str | None = _file("PNG")
    webp: str | None = _file("WebP")
    jpeg: str | None = _file("JPEG")
    width: int
    height: int


class Word(BaseModel):
    """A word that was heard."""

    text: str
    confidence: float = Field(ge=0, le=1, description="How sure the network that heard it is.")


class Pictures(BaseModel):
    """What a recording became."""

    model: str
    route: str
    seed: int = Field(description="The same seed gives the same pictures.")
    speech_seconds: float = Field(description="Length of the recording; 0 of a text.")
    seconds: float = Field(description="Time the translation took, queueing left out.")
    transcript: str | None = Field(
        None,
        description="What was understood. Routes through text draw from it; of the direct route, where the "
        "model hears words, too, they are shown; no picture depends on them.",
    )
    words: list[Word] | None = Field(
        None, description="Those of the transcript, each with its confidence, where the model tells it."
    )
    domain: str | None = Field(
        None,
        description="What the recording is about, where the model tells it: 'other' is what it cannot draw; "
        "it draws all the same.",
    )
    confidence: float | None = Field(None, ge=0, le=1, description="The probability of that domain.")
    noise_rows: list[int] = Field(
        description="Which of the seed's pictures each one is, counted from 0; without `diverse` 0, 1, 2 ..."
    )
    pictures: list[Picture]


class Transcription(BaseModel):
    """What was said in a recording."""

    text: str = Field(description="Lower-case words; empty where none is heard.")
    words: list[Word] | None = Field(
        None, description="Those of the text, each with its confidence, where the model tells it."
    )
    domain: str | None = Field(None, description="What it is about, where the model tells it.")
    confidence: float | None = Field(None, ge=0, le=1, description="The probability of that domain.")
    speech_seconds: float = Field(description="Length of the recording.")
    seconds: float = Field(description="Time the recognition took, queueing left out.")
    model: str
    route: str


class Segment(BaseModel):
    """A part of a transcription."""

    id: int
    seek: int
    start: float = Field(description="Seconds.")
    end: float = Field(description="Seconds.")
    text: str
    temperature: float
    avg_logprob: float | None = Field(None, description="Mean of the logarithms of its words' confidences.")


class VerboseTranscription(BaseModel):
    """What was said in a recording, in the shape that clients of other interfaces expect."""

    task: Literal["transcribe"] = "transcribe"
    language: Literal["english"] = "english"
    duration: float = Field(description="Length of the recording in seconds.")
    text: str
    segments: list[Segment] = Field(description="One, which is the whole recording; none without words.")


class GeneratedPicture(BaseModel):
    """One picture, in the way that was asked for."""

    b64_json: str | None = Field(None, description="The file in base64.")
    url: str | None = Field(None, description="A data: address that holds the file.")


class Generated(BaseModel):
    """Pictures of a sentence, in the shape that clients of other interfaces expect."""

    created: int = Field(description="When, in seconds since 1970.")
    data: list[GeneratedPicture]
    output_format: Encoding
    size: str = Field(description="Width and height of each, such as 256x256.")
    model: str
    seed: int = Field(description="The same seed gives the same pictures.")


class InterpolatedPictures(BaseModel):
    """What lies between two recordings."""

    model: str
    seed: int
    seconds: float
    alphas: list[float] = Field(description="Share of the first recording in each picture.")
    pictures: list[Picture]


class ServedModel(BaseModel):
    """A model and what it offers."""

    name: str
    routes: list[str] = Field(description="Ways from speech to pictures, the default first.")
    picture_size: int = Field(description="Width and height of a picture.")
    description: str
    licence: str


class Limits(BaseModel):
    """What one request may hold."""

    max_bytes: int
    max_seconds: float
    max_pictures: int


class Models(BaseModel):
    """The models served, the default first."""

    models: list[ServedModel]
    limits: Limits


class Health(BaseModel):
    """That the server is up."""

    status: str


def picture(image: Image.Image, encoding: Encoding = Encoding.png, recipe: Recipe | None = None) -> Picture:
    """A Pillow image as `Picture`."""
    file = images.encode(image, encoding.value.upper(), preview=True, recipe=recipe)
    content = base64.b64encode(file).decode()
    return Picture(**{encoding.value: content}, width=image.width, height=image.height)


def words_of(words: Iterable[TranscribedWord]) -> list[Word] | None:
    """Words as `Word`; None without any."""
    return [Word(text=word.text, confidence=word.confidence) for word in words] or None


def heard_of(result: Translation) -> dict[str, Any]:
    """What a route tells of a recording besides the pictures, by the fields of `Pictures`."""
    return {
        "transcript": result.transcript,
        "words": words_of(result.words),
        "domain": result.domain,
        "confidence": result.confidence,
    }


def pictures(heard: RenderResult, encoding: Encoding = Encoding.png, recipe: bool = True) -> Pictures:
    """A translation as `Pictures`; `recipe`: each file keeps what drew it."""
    own = heard.result.recipe
    rows = own.noise_rows or range(own.pictures)
    recipes = [replace(own, pictures=1, noise_rows=(row,)) if recipe else None for row in rows]
    return Pictures(
        model=heard.result.model,
        route=heard.route,
        seed=heard.result.seed,
        speech_seconds=round(len(heard.waveform) / audio.SAMPLE_RATE, 3),
        seconds=round(heard.result.seconds, 4),
        noise_rows=list(heard.result.noise_rows),
        pictures=[picture(*one) for one in zip(heard.result.images, repeat(encoding), recipes, strict=False)],
        **heard_of(heard.result),
    )


def interpolation(
    result: Interpolation, encoding: Encoding = Encoding.png, recipe: bool = True
) -> InterpolatedPictures:
    """An interpolation as `InterpolatedPictures`; `recipe` as of `pictures`."""
    own = result.recipe if recipe else None
    return InterpolatedPictures(
        model=result.model,
        seed=result.seed,
        seconds=round(result.seconds, 4),
        alphas=result.alphas,
        pictures=[picture(image, encoding, own) for image in result.images],
    )
