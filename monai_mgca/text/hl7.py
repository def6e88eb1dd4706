# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""HL7 version 2 to plain text: what interface engines leave in the texts that they forward."""

from __future__ import annotations

import re

__all__ = ["BREAK", "hl7_to_text"]

# Where markup ends a line: unlike a line end of plain text, this one was set on purpose.
BREAK = "\x0b"

_ESCAPE = re.compile(
    r"\\(?P<end>\.br|\.sp\+?\d{0,3}|\.sk\+?\d{0,3}|\.ce)\\"
    r"|\\(?:\.(?:fi|nf|in[+-]?\d{0,3}|ti[+-]?\d{0,3})|H|N|P|[CMZ][0-9A-Fa-f]{2,16})\\"
    r"|\\(?P<sign>[FSTRE])\\"
    r"|\\X(?P<hex>(?:[0-9A-Fa-f]{2}){1,32})\\"
)
_SIGNS = {"F": "|", "S": "^", "T": "&", "R": "~", "E": "\\"}
# a line of a message, and of those with text the field where it is
_SEGMENT = re.compile(r"[ \t\x0b]*([A-Z][A-Z0-9]{2})\|")
_TEXT_FIELD = {"OBX": 5, "NTE": 3}
# what separates the lines of a field, behind a statement or between paragraphs; "~5 mm" is about 5 mm
_REPEATED = re.compile(r"~{2,}|(?<=[.:!?])[~|](?=[^\s\d])")


def hl7_to_text(text: str) -> str:
    r"""The text of segments OBX and NTE of a message, other segments left out; any other text without HL7's escapes.

    Args:
        text: lines end with a line feed.

    Example::

        print(hl7_to_text("PID|1||7\nOBX|1|TX|71020||Clear lungs.~No effusion.||||||F"))
    """
    if "|" in text:
        lines = [(match and match[1], line) for line in text.split("\n") for match in [_SEGMENT.match(line)]]
        if any(name in _TEXT_FIELD for name, _ in lines):
            fields = ((name, line.split("|")) for name, line in lines if not name or name in _TEXT_FIELD)
            text = "\n".join(_field(name, parts) if name else "|".join(parts) for name, parts in fields)
    if "~" in text or "|" in text:
        text = _REPEATED.sub(BREAK, text)
    return _ESCAPE.sub(_plain, text) if "\\" in text else text


def _field(name: str, parts: list[str]) -> str:
    """A segment's text, whose lines are repetitions of its field."""
    return "".join(parts[_TEXT_FIELD[name] :][:1]).replace("~", BREAK)


def _plain(match: re.Match) -> str:
    if match["hex"]:
        return bytes.fromhex(match["hex"]).decode("latin-1")
    return BREAK if match["end"] else _SIGNS.get(match["sign"] or "", "")
