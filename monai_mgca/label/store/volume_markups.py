# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Boxes of volumes as markups of 3D Slicer and back, in millimeters of the patient."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from monai_mgca.io.volumes.volume_geometry import VolumeGeometry
from monai_mgca.label.store.markups import SCHEMA, make_roi, naming_markups, read_rois
from monai_mgca.utils.files import parse_json

__all__ = ["read_volume_markups", "volume_boxes_to_markups"]


def volume_boxes_to_markups(
    boxes: np.ndarray, names: Sequence[str], scores: Sequence[float] | None, geometry: VolumeGeometry
) -> dict[str, Any]:
    """Boxes of a volume as 3D Slicer's markups: one ROI a box, where Slicer shows the volume.

    Args:
        boxes: (N, 6) [x0, y0, z0, x1, y1, z1] in RAS and mm, as nibabel's affine gives them.
        names: class of each box; Slicer shows it beside the ROI.
        scores: of each box, from 0 to 1, or None.
        geometry: of the volume.

    Returns:
        The content of a markups JSON file, in LPS and mm.

    Example::

        geometry = VolumeGeometry((9, 9, 9), np.eye(4), np.diag([-1, -1, 1, 1]))
        markups = volume_boxes_to_markups(np.array([[1, 2, 3, 5, 8, 10]]), ["nodule"], [0.9], geometry)
        print(markups["markups"][0]["center"], markups["markups"][0]["size"])  # [-3.0, -5.0, 6.5] [4.0, 6.0, 7.0]
    """
    # the world's axes, where ITK places the volume as nibabel does
    scales = np.linalg.norm(geometry.ras_to_lps[:3, :3], axis=0)
    axes = geometry.ras_to_lps[:3, :3] / scales @ np.diag([-1, -1, 1])
    rois = []
    for number, box in enumerate(np.asarray(boxes, dtype=float).reshape(-1, 2, 3)):
        center = geometry.ras_to_lps @ [*box.mean(0), 1]
        score = None if scores is None else scores[number]
        rois.append(make_roi(names[number], score, center[:3], ((box[1] - box[0]) * scales).tolist(), axes))
    return {"@schema": SCHEMA, "markups": rois}


def read_volume_markups(path: str | os.PathLike, geometry: VolumeGeometry) -> tuple[np.ndarray, list[str]]:
    """Read a markups JSON file of a volume, which any client may have written.

    Args:
        path: of the file; ROIs may have been drawn, moved or turned in Slicer.
        geometry: of the volume.

    Returns:
        (N, 6) [x0, y0, z0, x1, y1, z1] in RAS and mm, the upright box around each ROI, not cut to the volume; and the
        class of each, its name without the number that Slicer gave it.

    Raises:
        DataError: when it is no markups JSON, or one is no ROI.

    Example::

        Path("label.json").write_text('{"markups": [{"center": [-3, -5, 6.5], "size": [4, 6, 7], "name": "nodule_1"}]}')
        boxes, names = read_volume_markups("label.json", VolumeGeometry((9, 9, 9), np.eye(4), np.diag([-1, -1, 1, 1])))
        print(boxes.tolist(), names)  # [[1.0, 2.0, 3.0, 5.0, 8.0, 10.0]] ['nodule']
    """
    to_ras = np.linalg.inv(geometry.ras_to_lps)
    boxes, names = [], []
    with naming_markups():
        for corners, name in read_rois(parse_json(Path(path).read_text(encoding="utf-8"))):
            places = corners @ to_ras[:3, :3].T + to_ras[:3, 3]
            boxes.append([*places.min(0), *places.max(0)])
            names.append(name)
    return np.array(boxes, dtype=float).reshape(-1, 6), names
