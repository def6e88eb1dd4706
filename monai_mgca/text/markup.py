# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Markup that report texts bring along from web pages, spreadsheets, word processors and messages."""

from __future__ import annotations

import html
import re
from collections.abc import Callable

from monai_mgca.text.hl7 import BREAK, hl7_to_text
from monai_mgca.text.rtf import rtf_to_text

__all__ = ["BREAK", "end_items", "end_lines", "strip_markup", "with_stop"]

_ANY = re.compile(r"[&<\\\r|~]|_x[0-9A-Fa-f]{4}_")
_RTF_HEAD = "{\\rtf"
# controls of RTF without its head, as a cut document has
_RTF_RESTS = re.compile(
    r"\\(?P<end>par|line)(?![A-Za-z])[ ]?"
    r"|\\(?:pard|plain|b0?|i0?|ul0?|ulnone|tab|fs\d+|f\d+|cf\d+|lang\d+|q[lcrj]|[ls]i\d+|s[ab]\d+|fi-?\d+)"
    r"(?![A-Za-z])[ ]?"
)
# of strings as programs write them; never a slash that leans the wrong way ("left\right")
_ESCAPES = re.compile(r"\\{1,2}(?:r\\{1,2}n|n|(?<![a-z]\\)(?<![a-z]\\\\)[rt]|[rt](?![a-z])|u(?P<code>[0-9a-fA-F]{4}))")
_EXCEL = re.compile(r"_x([0-9A-Fa-f]{4})_")
_ENTITY = re.compile(
    r"&(?:#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});|&(?:lt|gt|amp|nbsp|quot|apos)(?![A-Za-z0-9;])"
)
_HIDDEN = re.compile(r"<!--.*?-->|<(style|script|head)\b[^>]{0,500}>.*?</\1\s*>", re.DOTALL | re.IGNORECASE)
_CDATA = re.compile(r"<!\[CDATA\[|\]\]>|<[!?][A-Za-z\[][^<>]{0,500}>")
_TAG = re.compile(
    r"<(?P<close>/?)(?P<name>[A-Za-z][\w:.-]{0,40})"
    r"(?P<attributes>(?:\s+[\w:.-]{1,40}\s*=\s*(?:\"[^\"<]{0,2000}\"|'[^'<]{0,2000}'|[^\s<>\"']{1,2000})){0,40})"
    r"\s*(?P<empty>/?)>"
)
_BLOCKS = frozenset(
    "p br div li ul ol dl dt dd tr table tbody thead hr h1 h2 h3 h4 h5 h6 section article header footer pre blockquote"
    " paragraph item list caption title text body html center fieldset form".split()
)
_INLINE = frozenset(
    "b i u s em strong span font a sub sup small big tt code mark ins del strike abbr cite q label img input o:p"
    " content linkhtml rendermultimedia td th col colgroup nobr wbr meta link".split()
)
_KINDS: tuple[tuple[str, Callable[[str], str]], ...]


def strip_markup(text: str) -> tuple[str, tuple[str, ...]]:
    r"""Take markup away; comparison signs and the like stay.

    HTML and XML (tags, entities, comments), Excel's ``_x000D_``, RTF, HL7's
    segments and escapes (``OBX|1|``, ``\.br\``), and escapes
    of program strings (``\n`` as two characters). Where markup ends a line there is a vertical tab, see
    :func:`end_lines`.

    Args:
        text: any text.

    Returns:
        The text, and the kinds of markup that it had: "Excel", "HL7", "HTML", "RTF", "escapes".

    Example::

        print(strip_markup("Nodule &lt; 3&nbsp;mm.<br/>Clear."))
    """
    if not _ANY.search(text):
        return text, ()
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    found: dict[str, None] = {}
    for _ in range(3):  # what is written twice over: &amp;lt;br&amp;gt;
        before = text
        for kind, strip in _KINDS:
            stripped = strip(text)
            if stripped != text:
                found[kind], text = None, stripped
        if text == before:
            break
    return text.replace("\r\n", "\n").replace("\r", "\n"), tuple(sorted(found))


def _strip_excel(text: str) -> str:
    return _EXCEL.sub(lambda match: _plain(int(match[1], 16)), text) if "_x" in text else text


def _plain(code: int) -> str:
    """A character by its number; controls but line ends become a space."""
    c = chr(code) if code < 0x110000 and not 0xD800 <= code < 0xE000 else " "
    return c if c in "\r\n" or code >= 0x20 else " "


def _strip_rtf(text: str) -> str:
    parts = []
    while (head := text.find(_RTF_HEAD)) >= 0:
        parts += [text[:head], rtf_to_text(text[head:])]
        text = _behind_rtf(text[head:])
    if not parts and "\\" in text and _RTF_RESTS.search(text):
        return _RTF_RESTS.sub(lambda match: BREAK if match["end"] else "", text)
    return BREAK.join([*parts, text])


def _behind_rtf(text: str) -> str:
    """What follows the document's last brace."""
    depth = 0
    for match in re.finditer(r"\\[\\{}]|([{}])", text):
        depth += {"{": 1, "}": -1}.get(match[1] or "", 0)
        if depth == 0 and match[1]:
            return text[match.end() :].strip("\0 \r\n")
    return ""


def _strip_escapes(text: str) -> str:
    def plain(match: re.Match) -> str:
        return _plain(int(match["code"], 16)) if match["code"] else " " if match[0].endswith("t") else "\n"

    return _ESCAPES.sub(plain, text) if "\\" in text else text


def _strip_html(text: str) -> str:
    if "&" in text:
        text = _ENTITY.sub(lambda match: html.unescape(match[0]).replace("\xa0", " "), text)
    if "<" not in text:
        return text
    if "</" in text or "-->" in text:
        text = _HIDDEN.sub(BREAK, text)
    closed = {name.lower() for name in re.findall(r"</([A-Za-z][\w:.-]{0,40})\s*>", text)}

    def plain(match: re.Match) -> str:
        """What stands in a tag's place."""
        name = match["name"].lower()
        local = name.rpartition(":")[2]
        known = name in _BLOCKS or name in _INLINE or local in _BLOCKS
        if not (known or name in closed or match["empty"] or match["attributes"]):
            return match[0]  # "a <unk> b": words
        if local in ("td", "th"):
            return "\t"
        if name == "sup":
            return " " if match.string[match.start() - 1 : match.start()].isdigit() else ""
        if name == "li" and not match["close"]:
            return f"{BREAK}- "
        return "" if name in _INLINE else BREAK

    return _TAG.sub(plain, _CDATA.sub("", text))


_KINDS = (
    ("Excel", _strip_excel),
    ("RTF", _strip_rtf),
    ("HL7", hl7_to_text),
    ("escapes", _strip_escapes),
    ("HTML", _strip_html),
)

_LINE_END = re.compile(r"(?P<last>\S)(?P<gap>[^\S\n\x0b]*[\n\x0b]\s*)(?=\S)")
_LISTED = re.compile(r"(?:\(?\d{1,2}[.)]|[-*\u2022\u00b7\u25cf\u25aa\u2013\u2014])(?!\d)")
_HEADED = re.compile(r"[*_#\s]{0,8}[^\W\d_a-z][^\n:.;\x0b]{1,60}:")
# a bullet within a line, between a word and a capital; quotes with a space on both sides are one, that enclose nothing
_BULLETS = re.compile(r"[\u2022\u00b7\u25cf\u25aa\"\u201c\u201d]")
_BULLET = re.compile(
    r"(?<=[^\s.!?:;,\u2022\u00b7\u25cf\u25aa])\s*(?:[\u2022\u00b7\u25cf\u25aa]\s*|(?<=\s)[\"\u201c\u201d]\s+)(?=[A-Z])"
)
# a line of so many letters or more may end where it was full
_FULL = 60


def end_lines(text: str) -> str:
    """Put a full stop where a statement ends with its line alone, so that it is not joined with the next one.

    That is so before a number of a list, a bullet or a ``Heading:``, before a paragraph that begins with a capital, and
    where markup ends a paragraph, or a short line before a capital. A line that runs on is left alone.

    Args:
        text: the text; a vertical tab is a line end by markup.

    Example::

        print(end_lines("1. Mild edema\\n2. No effusion"))
    """
    return _LINE_END.sub(_end_line, text) if "\n" in text or BREAK in text else text


def end_items(text: str) -> str:
    """Put a full stop in the place of a bullet within a line, as lists have them that were written on one line.

    Args:
        text: any text.

    Example::

        print(end_items("Normal heart \u2022 Mild emphysema \u2022 Hiatal hernia"))
    """
    return _BULLET.sub(". ", text) if _BULLETS.search(text) else text


def with_stop(text: str) -> str:
    """End a text with a full stop, where it ends with a word."""
    text = text.rstrip()
    return f"{text}." if text[-1:].isalnum() or text[-1:] in tuple(")]%\"'") else text


def _end_line(match: re.Match) -> str:
    text, last, gap = match.string, match["last"], match["gap"]
    rest = text[match.end() : match.end() + 80]
    whole = last in ".!?:"
    listed = bool(_LISTED.match(rest))
    if not whole and (listed or last not in ",;-\u2013(/&"):
        paragraph = gap.count("\n") + gap.count(BREAK) > 1
        line = text[max(0, match.start() - _FULL) : match.start()]
        short = match.start() < _FULL or "\n" in line or BREAK in line
        capital = rest[0].isupper()
        marked = gap.count(BREAK) > 1 or (capital and BREAK in gap and short)
        if listed or marked or _HEADED.match(rest) or (capital and paragraph):
            return f"{last}.{gap.replace(BREAK, chr(10))}"
    return last + gap.replace(BREAK, "\n")
