# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import base64
import io

import pytest
from jinja2 import UndefinedError
from PIL import Image

from monai_mgca.visualize.page import TEMPLATES, data_uri, write_page


def test_texts_are_escaped_and_nothing_is_fetched(tmp_path):
    path = tmp_path / "new" / "page.html"
    write_page(
        path,
        "<b>title</b>",
        TEMPLATES.from_string("{% extends 'base.html' %}{% block body %}<p>{{ text }}</p>{% endblock %}"),
        text="<script>alert(1)</script>",
    )
    page = path.read_text()
    assert "<script>" not in page
    assert "<p>&lt;script&gt;alert(1)&lt;/script&gt;</p>" in page
    assert "<h1>&lt;b&gt;title" in page
    assert "default-src 'none'" in page
    assert "http://" not in page
    assert "https://" not in page


def test_a_value_that_is_missing_leaves_no_file(tmp_path):
    with pytest.raises(UndefinedError, match="figures"):
        write_page(
            tmp_path / "page.html",
            "title",
            TEMPLATES.from_string("{% extends 'base.html' %}{% block body %}{{ figures }}{% endblock %}"),
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("size", "wanted"), [(None, (300, 200)), (150, (150, 100)), (600, (300, 200))])
def test_data_uri_holds_the_picture(size, wanted):
    picture = Image.new("L", (300, 200), 77)
    uri = data_uri(picture, size)
    with Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,")))) as found:
        assert found.size == wanted
        assert found.getpixel((3, 3)) == 77
    assert picture.size == (300, 200)
