# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""What is wrong with the boxes of an entry: those of a radiograph in pixels, those of a volume in millimeters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from monai_mgca.io.volumes.volume_grid import VolumeGrid

__all__ = ["image_box_problems", "shown", "volume_box_problems"]

# Millimeters by which a box may leave its volume: headers and tables round.
ROUNDED = 0.1
_IMAGE = "[x0, y0, x1, y1]"
_VOLUME = "[x0, y0, z0, x1, y1, z1]"
_WORLD = "millimeters to the patient's right, front and head (RAS)"


def shown(value: Any) -> str:
    """A number as it is; what should be one may be a report's text or a patient's id, and is not shown.

    Args:
        value: of a JSON file.

    Example::

        print(shown(2), shown("Doe, John"))  # 2 (a text)
    """
    if value is None or isinstance(value, (int, float)):
        return repr(value)
    return "(a text)" if isinstance(value, str) else f"({type(value).__name__})"


def image_box_problems(
    boxes: Any, labels: Any, size: tuple[int, int], classes: Sequence[str] | None = None
) -> Iterator[str]:
    """Why boxes of a radiograph cannot be used.

    Args:
        boxes: what an entry has under "boxes".
        labels: what it has under "box_labels".
        size: height and width of the image in pixels.
        classes: names of the boxes' classes; None leaves their number open.

    Example::

        print(*image_box_problems([[0, 0, 31, 20]], [0], (20, 30)))  # the box [0, 0, 31, 20] leaves the image ...
    """
    height, width = size
    for box, edges in _boxes(boxes, labels, _IMAGE, classes):
        if isinstance(box, str):
            yield box
            continue
        x0, y0, x1, y1 = box
        if not np.isfinite(box).all():
            yield f"the box {edges} is not finite"
        elif box.max() <= 1 and box.min() >= 0:
            yield f"the box {edges} looks like parts of the image: coordinates are pixels, {_IMAGE}"
        elif x1 <= x0 or y1 <= y0:
            is_size = (x1 < x0 or y1 < y0) and min(box) >= 0 and x0 + x1 <= width and y0 + y1 <= height
            hint = ", and these may be [x, y, width, height]" if is_size else ""
            yield f"the box {edges} has no area (boxes are {_IMAGE}{hint})"
        elif x1 - x0 < 1 or y1 - y0 < 1:
            yield f"the box {edges} is smaller than a pixel: coordinates are pixels, {_IMAGE}"
        elif x0 < 0 or y0 < 0 or x1 > width or y1 > height:
            yield f"the box {edges} leaves the image of {width} x {height} pixels"


def volume_box_problems(
    boxes: Any, labels: Any, grid: VolumeGrid, classes: Sequence[str] | None = None
) -> Iterator[str]:
    """Why boxes of a volume cannot be used; what they seem to be where they are of another kind.

    Args:
        boxes: what an entry has under "boxes".
        labels: what it has under "box_labels".
        grid: of the volume.
        classes: names of the boxes' classes; None leaves their number open.

    Example::

        grid = VolumeGrid((20, 20, 10), np.diag([1, 1, 2, 1]))
        print(*volume_box_problems([[0, 0, 0, 5, 5, 30]], [0], grid))  # it leaves the volume ...
    """
    low, high = grid.corners.min(0) - ROUNDED, grid.corners.max(0) + ROUNDED
    for box, edges in _boxes(boxes, labels, _VOLUME, classes):
        if isinstance(box, str):
            yield box
            continue
        first, last = box[:3], box[3:]
        if not np.isfinite(box).all():
            yield f"the box {edges} is not finite"
        elif box.max() <= 1 and box.min() >= 0:
            yield f"the box {edges} looks like parts of the volume: coordinates are {_WORLD}, {_VOLUME}"
        elif (last <= first).any():
            yield f"the box {edges} has no extent (boxes are {_VOLUME} in {_WORLD}, the smaller end of each axis first)"
        elif (first < low).any() or (last > high).any():
            ends = " and ".join(f"[{', '.join(f'{x:.4g}' for x in end)}]" for end in (low + ROUNDED, high - ROUNDED))
            yield f"the box {edges} leaves the volume between {ends}: coordinates are {_WORLD}{_other_kind(box, grid)}"


def _other_kind(box: np.ndarray, grid: VolumeGrid) -> str:
    """What a box that leaves its volume may be, as it would lie in it then."""
    low, high = grid.corners.min(0) - ROUNDED, grid.corners.max(0) + ROUNDED
    x0, y0, z0, x1, y1, z1 = box
    in_lps = np.array([-x1, -y1, z0]), np.array([-x0, -y0, z1])
    if (in_lps[0] >= low).all() and (in_lps[1] <= high).all():
        return "; as DICOM and 3D Slicer give them, to the left and back, they would lie in it: negate x and y"
    if box.min() >= 0 and (box[3:] <= grid.shape).all():
        return "; these may be voxels: apply the affine of the volume"
    return ""


def _boxes(boxes: Any, labels: Any, form: str, classes: Sequence[str] | None) -> Iterator[tuple[np.ndarray | str, str]]:
    """Each box as numbers and as text; in place of a box what is wrong with all of them, or with a label."""
    try:
        values = _numbers(boxes, form.count(",") + 1)
    except (TypeError, ValueError, OverflowError):
        yield f"boxes are no list of {form}, all of them numbers", ""
        return
    if not isinstance(labels, list) or len(labels) != len(values):
        count = len(labels) if isinstance(labels, list) else "missing"
        yield f"{len(values)} boxes, but 'box_labels' are {count}", ""
        return
    for box, label in zip(values, labels, strict=True):
        yield box, "[" + ", ".join(f"{edge:g}" for edge in box) + "]"
        if classes is not None and (not isinstance(label, int) or not 0 <= label < len(classes)):
            yield f"the box label {shown(label)} is no index of the {len(classes)} classes", ""


def _numbers(boxes: Any, count: int) -> np.ndarray:
    if np.asarray(boxes).dtype.kind in "US":  # "5" is a number to NumPy, and to nothing that reads the boxes later
        raise TypeError("texts")
    return np.asarray(boxes, dtype=float).reshape(len(boxes), count)
