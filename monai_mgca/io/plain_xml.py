# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""XML without entities or other documents."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NoReturn
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from monai_mgca.utils import DataError

__all__ = ["read_plain_xml"]

_MAX_BYTES = 2**24  # a report has some thousand


def read_plain_xml(path: str | os.PathLike) -> Element:
    """Read an XML file that stands for itself: one with a DOCTYPE, entities or references to other files is refused.

    Entities could make a small file take all memory, or open other files. Any encoding that the file names is read, and
    what is refused there is refused in all of them, for the parser itself reports it.

    Args:
        path: of the file, at most 16 MB.

    Returns:
        The root element.

    Raises:
        DataError: when the file cannot be read, is no XML, is too large, or does not stand for itself.

    Example::

        Path("1.xml").write_text("<a><b>text</b></a>")
        print(read_plain_xml("1.xml").find("b").text)
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as e:
        raise DataError(f"{path} cannot be read ({type(e).__name__}): mend it, or take it out of the folder.") from None
    if len(content) > _MAX_BYTES:
        raise DataError(f"{path} is larger than {_MAX_BYTES >> 20} MB: it is none of the reports.")

    def refuse(*_: Any) -> NoReturn:
        raise DataError(f"{path} has a DOCTYPE or entities; Open-i's reports have none. Not opened, for safety.")

    tree, parser = TreeBuilder(), expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = tree.start, tree.end, tree.data
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = parser.UnparsedEntityDeclHandler = refuse
    parser.ExternalEntityRefHandler = parser.SkippedEntityHandler = refuse
    try:
        parser.Parse(content, True)
    except (expat.ExpatError, LookupError, ValueError) as e:
        if isinstance(e, DataError):
            raise
        raise DataError(f"{path} is not XML ({e}); download it again.") from None
    return tree.close()
