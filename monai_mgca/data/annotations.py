# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Masks, boxes and labels of an entry: which of them no training could take."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from monai_mgca.data.entry import Entry, has_value
from monai_mgca.data.paths import file_problem
from monai_mgca.io import kind_of
from monai_mgca.io.dicom.dicom_file import read_dicom
from monai_mgca.io.pictures import displayed_size
from monai_mgca.transforms.load_mask import LoadMask
from monai_mgca.transforms.load_radiograph import LoadRadiograph
from monai_mgca.utils import DataError

__all__ = ["annotation_problems", "image_size"]


def image_size(path: str | os.PathLike) -> tuple[int, int]:
    """The height and width of a radiograph, from the file's header where it can be read from there.

    Args:
        path: a file that :class:`monai_mgca.transforms.LoadRadiograph` reads.

    Raises:
        DataError: when the file cannot be read.

    Example::

        from PIL import Image

        Image.new("L", (60, 40)).save("radiograph.png")
        print(image_size("radiograph.png"))  # (40, 60)
    """
    try:
        kind = kind_of(path)
        if kind == "picture":
            with Image.open(path) as image:
                return displayed_size(image)
        if kind == "dicom":
            header = read_dicom(path, stop_before_pixels=True)
            return int(header.Rows), int(header.Columns)
    except Exception:  # the reader below reports what is wrong
        pass
    height, width = LoadRadiograph()(path).shape[1:]
    return height, width


def annotation_problems(
    entry: Entry,
    base: str,
    classes: Sequence[str] | None = None,
    box_classes: Sequence[str] | None = None,
    mask_keys: Sequence[str] = (),
    mask_classes: Sequence[str] | None = None,
) -> Iterator[tuple[str, str]]:
    """What is wrong with the annotations that an entry of a datalist has.

    Args:
        entry: with "image", and perhaps "labels", "boxes" and "box_labels", and masks.
        base: the dataset folder, a real path.
        classes: names of the labels; None leaves their number open.
        box_classes: names of the boxes' classes; None leaves their number open.
        mask_keys: the keys of masks.
        mask_classes: names of the masks' classes; None leaves open what a mask's values are.

    Returns:
        (file, reason) of each problem.

    Example::

        entry = {"image": "1.png", "labels": [1, 0]}
        print(list(annotation_problems(entry, ".", classes=["edema"])))  # 1.png: 2 labels for 1 class
    """
    name = str(entry.get("image"))
    if has_value(entry, "labels"):
        yield from ((name, reason) for reason in _label_problems(entry["labels"], classes))
    masks = [entry.get(key) for key in mask_keys if has_value(entry, key)]
    if not masks and not has_value(entry, "boxes"):
        return
    try:
        size = image_size(os.path.join(base, name))
    except DataError as error:
        yield name, str(error)
        return
    if has_value(entry, "boxes"):
        yield from (
            (name, reason) for reason in _box_problems(entry["boxes"], entry.get("box_labels"), size, box_classes)
        )
    for mask in masks:
        yield from _mask_problems(mask, name, base, size, len(mask_classes or ()))


def _shown(value: Any) -> str:
    """A number as it is; what should be one may be a report's text or a patient's id, and is not shown."""
    if value is None or isinstance(value, (int, float)):
        return repr(value)
    return "(a text)" if isinstance(value, str) else f"({type(value).__name__})"


def _label_problems(labels: Any, classes: Sequence[str] | None) -> Iterator[str]:
    if not isinstance(labels, list):
        yield f"labels are no list: {_shown(labels)}"
        return
    if classes is not None and len(labels) != len(classes):
        yield f"{len(labels)} labels for {len(classes)} classes"
    for value in labels:
        if value not in (1, 0, -1, None):
            yield f"the label {_shown(value)} is none of 1 (present), 0 (absent), -1 (uncertain), null (unknown)"


def _box_problems(boxes: Any, labels: Any, size: tuple[int, int], classes: Sequence[str] | None) -> Iterator[str]:
    height, width = size
    try:
        values = _box_values(boxes)
    except (TypeError, ValueError, OverflowError):
        yield "boxes are no list of [x0, y0, x1, y1], all of them numbers"
        return
    if not isinstance(labels, list) or len(labels) != len(values):
        yield f"{len(values)} boxes, but 'box_labels' are {len(labels) if isinstance(labels, list) else 'missing'}"
        return
    for box, label in zip(values, labels, strict=True):
        edges = "[" + ", ".join(f"{edge:g}" for edge in box) + "]"
        x0, y0, x1, y1 = box
        if not np.isfinite(box).all():
            yield f"the box {edges} is not finite"
        elif box.max() <= 1 and box.min() >= 0:
            yield f"the box {edges} looks like parts of the image: coordinates are pixels, [x0, y0, x1, y1]"
        elif x1 <= x0 or y1 <= y0:
            is_size = (x1 < x0 or y1 < y0) and min(box) >= 0 and x0 + x1 <= width and y0 + y1 <= height
            hint = ", and these may be [x, y, width, height]" if is_size else ""
            yield f"the box {edges} has no area (boxes are [x0, y0, x1, y1]{hint})"
        elif x1 - x0 < 1 or y1 - y0 < 1:
            yield f"the box {edges} is smaller than a pixel: coordinates are pixels, [x0, y0, x1, y1]"
        elif x0 < 0 or y0 < 0 or x1 > width or y1 > height:
            yield f"the box {edges} leaves the image of {width} x {height} pixels"
        if classes is not None and (not isinstance(label, int) or not 0 <= label < len(classes)):
            yield f"the box label {_shown(label)} is no index of the {len(classes)} classes"


def _box_values(boxes: Any) -> np.ndarray:
    if np.asarray(boxes).dtype.kind in "US":  # "5" is a number to NumPy, and to nothing that reads the boxes later
        raise TypeError("texts")
    return np.asarray(boxes, dtype=float).reshape(len(boxes), 4)


def _mask_problems(
    mask: Any, name: str, base: str, size: tuple[int, int], num_classes: int
) -> Iterator[tuple[str, str]]:
    load = LoadMask(1 if isinstance(mask, list) else num_classes or 1)
    for one in mask if isinstance(mask, list) else [mask]:
        if not isinstance(one, str | Mapping):
            yield name, "a mask is neither a path nor run lengths"
            continue
        file = one if isinstance(one, str) else name  # run lengths are reported under their image
        if isinstance(one, str):
            if reason := file_problem(base, one):
                yield file, f"mask: {reason}"
                continue
            one = os.path.join(base, one)
        try:
            found = tuple(load(one).shape[1:])
        except DataError as error:
            yield file, f"mask: {error}"
            continue
        if found != size:
            yield file, f"mask of {found[1]} x {found[0]} pixels on the image {name} of {size[1]} x {size[0]}"
