# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Object-CXR: radiographs with boxes of foreign objects."""

from __future__ import annotations

import math
import os
from pathlib import Path

from monai_mgca.data.sources.collection import Collection
from monai_mgca.data.sources.tables.rows import read_rows
from monai_mgca.utils import DataError

__all__ = ["collect_object_cxr"]


def collect_object_cxr(dataset_dir: str | os.PathLike) -> Collection:
    """Collect Object-CXR: boxes of foreign objects; dev.csv is the test part, as its test labels were not published.

    Rectangles, ellipses and polygons all become the boxes around them. The data does not say which images are of one
    patient: every image counts as its own.

    Args:
        dataset_dir: the folder with train.csv and dev.csv (image_name, annotation) and the images in train/ and dev/.

    Raises:
        DataError: when a table or folder is not there, or an annotation is broken (by line).

    Example::

        print(collect_object_cxr("object-cxr").write("dataset.json", fractions=(0.8, 0.2, 0)))
    """
    folder = Path(dataset_dir)
    collection = Collection("object_cxr", folder, needs_report=False)
    collection.header = {"box_classes": ["foreign object"], "classes": ["foreign object"]}
    collection.notes.append("the data names no patients: every image counts as its own, the split is by image")
    for part, split in (("train", None), ("dev", "test")):
        table = folder / f"{part}.csv"
        if not (folder / part).is_dir():
            raise DataError(f"no folder {part} in {folder}; give the folder with train/, dev/, train.csv and dev.csv.")
        for line, row in enumerate(read_rows(table, ("image_name", "annotation")), start=2):
            boxes = _read_boxes(row["annotation"], f"{table} line {line}")
            image = f"{part}/{row['image_name'].strip()}"
            extra = {"labels": [int(bool(boxes))], "boxes": boxes, "box_labels": [0] * len(boxes)}
            collection.add(os.path.splitext(image)[0], image, "", image, split, **extra)
    return collection


def _read_boxes(annotation: str, place: str) -> list[list[float]]:
    """The boxes of "shape x1 y1 x2 y2 ...;shape ...", where a polygon has any number of points."""
    boxes = []
    for number, text in enumerate(filter(None, map(str.strip, annotation.split(";"))), start=1):
        shape, *words = text.split()
        try:
            values = [float(word) for word in words]
        except ValueError:
            values = [math.nan]
        points = len(values) >= 6 and len(values) % 2 == 0 if shape == "2" else len(values) == 4
        if shape not in ("0", "1", "2") or not points or not all(map(math.isfinite, values)):
            raise DataError(
                f"{place}: object {number} is no shape: 0 (rectangle) or 1 (ellipse) and x1 y1 x2 y2, or 2 (polygon) "
                "and x y of three or more points."
            )
        xs, ys = values[::2], values[1::2]
        boxes.append([min(xs), min(ys), max(xs), max(ys)])
    return boxes
