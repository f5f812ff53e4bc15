"""Sign-in of the page: with a key, a cookie proves that a browser has sent it."""

import hashlib
import hmac
import secrets
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from speech2image.web.errors import RequestRejected

COOKIE = "speech2image"


class Login:
    """Who may use the page.

    The cookie holds a digest of the key, not the key. Nothing is kept on the server, so that it holds after a
    restart and on every server with the same key; another key ends all of them.

    Args:
        key: the server's key; None lets everyone in.
        template: of the page that asks for the key.
    """

    def __init__(self, key: str | None, template: Any) -> None:
        self._key, self._template = key, template
        self._proof = hmac.new((key or "").encode(), b"speech2image page", hashlib.sha256).hexdigest()

    def knows(self, request: Request) -> bool:
        """Whether the request comes from a browser that sent the key before."""
        given = request.cookies.get(COOKIE, "")
        return self._key is None or secrets.compare_digest(given.encode(), self._proof.encode())

    def check(self, request: Request) -> None:
        """Let only those in that `knows` knows.

        Raises:
            RequestRejected: 401.
        """
        if not self.knows(request):
            raise RequestRejected(401, "this page needs the server's key: load it again and sign in")

    def page(self, wrong: bool = False) -> str:
        """The page that asks for the key."""
        return str(self._template.render(wrong=wrong))

    def make_router(self) -> APIRouter:
        """POST /login, with the form that the page sends."""
        router = APIRouter(include_in_schema=False)
        if self._key is not None:
            router.add_api_route("/login", self._log_in, methods=["POST"], response_model=None)
        return router

    async def _log_in(self, request: Request) -> Response:
        form = await request.form(max_files=0, max_fields=4)
        given = str(form.get("password", ""))
        if not secrets.compare_digest(given.encode(), (self._key or "").encode()):
            return HTMLResponse(self.page(wrong=True), 400)
        answer = RedirectResponse(f"{request.scope.get('root_path', '')}/", 303)
        secure = request.url.scheme == "https"
        answer.set_cookie(COOKIE, self._proof, secure=secure, httponly=True, samesite="strict")
        return answer
