# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Cuts a report into its sections, and joins those that are wanted."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from monai_mgca.text.heading_marks import Mark, find_marks
from monai_mgca.text.headings import Headings
from monai_mgca.text.markup import BREAK, end_lines, with_stop

__all__ = ["ReportParts", "join_report", "parse_report", "report_from_text", "split_sections"]

PREAMBLE = "before the first heading"
UNKNOWN = "under headings that are not in the table"
_HEADINGS = Headings()
# sections that make a text a report with headings
_NAMED = {"findings", "impression", "part", "view", "unknown"}
_PUBLIC = {"part": "findings", "unknown": "view", "left_out": "other", "header": "other", "paragraph": "other"}
_PARAGRAPH = re.compile(r"\n[^\S\n]*\n")


class _Piece(NamedTuple):
    """A stretch of a report: its section, the name of its heading in the table, and the text as it was written."""

    section: str
    name: str
    text: str
    strong: bool = True


@dataclass(frozen=True)
class ReportParts:
    """What was found in a report.

    Args:
        findings: what is to be seen.
        impression: what it means.
        left_out: heading, as it is in the table, to the number of words under it that are in neither.
    """

    findings: str = ""
    impression: str = ""
    left_out: Counter = field(default_factory=Counter)


def split_sections(text: str, headings: Headings = _HEADINGS) -> dict[str, str]:
    """Split a report at its headings.

    A heading that is not in the table of headings belongs to the section that it stands in, with all that is under it.

    Args:
        text: the report as it was written, on one line or many.
        headings: the table.

    Returns:
        The text by section, white space collapsed, sections that come twice joined: "findings", "impression",
        "view" (text under the name of a view, or under an unknown heading outside of findings and impression), "other"
        (all that stands under headings that are left out) and "preamble" (what comes before the first heading); those
        there are. Text before a line "FINAL REPORT" (a preliminary reading) is left out.

    Example::

        split_sections("FINDINGS: Clear lungs. IMPRESSION: Normal.")
        # {"findings": "Clear lungs.", "impression": "Normal."}
    """
    sections: dict[str, list[str]] = {}
    for piece in _pieces(_final(text)[1], headings):
        sections.setdefault(_PUBLIC.get(piece.section, piece.section), []).extend(piece.text.split())
    return {section: " ".join(words) for section, words in sections.items()}


def join_report(findings: str, impression: str) -> str:
    """The report as the model reads it: impression + " " + findings."""
    return f"{impression.strip()} {findings.strip()}".strip()


def report_from_text(text: str) -> str:
    """The impression and findings of a report, or "" when it has neither (the text under a view's name counts).

    Example::

        report_from_text("FINDINGS: Clear lungs. IMPRESSION: Normal.")  # "Normal. Clear lungs."
    """
    sections = split_sections(text)
    return join_report(sections.get("findings") or sections.get("view", ""), sections.get("impression", ""))


def parse_report(text: str, headings: Headings = _HEADINGS, named_only: bool = False) -> ReportParts:
    """Take the findings and the impression out of a report, and count what is left out.

    Without a certain heading of findings, all counts as findings that is not under a heading that is left out; a text
    without findings and impression is taken whole.

    Args:
        text: the report without markup.
        headings: the table.
        named_only: take only what stands under a heading, as MIMIC-CXR's authors do.

    Example::

        print(parse_report("TECHNIQUE: Two views. IMPRESSION: Normal.").left_out)  # Counter({'TECHNIQUE': 2})
    """
    before, final = _final(text)
    pieces = list(_pieces(final, headings))
    there = {piece.section for piece in pieces}
    if not there & _NAMED:
        return ReportParts() if named_only else ReportParts(findings=_whole(text))
    if named_only:
        kept = {"part", "findings"} if "findings" in there else {"part", "view" if "view" in there else "unknown"}
    elif any(piece.section == "findings" and piece.strong for piece in pieces):
        kept = {"part", "findings"}
    else:
        kept = {"part", "findings", "view", "unknown", "preamble", "paragraph"}
    left_out = Counter({"before FINAL REPORT": len(before.split())})
    for piece in pieces:
        if piece.section not in kept | {"impression"}:
            left_out[piece.name or (PREAMBLE if piece.section == "preamble" else UNKNOWN)] += len(piece.text.split())
    findings, impression = ([p.text for p in pieces if p.section in some] for some in (kept, {"impression"}))
    return ReportParts(_flow(findings), _flow(impression), +left_out)


def _final(text: str) -> tuple[str, str]:
    """What stands before and behind the last line FINAL REPORT."""
    if "FINAL REPORT" not in text:
        return "", text
    *before, final = re.split(r"^[ \t]*FINAL REPORT[ \t]*$", text, maxsplit=1, flags=re.MULTILINE)
    return "".join(before), final


def _whole(text: str) -> str:
    return (end_lines(text) if BREAK in text else text).strip()


def _flow(texts: Iterable[str]) -> str:
    """One line of text, in which statements that ended with their line or section end with a full stop."""
    *first, last = [" ".join(end_lines(text).split()) for text in texts] or [""]
    return " ".join([*map(with_stop, first), last])


def _pieces(text: str, headings: Headings) -> Iterator[_Piece]:
    """The report cut at the headings that begin a section, less what is empty."""
    current, outer, start, line_end, impressed = Mark(0, 0, "preamble", "", True), None, 0, 0, False
    for mark in [*find_marks(text, headings), None]:
        stop = mark.start if mark else len(text)
        if outer and stop >= line_end:  # a line about the patient is over
            yield _Piece("header", current.name, text[start:line_end])
            current, outer, start = outer, None, line_end
        kind = _section_of(mark, current) if mark else None
        if mark and not kind:
            continue
        yield from _cut(current, text[start:stop], impressed)
        if mark and kind:
            if kind == "header":
                outer, line_end = outer or current, _end_of_line(text, mark.body)
            else:
                outer = None
            impressed = impressed or kind == "impression"
            current, start = mark._replace(kind=kind), mark.body


def _section_of(mark: Mark, current: Mark) -> str | None:
    """The section that a heading begins, or None where it belongs to the one that it stands in."""
    kept = current.kind in ("findings", "impression", "part", "view", "unknown")
    if mark.kind in ("findings", "impression", "left_out"):
        weak = mark.kind == "left_out" and not mark.strong and current.kind not in ("left_out", "header")
        return None if weak else mark.kind
    if mark.kind == "report":
        return "findings" if not mark.alone or current.kind == "left_out" else None
    if mark.kind == "part":
        return None if kept and current.kind != "unknown" else "part"
    if mark.kind == "view":
        return None if current.kind in ("findings", "impression", "part") else "view"
    if mark.kind == "unknown" and not (mark.upper or (current.kind == "left_out" and not current.upper)):
        return None
    return None if kept else mark.kind  # a line about the patient, or an unknown heading


def _cut(mark: Mark, text: str, impressed: bool) -> Iterator[_Piece]:
    """A section; paragraphs behind the first of a section that is left out are a piece of their own."""
    first, rest = text, ""
    if mark.kind == "left_out" and not impressed:
        lead = len(text) - len(text.lstrip())
        blank = _PARAGRAPH.search(text, lead)
        first, rest = (text[: blank.start()], text[blank.end() :]) if blank else (text, "")
    for section, part in ((mark.kind, first), ("paragraph", rest)):
        if part and not part.isspace():
            yield _Piece(section, mark.name, part, mark.strong)


def _end_of_line(text: str, start: int) -> int:
    ends = [end for end in (text.find("\n", start), text.find("\x0b", start)) if end >= 0]
    return min(ends, default=len(text))
