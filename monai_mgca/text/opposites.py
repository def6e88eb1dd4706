# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The opposite of a sentence of an English report: what it denies stated, what it states denied."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

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
# the longest words first, for "enlarged heart" is not "normal in size heart"
_CHANGES = (*_PAIRS, *sorted(((ill, well) for well, ill in _PAIRS), key=lambda pair: -len(pair[0])))
_LONGEST = 1000  # letters of a sentence


def _affirm(*parts: str | None) -> str:
    """What was denied, with "and" where it was denied one by one."""
    return re.sub(r"\b(?:or|nor)\b", "and", " ".join(part.strip() for part in parts if part))


def _deny(start: str, rest: str) -> str:
    """What was stated, without how much there was of it."""
    return f"{start} no {re.sub(rf'^{_AMOUNT}', '', rest)}".strip()


Rule = tuple[str, Callable[..., str]]
# what denies: each pattern, and what is made of its groups; the first that fits
_DENIALS: tuple[Rule, ...] = (
    (rf"(there (?:{_BE}|s|has been)) no {_EVIDENCE}(.+)", _affirm),
    (rf"(?:\w+ly |otherwise )?no {_EVIDENCE}(.+?)(?: {_BE})?(?: {_SEEN})?", _affirm),
    (rf"(.+) without {_EVIDENCE}(?:any )?(.+)", lambda start, rest: _affirm(start, "with", rest)),
    (r"(.+) (?:clear|free) of (?:any )?(.+)", lambda start, rest: _affirm(start, "not clear of", rest)),
    (r"(.*)\bnegative for (.+)", lambda start, rest: _affirm(start, "positive for", rest)),
    (rf"(.+? (?:{_BE}|has|have|does|do)) not (.+)", _affirm),
)
_STATEMENTS: tuple[Rule, ...] = (
    (rf"(there {_BE}) (.*\w{{3}}.*)", _deny),
    (rf"()(.*\b{_FINDING}\b.* {_BE} (?:again )?{_SEEN}\b.*)", _deny),
    (rf"(.+? {_BE}) (.+)", "{} not {}".format),
    (rf"()((?:[\w-]+ ){{0,6}}{_FINDING}(?: (?:in|of|at|with|within|on) .+)?)", _deny),
)


def opposite_sentence(sentence: str) -> str | None:
    """The opposite of a sentence of a report, by rules for English.

    "no pleural effusion" becomes "pleural effusion", "there is a small effusion" "there is no effusion", "the heart is
    enlarged" "the heart is normal in size". A sentence of several findings that are denied together states them all.

    Args:
        sentence: one sentence, as :class:`monai_mgca.transforms.CleanReport` gives it or as it was written. A heading
            before it, "impression", stays.

    Returns:
        Its opposite in lower case, without a stop; None where no rule fits, or it neither states nor denies: "may
        represent", "unchanged", a recommendation, more than 1,000 letters.

    Example::

        print(opposite_sentence("There is no pneumothorax or pleural effusion."))
        # there is pneumothorax and pleural effusion
    """
    text = " ".join(sentence.lower().rstrip(" .").split())
    heading = _HEADING.match(text)
    start = heading[0] if heading else ""
    text = text[len(start) :]
    if not text or len(text) > _LONGEST or _OPEN.search(text):
        return None
    if (denied := _first(_DENIALS, text)) is not None:
        return start + denied
    for old, new in _CHANGES:
        if re.search(rf"\b{old}\b", text):
            return start + re.sub(rf"\b{old}\b", new, text, count=1)
    stated = _first(_STATEMENTS, text)
    return None if stated is None else start + stated


def _first(rules: Sequence[Rule], text: str) -> str | None:
    """What the first rule that fits makes of a text."""
    for pattern, change in rules:
        if found := re.fullmatch(pattern, text):
            return change(*found.groups())
    return None
