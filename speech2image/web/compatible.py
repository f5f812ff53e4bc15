"""Addresses in the shape that clients of well-known interfaces send and expect.

    POST /v1/transcriptions, /v1/audio/transcriptions    a recording -> its words
    POST /v1/images/generations                          a sentence  -> pictures

A client of theirs works with the base address `http://127.0.0.1:7860/v1` and the server's key. What they may
send and this server cannot do is refused; what changes nothing here is taken and ignored. `docs/serving.md`
lists both.
"""

import math
import time
from statistics import fmean
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from speech2image.web import schemas
from speech2image.web.api import client_of, key_check, known_parameters
from speech2image.web.description import json_body, one_of, recordings, rejections
from speech2image.web.errors import RequestRejected
from speech2image.web.service import MAX_SENTENCE, Recognized, RenderRequest, RenderResult, Service
from speech2image.web.uploads import cancel_on_disconnect, receive_form, receive_json, refusal_of

ALIAS = "/v1/audio/transcriptions"
"""Where clients of other servers look for transcriptions."""
_PLAIN = {"text/plain": {"schema": {"type": "string"}}}
_ENGLISH = {"en", "english"}


class TranscriptionSettings(BaseModel):
    """The fields beside the recording."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = Field(None, description="A name of /v1/models.")
    route: str | None = Field(None, description="Of the model, one that tells words.")
    response_format: str = Field("json", description="json, text or verbose_json.")
    language: str = Field("en", description="en: English is all that it knows.")
    stream: bool = Field(False, description="false: the words come at once.")
    timestamp_granularities: list[str] = Field(
        ["segment"], alias="timestamp_granularities[]", description="segment: times of words are not known."
    )
    prompt: str | None = Field(None, description="Ignored: what was said before changes nothing.")
    temperature: float | None = Field(None, description="Ignored: the likeliest words are told.")


class GenerationRequest(BaseModel):
    """What is to be drawn."""

    model_config = ConfigDict(extra="forbid")

    prompt: str = Field(
        description="An English description.", json_schema_extra={"minLength": 1, "maxLength": MAX_SENTENCE}
    )
    n: int | None = Field(None, ge=1, description="Pictures, 1 by default.")
    model: str | None = Field(None, description="A name of /v1/models.")
    size: str | None = Field(None, description="auto, or the model's own size, such as 256x256.")
    response_format: Literal["b64_json", "url", None] = Field(
        None, description="b64_json (default), or url: a data: address that holds the picture itself."
    )
    output_format: Literal["png", "webp", "jpeg", None] = Field(None, description="png (default) ...")
    seed: int | None = Field(
        None, ge=0, le=2**64 - 1, description="Where the noise comes from; 0 by default, so that the same "
        "request gives the same pictures.",
    )  # fmt: skip
    background: Literal["auto", "opaque", None] = Field(None, description="Pictures are opaque.")
    stream: Literal[False, None] = Field(None, description="Pictures come at once.")
    quality: str | None = Field(None, description="Ignored.")
    style: str | None = Field(None, description="Ignored.")
    moderation: str | None = Field(None, description="Ignored.")
    output_compression: int | None = Field(None, description="Ignored.")
    user: str | None = Field(None, description="Ignored.")


def make_compatible_router(service: Service, key: str | None) -> APIRouter:
    """The routes of one service; a `key` must come with every request."""
    before = [Depends(known_parameters), Depends(key_check(key))]
    router = APIRouter(dependencies=before, responses=rejections())
    _add_transcriptions(router, service)
    _add_generations(router, service)
    return router


# ---- transcriptions ------------------------------------------------------------------------------


def _add_transcriptions(router: APIRouter, service: Service) -> None:
    names = service.registry

    async def transcribe(
        request: Request,
        model: Annotated[str | None, one_of(names.models, "A name of /v1/models.")] = None,
        route: Annotated[str | None, one_of(names.route_names, "One that tells words.")] = None,
        response_format: Annotated[str, Query(description="json, text or verbose_json.")] = "json",
    ) -> Response:
        speech, fields = await receive_form(request)
        with speech:
            asked = _settings(dict(request.query_params), fields)
            answer = _FORMATS[asked.response_format]
            work = service.recognize(speech, asked.model, asked.route, client_of(request))
            return answer(await cancel_on_disconnect(request, work))

    router.add_api_route(
        "/v1/transcriptions",
        transcribe,
        methods=["POST"],
        operation_id="transcribe",
        tags=["words"],
        summary="A recording becomes words",
        response_model=None,
        responses={200: {"model": schemas.Transcription | schemas.VerboseTranscription, "content": _PLAIN}},
        openapi_extra=recordings(("file",), raw=True, fields=TranscriptionSettings),
    )
    router.add_api_route(ALIAS, transcribe, methods=["POST"], include_in_schema=False, response_model=None)


def _settings(query: dict[str, str], form: list[tuple[str, str]]) -> TranscriptionSettings:
    """The settings of query and form together.

    Raises:
        RequestRejected: 422, one is unknown, there twice, or more than this server can do.
    """
    lists = "timestamp_granularities[]"
    given: dict[str, Any] = dict(query)
    for name, value in form:
        if name == lists:
            given.setdefault(lists, []).append(value)
        elif name in given:
            raise RequestRejected(422, f"the setting {name[:40]!r} is there twice; send it once")
        else:
            given[name] = value
    try:
        asked = TranscriptionSettings.model_validate(given)
    except ValidationError as error:
        raise refusal_of(error) from error
    if asked.response_format not in _FORMATS:
        raise _unsupported("response_format", asked.response_format, ", ".join(_FORMATS))
    if asked.language.lower() not in _ENGLISH:
        raise _unsupported("language", asked.language, "en; it knows English alone")
    if asked.stream:
        raise _unsupported("stream", "true", "false; pictures while one speaks are at /v1/live")
    if asked.timestamp_granularities != ["segment"]:
        raise _unsupported(lists, ", ".join(asked.timestamp_granularities), "segment")
    return asked


def _unsupported(name: str, given: str, allowed: str) -> RequestRejected:
    return RequestRejected(422, f"{name} may be {allowed}; not {given[:40]!r}", code="unsupported")


def _json(heard: Recognized) -> Response:
    found = schemas.Transcription(
        text=heard.recognition.text,
        speech_seconds=round(heard.speech_seconds, 3),
        seconds=round(heard.seconds, 4),
        model=heard.model,
        route=heard.route,
        words=schemas.words_of(heard.recognition.words),
        domain=heard.recognition.decision.domain,
        confidence=heard.recognition.decision.confidence,
    )
    return JSONResponse(found.model_dump(exclude_none=True))


def _text(heard: Recognized) -> Response:
    return PlainTextResponse(f"{heard.recognition.text}\n")


def _verbose(heard: Recognized) -> Response:
    """One segment, which is the whole recording."""
    text, words, seconds = heard.recognition.text, heard.recognition.words, round(heard.speech_seconds, 3)
    segment = schemas.Segment(
        id=0,
        seek=0,
        start=0.0,
        end=seconds,
        text=text,
        temperature=0.0,
        avg_logprob=fmean(math.log(max(word.confidence, 1e-9)) for word in words) if words else None,
    )
    found = schemas.VerboseTranscription(duration=seconds, text=text, segments=[segment] if text else [])
    return JSONResponse(found.model_dump(exclude_none=True))


_FORMATS = {"json": _json, "text": _text, "verbose_json": _verbose}


# ---- pictures ------------------------------------------------------------------------------------


def _add_generations(router: APIRouter, service: Service) -> None:
    @router.post(
        "/v1/images/generations",
        operation_id="generate_images",
        tags=["pictures"],
        summary="A sentence becomes pictures",
        response_model_exclude_none=True,
        openapi_extra=json_body(GenerationRequest),
    )
    async def generate(request: Request) -> schemas.Generated:
        asked = await receive_json(request, GenerationRequest)
        name, route = service.registry.reader(asked.model)
        own = f"{route.picture_size}x{route.picture_size}"
        if asked.size not in (None, "auto", own):
            raise _unsupported("size", asked.size, f"auto or {own}, which this model draws")
        encoding = schemas.Encoding(asked.output_format or "png")
        wanted = RenderRequest(asked.n or 1, asked.seed or 0, asked.model, name)

        def finish(drawn: RenderResult) -> schemas.Generated:
            files = [getattr(one, encoding) for one in schemas.pictures(drawn, encoding).pictures]
            as_url = asked.response_format == "url"
            return schemas.Generated(
                created=int(time.time()),
                data=[
                    schemas.GeneratedPicture(
                        b64_json=None if as_url else file,
                        url=f"data:image/{encoding};base64,{file}" if as_url else None,
                    )
                    for file in files
                ],
                output_format=encoding,
                size=own,
                model=drawn.result.model,
                seed=drawn.result.seed,
            )

        work = service.translate(asked.prompt, wanted, client_of(request), finish)
        return await cancel_on_disconnect(request, work)
