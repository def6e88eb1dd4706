# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""What an annotator saved for one image: a mask with the names of its values, or boxes with theirs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from monai_mgca.data.annotations import image_size
from monai_mgca.io.geometry import read_geometry, read_label_map
from monai_mgca.io.volumes.volume_geometry import read_volume_geometry
from monai_mgca.io.volumes.volume_labels import present_labels, read_volume_labels
from monai_mgca.label.store.markups import read_markups
from monai_mgca.label.store.volume_markups import read_volume_markups
from monai_mgca.utils import DataError

__all__ = ["BOXES", "check_names", "read_label"]

BOXES = ".json"
# a class's name goes into a configuration, which would run what begins with "$"
NAME = re.compile(r"[^\W_][\w .,()/+-]*")


def check_names(classes: Iterable[str]) -> None:
    """Refuse names of classes that are no plain words, or given twice.

    Args:
        classes: names, in any order.

    Raises:
        DataError: naming them.

    Example::

        check_names(["left lung", "right lung"])
    """
    names = list(classes)
    bad = [repr(name) for name in names if not NAME.fullmatch(name)]
    bad += [f"{name!r} twice" for name in sorted(set(names)) if names.count(name) > 1]
    if bad:
        raise DataError(f"classes: {', '.join(bad)}. A name is letters, digits, blanks and _.,()/+-, and there once.")


def read_label(
    image: str | os.PathLike, label: str | os.PathLike, info: Any = None, spatial_dims: int = 2
) -> tuple[np.ndarray, Any]:
    """Read a label as a training takes it.

    Args:
        image: path of its radiograph, or of its volume.
        label: path of a label map (.nrrd, .nii.gz, .nii, .png), or of Slicer's markups (.json).
        info: the ``label_info`` that a client saved with a label map, list of {"name": "lung", "idx": 1}; without it
            the values have no names.
        spatial_dims: 3 for a volume.

    Returns:
        (H, W) int64 values of the image's own size, or (X, Y, Z) uint8 of the volume's, and {value: name} of those in
        it that have a name; or (N, 4) boxes in pixels, of volumes (N, 6) in RAS and mm, what lies over the image's edge
        cut off, and the list of their names.

    Raises:
        DataError: saying what is wrong with it.

    Example::

        from PIL import Image

        Image.new("L", (31, 47)).save("radiograph.png")
        Image.new("L", (31, 47), 1).save("label.png")
        print(read_label("radiograph.png", "label.png", [{"name": "lung"}])[1])  # {1: 'lung'}
    """
    if Path(label).suffix.lower() == BOXES:
        return _read_volume_boxes(image, label) if spatial_dims == 3 else _read_boxes(image, label)
    if spatial_dims == 3:
        labels = read_volume_labels(label, read_volume_geometry(image))
        return labels, _names_of(present_labels(labels), info)
    mask = _read_mask(image, label)
    return mask, _names_of(present_labels(mask), info)


def _read_mask(image: str | os.PathLike, label: str | os.PathLike) -> np.ndarray:
    mask, size = read_label_map(label, read_geometry(image).turn), image_size(image)
    if mask.shape != size:
        raise DataError(f"its mask is {mask.shape[1]} x {mask.shape[0]}, the image {size[1]} x {size[0]} pixels")
    mask = mask.astype(np.int64)
    if mask.min(initial=0) < 0 or mask.max(initial=0) > 255:
        raise DataError(f"its mask holds the values {mask.min()} to {mask.max()}; classes are 1 to 255, and 0 is none")
    return mask


def _names_of(present: Sequence[int], info: Any) -> dict[int, str]:
    """The names of the values that a mask holds, by its label_info."""
    try:
        named = {int(row.get("idx") or number): str(row["name"]) for number, row in enumerate(info or [], 1)}
    except (AttributeError, KeyError, TypeError, ValueError):
        raise DataError('the label_info saved with it is no list of {"name": ..., "idx": ...}') from None
    if named and (unnamed := [value for value in present if value not in named]):
        raise DataError(f"its mask holds {unnamed}, but the label_info saved with it names {sorted(named)}")
    names = {value: named[value] for value in present if named}
    check_names(dict.fromkeys(names.values()))
    return names


def _read_boxes(image: str | os.PathLike, label: str | os.PathLike) -> tuple[np.ndarray, list[str]]:
    geometry = read_geometry(image)
    boxes, names = read_markups(label, geometry)
    inside = boxes.clip(0, [*geometry.size, *geometry.size])
    if not np.isfinite(inside).all() or (inside[:, 2:] - inside[:, :2] < 1).any():
        raise DataError("a box lies outside the image, or is smaller than a pixel")
    check_names(dict.fromkeys(names))
    return inside.round(2), names


def _read_volume_boxes(image: str | os.PathLike, label: str | os.PathLike) -> tuple[np.ndarray, list[str]]:
    geometry = read_volume_geometry(image)
    boxes, names = read_volume_markups(label, geometry)
    least, greatest = geometry.bounds
    inside = boxes.clip([*least, *least], [*greatest, *greatest])
    if not np.isfinite(inside).all() or (inside[:, 3:] - inside[:, :3] < geometry.spacing.min()).any():
        raise DataError("a box lies outside the volume, or is smaller than a voxel")
    check_names(dict.fromkeys(names))
    return inside.round(2), names
