# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Rich Text Format to plain text: enough of it for what word processors and reporting systems write into tables."""

from __future__ import annotations

import codecs
import re

__all__ = ["rtf_to_text"]

_TOKEN = re.compile(
    r"\\'(?P<byte>[0-9a-fA-F]{2})"
    r"|\\(?P<word>[A-Za-z]{1,32})(?P<number>-?[0-9]{1,10})?[ ]?"
    r"|\\(?P<symbol>[^A-Za-z])"
    r"|(?P<brace>[{}])"
    r"|[\r\n\0]+"  # line ends of the file mean nothing
    r"|(?P<text>[^\\{}\r\n\0]+)",
    re.DOTALL,
)
_WRITTEN = {
    **dict.fromkeys(("par", "line", "row", "sect", "page", "softline"), "\x0b"),
    **dict.fromkeys(("tab", "cell", "nestcell"), "\t"),
    **{"emdash": "\u2014", "endash": "\u2013", "bullet": "\u2022", "emspace": " ", "enspace": " "},
    **{"lquote": "'", "rquote": "'", "ldblquote": '"', "rdblquote": '"'},
    **{"~": " ", "_": "-", "\\": "\\", "{": "{", "}": "}", "\n": "\x0b", "\r": "\x0b"},
}
# groups that hold no text of the document
_SKIPPED = frozenset(
    "fonttbl colortbl stylesheet listtable listoverridetable rsidtbl info pict object themedata datastore generator"
    " header headerl headerr headerf footer footerl footerr footerf footnote fldinst bkmkstart bkmkend xmlnstbl"
    " latentstyles revtbl filetbl annotation atnid atnauthor pntext pnseclvl nonshppict".split()
)
_LONGEST = 2**24


def rtf_to_text(text: str) -> str:
    r"""The text of a document in Rich Text Format; a vertical tab (``\x0b``) stands where a line ends.

    Args:
        text: from ``{\rtf`` on; it may be cut off.

    Example::

        print(rtf_to_text(r"{\rtf1\ansi Clear lungs.\par No effusion.}"))
    """
    document = _Document()
    for token in _TOKEN.finditer(text, 0, _LONGEST):
        if token["byte"]:
            document.add_byte(int(token["byte"], 16))
            continue
        document.flush()
        if token["brace"]:
            if not document.nest(token["brace"] == "{"):
                break
        elif token["text"]:
            document.add(token["text"])
        else:
            document.obey(token["word"] or token["symbol"], token["number"])
    document.flush()
    return "".join(document.written)


class _Document:
    """What was read so far, and the state of the group that is being read."""

    def __init__(self) -> None:
        self.written: list[str] = []
        self.pending = bytearray()  # bytes of the code page, which may hold a letter in two
        self.outer: list[tuple[bool, int]] = []
        self.skipped, self.fallback, self.ignored, self.encoding = False, 1, 0, "cp1252"

    def add(self, text: str) -> None:
        if not self.skipped:
            self.written.append(text[self.ignored :])
            self.ignored = max(0, self.ignored - len(text))

    def add_byte(self, byte: int) -> None:
        if self.ignored:  # stands for the Unicode character before it
            self.ignored -= 1
        elif not self.skipped:
            self.pending.append(byte)

    def flush(self) -> None:
        if self.pending:
            self.written.append(self.pending.decode(self.encoding, "replace"))
            self.pending.clear()

    def nest(self, opened: bool) -> bool:
        """Enter or leave a group; whether the document goes on."""
        if opened:
            self.outer.append((self.skipped, self.fallback))
        elif self.outer:
            self.skipped, self.fallback = self.outer.pop()
        return bool(self.outer)

    def obey(self, word: str, number: str | None) -> None:
        """A control word or symbol."""
        if word == "*" or word in _SKIPPED:
            self.skipped = True
        elif word == "ansicpg" and number:
            self.encoding = _code_page(number)
        elif word == "uc" and number:
            self.fallback = max(0, int(number))
        elif not self.skipped and word == "u" and number:
            self.written.append(_character(int(number)))
            self.ignored = self.fallback
        elif not self.skipped:
            self.written.append(_WRITTEN.get(word, ""))


def _code_page(number: str) -> str:
    try:
        return codecs.lookup(f"cp{number}").name
    except LookupError:
        return "cp1252"


def _character(code: int) -> str:
    code = code + 0x10000 if code < 0 else code
    return chr(code) if 0x20 <= code < 0xD800 or 0xE000 <= code < 0x110000 else " "
