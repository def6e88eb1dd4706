# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""What stands before the server: pages of other sites, uploads without end, names that are no text."""

from __future__ import annotations

import asyncio
import json

import pytest
from fastapi import FastAPI, HTTPException, UploadFile
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException as AnyHTTPException

from monai_mgca.label.guards import PlainText, SameSite, UploadLimit, answer_error, is_foreign

HERE = {"host": "127.0.0.1:8000"}


def application(*guards):
    """A small server: it takes files and JSON, and says so."""
    app, asked = FastAPI(), []

    @app.post("/train/{model}")
    def train(model: str, params: dict | None = None):
        asked.append(model)
        if params and "wrong" in params:
            raise HTTPException(404, f"There is no {params['wrong']}.")
        return {"params": params}

    @app.put("/image")
    def image(file: UploadFile):
        asked.append(len(file.file.read()))
        return {}

    @app.get("/image")
    def picture():
        asked.append("image")
        return {}

    app.add_exception_handler(AnyHTTPException, answer_error)
    for guard, options in guards:
        app.add_middleware(guard, **options)
    return app, asked


def ask(app, method, path, headers, chunks=(b"",)):
    """The status and the answer's object, of a request that comes in pieces."""
    messages, pieces = [], iter(chunks)
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(key.encode(), value.encode()) for key, value in headers.items()],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8000),
    }

    async def receive():
        piece = next(pieces, None)
        return {"type": "http.request", "body": piece or b"", "more_body": piece is not None}

    async def send(message):
        messages.append(message)

    asyncio.run(app(scope, receive, send))
    return messages[0]["status"], json.loads(b"".join(message.get("body", b"") for message in messages[1:]))


class TestOtherSites:
    """Headers as Chromium and Firefox send them."""

    FOREIGN = (
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "origin": "https://evil.example"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "origin": "null"},  # a form that sends itself
        {"sec-fetch-site": "same-site", "sec-fetch-mode": "cors", "origin": "http://127.0.0.1:9000"},  # another port
        {"origin": "https://evil.example"},  # of a browser without Sec-Fetch-Site
        {"origin": "null"},
        {"origin": "http://127.0.0.1:80001"},
        {"origin": "http://127.0.0.1:8000.evil.example"},
        {"origin": ""},
    )
    OWN = (
        {},  # Slicer, curl, Python
        {"sec-fetch-site": "same-origin", "sec-fetch-mode": "cors", "origin": "http://127.0.0.1:8000"},
        # a proxy with TLS, which asks under the name of this machine
        {"sec-fetch-site": "same-origin", "sec-fetch-mode": "cors", "origin": "https://label.hospital.example"},
        {"origin": "http://127.0.0.1:8000"},
        {"origin": "HTTP://127.0.0.1:8000"},
        {"sec-fetch-site": "none", "sec-fetch-mode": "navigate"},
    )

    @pytest.mark.parametrize("headers", FOREIGN)
    @pytest.mark.parametrize("path", ["/train/segmentation", "/image"])
    def test_refused(self, headers, path):
        app, asked = application((SameSite, {}))
        for method in ("POST", "PUT", "DELETE"):
            status, answer = ask(app, method, path, {**HERE, **headers})
            assert status == 403
            assert "other sites" in answer["detail"]
        assert not asked

    @pytest.mark.parametrize("headers", OWN)
    def test_let_in(self, headers):
        app, asked = application((SameSite, {}))
        assert ask(app, "POST", "/train/segmentation", {**HERE, **headers})[0] == 200
        assert asked == ["segmentation"]

    def test_pictures_of_another_page_are_refused_and_links_followed(self):
        app, asked = application((SameSite, {}))
        site = {**HERE, "sec-fetch-site": "cross-site"}
        assert ask(app, "GET", "/image", {**site, "sec-fetch-mode": "no-cors"})[0] == 403
        assert not asked
        assert ask(app, "GET", "/image", {**site, "sec-fetch-mode": "navigate"})[0] == 200

    @pytest.mark.parametrize("frame", ["iframe", "frame", "object", "embed"])
    def test_no_page_has_this_one_in_a_frame(self, frame):
        app, asked = application((SameSite, {}))
        site = {**HERE, "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": frame}
        assert ask(app, "GET", "/image", site)[0] == 403
        assert not asked
        assert ask(app, "GET", "/image", {**site, "sec-fetch-dest": "document"})[0] == 200

    def test_a_link_that_posts_is_foreign(self):
        headers = Headers({**HERE, "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"})
        assert is_foreign("POST", headers)
        assert not is_foreign("GET", headers)


class TestUploads:
    LIMIT = 1 << 20
    FORM = {**HERE, "content-type": "multipart/form-data; boundary=x"}

    def body(self, size):
        head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
        return head + bytes(size) + b"\r\n--x--\r\n"

    def pieces(self, body):
        return [body[start : start + 65536] for start in range(0, len(body), 65536)]

    @pytest.mark.parametrize("known", [True, False])
    def test_too_long(self, known):
        app, asked = application((UploadLimit, {"limit": self.LIMIT}))
        body, read = self.body(3 * self.LIMIT), []
        headers = {
            **self.FORM,
            **({"content-length": str(len(body))} if known else {"transfer-encoding": "chunked"}),
        }
        pieces = (read.append(len(piece)) or piece for piece in self.pieces(body))
        status, answer = ask(app, "PUT", "/image", headers, pieces)
        assert status == 413
        assert "at most 1 MiB (MGCA_MAX_UPLOAD" in answer["detail"]
        assert not asked
        assert sum(read) <= (0 if known else self.LIMIT + 65536)

    def test_a_length_that_is_a_lie(self):
        app, asked = application((UploadLimit, {"limit": self.LIMIT}))
        headers = {**self.FORM, "content-length": "10"}
        assert ask(app, "PUT", "/image", headers, self.pieces(self.body(3 * self.LIMIT)))[0] == 413
        assert not asked

    def test_as_long_as_the_limit(self):
        app, asked = application((UploadLimit, {"limit": self.LIMIT}))
        size = self.LIMIT - len(self.body(0))
        assert ask(app, "PUT", "/image", self.FORM, self.pieces(self.body(size)))[0] == 200
        assert asked == [size]


class TestHalfCharacters:
    JSON = {**HERE, "content-type": "application/json"}

    @pytest.mark.parametrize("params", [{"text": "\ud800"}, {"\udc00": 1}, {"a": {"b": ["\ud83dx"]}}])
    def test_refused(self, params):
        app, asked = application((PlainText, {}))
        body = json.dumps(params).encode()
        status, answer = ask(app, "POST", "/train/a", self.JSON, [body[:5], body[5:]])
        assert status == 400
        assert "half a character" in answer["detail"]
        assert not asked

    @pytest.mark.parametrize(
        "kind", ["application/JSON", "application/vnd.x+Json", "APPLICATION/JSON; charset=x", None]
    )
    def test_by_any_name(self, kind):
        app, asked = application((PlainText, {}))
        headers = {**HERE, "content-type": kind} if kind else HERE
        assert ask(app, "POST", "/train/a", headers, [b'{"text": "\\ud800"}'])[0] == 400
        assert not asked

    @pytest.mark.parametrize("params", [{}, {"text": "\u00e9 \U0001f600"}, {"a": [1, None, True]}])
    def test_let_in(self, params):
        app, _ = application((PlainText, {}))
        body = json.dumps(params).encode()
        assert ask(app, "POST", "/train/a", self.JSON, [body[:5], body[5:]]) == (200, {"params": params})

    @pytest.mark.parametrize("body", [b"{", b"[" * 100000, b"\xff"])
    def test_what_is_no_json_is_refused_by_the_application(self, body):
        app, asked = application((PlainText, {}))
        assert ask(app, "POST", "/train/a", self.JSON, [body])[0] in (400, 422)
        assert not asked

    def test_in_an_error(self):
        app, _ = application()
        body = json.dumps({"wrong": "\ud800x"}).encode()
        assert ask(app, "POST", "/train/a", self.JSON, [body]) == (404, {"detail": "There is no \\ud800x."})
