# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Write the report of a study of the built-in sample, in varied wording, and the vocabulary of that wording.

Every language has as many wordings in each place, so that the same draws choose them: a study's report says the same,
sentence by sentence, in each, and what is drawn after it is the same too.
"""

from __future__ import annotations

import re
from types import ModuleType

import numpy as np

from monai_mgca.text.sections import join_report

from . import english, spanish
from .case import Anatomy, Finding

__all__ = ["LANGUAGES", "vocabulary", "write_phrase", "write_report"]

LANGUAGES = {"en": english, "es": spanish}

_ORDER = ("device", "opacity", "nodule", "effusion", "pneumothorax", "cardiomegaly")


def _choose(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]


def _describe(words: ModuleType, finding: Finding, part: int, rng: np.random.Generator) -> str:
    """One sentence on a finding: of the impression (part 0) or of the findings (part 1)."""
    wordings = words.DEVICE[finding.form] if finding.kind == "device" else words.PRESENT[finding.kind]
    slots = {**_terms(words, finding), "mm": finding.millimeters}
    if finding.size:
        extents = (words.FLUID if finding.kind == "effusion" else words.AIR)[finding.size]
        slots["extent"] = words.fill(_choose(rng, extents), {"side": slots["side"]})
        slots["size"] = _choose(rng, (words.NODULE_SIZE if finding.kind == "nodule" else words.SIZE)[finding.size])
        slots["degree"], slots["enlarged"] = _choose(rng, words.DEGREE[finding.size]), words.ENLARGED[finding.size]
    if finding.zone:
        slots["zone"] = _choose(rng, words.ZONE[finding.zone])
    return words.fill(_choose(rng, wordings[part]), slots)


def _terms(words: ModuleType, finding: Finding) -> dict[str, object]:
    """What a finding's side, zone, size and form are called, each by its plain name."""
    return {slot: words.TERMS.get(getattr(finding, slot), "") for slot in ("side", "zone", "size", "form")}


def write_phrase(finding: Finding, language: str = "en") -> str:
    """A finding in a few plain words, such as "large right effusion".

    Args:
        finding: of a study.
        language: one of ``LANGUAGES``.
    """
    words = LANGUAGES[language]
    slots = {**_terms(words, finding), "degree": words.DEGREE[finding.size][0] if finding.size else ""}
    return " ".join(words.fill(words.PHRASE[finding.kind], slots).split())


def _describe_anatomy(
    words: ModuleType, anatomy: Anatomy, findings: tuple[Finding, ...], rng: np.random.Generator
) -> list[str]:
    """Sentences on what is unusual, and on some of what is usual, in the patient's anatomy."""
    sentences = []
    if rng.random() < (0.35 if anatomy.volume == "normal" else 0.9):
        sentences.append(_choose(rng, words.VOLUME[anatomy.volume]))
    if rng.random() < (0.9 if anatomy.aorta else 0.2):
        sentences.append(_choose(rng, words.AORTA[anatomy.aorta]))
    if anatomy.scoliosis and rng.random() < 0.8:
        sentences.append(words.fill(_choose(rng, words.SCOLIOSIS), {"side": words.TERMS[anatomy.scoliosis]}))
    hidden = any(f.kind == "effusion" and f.side == anatomy.raised for f in findings)
    if anatomy.raised and not hidden and rng.random() < 0.9:
        sentences.append(words.fill(_choose(rng, words.RAISED), {"side": words.TERMS[anatomy.raised]}))
    if anatomy.female and rng.random() < 0.35:
        sentences.append(_choose(rng, words.BREASTS))
    return sentences


def _join(sentences: list[str]) -> str:
    return " ".join(sentence[0].upper() + sentence[1:] + "." for sentence in sentences)


def write_report(
    anatomy: Anatomy, findings: tuple[Finding, ...], prior: bool, rng: np.random.Generator, language: str = "en"
) -> str:
    """Write the report of a study: impression, then findings.

    Args:
        anatomy: of the patient; what is unusual in it is mostly described.
        findings: of the study; all are described, most of the other classes are said to be absent.
        prior: True when the patient has an earlier study.
        rng: of the study; every language leaves it in the same state.
        language: one of ``LANGUAGES``.
    """
    words = LANGUAGES[language]
    impression = [_describe(words, finding, 0, rng) for finding in findings] or [_choose(rng, words.NORMAL)]
    if len(impression) > 1 and rng.random() < 0.3:
        impression = [f"{number}. {sentence}" for number, sentence in enumerate(impression, start=1)]
    described = {finding.kind: _describe(words, finding, 1, rng) for finding in findings}
    body = []
    for kind in _ORDER:
        if kind in described:
            body.append(described[kind])
        elif rng.random() < (0.25 if kind in ("device", "nodule") else 0.75):
            body.append(_choose(rng, words.ABSENT[kind]))
    body += _describe_anatomy(words, anatomy, findings, rng)
    if rng.random() < 0.5:
        body = [body[i] for i in rng.permutation(len(body))]
    before = [_choose(rng, options) for options in (words.VIEW, words.PRIOR[prior]) if rng.random() < 0.35]
    after = [_choose(rng, words.BONES)] if rng.random() < 0.5 else []
    return join_report(findings=_join(before + body + after), impression=_join(impression))


def _strings(node) -> list[str]:
    """All strings in nested dictionaries and sequences."""
    if isinstance(node, str):
        return [node]
    if isinstance(node, dict):
        return _strings(list(node.values()))
    return [text for part in node for text in _strings(part)]


def vocabulary(language: str = "en") -> list[str]:
    """All words that :func:`write_report` may use, lower case, sorted.

    Args:
        language: one of ``LANGUAGES``, or several joined by "+".
    """
    modules = [LANGUAGES[name] for name in language.split("+")]
    tables = [table for module in modules for name, table in vars(module).items() if name.isupper()]
    tables += [str(millimeters) for millimeters in range(10, 31, 2)]
    text = re.sub(r"\{\w+\}", " ", " ".join(_strings(tables)).lower())
    return sorted(set(re.findall(r"\w+", text)))
