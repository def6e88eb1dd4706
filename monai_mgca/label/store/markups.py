# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Boxes of radiographs as markups of 3D Slicer and back, and what is common to those of volumes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from monai_mgca.io.geometry import Geometry
from monai_mgca.utils import DataError
from monai_mgca.utils.files import parse_json

__all__ = ["SCHEMA", "boxes_to_markups", "make_roi", "markups_to_boxes", "naming_markups", "read_markups", "read_rois"]

SCHEMA = (
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/"
    "markups-schema-v1.0.3.json#"
)


def boxes_to_markups(
    boxes: np.ndarray, names: Sequence[str], scores: Sequence[float] | None, geometry: Geometry
) -> dict[str, Any]:
    """Boxes of a radiograph as 3D Slicer's markups: one ROI a box, one slice thick, where the image lies.

    Args:
        boxes: (N, 4) [x0, y0, x1, y1], edges in pixels of the stored image.
        names: class of each box; Slicer shows it beside the ROI.
        scores: of each box, from 0 to 1, or None.
        geometry: of the image.

    Returns:
        The content of a markups JSON file, in LPS and mm.

    Example::

        markups = boxes_to_markups(np.array([[2, 3, 12, 23]]), ["nodule"], [0.9], Geometry((31, 47), np.eye(4)))
        print(markups["markups"][0]["size"])  # [10.0, 20.0, 1.0]
    """
    boxes = np.asarray(boxes, dtype=float).reshape(-1, 4)
    spacing = np.linalg.norm(geometry.affine[:3, :3], axis=0)
    axes = geometry.affine[:3, :3] / spacing
    rois = []
    for number, (x0, y0, x1, y1) in enumerate(boxes.tolist()):
        # indices are of the pixels' centers, half a pixel from their edges
        center = geometry.affine @ [(x0 + x1 - 1) / 2, (y0 + y1 - 1) / 2, 0, 1]
        size = [(x1 - x0) * spacing[0], (y1 - y0) * spacing[1], float(spacing[2])]
        rois.append(make_roi(names[number], None if scores is None else scores[number], center[:3], size, axes))
    return {"@schema": SCHEMA, "markups": rois}


def make_roi(name: str, score: float | None, center: np.ndarray, size: Sequence[float], axes: np.ndarray) -> Any:
    """One box as 3D Slicer's ROI.

    Args:
        name: of its class; Slicer shows it.
        score: from 0 to 1, or None.
        center: (3,) in LPS and mm.
        size: three edges in mm, along the axes.
        axes: (3, 3), whose columns are their unit vectors.
    """
    orientation = axes.reshape(-1).tolist()  # rows of a matrix whose columns are axes
    point = {
        "id": "1",
        "label": name,
        "position": center.tolist(),
        "orientation": orientation,
        "selected": True,
        "locked": False,
        "visibility": True,
        "positionStatus": "defined",
    }
    return {
        "type": "ROI",
        "coordinateSystem": "LPS",
        "coordinateUnits": "mm",
        "locked": False,
        "fixedNumberOfControlPoints": False,
        "labelFormat": "%N",
        "name": name,
        "description": "" if score is None else f"score {score:.3f}",
        "roiType": "Box",
        "center": center.tolist(),
        "orientation": orientation,
        "size": [*size],
        "insideOut": False,
        "controlPoints": [point],
    }


def markups_to_boxes(content: Mapping[str, Any], geometry: Geometry) -> tuple[np.ndarray, list[str]]:
    """The inverse of :func:`boxes_to_markups`, also of ROIs that were drawn, moved or turned in Slicer.

    Args:
        content: of a markups JSON file; markups of other types than ROI are refused.
        geometry: of the image.

    Returns:
        (N, 4) [x0, y0, x1, y1], edges in pixels of the stored image, not clipped to it (a turned ROI becomes the
        upright box around it), and the class of each: its name, or where Slicer numbered it the part before "_1" or
        "-1".

    Raises:
        DataError: when the content holds no markups, or one is no ROI.

    Example::

        geometry = Geometry((31, 47), np.eye(4))
        markups = boxes_to_markups(np.array([[2, 3, 12, 23]]), ["nodule"], None, geometry)
        boxes, names = markups_to_boxes(markups, geometry)
        print(boxes.tolist(), names)  # [[2.0, 3.0, 12.0, 23.0]] ['nodule']
    """
    boxes = []
    names = []
    for corners, name in read_rois(content):
        pixels = (corners - geometry.affine[:3, 3]) @ np.linalg.inv(geometry.affine[:3, :3]).T + 0.5
        boxes.append(np.concatenate([pixels[:, :2].min(0), pixels[:, :2].max(0)]))
        names.append(name)
    return np.array(boxes).reshape(-1, 4), names


def read_rois(content: Any) -> Iterator[tuple[np.ndarray, str]]:
    """The eight corners of each ROI, (8, 3) in LPS and mm, and its class.

    Args:
        content: of a markups JSON file, which any client may have written.

    Raises:
        DataError: when the content holds no markups, or one is no ROI.
    """
    if not isinstance(content, Mapping) or not isinstance(content.get("markups"), list):
        raise DataError("it holds no 'markups': save the boxes as Slicer markups (ROI).")
    for roi in content["markups"]:
        if roi.get("type", "ROI") != "ROI" or len(roi.get("center") or ()) != 3 or len(roi.get("size") or ()) != 3:
            raise DataError(f"a markup is a {roi.get('type')}, not an ROI with center and size: draw boxes as ROI.")
        axes = np.asarray(roi.get("orientation") or np.eye(3), dtype=float).reshape(3, 3)
        signs = np.array([[a, b, c] for a in (-0.5, 0.5) for b in (-0.5, 0.5) for c in (-0.5, 0.5)])
        corners = np.asarray(roi["center"], dtype=float) + (signs * roi["size"]) @ axes.T
        if roi.get("coordinateSystem", "LPS") in ("RAS", "0"):
            corners *= [-1, -1, 1]
        yield corners, _class_name(roi)


def _class_name(roi: Mapping[str, Any]) -> str:
    name = str(roi.get("name") or next(iter(roi.get("controlPoints") or [{}])).get("label") or "")
    stem = name.rstrip("0123456789")
    return stem[:-1] if stem != name and stem[-1:] in ("_", "-") else name


def read_markups(path: str | os.PathLike, geometry: Geometry) -> tuple[np.ndarray, list[str]]:
    """Read a markups JSON file of a radiograph, which any client may have written.

    Args:
        path: of the file.
        geometry: of the image.

    Returns:
        As :func:`markups_to_boxes`.

    Raises:
        DataError: when it is no markups JSON, or one is no ROI.

    Example::

        Path("label.json").write_text('{"markups": []}')
        print(read_markups("label.json", Geometry((31, 47), np.eye(4)))[1])  # []
    """
    with naming_markups():
        return markups_to_boxes(parse_json(Path(path).read_text(encoding="utf-8")), geometry)


@contextmanager
def naming_markups() -> Iterator[None]:
    """Whatever a file holds that is no markups is reported in a sentence."""
    try:
        yield
    except DataError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"its label is no markups JSON ({type(error).__name__})") from None
