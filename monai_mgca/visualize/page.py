# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Writes an HTML page that works offline, from the templates beside this file."""

from __future__ import annotations

import base64
import io
import os
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from PIL import Image

from monai_mgca.utils.console import visible_lines
from monai_mgca.utils.files import replacing

__all__ = ["TEMPLATES", "data_uri", "write_page"]


def _shown(value: Any) -> Any:
    return visible_lines(value) if type(value) is str else value


TEMPLATES = Environment(
    loader=PackageLoader("monai_mgca.visualize"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    finalize=_shown,
)
"""Jinja's environment of the pages, whose templates are the files in ``templates/``."""


def write_page(path: str | os.PathLike, title: str, template: str | Template, **values: Any) -> None:
    """Write one HTML file that works offline: no script, no other file, texts escaped.

    Args:
        path: of the file; it appears whole or not at all.
        title: of the page.
        template: its name among those beside this file, or one that :data:`TEMPLATES` made from a text; it extends
            ``base.html``, whose styles are: ``ul.grid`` of ``figure``s is a gallery, ``figure.wide`` has its picture's
            own width, ``p.note`` is gray.
        values: what the template names.

    Example::

        write_page("page.html", "Grounding", "overlays.html", note="Nothing is annotated, 5 < 6.", pictures=[])
    """
    text = TEMPLATES.get_template(template).render(title=title, **values)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def data_uri(picture: Image.Image, size: int | None = None, kind: str = "PNG") -> str:
    """A picture as the text of an ``img``'s ``src``.

    Args:
        picture: to show.
        size: its longer side is made no longer than this; None keeps it.
        kind: "PNG", or "JPEG" where there are many pictures: a quarter of the bytes, in a fraction of the time.

    Example::

        print(data_uri(Image.new("L", (300, 200)), size=160)[:22])  # data:image/png;base64,
    """
    if size is not None and max(picture.size) > size:
        picture = picture.copy()
        picture.thumbnail((size, size))
    stream = io.BytesIO()
    picture.save(stream, format=kind, optimize=True, **({"quality": 85} if kind == "JPEG" else {}))
    return f"data:image/{kind.lower()};base64," + base64.b64encode(stream.getvalue()).decode()
