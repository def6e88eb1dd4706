# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""RSNA Pneumonia Detection Challenge: radiographs with boxes of opacities."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

from monai_mgca.data.sources.collection import Collection
from monai_mgca.data.sources.stored_sizes import read_sizes
from monai_mgca.data.sources.tables.rows import read_rows
from monai_mgca.io import encode_rle
from monai_mgca.transforms import BoxesToMask
from monai_mgca.utils import DataError
from monai_mgca.utils.progress import progress_bar

__all__ = ["collect_rsna_pneumonia"]

_IMAGES, _TABLE, _DETAILS = "stage_2_train_images", "stage_2_train_labels.csv", "stage_2_detailed_class_info.csv"
_EDGES = ("x", "y", "width", "height")


def collect_rsna_pneumonia(dataset_dir: str | os.PathLike) -> Collection:
    """Collect the RSNA Pneumonia Detection Challenge (Kaggle, stage 2): boxes, labels, and masks of the filled boxes.

    Args:
        dataset_dir: Kaggle's folder: stage_2_train_images/<patientId>.dcm and stage_2_train_labels.csv (patientId, x,
            y, width, height, Target). Where stage_2_detailed_class_info.csv is there too, its class, such as "No Lung
            Opacity / Not Normal", is kept as "detail".

    Raises:
        DataError: when the table or the folder of images is not there, or a row is broken (by line).

    Example::

        collection = collect_rsna_pneumonia("rsna-pneumonia-detection-challenge")
        print(collection.write("dataset.json", fractions=(0.7, 0.15, 0.15)))
    """
    folder = Path(dataset_dir)
    collection = Collection("rsna_pneumonia", folder, needs_report=False)
    if not (folder / _IMAGES).is_dir():
        raise DataError(f"no folder {_IMAGES} in {folder}; give the folder of Kaggle's unpacked files.")
    collection.header = {"classes": ["pneumonia"], "box_classes": ["pneumonia"], "mask_classes": ["pneumonia"]}
    boxes_of = _read_boxes(folder / _TABLE)
    details: dict[str, str] = {}
    if (folder / _DETAILS).is_file():
        rows = read_rows(folder / _DETAILS, ("patientId", "class"))
        details = {row["patientId"]: row["class"] for row in rows}
    image_of = {patient: f"{_IMAGES}/{patient}.dcm" for patient in boxes_of}
    sizes, fill = read_sizes(collection, image_of.values()), BoxesToMask()
    for patient, boxes in progress_bar(boxes_of.items(), "drawing the masks", len(boxes_of)):
        image = image_of[patient]
        if image not in sizes:
            continue
        extra: dict[str, Any] = {"labels": [int(bool(boxes))], "boxes": boxes, "box_labels": [0] * len(boxes)}
        if (size := sizes[image]) is not None:
            extra["mask"] = encode_rle(fill(boxes, [0] * len(boxes), size)[0])
        if patient in details:
            extra["detail"] = details[patient]
        collection.add(patient, image, "", patient, **extra)
    return collection


def _read_boxes(table: Path) -> dict[str, list[list[float]]]:
    """The boxes of each patient, [x0, y0, x1, y1]; none where Target is 0."""
    targets: dict[str, str] = {}
    boxes: dict[str, list[list[float]]] = {}
    for line, row in enumerate(read_rows(table, ("patientId", *_EDGES, "Target")), start=2):
        patient, target = row["patientId"], row["Target"].strip()
        box = [row[edge].strip() for edge in _EDGES]
        if target not in ("0", "1") or targets.setdefault(patient, target) != target:
            raise DataError(f"{table} line {line}: Target is 0 or 1, and the same in all rows of a patient.")
        boxes.setdefault(patient, [])
        if target == "0" and any(box):
            raise DataError(f"{table} line {line}: Target is 0, but there is a box.")
        if target == "1":
            boxes[patient].append(_corners(box, f"{table} line {line}"))
    return boxes


def _corners(box: list[str], place: str) -> list[float]:
    try:
        x, y, width, height = (float(edge) for edge in box)
    except ValueError:
        raise DataError(f"{place}: x, y, width and height must be numbers where Target is 1.") from None
    if not all(map(math.isfinite, (x, y, width, height))) or width <= 0 or height <= 0:
        raise DataError(f"{place}: a box must have a width and a height above 0.")
    return [x, y, x + width, y + height]
