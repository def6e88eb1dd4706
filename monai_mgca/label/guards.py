# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""What stands before MONAI Label's web application: pages of other sites, uploads without end, failures of words."""

from __future__ import annotations

import json
from typing import Any

from fastapi import HTTPException, Request
from fastapi.exception_handlers import http_exception_handler
from fastapi.responses import JSONResponse, Response
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["PlainText", "SameSite", "UploadLimit", "answer_error", "is_foreign", "is_plain"]

REFUSED = "Pages of other sites may ask nothing here; open the viewer from this server's own address."
HALF = "A text of the request holds half a character (a lone surrogate): send UTF-8."


class SameSite:
    """Refuses what a web page of another site has a browser ask; programs, and this server's own pages, are let in.

    Without it any page that an annotator has open could start trainings. A link to this server may be followed.

    Args:
        app: the application behind it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket") and is_foreign(scope.get("method", "GET"), Headers(scope=scope)):
            refuse = JSONResponse({"detail": REFUSED}, 403)
            await refuse(scope, receive, send)
        else:
            await self.app(scope, receive, send)


def is_foreign(method: str, headers: Headers) -> bool:
    """Whether a page of another site asks, according to the browser: no page can change these headers.

    Args:
        method: of the request.
        headers: of the request. ``Sec-Fetch-Site`` is sent by browsers of today to addresses of this machine and by
            TLS, also where a proxy has changed the host; ``Origin`` by all where a page does more than read.

    Example::

        print(is_foreign("POST", Headers({"origin": "https://elsewhere.example", "host": "127.0.0.1:8000"})))  # True
    """
    if site := headers.get("sec-fetch-site"):
        # a link, but no frame, in which a click could be stolen
        to = headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest", "document")
        followed = method in ("GET", "HEAD") and to == ("navigate", "document")
        return site not in ("same-origin", "none") and not followed
    origin = headers.get("origin")
    return origin is not None and origin.partition("://")[2].lower() != headers.get("host", "").lower()


class UploadLimit:
    """Refuses requests that are longer than a limit, before they fill the disk.

    Args:
        app: the application behind it.
        limit: bytes of a request.
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self.app, self.limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        detail = f"A request has at most {self.limit >> 20} MiB (MGCA_MAX_UPLOAD, at the server's start)."
        if int(Headers(scope=scope).get("content-length") or 0) > self.limit:
            await JSONResponse({"detail": detail}, 413, {"connection": "close"})(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.limit:  # of one that did not declare its length
                raise HTTPException(413, detail, {"connection": "close"})
            return message

        await self.app(scope, counted, send)


class PlainText:
    """Refuses JSON whose texts hold half of a surrogate pair: no text for a tokenizer, a file system or an answer.

    Args:
        app: the application behind it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or "json" not in Headers(scope=scope).get("content-type", "json").lower():
            await self.app(scope, receive, send)
            return
        messages = [await receive()]
        while messages[-1].get("more_body"):
            messages.append(await receive())
        body = b"".join(message.get("body", b"") for message in messages)
        try:
            plain = is_plain(json.loads(body))
        except (ValueError, RecursionError):  # the application reports what is wrong with it
            plain = True
        if not plain:
            await JSONResponse({"detail": HALF}, 400)(scope, receive, send)
            return
        rest = iter(messages)

        async def again() -> Message:
            return next(rest, None) or await receive()

        await self.app(scope, again, send)


def is_plain(content: Any) -> bool:
    """Whether all texts of parsed JSON can be written as UTF-8.

    Args:
        content: of plain values.

    Example::

        print(is_plain({"text": "effusion"}), is_plain(["\\ud800"]))  # True False
    """
    try:
        json.dumps(content, ensure_ascii=False).encode()
    except UnicodeError:
        return False
    return True


async def answer_error(request: Request, error: Any) -> Response:
    """As FastAPI answers an error, whatever a name in it holds: half a character could not be sent."""
    if isinstance(error.detail, str):
        error.detail = error.detail.encode("utf-8", "backslashreplace").decode()
    return await http_exception_handler(request, error)
