# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Images, reports and patients that stand more than once in a datalist."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from typing import Any

from monai_mgca.data.check.problem import Problem
from monai_mgca.data.entry import SECTIONS, Entry, Place, Sections, as_text, places_of

__all__ = ["duplicate_problems"]

# Of what is there twice, that of the first of these sections stays: training loses a little, evaluation nothing.
KEPT_FIRST = tuple(reversed(SECTIONS))


def duplicate_problems(
    splits: Sections,
    digests: Mapping[tuple[str, int], bytes],
    broken: Collection[tuple[str, int]] = (),
) -> Iterator[Problem]:
    """What is there twice: ids, patients in two splits, images by their pixels, and reports of several patients.

    Named is what is to be left out. A test entry stays, a validation entry leaves for it, a training entry for both;
    within a split the first one stays. What is broken itself never is the one that stays.

    Args:
        splits: the sections' entries.
        digests: of the pixels, by section and place in it; of the images that can be read.
        broken: sections and places of entries that are left out anyway.

    Example::

        entry = {"id": "1", "image": "1.png", "report": "Clear lungs. No effusion.", "patient": "1"}
        for problem in duplicate_problems({"training": [entry, entry]}, {}):
            print(problem.reason)  # duplicate id
    """
    ordered = sorted(places_of(splits, KEPT_FIRST), key=lambda place: place[:2] in broken)
    yield from _repeated(ordered, lambda section, index, entry: _text(entry.get("id")), lambda *_: "duplicate id")
    yield from _shared_patients(ordered)

    def reason(first: str, other: str) -> str:
        return "same image twice in a split" if first == other else "same image in two splits"

    yield from _repeated(ordered, lambda section, index, entry: digests.get((section, index)), reason)
    yield from _shared_reports(ordered)


def name_of(entry: Entry) -> str:
    """How an entry is named to people: by its image."""
    return str(entry.get("image") or "(an entry without an image)")


def _text(value: Any) -> str | None:
    return None if value in (None, "") else str(value)


def _repeated(
    ordered: Sequence[Place],
    key: Callable[[str, int, Entry], Hashable | None],
    reason: Callable[[str, str], str],
) -> Iterator[Problem]:
    """All but the first with the same key."""
    first: dict[Hashable, Place] = {}
    for section, index, entry in ordered:
        found = key(section, index, entry)
        if found is None:
            continue
        kept_section, place, kept = first.setdefault(found, (section, index, entry))
        if (kept_section, place) != (section, index):
            detail = f"in {section}; {name_of(kept)} in {kept_section} stays"
            yield Problem(reason(kept_section, section), name_of(entry), detail, section, index)


def _shared_patients(ordered: Sequence[Place]) -> Iterator[Problem]:
    stays: dict[str, str] = {}
    for section, index, entry in ordered:
        patient = _text(entry.get("patient"))
        if patient is not None and stays.setdefault(patient, section) != section:
            detail = f"in {section}; those in {stays[patient]} stay"
            yield Problem("one patient in two splits", name_of(entry), detail, section, index)


def _shared_reports(ordered: Sequence[Place]) -> Iterator[Problem]:
    """Each text once, with the number of its patients: a normal finding is often described in the same words."""
    patients: dict[str, set[str]] = {}
    first: dict[str, Place] = {}
    for section, index, entry in ordered:
        report, patient = as_text(entry.get("report")), _text(entry.get("patient"))
        if report and patient is not None:
            patients.setdefault(report, set()).add(patient)
            first.setdefault(report, (section, index, entry))
    for report, (section, index, entry) in first.items():
        if len(patients[report]) > 1:
            detail = f"{len(patients[report])} patients"
            yield Problem("same report of several patients", name_of(entry), detail, section, index)
