# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Splits entries into training, validation and test, whole patients at a time."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from monai_mgca.data.entry import SECTIONS, Entry
from monai_mgca.utils import DataError

__all__ = ["count_shared_patients", "split_by_patient", "split_name"]

SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "training"),
    **dict.fromkeys(("val", "valid", "validate", "validation"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}


def split_name(value: str) -> str | None:
    """The datalist section that a split column's value means, None when it means none."""
    return SPLIT_NAMES.get(value.strip().lower())


def split_by_patient(
    entries: Iterable[Entry], fractions: Sequence[float] = (0.8, 0.1, 0.1), seed: int = 0
) -> dict[str, list[Entry]]:
    """Split entries so that no patient is in two splits.

    The patients are ordered by a hash of the seed and their id, then cut: the order of the entries has no say.

    Args:
        entries: entries with a "patient".
        fractions: the parts of the patients for training, validation and test; they sum to 1.
            A part above 0 gets at least one patient.
        seed: another seed gives another split.

    Returns:
        "training", "validation" and "test" (those with a part above 0) to lists of entries, in the order given.

    Raises:
        DataError: when the fractions are not three parts of 1, or there are fewer patients than splits.

    Example::

        splits = split_by_patient([{"patient": str(i)} for i in range(10)], fractions=(0.8, 0.1, 0.1))
        # 8, 1 and 1 entries
    """
    if len(fractions) != 3 or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
        raise DataError(f"fractions are three parts (training, validation, test) that sum to 1, got {fractions}.")
    entries = list(entries)
    wanted = [i for i, part in enumerate(fractions) if part > 0]
    patients = {entry["patient"] for entry in entries}
    ordered = sorted(patients, key=lambda p: hashlib.sha256(f"{seed}:{p}".encode("utf-8", "surrogatepass")).digest())
    if len(ordered) < len(wanted):
        raise DataError(f"{len(ordered)} patients cannot make {len(wanted)} splits; set fractions such as 1 0 0.")
    sizes = [max(1, round(len(ordered) * part)) if part > 0 else 0 for part in fractions]
    sizes[sizes.index(max(sizes))] += len(ordered) - sum(sizes)  # rounding goes to the largest part
    section_of, start = {}, 0
    for i in wanted:
        section_of.update(dict.fromkeys(ordered[start : start + sizes[i]], SECTIONS[i]))
        start += sizes[i]
    splits: dict[str, list[Entry]] = {SECTIONS[i]: [] for i in wanted}
    for entry in entries:
        splits[section_of[entry["patient"]]].append(entry)
    return splits


def count_shared_patients(entries_by_split: Mapping[str, Iterable[Entry]]) -> int:
    """The number of patients that are in more than one split."""
    patients = [{entry.get("patient") for entry in entries} - {None, ""} for entries in entries_by_split.values()]
    everyone = Counter(patient for group in patients for patient in group)
    return sum(times > 1 for times in everyone.values())
