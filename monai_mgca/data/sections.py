# Copyright (c) MONAI MGCA contributors
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#     http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ["join_report", "report_from_text", "split_sections"]

# Headings known by name are found anywhere in upper case ("... clear. IMPRESSION: ..."), and in any case where a
# sentence can begin. Any other run of capitals before a colon is a heading only at the start of a line.
_KNOWN = {
    "findings": ("FINDINGS", "FINDING", "CHEST FINDINGS", "FINDINGS AND IMPRESSION", "FINDINGS/IMPRESSION", "REPORT"),
    "impression": ("IMPRESSION", "IMPRESSIONS", "CONCLUSION", "CONCLUSIONS", "IMPRESSION AND RECOMMENDATIONS"),
    "other": (
        *("INDICATION", "INDICATIONS", "COMPARISON", "COMPARISONS", "TECHNIQUE", "HISTORY", "CLINICAL HISTORY"),
        *("EXAM", "EXAMINATION", "REASON FOR EXAM", "REASON FOR EXAMINATION", "CLINICAL INFORMATION", "PROCEDURE"),
        *("RECOMMENDATION", "RECOMMENDATIONS", "RECOMMENDATION(S)", "NOTIFICATION", "WET READ", "ADDENDUM"),
    ),
}
_SECTION_OF = {heading: section for section, headings in _KNOWN.items() for heading in headings}
_names = "|".join(re.escape(heading).replace(r"\ ", " +") for heading in sorted(_SECTION_OF, key=len, reverse=True))
_HEADING = re.compile(
    r"(?<![A-Za-z])(?:"  # no way begins within a word: this alone is tried at most places
    rf"(?=[A-Z])(?P<known>{_names})[ \t]*:"  # upper case, anywhere
    rf"|(?:^[ \t]*|(?<=[.!?])[ \t]+)(?P<cased>(?i:{_names}))[ \t]*:"  # any case, where a sentence can begin
    r"|^[ \t]*(?P<line>[A-Z][A-Z0-9 ,/&()_'-]{2,60}?)[ \t]*:)",  # other capitals, at the start of a line
    re.MULTILINE,
)
# more than the longest heading, of 61 characters, with some spaces
_LONGEST = 80
# Older reports put the findings under the name of the view: "PA AND LATERAL CHEST RADIOGRAPH: ..."
_VIEW = re.compile(r"\b(CHEST|RADIOGRAPHS?|VIEWS?)\b")


def split_sections(text: str) -> dict[str, str]:
    """Split a report at its headings.

    Args:
        text: the report as it was written, on one line or many.

    Returns:
        The text by section, white space collapsed, sections that come twice joined: "findings", "impression",
        "view" (text under the name of a view), "other" (all that stands under other headings) and "preamble" (what
        comes before the first heading); those there are. Text before a line "FINAL REPORT" (a preliminary reading)
        is left out.

    Example::

        split_sections("FINDINGS: Clear lungs. IMPRESSION: Normal.")
        # {"findings": "Clear lungs.", "impression": "Normal."}
    """
    if "FINAL REPORT" in text:
        text = re.split(r"^[ \t]*FINAL REPORT[ \t]*$", text, maxsplit=1, flags=re.MULTILINE)[-1]
    pieces: dict[str, list[str]] = {}
    section, start = "preamble", 0
    for match in [*_headings(text), None]:
        body = " ".join(text[start : match.start() if match else None].split())
        if body:
            pieces.setdefault(section, []).append(body)
        if match:
            section, start = _section(match), match.end()
    return {section: " ".join(bodies) for section, bodies in pieces.items()}


def _headings(text: str) -> Iterator[re.Match]:
    """The headings in their order, looked for before colons alone: to try every place takes twice as long."""
    begin = 0
    while (colon := text.find(":", begin)) >= 0:
        start = max(begin, len(text[begin:colon].rstrip(" \t")) + begin - _LONGEST)
        start = begin + len(text[begin:start].rstrip(" \t"))  # from where a sentence or line may begin
        if match := _HEADING.search(text, start, colon + 1):
            yield match
        begin = colon + 1


def _section(match: re.Match) -> str:
    heading = " ".join((match["known"] or match["cased"] or match["line"]).upper().split())
    return _SECTION_OF.get(heading) or ("view" if _VIEW.search(heading) else "other")


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
