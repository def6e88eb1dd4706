# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""What a check found, and how it is reported: kinds of problems, limits, and the printed summary."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import NamedTuple

from monai_mgca.utils import DataError
from monai_mgca.utils.console import visible

__all__ = ["ERRORS", "WARNINGS", "CheckLimits", "Problem", "format_problems"]

# What is left out of a clean datalist.
ERRORS = (
    "missing",
    "zero bytes",
    "empty folder",
    "no path",
    "lies outside the dataset folder",
    "cannot be opened",
    "not an image",
    "unreadable",
    "truncated",
    "no decoder",
    "decompression bomb",
    "multi-frame",
    "wrong number of channels",
    "values that are not finite (NaN)",
    "values are no Hounsfield units",
    "constant",
    "too small",
    "too elongated",
    "wrong modality",
    "lateral view",
    "empty report",
    "report too short",
    "report not in Latin letters",
    "label out of range",
    "box out of range",
    "mask does not fit",
    "duplicate id",
    "one patient in two splits",
    "same image in two splits",
    "same image twice in a split",
)
# What is reported and stays: a person is to look.
WARNINGS = (
    "in color",
    "turned by its header",
    "orientation not given",
    "modality not given",
    "same report of several patients",
    "report has markup",
    "report partly not in Latin letters",
)
# What `--phi` finds; it is reported and stays, but the check fails.
PERSONAL = (
    "report: a name",
    "report: a date",
    "report: a phone number",
    "report: an identifier",
    "report: an e-mail or web address",
    "report: an age over 89",
    "DICOM tag about a person",
    "DICOM: BurnedInAnnotation is YES",
    "image: text near a corner",
)


class Problem(NamedTuple):
    """Something that is broken or doubtful.

    Args:
        reason: one of ``ERRORS``, ``WARNINGS`` and ``PERSONAL``.
        file: the path in the dataset folder.
        detail: what is special about this file.
        section: of the entry.
        index: of the entry in its section.
    """

    reason: str
    file: str
    detail: str = ""
    section: str = ""
    index: int = -1  # type: ignore[assignment]  # a tuple has a method of that name


@dataclass(frozen=True)
class CheckLimits:
    """What counts as broken.

    Args:
        min_side: pixels; an image with a shorter side is too small: the networks' patches have 16.
        max_aspect: an image that is longer than so many times its width, or wider, is too elongated: films of the whole
            spine have 3.
        modalities: of DICOM files; others are wrong, and OT, SC or none is doubtful.
        keep: reasons that are reported but not left out, and do not make the check fail.
        volume_modalities: as ``modalities``, of volumes; CT alone means Hounsfield units.

    Raises:
        DataError: when a reason to keep is unknown, naming the nearest, or a limit makes no sense.
    """

    min_side: int = 16
    max_aspect: float = 4.0
    modalities: Collection[str] = ("CR", "DX", "DR", "RG")
    keep: Collection[str] = ()
    volume_modalities: Collection[str] = ("CT",)

    def __post_init__(self) -> None:
        if self.min_side < 1 or not self.max_aspect >= 1:
            raise DataError(f"the least side is 1 or more, the aspect too: got {self.min_side}, {self.max_aspect:g}.")
        for reason in self.keep:
            if reason not in ERRORS:
                near = get_close_matches(reason, ERRORS, n=1, cutoff=0.4)
                hint = f" Did you mean '{near[0]}'?" if near else f" Reasons are: {', '.join(ERRORS)}."
                raise DataError(f"no reason '{reason}' to keep.{hint}")

    def leaves_out(self, problem: Problem) -> bool:
        """Whether an entry with this problem is to be left out."""
        return problem.reason in ERRORS and problem.reason not in self.keep


def format_problems(problems: Iterable[Problem], limits: CheckLimits | None = None) -> str:
    """Write the problems as tables, each reason with its count: errors, warnings, personal data; then the files.

    Args:
        problems: of :func:`check_datalist`.
        limits: those of the check.
    """
    limits = limits or CheckLimits()
    groups: dict[str, dict[str, list[Problem]]] = {"errors": {}, "warnings": {}, "personal data, perhaps": {}}
    for problem in problems:
        personal = problem.reason in PERSONAL
        group = "personal data, perhaps" if personal else "errors" if limits.leaves_out(problem) else "warnings"
        groups[group].setdefault(problem.reason, []).append(problem)
    lines = []
    for group, by_reason in groups.items():
        if by_reason:
            lines += [f"{'count':>7}  {group}"]
            lines += [f"{len(found):>7}  {reason}" for reason, found in by_reason.items()] + [""]
    for by_reason in groups.values():
        for reason, found in by_reason.items():
            lines += [f"{reason}:", *(visible(f"  {p.file}{f': {p.detail}' if p.detail else ''}") for p in found)]
    return "\n".join(lines)
