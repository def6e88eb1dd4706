# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Signs of personal data: heuristics that help a person who looks, and no proof that there is none."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from monai_mgca.data.check.burned_in import has_corner_text
from monai_mgca.io.image_header import tag_text

__all__ = ["image_signs", "report_signs", "tag_signs"]

_TITLE = r"(?:Dr|Drs|Mr|Mrs|Ms|Miss|Prof|Professor)\b\.?"
# bounded, so that no text takes long
_NAME = r"(?:[A-Z]['’])?[A-Z][a-z]{1,40}(?:['’-][A-Z]?[a-z]{1,40}){0,3}"
_ROLE = r"(?:[Pp]atient|[Nn]ame|[Ss]igned|[Dd]ictated|[Rr]ead|[Rr]eviewed|[Vv]erified)"
_DEED = r"(?:signed|dictated|read|reviewed|verified|discussed|communicated)"
# "may" is a verb more often than a month
_MONTH = (
    r"(?:May|(?i:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    r"|nov(?:ember)?|dec(?:ember)?))"
)
_DAY, _NUMBER, _YEAR = r"(?:0?[1-9]|[12]\d|3[01])", r"(?:0?[1-9]|1[0-2])", r"(?:19|20)\d\d"
_NUMBERED = r"(?i:mrn|mr\s?#|medical record|accession|acc\s?#|(?:patient|hospital)\s?(?:id|no|number)|nhs|ssn|account)"

# The reasons of Problem to what a report says of them. Names want capitals; most of the rest does not.
_SIGNS = {
    "report: a name": (
        rf"\b{_TITLE}\s+(?:[A-Z]\.\s*)?{_NAME}",
        rf"\b{_ROLE}(?:\s+by)?\s*:\s*{_NAME}[,\s]+{_NAME}",
        rf"\b{_DEED}\s+(?:by|with|to)\s+{_NAME}\s+{_NAME}",
        rf"\b{_NAME}\s+(?:[A-Z]\.\s*)?{_NAME},?\s+(?:M\.?D\.?|D\.?O\.?|R\.?N\.?|PA-C|FRCR)(?!\w)",
    ),
    "report: a date": (
        rf"(?<![\d/.-]){_DAY}/{_DAY}/(?:{_YEAR}|\d\d)(?![\d/])",
        rf"(?<![\d/.-]){_DAY}(?:\.{_NUMBER}\.|-{_NUMBER}-){_YEAR}(?![\d.-]*\d)",
        rf"(?<![\d/.-]){_NUMBER}-{_DAY}-{_YEAR}(?![\d.-]*\d)",
        rf"(?<![\d/.-]){_YEAR}(?:-{_NUMBER}-|/{_NUMBER}/|\.{_NUMBER}\.){_DAY}(?!\d)",
        rf"\b{_DAY}(?:st|nd|rd|th)?(?:\s+of)?[\s-]+{_MONTH}\b",
        rf"\b{_MONTH}\b\.?\s+(?:{_DAY}(?:st|nd|rd|th)?\b|(?:of\s+)?{_YEAR}\b)",
    ),
    "report: a phone number": (
        r"(?<![\d.])(?:\(\d{3}\)\s*|\d{3}[-. ])\d{3}[-. ]\d{4}(?!\d)",
        r"(?<!\w)\+\d{1,3}(?:[\s.-]?\(?\d{2,4}\)?){2,5}(?!\d)",
        r"(?i:\b(?:phone|telephone|tel|pager?|beeper|fax|mobile)\b\W{0,3}(?:number|no|at)?\W{0,3}\d{3,})",
    ),
    "report: an identifier": (
        rf"\b{_NUMBERED}(?!\w)\W{{0,3}}(?i:number|no|id)?\W{{0,3}}[A-Za-z]{{0,3}}-?\d{{3,}}",
        r"(?<![\d-])\d{3}-\d{2}-\d{4}(?![\d-])",
        r"(?<![\d.,])\d{6,}(?!\d)(?![\d.,]*\d)",
    ),
    "report: an e-mail or web address": (r"[\w.+-]{1,64}@[\w-]{1,64}\.[A-Za-z]{2,}", r"(?i:\b(?:https?://|www\.)\S+)"),
    "report: an age over 89": (
        r"(?i:(?<![\d.])(?:9\d|1[01]\d)[\s-]*(?:years?|yrs?|y)[\s/-]*(?:old|o)\b)",
        r"(?i:\b(?:age|aged)\b\W{0,3}(?:9\d|1[01]\d)(?![\d.]))",
    ),
}
_PATTERNS = {reason: re.compile("|".join(f"(?:{one})" for one in signs)) for reason, signs in _SIGNS.items()}
# Tags that name a person or a place to find one. PatientID is not among them: it is needed for splits by patient, and
# in public data sets it is a made-up number.
_TAGS = (
    "PatientName",
    "PatientBirthDate",
    "PatientBirthName",
    "PatientMotherBirthName",
    "PatientAddress",
    "PatientTelephoneNumbers",
    "OtherPatientNames",
    "OtherPatientIDs",
    "MilitaryRank",
    "InsurancePlanIdentification",
    "MedicalRecordLocator",
    "ResponsiblePerson",
    "ReferringPhysicianName",
    "ReferringPhysicianTelephoneNumbers",
    "PhysiciansOfRecord",
    "PerformingPhysicianName",
    "NameOfPhysiciansReadingStudy",
    "RequestingPhysician",
    "ConsultingPhysicianName",
    "OperatorsName",
    "InstitutionName",
    "InstitutionAddress",
    "AccessionNumber",
    "PatientComments",
)
_EMPTY = re.compile(r"^[\s^x_*-]*$|anonym|^anon|de-?identif|removed|unknown|^none$|^n/?a$", re.IGNORECASE)


def report_signs(text: str) -> Iterator[str]:
    """The signs of personal data in a report: reasons, never the words.

    Args:
        text: the report.

    Example::

        print(list(report_signs("Discussed with Dr. Smith on 3/14/2019.")))  # a name, a date
    """
    for reason, pattern in _PATTERNS.items():
        if pattern.search(text):
            yield reason


def tag_signs(tags: Any) -> Iterator[tuple[str, str]]:
    """The tags of a DICOM file that are filled in and identify a person: reasons and the tags' names, never the values.

    Args:
        tags: pydicom's data set; None where there is none.
    """
    if tags is None:
        return
    patient = tag_text(tags, "PatientID")
    values = {name: tag_text(tags, name, damaged="?") for name in _TAGS}  # what is damaged is there
    # a name that only repeats the made-up id names nobody
    filled = [name for name, value in values.items() if not _EMPTY.search(value) and value != patient]
    if filled:
        yield "DICOM tag about a person", ", ".join(filled)
    if tag_text(tags, "BurnedInAnnotation").upper() == "YES":
        yield "DICOM: BurnedInAnnotation is YES", ""


def image_signs(pixels: np.ndarray | None) -> Iterator[tuple[str, str]]:
    """Whether an image seems to have text near a corner.

    Args:
        pixels: (H, W), 0..255; None where they cannot be read.
    """
    corner = None if pixels is None else has_corner_text(pixels)
    if corner:
        yield "image: text near a corner", corner
