# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Texts from outside, such as names of files, on their way to a terminal or a log: nothing in them can command it."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterable
from typing import TextIO

__all__ = [
    "Lines",
    "VisibleFormatter",
    "guard_console",
    "log_to_console",
    "name_some",
    "say",
    "visible",
    "visible_lines",
]

# C0, DEL and C1; what turns the direction of writing or ends a line; halves of letters, which no console can write
_HIDDEN = r"\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_IN_LINES, _IN_A_LINE = re.compile(f"[{_HIDDEN}]"), re.compile(rf"[\t\n{_HIDDEN}]")


class Lines(str):
    """A message that is meant to have several lines: :func:`visible` lets them stand.

    What comes from outside is made visible before it is put in.
    """


def visible(text: str) -> str:
    """A text in one line in which control characters can be seen, as Python writes them in a string.

    All others stay as they are, of every script.

    Args:
        text: from outside, such as the name of a file.

    Example::

        print(visible("a\\x1b[31m\\n.png"))  # a\\x1b[31m\\n.png
    """
    return Lines(visible_lines(text)) if isinstance(text, Lines) else _IN_A_LINE.sub(_escape, text)


def visible_lines(text: str) -> str:
    """As :func:`visible`, but ends of lines and tabs stay.

    Args:
        text: of any number of lines.
    """
    return _IN_LINES.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")


def name_some(names: Iterable[object], limit: int = 5) -> str:
    """The first of many names, and how many more there are.

    Args:
        names: or paths, or numbers.
        limit: how many are written out.

    Example::

        print(name_some(["a", "b", "c"], limit=2))  # a, b ... and 1 more
    """
    shown = [visible(str(name)) for name in names]
    more = f" ... and {len(shown) - limit} more" if len(shown) > limit else ""
    return ", ".join(shown[:limit]) + more


def say(text: object = "", file: TextIO | None = None, flush: bool = False) -> None:
    """Print a text that may hold what came from outside; letters that the console does not have are escaped, too.

    Args:
        text: of any number of lines.
        file: where to; standard output if None.
        flush: as of ``print``.

    Example::

        say("read lung\\x1b]0;.png")
    """
    file = file or sys.stdout
    encoding = getattr(file, "encoding", None) or "utf-8"
    print(visible_lines(str(text)).encode(encoding, "backslashreplace").decode(encoding), file=file, flush=flush)


class VisibleFormatter(logging.Formatter):
    """:class:`logging.Formatter` whose records hold no control characters but the ends of their lines.

    Args:
        args, kwargs: as of :class:`logging.Formatter`.

    Example::

        handler = logging.StreamHandler()
        handler.setFormatter(VisibleFormatter("%(levelname)s: %(message)s"))
    """

    def format(self, record: logging.LogRecord) -> str:
        """As of :class:`logging.Formatter`."""
        return visible_lines(super().format(record))


def guard_console() -> None:
    """Have the handlers that others gave the root logger write what :class:`VisibleFormatter` would."""
    for handler in logging.getLogger().handlers:
        handler.addFilter(_show_controls)


def _show_controls(record: logging.LogRecord) -> bool:
    record.msg, record.args = visible_lines(record.getMessage()), None
    return True


def log_to_console() -> None:
    """For a command: have what is logged written to the console, the messages alone."""
    handler = logging.StreamHandler()
    handler.setFormatter(VisibleFormatter("%(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
