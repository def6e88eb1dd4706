# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""For mkdocs.yml: what docstrings have of Sphinx's markup, as MONAI's do, becomes Markdown, and roles become links."""

from __future__ import annotations

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:class|func|meth|mod|attr|data|exc):`~?([^`]+)`")
EXAMPLE = re.compile(r"^(Examples?)::$", flags=re.MULTILINE)


class SphinxMarkup(griffe.Extension):
    """Griffe, which reads the package for mkdocstrings, calls it for each object."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the object's docstring."""
        if obj.docstring:
            text = EXAMPLE.sub(r"**\1:**", obj.docstring.value)
            obj.docstring.value = ROLE.sub(lambda found: self._link(obj, found[1]), text)

    @staticmethod
    def _link(obj: griffe.Object, name: str) -> str:
        """A link where the site has the object, else the name alone."""
        try:
            path = name if name.startswith("monai_mgca.") else obj.resolve(name)
        except griffe.NameResolutionError:
            path = name
        return f'<autoref optional identifier="{path}"><code>{name}</code></autoref>'
