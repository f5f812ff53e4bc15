"""The page to speak to: its files, and the requests that its buttons make (`/page/...`).

The page is HTML, CSS and JavaScript from `assets/`; nothing of it is fetched from another host. What its
requests draw comes from `service.py`, as for the HTTP interface, so that bounds and pictures are the same.
"""

import contextlib
import json
import struct
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Annotated, Literal

import numpy as np
from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse
from numpy.typing import NDArray
from PIL import Image

from speech2image import audio, tts
from speech2image.errors import MissingExtraError
from speech2image.pipeline import images
from speech2image.pipeline.base import Interpolation, Route
from speech2image.pipeline.domains import OTHER
from speech2image.web.api import client_of
from speech2image.web.errors import RequestRejected
from speech2image.web.login import COOKIE, Login
from speech2image.web.page import answers
from speech2image.web.page.events import EventStream
from speech2image.web.page.examples import Examples, domains_of, find_examples, plural, suggestions
from speech2image.web.page.templates import ASSETS, template
from speech2image.web.service import (
    MAX_SENTENCE,
    RenderRequest,
    RenderResult,
    Service,
    Steps,
    check_sentence,
)
from speech2image.web.uploads import cancel_on_disconnect, closing, receive

PICTURES = 8
"""Pictures drawn unless another number is chosen."""
STEPS = 9
"""Pictures between two recordings, likewise."""
SIDE_BY_SIDE = "side by side"
"""The choice to show all routes of a model."""

_SERVED = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_ASSETS = frozenset(path.name for path in ASSETS.iterdir())
_KEPT = {"Cache-Control": "max-age=3600"}
_Seed = Annotated[int, Query(ge=0, le=2**64 - 1)]
_Name = Annotated[str | None, Query()]


# ---- sign-in -------------------------------------------------------------------------------------


def login_page(wrong: bool = False) -> str:
    """The page that asks for the key."""
    return template("login.html").render(wrong=wrong)


def _add_login(app: FastAPI, login: Login) -> None:
    @app.post("/login", include_in_schema=False, response_model=None)
    async def log_in(request: Request) -> Response:
        form = await request.form(max_files=0, max_fields=4)
        if not login.is_key(str(form.get("password", ""))):
            return HTMLResponse(login_page(wrong=True), 400)
        answer = RedirectResponse(f"{request.scope.get('root_path', '')}/", 303)
        secure = request.url.scheme == "https"
        answer.set_cookie(COOKIE, login.proof, secure=secure, httponly=True, samesite="strict")
        return answer

    @app.post("/logout", include_in_schema=False)
    async def log_out(request: Request) -> Response:
        answer = RedirectResponse(f"{request.scope.get('root_path', '')}/", 303)
        answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return answer


# ---- files of the page ------------------------------------------------------------------------


def add_page(app: FastAPI, service: Service, key: str | None) -> None:
    """Add the page to the HTTP interface; with a `key`, the page asks for it."""
    login, examples = Login(key), Examples(service, *find_examples())
    _add_files(app, login, service, examples)
    _add_examples(app, examples)
    if login.key is not None:
        _add_login(app, login)
    app.include_router(_make_router(service, login))


def render(service: Service, captions: dict[str, str], address: str = "", guarded: bool = False) -> str:
    """The page of a service as HTML.

    Args:
        service: whose models and limits are shown.
        captions: example file -> what it says.
        address: of the page, ending in a slash, for previews of links to it.
        guarded: by a key, so that there is a way out.
    """
    limits, registry = service.settings, service.registry
    several = len(registry.route_names) > 1
    names = domains_of(next(iter(registry.routes_of().values())).model)
    return template("page.html").render(
        address=address,
        guarded=guarded,
        domains=names,
        drawn=plural(names) if names else "what you want to see",
        pictured=_pictured(names, captions),
        sentences=suggestions(names),
        speaks=bool(tts.available_voices()),
        reads=any(route.capabilities.text for route in registry.routes_of().values()),
        captions=captions,
        max_seconds=limits.max_seconds,
        max_bytes=limits.max_bytes,
        max_sentence=MAX_SENTENCE,
        max_pictures=limits.max_pictures,
        pictures=min(PICTURES, limits.max_pictures),
        steps=min(STEPS, limits.max_pictures),
        models=registry.models,
        routes=[*registry.route_names, *([SIDE_BY_SIDE] if several else [])],
        options_title=_options_title("Number", service, several),
        steps_title=_options_title("Steps", service, False),
        about=[_about(name, routes) for name, routes in registry.routes.items()],
    )


def _pictured(names: Sequence[str], captions: dict[str, str]) -> list[tuple[str, str, str]]:
    """For each domain that an example speaks of: its plural, the shortest example's file and text."""
    found = []
    for name in names:
        about = [(file, text) for file, text in captions.items() if name in text]
        if about:
            found.append((plural([name]), *min(about, key=lambda example: len(example[1]))))
    return found


def _options_title(count: str, service: Service, several_routes: bool) -> str:
    further = ["model"] if len(service.registry.models) > 1 else []
    further += ["route"] if several_routes else []
    return ", ".join([count, "seed", *further]) if further else f"{count} and noise seed"


def _about(name: str, routes: dict[str, Route]) -> str:
    card = next(iter(routes.values())).model.card
    return f"{name}: {card.get('description', '')} ({card.get('licence', 'licence unstated')})"


def _add_files(app: FastAPI, login: Login, service: Service, examples: Examples) -> None:
    @app.get("/", include_in_schema=False)
    async def home(request: Request) -> HTMLResponse:
        if not login.sent_before(request):
            return HTMLResponse(login_page())
        guarded = login.key is not None
        html = render(service, examples.captions, str(request.base_url), guarded)
        # Nobody sees it by the button "back" after logging out.
        return HTMLResponse(html, headers={"Cache-Control": "no-store"} if guarded else None)

    @app.get("/assets/{name}", include_in_schema=False)
    async def asset(name: str) -> FileResponse:
        kind = _SERVED.get(Path(name).suffix)
        if kind is None or name not in _ASSETS:
            raise RequestRejected(404, f"no file {name!r}")
        return FileResponse(ASSETS / name, media_type=kind, headers={"Cache-Control": "no-cache"})


def _add_examples(app: FastAPI, examples: Examples) -> None:
    @app.get("/examples/{name}", include_in_schema=False)
    async def example(name: str) -> FileResponse:
        return FileResponse(examples.path(name))

    @app.get("/examples/{name}/picture", include_in_schema=False)
    async def example_picture(request: Request, name: str) -> Response:
        content = answers.thumbnail(await examples.picture(name, client_of(request)))
        return Response(content, media_type="image/webp", headers=_KEPT)

    @app.get("/preview.jpg", include_in_schema=False)
    async def preview(request: Request) -> Response:
        content = await examples.preview(client_of(request))
        return Response(content, media_type="image/jpeg", headers=_KEPT)


# ---- what the buttons ask for ------------------------------------------------------------------


def _check(login: Login) -> Callable[[Request], None]:
    def check(request: Request) -> None:
        if not login.sent_before(request):
            raise RequestRejected(401, "this page needs the server's key: load it again and sign in")

    return check


def _make_router(service: Service, login: Login) -> APIRouter:
    router = APIRouter(prefix="/page", include_in_schema=False, dependencies=[Depends(_check(login))])
    _add_pictures(router, service)
    _add_picture(router, service)
    _add_interpolation(router, service)
    _add_speech(router, service)
    return router


def _add_pictures(router: APIRouter, service: Service) -> None:
    @router.post("/pictures")
    async def pictures(
        request: Request,
        n: int = PICTURES,
        seed: _Seed = 0,
        model: _Name = None,
        route: _Name = None,
        diverse: bool = True,
        sound: bool = True,
        anyway: bool = False,
    ) -> Response:
        """A recording, or a sentence, becomes pictures, each step of it an event (`events.EventStream`).

        The events: "heard", what was heard; "picture" for each; "done". What is about something that the
        model cannot draw is drawn only if `anyway`; else "other" takes the place of the pictures.
        """
        wanted = RenderRequest(n, seed, model, route, diverse)
        stream, subject = EventStream(), await _subject(request)

        def heard(result: RenderResult) -> bool:
            stream.tell("heard", n=n, **answers.heard(result, sound))
            return anyway or result.result.domain != OTHER

        def drawn(k: int, image: Image.Image) -> None:
            url = answers.data_url(answers.view(image), "image/webp")
            stream.tell("picture", k=k, url=url, width=image.width, height=image.height)

        def finish(result: RenderResult) -> None:
            stream.tell("done" if result.result.images else "other", seconds=result.result.seconds)

        async def work() -> None:
            with subject as what:
                await service.follow(what, wanted, client_of(request), Steps(finish, heard, drawn))

        return await stream.answer(request, work())


def _add_picture(router: APIRouter, service: Service) -> None:
    @router.post("/picture")
    async def picture(
        request: Request,
        n: int = PICTURES,
        seed: _Seed = 0,
        model: _Name = None,
        route: _Name = None,
        diverse: bool = True,
        k: Annotated[int | None, Query(ge=0)] = None,
        recipe: bool = True,
    ) -> Response:
        """A picture to keep, as PNG: number `k` of those of a recording or sentence, or all on one sheet.

        It keeps as text what drew it, unless that is not wanted (`recipe`).
        """
        if k is not None and k >= n:
            raise RequestRejected(422, f"k must be less than {n}, the number of pictures, not {k}")
        wanted, steps = RenderRequest(n, seed, model, route, diverse), Steps(partial(_png, recipe), only=k)
        with await _subject(request) as what:
            work = service.follow(what, wanted, client_of(request), steps)
            return Response(await cancel_on_disconnect(request, work), media_type="image/png")


def _png(recipe: bool, result: RenderResult) -> bytes:
    return images.encode(result.result.grid(), recipe=result.result.recipe if recipe else None)


def _add_interpolation(router: APIRouter, service: Service) -> None:
    @router.post("/interpolation")
    async def interpolation(
        request: Request,
        n: int = STEPS,
        seed: _Seed = 0,
        model: _Name = None,
        form: Literal["json", "png", "gif", "webp"] = "json",
        recipe: bool = True,
    ) -> Response:
        """Two recordings become the pictures between them: to look at, a row to keep, or an animation.

        What is kept has its `recipe`, but for GIF.
        """
        make, kind = _WALKS[form]
        finish = partial(make, recipe)
        with closing(await receive(request, ("first", "second"))) as files:
            both, wanted = (files["first"], files["second"]), RenderRequest(n, seed, model)
            work = service.interpolate(both, wanted, client_of(request), finish)
            return Response(await cancel_on_disconnect(request, work), media_type=kind)


_WALKS: dict[str, tuple[Callable[[bool, Interpolation], bytes], str]] = {
    "json": (lambda _, walk: json.dumps(answers.interpolation(walk)).encode(), "application/json"),
    "png": (lambda kept, walk: images.encode(walk.grid(), recipe=walk.recipe if kept else None), "image/png"),
    "gif": (lambda _, walk: answers.animation(walk.images, "gif"), "image/gif"),
    "webp": (
        lambda kept, walk: answers.animation(walk.images, "webp", walk.recipe if kept else None),
        "image/webp",
    ),
}


def _add_speech(router: APIRouter, service: Service) -> None:
    @router.post("/speech")
    async def speech(request: Request) -> Response:
        """A sentence, the body as UTF-8, becomes a recording."""
        text = await _sentence(request)
        try:
            waveform = await cancel_on_disconnect(request, service.speak(text, client_of(request)))
        except MissingExtraError as error:
            raise RequestRejected(503, str(error), code=error.code) from error
        return Response(float_wav(waveform), media_type="audio/wav")


async def _subject(request: Request) -> contextlib.AbstractContextManager[IO[bytes] | str]:
    """What is to be drawn: a recording, closed at the end, or a sentence where the body says it is text."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "text/plain":
        return contextlib.nullcontext(await _sentence(request))
    files = await receive(request, ("audio",))
    return contextlib.closing(files["audio"])


async def _sentence(request: Request) -> str:
    content = bytearray()
    async for block in request.stream():
        content += block
        if len(content) > 4 * MAX_SENTENCE:  # bytes of the longest sentence in UTF-8
            break
    text = content.decode("utf-8", errors="replace")
    check_sentence(text)
    return text


def float_wav(waveform: NDArray[np.float32]) -> bytes:
    """16 kHz samples as a wav file that loses nothing, so that a typed sentence gives what `say` gives."""
    content, rate = waveform.astype("<f4").tobytes(), audio.SAMPLE_RATE
    about = struct.pack("<4sIHHIIHH", b"fmt ", 16, 3, 1, rate, 4 * rate, 4, 32)
    head = struct.pack("<4sI4s", b"RIFF", len(about) + len(content) + 12, b"WAVE")
    return head + about + struct.pack("<4sI", b"data", len(content)) + content
