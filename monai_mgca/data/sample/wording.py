# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Write the report of a study of the built-in sample, in varied wording, and the vocabulary of that wording."""

from __future__ import annotations

import re

import numpy as np

from monai_mgca.text.sections import join_report

from .case import CLASSES, DEVICES, PATTERNS, SIDES, ZONES, Anatomy, Finding

__all__ = ["vocabulary", "write_report"]

_SIZE = {
    "small": ("small", "minor", "limited"),
    "moderate": ("moderate", "medium sized", "moderate sized"),
    "large": ("large", "extensive", "sizable"),
}
_NODULE_SIZE = {
    "small": ("small", "tiny"),
    "moderate": ("moderate sized", "medium sized"),
    "large": ("large", "sizable"),
}
_DEGREE = {
    "small": ("mild", "slight", "borderline to mild"),
    "moderate": ("moderate",),
    "large": ("marked", "severe", "massive"),
}
_ENLARGED = {"small": "mildly", "moderate": "moderately", "large": "severely"}
_ZONE = {"upper": ("upper", "apical to upper"), "mid": ("mid", "middle", "perihilar mid"), "lower": ("lower", "basal")}
_FLUID = {
    "small": ("blunting the {side} costophrenic angle", "seen only at the {side} costophrenic angle"),
    "moderate": ("obscuring the {side} hemidiaphragm", "filling the {side} base"),
    "large": ("filling about half of the {side} hemithorax", "reaching up to the {side} hilum"),
}
_AIR = {
    "small": ("at the {side} apex", "along the {side} upper chest wall"),
    "moderate": ("with partial collapse of the {side} lung", "along the {side} lateral chest wall"),
    "large": ("with near complete collapse of the {side} lung", "with the {side} lung retracted to its hilum"),
}
# First the wordings of the impression, then those of the findings. {extent} is of _FLUID or _AIR.
_PRESENT = {
    "opacity": (
        ("{size} {form} opacity in the {side} {zone} lung", "{side} {zone} zone {form} consolidation, {size}"),
        (
            "There is a {size} {form} opacity in the {side} {zone} zone, concerning for pneumonia",
            "{size} area of {form} airspace opacity projects over the {side} {zone} lung",
            "In the {side} {zone} zone there is {size} {form} consolidation",
        ),
    ),
    "effusion": (
        ("{size} {side} pleural effusion", "{side} sided pleural effusion, {size}"),
        (
            "There is a {size} {side} pleural effusion {extent}",
            "{size} layering pleural fluid on the {side}, {extent}",
            "A {size} effusion is present on the {side}, {extent}",
        ),
    ),
    "pneumothorax": (
        ("{size} {side} pneumothorax", "{side} sided pneumothorax, {size}"),
        (
            "A {size} {side} pneumothorax is present {extent}",
            "A pleural line is seen on the {side}, in keeping with a {size} pneumothorax {extent}",
            "There is {size} pleural air {extent}",
        ),
    ),
    "cardiomegaly": (
        ("{degree} cardiomegaly", "{enlarged} enlarged heart"),
        (
            "The heart is {enlarged} enlarged",
            "{degree} enlargement of the cardiac silhouette",
            "The cardiac silhouette is {enlarged} enlarged, in keeping with {degree} cardiomegaly",
        ),
    ),
    "nodule": (
        ("{mm} mm nodule in the {side} {zone} lung", "{size} {side} {zone} zone pulmonary nodule of {mm} mm"),
        (
            "A {size} round nodule measuring {mm} mm projects over the {side} {zone} zone",
            "There is a {size} well defined nodule in the {side} {zone} lung, {mm} mm in diameter",
            "{size} nodular density of {mm} mm in the {side} {zone} zone, follow up is advised",
        ),
    ),
}
_DEVICE = {
    "endotracheal tube": (
        ("Endotracheal tube in place", "Intubated patient"),
        ("The endotracheal tube ends above the carina", "Endotracheal tube tip in the mid trachea"),
    ),
    "enteric tube": (
        ("Enteric tube in the stomach", "Feeding tube below the diaphragm"),
        (
            "An enteric tube passes below the diaphragm with its tip in the stomach",
            "Nasogastric tube ends in the stomach",
        ),
    ),
    "central line": (
        ("{side} central venous line in place", "{side} internal jugular catheter"),
        ("A {side} central line ends in the superior vena cava", "{side} jugular catheter with tip in the lower cava"),
    ),
    "pacemaker": (
        ("{side} sided pacemaker", "Pacemaker in the {side} chest wall"),
        (
            "A {side} chest wall pacemaker has its lead in the right ventricle",
            "{side} pectoral pacemaker with intact lead",
        ),
    ),
    "chest tube": (
        ("{side} chest tube in place", "{side} pleural drain"),
        ("A {side} chest tube projects over the {side} upper lung", "{side} sided pleural drain directed to the apex"),
    ),
}
_ABSENT = {
    "device": ("No lines or tubes", "No support devices are seen"),
    "opacity": ("No focal consolidation", "There is no airspace opacity", "No evidence of pneumonia"),
    "nodule": ("No pulmonary nodule", "No suspicious nodule or mass is seen"),
    "effusion": ("No pleural effusion", "The costophrenic angles are sharp", "There is no pleural fluid"),
    "pneumothorax": ("No pneumothorax", "No pneumothorax is seen", "There is no evidence of pneumothorax"),
    "cardiomegaly": ("Heart size is normal", "The cardiac silhouette is normal in size", "No cardiomegaly"),
}
_NORMAL = (
    "No acute cardiopulmonary process",
    "Normal chest radiograph",
    "No evidence of acute disease",
    "Clear lungs without acute abnormality",
)
_VOLUME = {
    "low": ("Lung volumes are low", "Low inspiratory volumes"),
    "normal": ("Lung volumes are normal", "The lungs are well expanded"),
    "large": ("The lungs are hyperinflated", "Large lung volumes with flat diaphragm"),
}
_AORTA = {True: ("The aortic knob is prominent", "Enlarged aortic arch"), False: ("The aortic contour is normal",)}
_SCOLIOSIS = ("Scoliosis of the thoracic spine to the {side}", "The thoracic spine is curved to the {side}")
_RAISED = ("The {side} hemidiaphragm is elevated", "Elevation of the {side} hemidiaphragm")
_BREASTS = ("Breast shadows overlie the lower lungs", "Overlying breast tissue is noted")
_BONES = ("No acute osseous abnormality", "The bony thorax is intact", "Mild degenerative changes of the spine")
_VIEW = ("Frontal view of the chest was obtained", "Single frontal radiograph", "Portable view of the chest")
_PRIOR = {
    False: ("No prior study is available for comparison",),
    True: ("Comparison is made with the prior study", "The previous radiograph was reviewed"),
}
_ORDER = ("device", "opacity", "nodule", "effusion", "pneumothorax", "cardiomegaly")


def _choose(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]


def _describe(finding: Finding, part: int, rng: np.random.Generator) -> str:
    """One sentence on a finding: of the impression (part 0) or of the findings (part 1)."""
    wordings = _DEVICE[finding.form] if finding.kind == "device" else _PRESENT[finding.kind]
    slots = {"side": finding.side, "form": finding.form, "mm": finding.millimeters}
    if finding.size:
        extents = (_FLUID if finding.kind == "effusion" else _AIR)[finding.size]
        slots["extent"] = _choose(rng, extents).format(side=finding.side)
        slots["size"] = _choose(rng, (_NODULE_SIZE if finding.kind == "nodule" else _SIZE)[finding.size])
        slots["degree"], slots["enlarged"] = _choose(rng, _DEGREE[finding.size]), _ENLARGED[finding.size]
    if finding.zone:
        slots["zone"] = _choose(rng, _ZONE[finding.zone])
    return re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", _choose(rng, wordings[part]).format(**slots))


def _describe_anatomy(anatomy: Anatomy, findings: tuple[Finding, ...], rng: np.random.Generator) -> list[str]:
    """Sentences on what is unusual, and on some of what is usual, in the patient's anatomy."""
    sentences = []
    if rng.random() < (0.35 if anatomy.volume == "normal" else 0.9):
        sentences.append(_choose(rng, _VOLUME[anatomy.volume]))
    if rng.random() < (0.9 if anatomy.aorta else 0.2):
        sentences.append(_choose(rng, _AORTA[anatomy.aorta]))
    if anatomy.scoliosis and rng.random() < 0.8:
        sentences.append(_choose(rng, _SCOLIOSIS).format(side=anatomy.scoliosis))
    hidden = any(f.kind == "effusion" and f.side == anatomy.raised for f in findings)
    if anatomy.raised and not hidden and rng.random() < 0.9:
        sentences.append(_choose(rng, _RAISED).format(side=anatomy.raised))
    if anatomy.female and rng.random() < 0.35:
        sentences.append(_choose(rng, _BREASTS))
    return sentences


def _join(sentences: list[str]) -> str:
    return " ".join(sentence[0].upper() + sentence[1:] + "." for sentence in sentences)


def write_report(anatomy: Anatomy, findings: tuple[Finding, ...], prior: bool, rng: np.random.Generator) -> str:
    """Write the report of a study: impression, then findings.

    Args:
        anatomy: of the patient; what is unusual in it is mostly described.
        findings: of the study; all are described, most of the other classes are said to be absent.
        prior: True when the patient has an earlier study.
        rng: of the study.
    """
    impression = [_describe(finding, 0, rng) for finding in findings] or [_choose(rng, _NORMAL)]
    if len(impression) > 1 and rng.random() < 0.3:
        impression = [f"{number}. {sentence}" for number, sentence in enumerate(impression, start=1)]
    described = {finding.kind: _describe(finding, 1, rng) for finding in findings}
    body = []
    for kind in _ORDER:
        if kind in described:
            body.append(described[kind])
        elif rng.random() < (0.25 if kind in ("device", "nodule") else 0.75):
            body.append(_choose(rng, _ABSENT[kind]))
    body += _describe_anatomy(anatomy, findings, rng)
    if rng.random() < 0.5:
        body = [body[i] for i in rng.permutation(len(body))]
    before = [_choose(rng, options) for options in (_VIEW, _PRIOR[prior]) if rng.random() < 0.35]
    after = [_choose(rng, _BONES)] if rng.random() < 0.5 else []
    return join_report(findings=_join(before + body + after), impression=_join(impression))


def _strings(node) -> list[str]:
    """All strings in nested dictionaries and sequences."""
    if isinstance(node, str):
        return [node]
    if isinstance(node, dict):
        return _strings(list(node.values()))
    return [text for part in node for text in _strings(part)]


def vocabulary() -> list[str]:
    """All words that :func:`write_report` may use, lower case, sorted."""
    wordings = [_PRESENT, _DEVICE, _ABSENT, _NORMAL, _FLUID, _AIR, _VOLUME, _AORTA, _SCOLIOSIS, _RAISED, _BREASTS]
    wordings += [_BONES, _VIEW, _PRIOR, _SIZE, _NODULE_SIZE, _DEGREE, _ENLARGED, _ZONE]
    wordings += [CLASSES, DEVICES, PATTERNS, SIDES, ZONES, [str(millimeters) for millimeters in range(10, 31, 2)]]
    text = re.sub(r"\{\w+\}", " ", " ".join(_strings(wordings)).lower())
    return sorted(set(re.findall(r"\w+", text)))
