# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The entries of a datalist: their keys, their types, and the sections that they stand in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict

from monai_mgca.utils.errors import DataError

__all__ = ["ANNOTATIONS", "CLASS_LISTS", "SECTIONS", "Entry", "refuse_repeated"]

SECTIONS = ("training", "validation", "test")
# top-level fields of a datalist: names of the classes of labels, boxes and masks
CLASS_LISTS = ("classes", "box_classes", "mask_classes")
# what an entry without a report is of use for
ANNOTATIONS = ("labels", "boxes", "mask")


class Entry(TypedDict, total=False):
    """One image of a datalist with what is known of it; only "image" must be there, further keys may."""

    id: str  # unique in the datalist
    image: str  # path in the dataset folder
    report: str
    patient: str  # splits keep a patient's images together
    labels: list[float | None]  # 1, 0, -1 for uncertain, None for unknown; one of each of the datalist's classes
    boxes: list[list[float]]  # [x0, y0, x1, y1] in pixels of the stored image
    box_labels: list[int]  # indices among box_classes
    mask: Any  # path, or run lengths, or these by class


def refuse_repeated(names: Sequence[str], where: str) -> None:
    """Refuse names of which one is there twice: each stands for one class or column.

    Args:
        names: of classes or of columns.
        where: the option or file that has them, for the message.

    Raises:
        DataError: naming the first such name.
    """
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"{where} has '{name}' {names.count(name)} times: give each name once.")
