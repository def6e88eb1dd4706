# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The entries of a datalist: their keys, their types, and the sections that they stand in."""

from __future__ import annotations

from typing import Any, TypedDict

__all__ = ["ANNOTATIONS", "CLASS_LISTS", "SECTIONS", "Entry"]

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
