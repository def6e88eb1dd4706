# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The opposite of a sentence of an English report: what it denies stated, what it states denied."""

from __future__ import annotations

import re
from collections.abc import Callable

__all__ = ["opposite_sentence"]

# neither states nor denies, or speaks of something else than what is seen
_OPEN = re.compile(
    r"\b(may|might|could|can|cannot|possibl[ey]|probabl[ey]|likely|questionable|question|suggest\w*|concern\w*|versus|"
    r"vs|if|recommend\w*|correlat\w*|compar\w+|follow|exclude\w*|represent\w*|rule|due to|secondary|limited|unchanged|"
    r"change|(?:is|are) stable|interval|previous\w*|prior|resol\w+|improve\w*|increase\w*|decrease\w*|obtained|"
    r"performed|discussed)\b"
)
_HEADING = re.compile(r"^(?:(?:findings?|impression|conclusion)\b:?\s*)+", re.IGNORECASE)
_EVIDENCE = r"(?:(?:other |further |any )*(?:\w+ )?(?:evidence|signs?|findings?) (?:of|for) )?"
_SEEN = (
    r"(?:seen|identified|present|noted|visualized|visible|detected|demonstrated|evident|appreciated|observed|apparent)"
)
_BE = r"(?:is|are|was|were)"
# how much of it there is does not go with "no"
_AMOUNT = (
    r"(?:(?:an?|some|few|several|multiple|scattered|tiny|trace|small|mild(?:ly)?|minimal(?:ly)?|moderate(?:ly)?|large|"
    r"severe(?:ly)?|marked(?:ly)?|stable|minor|subtle|slight(?:ly)?|mildly|new|to|and) )*"
)
_FINDING = (
    r"(?:effusions?|pneumothora(?:x|ces)|consolidations?|opacit(?:y|ies)|atelectasis|cardiomegaly|edema|nodules?|mass(?:es)?|"
    r"pneumonia|infiltrates?|fractures?|scar(?:ring)?s?|granulomas?|emphysema|congestion|disease|thickening|hernia|"
    r"calcifications?|enlargement|hyperinflation|fluid|lesions?|adenopathy|lymphadenopathy|scoliosis|abnormalit(?:y|ies))"
)
# what is well, and what would not be; read in both directions
_PAIRS = (
    ("normal in size and contour", "enlarged"),
    ("normal in size", "enlarged"),
    ("of normal size", "enlarged"),
    ("within normal limits in size", "enlarged"),
    ("size is normal", "size is enlarged"),
    ("size is within normal limits", "size is enlarged"),
    ("size within normal limits", "size is enlarged"),
    ("size normal", "size enlarged"),
    ("normal heart size", "enlarged heart"),
    ("normal cardiac size", "enlarged heart"),
    ("normal size heart", "enlarged heart"),
    ("clear lungs", "lungs are not clear"),
    ("normal cardiac silhouette", "enlarged cardiac silhouette"),
    ("within normal limits", "abnormal"),
    ("in normal limits", "abnormal"),
    ("unremarkable", "abnormal"),
    ("normal", "abnormal"),
    ("sharp", "blunted"),
    ("well expanded", "poorly expanded"),
    ("well inflated", "poorly inflated"),
    ("well aerated", "poorly aerated"),
    ("clear", "not clear"),
    ("intact", "not intact"),
)


def _affirm(found: re.Match[str]) -> str:
    """What was denied, with "and" where it was denied one by one."""
    text = " ".join(part for part in found.groups() if part)
    return re.sub(r"\b(?:or|nor)\b", "and", text)


def _without_amount(found: re.Match[str]) -> str:
    first, rest = found.groups()
    return f"{first} no {re.sub(rf'^{_AMOUNT}', '', rest)}".strip()


Rule = tuple[re.Pattern[str], Callable[[re.Match[str]], str]]


def _rule(pattern: str, change: Callable[[re.Match[str]], str]) -> Rule:
    return re.compile(pattern, re.IGNORECASE), change


# the first that fits; denials come first, for a sentence that denies states something besides
_RULES: tuple[Rule, ...] = (
    _rule(rf"^(there (?:{_BE}|s|has been)) no {_EVIDENCE}(.+)$", _affirm),
    _rule(rf"^(?:\w+ly )?no {_EVIDENCE}(.+?)(?: {_BE})?(?: {_SEEN})?$", _affirm),
    _rule(rf"^(.+) without (?:{_EVIDENCE})(?:any )?(.+)$", lambda found: _affirm(_joined(found, "with"))),
    _rule(
        r"^(.+) (?:otherwise )?(?:clear|free) of (?:any )?(.+)$", lambda found: _affirm(_joined(found, "not clear of"))
    ),
    _rule(r"^(.*)\bnegative for (.+)$", lambda found: _affirm(_joined(found, "positive for"))),
    _rule(rf"^(.+? (?:{_BE}|has|have|does|do)) not (.+)$", _affirm),
)
_STATEMENTS: tuple[Rule, ...] = (
    _rule(rf"^(there {_BE}) (.*\w{{3}}.*)$", _without_amount),
    _rule(rf"^()(.*\b{_FINDING}\b.* {_BE} (?:again )?{_SEEN}\b.*)$", _without_amount),
    _rule(rf"^(.+? {_BE}) (.+)$", lambda found: f"{found[1]} not {found[2]}"),
    _rule(rf"^()((?:[\w-]+ ){{0,6}}{_FINDING}(?: (?:in|of|at|with|within|on) .+)?)$", _without_amount),
)


def _joined(found: re.Match[str], word: str) -> re.Match[str]:
    matched = re.match(r"(.*?)\0(.*?)\0(.*)", "\0".join((found[1], word, found[2])), re.DOTALL)
    assert matched is not None
    return matched


def opposite_sentence(sentence: str) -> str | None:
    """The opposite of a sentence of a report, by rules for English.

    "no pleural effusion" becomes "pleural effusion", "there is a small effusion" "there is no effusion", "the heart is
    enlarged" "the heart is normal in size". A sentence of several findings that are denied together states them all.

    Args:
        sentence: one sentence, as :class:`monai_mgca.transforms.CleanReport` gives it or as it was written. A heading
            before it, "impression", stays.

    Returns:
        Its opposite in lower case, without a stop; None where no rule fits, or it neither states nor denies: "may
        represent", "unchanged", a recommendation.

    Example::

        print(opposite_sentence("There is no pneumothorax or pleural effusion."))
        # there is pneumothorax and pleural effusion
    """
    text = " ".join(sentence.lower().rstrip(" .").split())
    heading = _HEADING.match(text)
    start = heading[0] if heading else ""
    text = text[len(start) :]
    if not text or _OPEN.search(text):
        return None
    for pattern, change in _RULES:
        if found := pattern.match(text):
            return start + change(found)
    for well, ill in _PAIRS:
        for old, new in ((ill, well), (well, ill)):
            if re.search(rf"\b{old}\b", text):
                return start + re.sub(rf"\b{old}\b", new, text, count=1)
    for pattern, change in _STATEMENTS:
        if found := pattern.match(text):
            return start + change(found)
    return None
