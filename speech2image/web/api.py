"""The HTTP interface: POST /v1/images, POST /v1/interpolate, GET /v1/models, /healthz, /metrics.

`compatible.py` has more of it, `live.py` the WebSocket.
"""

import secrets
import time
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from string import punctuation
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.params import Depends as DependsOn
from fastapi.responses import JSONResponse
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer
from PIL import Image
from pydantic import BaseModel
from pydantic.json_schema import SkipJsonSchema

from speech2image.errors import OutputError
from speech2image.pipeline import images
from speech2image.pipeline.base import Interpolation, Translation
from speech2image.web import metrics, schemas
from speech2image.web.description import BINARY, one_of, recordings, rejections
from speech2image.web.errors import RequestRejected
from speech2image.web.service import RenderRequest, RenderResult, Service
from speech2image.web.uploads import cancel_on_disconnect, closing, media_type, receive, receive_json


class Format(StrEnum):
    """What comes back."""

    png = "png"
    webp = "webp"
    jpeg = "jpeg"
    json = "json"


_MEDIA = {
    Format.png: "image/png",
    Format.webp: "image/webp",
    Format.jpeg: "image/jpeg",
    Format.json: "application/json",
}


_Name = str | SkipJsonSchema[None]
_Format = Format | SkipJsonSchema[None]

_bearer = HTTPBearer(auto_error=False, description="The server's key, if it has one.")
_header = APIKeyHeader(name="X-API-Key", auto_error=False, description="The same in a header of its own.")

_SEED = Query(ge=0, le=2**64 - 1, description="Where the noise comes from; the same seed, the same pictures.")
_FORMAT = Query(
    description="png, webp, jpeg: one picture, or all on one sheet. json: each by itself, in base64. Without "
    "it the header Accept decides, else png.",
    json_schema_extra={"enum": [*Format]},
)
_ENCODING = Query(description="The pictures in JSON: png loses nothing, webp and jpeg are small.")
_RECIPE = Query(description="Keep in the picture file, as text, what drew it: model, route, seed, words.")
_DIVERSE = Query(description="Give the n pictures that differ most of more; the first stays.")
_PICTURES: dict[str, Any] = {
    kind: {"schema": BINARY} for kind in _MEDIA.values() if kind.startswith("image/")
}


def make_router(service: Service, key: str | None) -> APIRouter:
    """The HTTP interface of one service; a `key` must come with every request to /v1 and /metrics."""
    router = APIRouter(dependencies=[Depends(known_parameters)], responses=rejections(422))
    protected = [Depends(key_check(key))]
    _add_images(router, service, protected)
    _add_interpolate(router, service, protected)
    _add_information(router, service, protected)
    return router


def _add_images(router: APIRouter, service: Service, protected: list[DependsOn]) -> None:
    limits, registry = service.settings, service.registry
    count = Query(ge=1, le=limits.max_pictures, description="Pictures to draw.")

    @router.post(
        "/v1/images",
        operation_id="draw_images",
        tags=["pictures"],
        summary="A recording, or a sentence, becomes pictures",
        responses=rejections() | rejections(406) | _pictures_or_png(schemas.Pictures),
        response_model=None,
        dependencies=protected,
        openapi_extra=recordings(("audio",), raw=True, json=schemas.Sentence),
    )
    async def draw(
        request: Request,
        n: Annotated[int, count] = 1,
        seed: Annotated[int, _SEED] = 0,
        model: Annotated[_Name, one_of(registry.models, "A name of /v1/models.")] = None,
        route: Annotated[_Name, one_of(registry.route_names, "Way from speech to pictures.")] = None,
        diverse: Annotated[bool, _DIVERSE] = False,
        format: Annotated[_Format, _FORMAT] = None,
        encoding: Annotated[schemas.Encoding, _ENCODING] = schemas.Encoding.png,
        recipe: Annotated[bool, _RECIPE] = True,
    ) -> Response:
        kind = chosen(request, format)
        wanted = RenderRequest(n, seed, model, route, diverse)
        finish: Callable[[RenderResult], Response] = (
            partial(_json_pictures, encoding, recipe)
            if kind is Format.json
            else lambda heard: _file(heard.result.grid(), heard.result, kind, recipe)
        )
        draws = partial(
            service.translate,
            wanted=wanted,
            client=client_of(request),
            finish=finish,
            words=kind is Format.json,  # of a picture file only its recipe holds them
        )
        if media_type(request) == _MEDIA[Format.json]:
            registry.reader(model, route)  # refused before the body is read
            text = (await receive_json(request, schemas.Sentence)).text
            return await cancel_on_disconnect(request, draws(text))
        registry.find(model, route)
        with closing(await receive(request, ("audio",))) as files:
            return await cancel_on_disconnect(request, draws(files["audio"]))


def _add_interpolate(router: APIRouter, service: Service, protected: list[DependsOn]) -> None:
    limits, registry = service.settings, service.registry
    most = max(2, limits.max_pictures)
    count = Query(ge=2, le=most, description="Pictures in the row, both ends included.")

    @router.post(
        "/v1/interpolate",
        operation_id="interpolate",
        tags=["pictures"],
        summary="Two recordings become a row of pictures between them",
        responses=rejections() | rejections(406) | _pictures_or_png(schemas.InterpolatedPictures),
        response_model=None,
        dependencies=protected,
        openapi_extra=recordings(("first", "second"), raw=False),
    )
    async def interpolate(
        request: Request,
        steps: Annotated[int, count] = min(9, most),
        seed: Annotated[int, _SEED] = 0,
        model: Annotated[_Name, one_of(registry.models, "A name of /v1/models.")] = None,
        format: Annotated[_Format, _FORMAT] = None,
        encoding: Annotated[schemas.Encoding, _ENCODING] = schemas.Encoding.png,
        recipe: Annotated[bool, _RECIPE] = True,
    ) -> Response:
        kind, (_, opened) = chosen(request, format), registry.find(model)
        _check_row(kind, steps, opened.picture_size)
        finish: Callable[[Interpolation], Response] = (
            partial(_json_row, encoding, recipe)
            if kind is Format.json
            else lambda row: _file(row.grid(), row, kind, recipe)
        )
        with closing(await receive(request, ("first", "second"))) as files:
            both, wanted = (files["first"], files["second"]), RenderRequest(steps, seed, model)
            return await cancel_on_disconnect(
                request, service.interpolate(both, wanted, client_of(request), finish)
            )


def _add_information(router: APIRouter, service: Service, protected: list[DependsOn]) -> None:
    @router.get(
        "/v1/models",
        operation_id="list_models",
        tags=["server"],
        summary="The models served, and what a request may hold",
        dependencies=protected,
        responses=rejections(401),
    )
    async def models() -> schemas.Models:
        return _models(service)

    @router.get("/healthz", operation_id="is_up", tags=["server"], summary="Whether the server is up")
    async def healthz() -> schemas.Health:
        return schemas.Health(status="ok")

    @router.get(
        "/readyz",
        operation_id="is_ready",
        tags=["server"],
        summary="Whether there is room for a request",
        responses=rejections(503),
    )
    async def readyz() -> schemas.Health:
        service.check_ready()
        return schemas.Health(status="ok")

    @router.get(
        "/metrics",
        operation_id="read_metrics",
        tags=["server"],
        summary="Counters for Prometheus",
        dependencies=protected,
        response_class=Response,
        responses=rejections(401) | {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )
    async def metrics_() -> Response:
        return Response(service.metrics.text(), media_type=metrics.CONTENT_TYPE)


def _pictures_or_png(schema: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    return {200: {"model": schema, "content": _PICTURES, "description": "The pictures."}}


def client_of(request: Request) -> str:
    """Who asks: the address, behind trusted proxies the one they forward."""
    return request.client.host if request.client else "unknown"


def key_check(key: str | None) -> Callable[..., None]:
    """What refuses, 401, a request without the server's key, if it has one."""

    def check(
        bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
        header: Annotated[str | None, Depends(_header)],
    ) -> None:
        given = bearer.credentials if bearer else header
        if key is not None and not secrets.compare_digest((given or "").encode(), key.encode()):
            raise RequestRejected(
                401, "this server needs its key: send Authorization: Bearer KEY, or X-API-Key: KEY"
            )

    return check


def _models(service: Service) -> schemas.Models:
    limits = service.settings
    served = [
        schemas.ServedModel(
            name=name,
            routes=list(routes),
            picture_size=next(iter(routes.values())).picture_size,
            description=str(next(iter(routes.values())).model.card.get("description", "")),
            licence=str(next(iter(routes.values())).model.card.get("licence", "unstated")),
        )
        for name, routes in service.registry.routes.items()
    ]
    bounds = schemas.Limits(
        max_bytes=limits.max_bytes, max_seconds=limits.max_seconds, max_pictures=limits.max_pictures
    )
    return schemas.Models(models=served, limits=bounds)


def chosen(request: Request, format: Format | None) -> Format:
    """What to send: what the query names, else the best that the header Accept allows.

    Raises:
        RequestRejected: 406, it allows nothing of it.
    """
    accepted = request.headers.get("accept", "")
    if format is not None or not accepted.strip():
        return format or Format.png
    shares = {kind: _share(accepted, media) for kind, media in _MEDIA.items()}
    best = max(shares, key=lambda kind: shares[kind])  # the first of equals: png
    if shares[best] <= 0:
        sent = ", ".join(_MEDIA.values())
        raise RequestRejected(406, f"the header Accept allows none of {sent}; or say ?format=png")
    return best


def _share(accepted: str, media: str) -> float:
    """How much a header Accept wants a media type, 0 (not at all) to 1; its closest range counts."""
    found = (-1, 0.0)
    for part in accepted.split(","):
        name, *parameters = (piece.strip().lower() for piece in part.split(";"))
        ranges = ("*/*", f"{media.partition('/')[0]}/*", media)
        if name not in ranges:
            continue
        try:
            share = next((float(one[2:]) for one in parameters if one.startswith("q=")), 1.0)
        except ValueError:
            share = 0.0
        found = max(found, (ranges.index(name), share))
    return found[1]


def _check_row(kind: Format, steps: int, side: int) -> None:
    """Refuse a row that is longer than its format holds."""
    if kind is not Format.json:
        try:
            images.check_sheet(f"the row.{kind}", steps, side, steps)
        except OutputError as error:
            raise RequestRejected(422, str(error)) from error


def _file(sheet: Image.Image, result: Translation | Interpolation, kind: Format, recipe: bool) -> Response:
    # Headers hold no letters beyond Latin-1, names of models any: UTF-8 with percent signs, as in addresses.
    name = quote(result.model, safe=punctuation.replace("%", ""))
    start = time.perf_counter()
    content = images.encode(sheet, kind.value.upper(), preview=True, recipe=result.recipe if recipe else None)
    headers = {"X-Speech2Image-Model": name, "X-Speech2Image-Seed": str(result.seed)}
    headers["Server-Timing"] = _timing(result, start)
    return Response(content, media_type=_MEDIA[kind], headers=headers)


def _json_pictures(encoding: schemas.Encoding, recipe: bool, heard: RenderResult) -> Response:
    start = time.perf_counter()
    content = schemas.pictures(heard, encoding, recipe).model_dump(exclude_none=True)
    return JSONResponse(content, headers={"Server-Timing": _timing(heard.result, start)})


def _json_row(encoding: schemas.Encoding, recipe: bool, row: Interpolation) -> Response:
    start = time.perf_counter()
    content = schemas.interpolation(row, encoding, recipe).model_dump(exclude_none=True)
    return JSONResponse(content, headers={"Server-Timing": _timing(row, start)})


def _timing(result: Translation | Interpolation, start: float) -> str:
    """The header Server-Timing: milliseconds of each step, and of the encoding since `start`."""
    steps = result.timings | {"encode": time.perf_counter() - start}
    return ", ".join(f"{name};dur={1000 * seconds:.1f}" for name, seconds in steps.items())


def known_parameters(request: Request) -> None:
    """Refuse what a query says beyond what its path knows: a slip would be passed over in silence.

    Raises:
        RequestRejected: 422.
    """
    known = [field.alias for field in request.scope["route"].dependant.query_params]
    unknown = sorted(set(request.query_params) - set(known))
    if unknown:
        allowed = ", ".join(known) or "none"
        raise RequestRejected(422, f"unknown parameter {unknown[0][:40]!r}; known here: {allowed}")
