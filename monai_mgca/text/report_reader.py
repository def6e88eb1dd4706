# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""From a report as a data source has it to the report as it is stored, with what was left out on the way."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from monai_mgca.text.heading_marks import find_marks
from monai_mgca.text.headings import Headings
from monai_mgca.text.markup import BREAK, end_lines, strip_markup, with_stop
from monai_mgca.text.sections import join_report, parse_report

__all__ = ["Reading", "Readings", "ReportReader"]

_TITLE = 200  # characters, more than any heading has
_TAG = re.compile(r"<\s*([A-Za-z][\w .-]{2,40}?)\s*>")


class Reading(NamedTuple):
    """A report that was read.

    Args:
        report: impression + " " + findings.
        left_out: the numbers of words that are not in it, by heading.
        markup: the kinds of markup that were taken away.
    """

    report: str
    left_out: Counter
    markup: tuple[str, ...] = ()


class Readings:
    """What was left out of the reports of a source, and what markup they had: counts, never words."""

    def __init__(self) -> None:
        self._words: Counter = Counter()
        self._reports: Counter = Counter()
        self._markup: Counter = Counter()

    def take(self, reading: Reading) -> str:
        """Count a report, and return it."""
        self._words.update(reading.left_out)
        self._reports.update(reading.left_out.keys())
        self._markup.update(reading.markup)
        return reading.report

    def lines(self) -> list[str]:
        """The counts for people."""
        lines = []
        for heading, words in self._words.most_common():
            where = f"under {heading}" if heading.isupper() else heading
            lines.append(f"left out: {words} words {where} in {self._reports[heading]} reports")
        return lines + [f"markup taken away: {kind} in {number} reports" for kind, number in self._markup.most_common()]


class ReportReader:
    """Read reports of one source.

    Args:
        headings: a JSON file of headings that the table lacks, see :class:`Headings`.

    Raises:
        DataError: when it is no such file.

    Example::

        print(ReportReader().whole("FINDINGS: Clear lungs. IMPRESSION: Normal.").report)  # "Normal. Clear lungs."
    """

    def __init__(self, headings: str | os.PathLike | None = None) -> None:
        self.headings = Headings.read(headings)

    def whole(self, text: str, named_only: bool = False) -> Reading:
        """A report with headings; one without is taken as it is.

        Args:
            text: the report as it was written, markup and all.
            named_only: take only what stands under a heading.
        """
        plain, markup = strip_markup(_TAG.sub(self._heading, text) if "<" in text else text)
        parts = parse_report(plain, self.headings, named_only)
        impression = with_stop(parts.impression) if parts.findings else parts.impression
        return Reading(join_report(parts.findings, impression), parts.left_out, markup)

    def parts(self, findings: str, impression: str) -> Reading:
        """A report whose parts are known.

        Args:
            findings: what is to be seen; may be empty.
            impression: what it means; may be empty.
        """
        (findings, one), (impression, two) = map(strip_markup, (findings, impression))
        findings, impression = map(self._less_title, (findings, impression))
        findings, impression = (end_lines(t) if BREAK in t else t for t in (findings, impression))
        if findings.strip():
            impression = with_stop(impression)
        return Reading(join_report(findings, impression), Counter(), tuple(sorted({*one, *two})))

    def _less_title(self, text: str) -> str:
        """A part without the heading that says which it is."""
        first = next(find_marks(text[:_TITLE], self.headings), None)
        if first and first.strong and first.kind in ("findings", "impression") and not text[: first.start].strip():
            return text[first.body :]
        return text

    def labeled(self, parts: Iterable[tuple[str, str]]) -> Reading:
        """A report whose parts bear labels; one that the table does not know counts as findings.

        Args:
            parts: label and text of each.
        """
        texts: dict[str, list[str]] = {"impression": [], "findings": []}
        left_out: Counter = Counter()
        for label, text in parts:
            known = self.headings.kind(label)
            if known and known.kind in ("left_out", "header"):
                left_out[known.name.upper()] += len(text.split())
            elif text:
                texts["impression" if known and known.kind == "impression" else "findings"].append(text)
        joined = {kind: " ".join([*map(with_stop, some[:-1]), *some[-1:]]) for kind, some in texts.items()}
        return self.parts(**joined)._replace(left_out=+left_out)

    def _heading(self, match: re.Match) -> str:
        """XML that names its parts: <findings>."""
        known = self.headings.kind(match[1])
        return f"{BREAK}{match[1].upper()}:{BREAK}" if known and known.kind not in ("part", "header") else match[0]
