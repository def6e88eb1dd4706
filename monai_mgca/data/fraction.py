# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Takes a share of the entries, as for label-efficient training, whole patients at a time."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from typing import Any

from monai_mgca.utils import DataError

__all__ = ["take_fraction"]


def take_fraction(
    entries: Sequence[Mapping[str, Any]],
    fraction: float,
    seed: int = 0,
    strata: Callable[[Mapping[str, Any]], Collection[Hashable]] = lambda entry: (),
) -> list:
    """Choose a part of the patients, so that every class keeps its part of them.

    The choice depends on the seed and the patients' ids alone, and a smaller part lies within a larger one.

    Args:
        entries: entries with a "patient".
        fraction: the part of the patients, above 0 up to 1.
        seed: another seed gives another choice.
        strata: the classes of an entry. A patient is counted under the rarest class of theirs, and under none without
            any; of each such group the part is rounded, but at least one patient remains.

    Returns:
        The chosen entries, in the order given.

    Raises:
        DataError: when the fraction is not above 0 and at most 1.

    Example::

        entries = [{"patient": str(i), "labels": [i % 2]} for i in range(100)]
        print(len(take_fraction(entries, 0.1, strata=lambda entry: entry["labels"])))  # 10
    """
    if not 0 < fraction <= 1:
        raise DataError(f"label_fraction is a part above 0 and at most 1, such as 0.1, got {fraction}.")
    patients: dict[Any, set[Hashable]] = defaultdict(set)
    for entry in entries:
        patients[entry["patient"]].update(strata(entry))
    frequency: dict[Hashable, int] = defaultdict(int)
    for classes in patients.values():
        for name in classes:
            frequency[name] += 1
    groups: dict[Hashable, list] = defaultdict(list)
    for patient, classes in patients.items():
        groups[min(classes, key=lambda name: (frequency[name], str(name)), default=None)].append(patient)
    chosen: set[Any] = set()
    for group in groups.values():
        group.sort(key=lambda patient: hashlib.sha256(f"{seed}:{patient}".encode("utf-8", "surrogatepass")).digest())
        chosen.update(group[: max(1, round(fraction * len(group)))])
    return [entry for entry in entries if entry["patient"] in chosen]
