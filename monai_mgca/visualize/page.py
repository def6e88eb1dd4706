# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Writes an HTML page that works offline, from the templates beside this file."""

from __future__ import annotations

import base64
import io
import os
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from PIL import Image

from monai_mgca.utils.console import visible_lines
from monai_mgca.utils.files import replacing

__all__ = ["data_uri", "write_page"]

# nothing is fetched and nothing runs: a page can be opened from disk anywhere, and texts in it do nothing
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; color: #1a202c; max-width: 75rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; border-bottom: 1px solid #cbd5e0; }
p { max-width: 60rem; } .note { color: #4a5568; }
table { border-collapse: collapse; }
th, td { padding: .25rem .8rem; text-align: right; border-bottom: 1px solid #e2e8f0; }
th:first-child, td:first-child { text-align: left; } td { font-variant-numeric: tabular-nums; }
.grid { display: flex; flex-wrap: wrap; gap: 1rem; padding: 0; list-style: none; }
figure { margin: 0; width: 12rem; } figure.wide { width: auto; }
figcaption { font-size: .82rem; overflow-wrap: anywhere; }
img { max-width: 100%; background: #000; }
figure:not(.wide) img { width: 100%; } figure.wide img { background: #fff; }
</style>
</head>
<body>
<h1>{{ title }}</h1>
{% block body %}{% endblock %}
</body>
</html>
"""


def write_page(path: str | os.PathLike, title: str, body: str, **values: Any) -> None:
    """Write one HTML file that works offline: no script, no other file, texts escaped.

    Args:
        path: of the file; it appears whole or not at all.
        title: of the page.
        body: Jinja2 template of what stands below the title. Styles: ``ul.grid`` of ``figure``s is a gallery,
            ``figure.wide`` has its picture's own width, ``p.note`` is gray.
        values: what the template names.

    Example::

        write_page("page.html", "Findings", "<p>{{ text }}</p>", text="5 < 6")
    """
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_shown
    )
    page = _PAGE.replace("{% block body %}{% endblock %}", body)
    text = environment.from_string(page).render(title=title, **values)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _shown(value: Any) -> Any:
    return visible_lines(value) if type(value) is str else value


def data_uri(picture: Image.Image, size: int | None = None) -> str:
    """A picture as the text of an ``img``'s ``src``.

    Args:
        picture: to show.
        size: its longer side is made no longer than this; None keeps it.

    Example::

        print(data_uri(Image.new("L", (300, 200)), size=160)[:22])  # data:image/png;base64,
    """
    if size is not None and max(picture.size) > size:
        picture = picture.copy()
        picture.thumbnail((size, size))
    stream = io.BytesIO()
    picture.save(stream, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
