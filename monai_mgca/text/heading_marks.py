# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Where a report's headings stand, however they are written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from monai_mgca.text.headings import Headings, Known

__all__ = ["Mark", "find_marks"]

_LINE = re.compile(r"[^\n\x0b]+")
# What may end a heading, and the ends of sentences: headings begin behind those, or with the line.
# \u3010...\u3011 are the brackets of Chinese headings, \u3002 and what follows it the ends of Chinese sentences.
_STOP = re.compile(
    r"(?P<sentence>[.!?](?=\s)|[\u3002\uff01\uff1f\uff1b])|(?P<colon>[:\uff1a\u3011])"
    r"|(?P<dash>[-\u2013\u2014=|>]+|\])(?=\s)|(?P<tab>\t)"
)
# "3." or "## 3)" before a heading
_NUMBER = re.compile(r"[\s*_#>(-]*(?:\d{1,2}|[ivxIVX]{1,4}|[A-Ha-h])[.)]\s*")
_DECORATED = re.compile(r"\s*(?:#|\*\*|__|==|--|\[)")
_ENDS = ".!?:\u3002\uff01\uff1f\uff1a\uff1b"
_STARS = re.compile(r"[ \t]*\*{1,3}|(?<=\u3011)[:\uff1a]")
# a line that may be a heading by itself: words and what decorates them
_ALONE = re.compile(
    r"[\s*_#=~>|<\[({\u2022\u2013\u2014.0-9)-]*[^\W\d_][\w \t/&,+()'\u2019-]{2,60}[\s*_#=~>|<\]})\u2014.-]*"
    r"|\s*[\u3400-\u9fff]{2,12}\s*"
)
# "FINDINGS The lungs ...": capitals before a word that is written small
_BARE = re.compile(r"\s*(?P<label>[A-Z]{2,}(?:[ /&]+[A-Z]{2,}){0,3}) +(?=[A-Z][a-z])")
# Older reports put the findings under the name of the view: "PA AND LATERAL CHEST RADIOGRAPH: ..."
_VIEW = re.compile(r"\s*(?=[A-Z][A-Z0-9 ,/&()_'-]{2,60}$).*\b(?:CHEST|RADIOGRAPHS?|VIEWS?)\b")
_STRONG = ("finding", "findings", "impression", "impressions", "conclusion", "conclusions")
_KEPT = ("findings", "impression")
# Within a line these alone are taken for headings of their own account in any case: others are words, too, and
# take nothing away from the findings there.
_COMMON = frozenset(
    "findings,finding,chest findings,findings and impression,report,impression,impressions,conclusion,conclusions,"
    "indication,indications,comparison,comparisons,technique,history,clinical history,exam,examination,procedure,"
    "reason for exam,reason for examination,clinical information,recommendation,recommendations,notification,"
    "wet read,addendum".split(",")
)
# more than the longest heading, with some spaces and signs
_LONGEST = 80
_MOST_WORDS = 6


class Mark(NamedTuple):
    """A heading in a report.

    Args:
        start: where it begins.
        body: where the text under it begins; where it begins itself if its words are part of that text.
        kind: of the table; "view", or "unknown".
        name: in the table, or "".
        upper: whether it is in upper case.
        strong: whether it is certainly a heading: it begins a line, is one of the common ones, or stands out by case.
        alone: whether it has no colon and a line for itself.
    """

    start: int
    body: int
    kind: str
    name: str
    upper: bool
    strong: bool = True
    alone: bool = False


def find_marks(text: str, headings: Headings) -> Iterator[Mark]:
    """Find the headings of a report in their order.

    Those of the table are found at the start of a line or sentence in any case, before a colon or dash, or alone on a
    line; before a colon in upper case anywhere. Others are found at the start of a line, before a colon.

    Args:
        text: the report.
        headings: the table.
    """
    ended = True  # whether the line before may be the last of what it says
    for line in _LINE.finditer(text):
        marks = _Line(line[0], line.start(), headings).marks(ended)
        yield from marks
        blank = text[line.end() : line.end() + 2] == "\n\n" or not line[0].strip()
        ended = blank or bool(marks and len(line[0]) < _LONGEST // 2) or line[0].rstrip()[-1:] in _ENDS


class _Line:
    """One line of a report."""

    def __init__(self, line: str, offset: int, headings: Headings) -> None:
        self.line, self.offset, self.headings = line, offset, headings
        self.begin, self.at_start = 0, True  # of what may be a heading; whether a sentence or line begins there

    def marks(self, ended: bool) -> list[Mark]:
        found = [mark for mark in self._behind_stops() if mark]
        if not found and ":" not in self.line and len(self.line) <= 2 * _LONGEST:
            alone = self._alone(ended)
            return [alone] if alone else []
        return found

    def _behind_stops(self) -> Iterator[Mark | None]:
        yield self._bare()
        for stop in _STOP.finditer(self.line):
            if stop.start() < self.begin:
                continue
            if stop["sentence"]:
                self.begin, self.at_start = stop.end(), True
                yield self._bare()
            elif stop["colon"]:
                yield self._before_colon(stop.start())
            elif self.at_start:
                yield self._before_dash(stop.start(), stop.end())

    def _mark(self, start: int, end: int, known: Known, keep: bool = False) -> Mark:
        """A heading at line[start:end]; what follows begins behind it."""
        upper = self.line[start:end].isupper()
        if start < _LONGEST and (_NUMBER.fullmatch(self.line, 0, start) or not self.line[:start].strip()):
            start = 0
        strong = start == 0 or known.name in _COMMON or not known.name.isascii() or (upper and not self.line.isupper())
        strong = strong and (known.exact or known.kind != "findings")
        stars = _STARS.match(self.line, end)
        end = self.begin = stars.end() if stars else end
        self.at_start = True
        body = self.offset + (start if keep or known.kind in ("part", "unknown") else end)
        return Mark(self.offset + start, body, known.kind, known.name.upper(), upper, strong)

    def _bare(self) -> Mark | None:
        match = _BARE.match(self.line, self.begin)
        known = self.headings.kind(match["label"]) if match else None
        if match is None or known is None or known.kind not in _KEPT:
            return None
        return self._mark(match.start("label"), match.end("label"), known)

    def _before_dash(self, start: int, end: int) -> Mark | None:
        label = self.line[self.begin : min(start, self.begin + _LONGEST)]
        first = self.begin == 0 or _NUMBER.fullmatch(self.line, 0, self.begin)
        if start - self.begin > _LONGEST or not (first or label.lstrip(" \t[")[:1].isupper()):
            return None
        known = self.headings.kind(label)
        if known and self.line[start] == "]" and (known.kind == "header" or not label.lstrip().startswith("[")):
            return None  # "[DATE]" stands for a date
        return self._mark(self.begin, end, known) if known and (first or known.kind in _KEPT) else None

    def _before_colon(self, colon: int) -> Mark | None:
        begin, label = self.begin, self.line[max(self.begin, colon - _LONGEST) : colon]
        whole = self.at_start and len(label) == colon - begin
        known = self.headings.kind(label) if whole else None
        if known:
            return self._mark(begin, colon + 1, known)
        mark = self._capitals(label, colon, whole)
        if mark is None and whole and begin == 0:
            mark = self._unknown(label, colon)
        if mark is None:
            self.begin, self.at_start = colon + 1, False
        return mark

    def _capitals(self, label: str, colon: int, whole: bool) -> Mark | None:
        """The last words before a colon: a heading in upper case, or that of findings or impression in capitals."""
        words = label.split()
        first = len(words)
        while first and words[first - 1][:1].isupper():
            first -= 1
        for i in range(first, len(words)):
            known = self.headings.kind(" ".join(words[i:]))
            if known and not all(map(str.isupper, words[i:])):
                if known.name not in _STRONG:
                    return None
                known = known._replace(exact=False)  # what stands before it may be findings, too
            if known and (first or not whole or known.name.split(" ")[-1] in _STRONG):
                if whole and not first and self.begin == 0 and len(words) <= _MOST_WORDS:
                    # "CARDIAC FINDINGS:": its words say what of
                    return self._mark(
                        0, colon + 1, known._replace(kind="part") if known.kind == "findings" else known, True
                    )
                return self._mark(colon - _length_of(label, len(words) - i), colon + 1, known)
        return None

    def _unknown(self, label: str, colon: int) -> Mark | None:
        words = label.strip(" \t*#_>-\u2022")
        if not words[:1].isupper() or sum(map(str.isalpha, words)) < 3 or len(words) > 62:
            return None
        if _VIEW.match(label.rstrip()):
            return self._mark(0, colon + 1, Known("view", ""))
        return self._mark(0, colon + 1, Known("unknown", "")) if len(words.split()) <= _MOST_WORDS else None

    def _alone(self, ended: bool) -> Mark | None:
        number = _NUMBER.match(self.line)
        label = self.line[number.end() :] if number else self.line
        if not _ALONE.fullmatch(label):
            return None
        known = self.headings.kind(label)
        upper = self.line.isupper()
        if not known or known.kind == "header" or (self.line.rstrip().endswith(".") and not upper):
            return None
        # what has no capitals stands out by being a heading alone
        capital = self.line.strip(" \t*#_=~>|<[({\u2022.0123456789)-")[:1].isupper() or not known.name.isascii()
        if upper or ended or _DECORATED.match(self.line) or (capital and known.kind in _KEPT):
            return self._mark(0, len(self.line), known)._replace(alone=True)
        return None


def _length_of(label: str, number: int) -> int:
    """The length of the last words of a label, with the spaces behind them."""
    start = len(label)
    for _ in range(number):
        start = len(label[:start].rstrip())
        start = max(label.rfind(" ", 0, start), label.rfind("\t", 0, start)) + 1
    return len(label) - start
