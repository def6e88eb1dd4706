# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The wording of the sample's reports in English. Every other language has the same tables, wording by wording."""

from __future__ import annotations

import re
from collections.abc import Mapping

from .case import CLASSES, DEVICES, PATTERNS, SIDES, SIZES, ZONES

__all__ = ["fill"]

# what the words of a `Finding` are called, and the few words that are said of a box
TERMS = {name: name for name in (*CLASSES, *SIDES, *ZONES, *SIZES, *PATTERNS, *DEVICES)}
PHRASE = {
    "opacity": "{size} {form} {side} {zone} zone opacity",
    "effusion": "{size} {side} effusion",
    "pneumothorax": "{size} {side} pneumothorax",
    "cardiomegaly": "{size} cardiomegaly",
    "nodule": "{size} {side} {zone} zone nodule",
    "device": "{side} {form}",
}
SIZE = {
    "small": ("small", "minor", "limited"),
    "moderate": ("moderate", "medium sized", "moderate sized"),
    "large": ("large", "extensive", "sizable"),
}
NODULE_SIZE = {
    "small": ("small", "tiny"),
    "moderate": ("moderate sized", "medium sized"),
    "large": ("large", "sizable"),
}
DEGREE = {
    "small": ("mild", "slight", "borderline to mild"),
    "moderate": ("moderate",),
    "large": ("marked", "severe", "massive"),
}
ENLARGED = {"small": "mildly", "moderate": "moderately", "large": "severely"}
ZONE = {"upper": ("upper", "apical to upper"), "mid": ("mid", "middle", "perihilar mid"), "lower": ("lower", "basal")}
FLUID = {
    "small": ("blunting the {side} costophrenic angle", "seen only at the {side} costophrenic angle"),
    "moderate": ("obscuring the {side} hemidiaphragm", "filling the {side} base"),
    "large": ("filling about half of the {side} hemithorax", "reaching up to the {side} hilum"),
}
AIR = {
    "small": ("at the {side} apex", "along the {side} upper chest wall"),
    "moderate": ("with partial collapse of the {side} lung", "along the {side} lateral chest wall"),
    "large": ("with near complete collapse of the {side} lung", "with the {side} lung retracted to its hilum"),
}
# First the wordings of the impression, then those of the findings. {extent} is of FLUID or AIR.
PRESENT = {
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
DEVICE = {
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
ABSENT = {
    "device": ("No lines or tubes", "No support devices are seen"),
    "opacity": ("No focal consolidation", "There is no airspace opacity", "No evidence of pneumonia"),
    "nodule": ("No pulmonary nodule", "No suspicious nodule or mass is seen"),
    "effusion": ("No pleural effusion", "The costophrenic angles are sharp", "There is no pleural fluid"),
    "pneumothorax": ("No pneumothorax", "No pneumothorax is seen", "There is no evidence of pneumothorax"),
    "cardiomegaly": ("Heart size is normal", "The cardiac silhouette is normal in size", "No cardiomegaly"),
}
NORMAL = (
    "No acute cardiopulmonary process",
    "Normal chest radiograph",
    "No evidence of acute disease",
    "Clear lungs without acute abnormality",
)
VOLUME = {
    "low": ("Lung volumes are low", "Low inspiratory volumes"),
    "normal": ("Lung volumes are normal", "The lungs are well expanded"),
    "large": ("The lungs are hyperinflated", "Large lung volumes with flat diaphragm"),
}
AORTA = {True: ("The aortic knob is prominent", "Enlarged aortic arch"), False: ("The aortic contour is normal",)}
SCOLIOSIS = ("Scoliosis of the thoracic spine to the {side}", "The thoracic spine is curved to the {side}")
RAISED = ("The {side} hemidiaphragm is elevated", "Elevation of the {side} hemidiaphragm")
BREASTS = ("Breast shadows overlie the lower lungs", "Overlying breast tissue is noted")
BONES = ("No acute osseous abnormality", "The bony thorax is intact", "Mild degenerative changes of the spine")
VIEW = ("Frontal view of the chest was obtained", "Single frontal radiograph", "Portable view of the chest")
PRIOR = {
    False: ("No prior study is available for comparison",),
    True: ("Comparison is made with the prior study", "The previous radiograph was reviewed"),
}


def fill(template: str, slots: Mapping[str, object]) -> str:
    """A wording with its slots filled; "a" becomes "an" before a vowel."""
    return re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", template.format(**slots))
