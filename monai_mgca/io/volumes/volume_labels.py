# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Label maps of volumes that a client saved, brought to the voxels of their volume by where both lie."""

from __future__ import annotations

import itertools
import os
from typing import Any

import nibabel
import numpy as np

from monai_mgca.io.geometry import NIFTI, refuse_detached
from monai_mgca.io.limits import refuse_nifti_bomb
from monai_mgca.io.nrrd import read_nrrd_volume
from monai_mgca.io.volumes.nifti_affine import gives_orientation
from monai_mgca.io.volumes.volume_geometry import VolumeGeometry
from monai_mgca.utils import DataError

__all__ = ["present_labels", "read_volume_labels"]

# Voxels by which a label may lie beside the volume's voxels: headers are written with few digits.
APART = 0.2


def read_volume_labels(path: str | os.PathLike, geometry: VolumeGeometry) -> np.ndarray:
    """Read a saved label map of a volume, whatever axes its file has, as long as it lies on the volume's voxels.

    It may cover a part of the volume, as 3D Slicer saves segmentations; the rest is 0.

    Args:
        path: .nii.gz, .nii or .nrrd.
        geometry: of the volume.

    Returns:
        (X, Y, Z) uint8 as the volume is stored.

    Raises:
        DataError: when the file cannot be read or points to another one, it lies elsewhere or has voxels of other
            sizes, or its values are no whole numbers from 0 to 255; the message names the file.

    Example::

        from monai_mgca.io.volumes.volume_geometry import write_volume

        geometry = VolumeGeometry((4, 5, 6), np.eye(4), np.diag([-1, -1, 1, 1]))
        write_volume(np.ones((4, 5, 6), np.uint8), geometry, "label.nrrd")
        print(read_volume_labels("label.nrrd", geometry).sum())  # 120
    """
    refuse_detached(path)
    name = os.fspath(path).lower()
    if name.endswith(".png"):
        raise DataError(f"cannot read the label {path}: a PNG is no volume, save .nii.gz or .nrrd.")
    limit = int(np.prod(geometry.size))
    try:
        if name.endswith(NIFTI):
            values, affine = _read_nifti(path, limit)
        else:
            values, affine = read_nrrd_volume(path, limit)
        return _placed(_as_labels(values), affine, geometry)
    except Exception as error:
        reason = str(error) if isinstance(error, DataError) else f"{type(error).__name__}: {error}"
        raise DataError(f"cannot read the label {path}: {reason}") from None


def present_labels(labels: np.ndarray) -> list[int]:
    """The values of a label map, but for 0, sorted; the pixels of a whole volume are not sorted for it.

    Args:
        labels: of whole numbers from 0 to 255, of any axes.

    Example::

        print(present_labels(np.array([[[0, 3], [3, 1]]], np.uint8)))  # [1, 3]
    """
    counts = sum(np.bincount(plane.ravel(), minlength=256) for plane in np.moveaxis(labels, -1, 0))
    return [int(value) for value in np.flatnonzero(counts) if value]


def _read_nifti(path: str | os.PathLike, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """Values (X, Y, Z) and the affine to LPS."""
    refuse_nifti_bomb(path, limit)
    image: Any = nibabel.load(path)
    shape = tuple(map(int, image.shape))
    if len(shape) < 3 or any(size > 1 for size in shape[3:]):
        raise DataError(f"its shape is {shape}; the label of a volume is (X, Y, Z).")
    if not gives_orientation(image):
        raise DataError("its header does not say where it lies: save it with the volume's affine.")
    return np.asarray(image.dataobj).reshape(shape[:3], order="F"), np.diag([-1, -1, 1, 1]) @ image.affine


def _as_labels(values: np.ndarray) -> np.ndarray:
    """As uint8, slice by slice: a copy of another type would have many times the size."""
    if values.dtype == np.uint8:
        return values
    labels = np.zeros(values.shape, np.uint8, order="F")
    for k in range(values.shape[2]):
        plane = values[..., k]
        if plane.dtype.kind not in "iub" and not np.isfinite(plane).all():
            raise DataError("it holds values that are not finite.")
        whole = np.rint(plane)
        if whole.min(initial=0) < 0 or whole.max(initial=0) > 255:
            raise DataError(
                f"its mask holds the values {whole.min():g} to {whole.max():g}; classes are 1 to 255, and 0 is none."
            )
        labels[..., k] = whole
    return labels


def _placed(labels: np.ndarray, affine: np.ndarray, geometry: VolumeGeometry) -> np.ndarray:
    """The labels with the volume's axes and size; the label was placed as ITK places the volume, or as nibabel does."""
    places = [geometry.affine, np.diag([-1, -1, 1, 1]) @ geometry.ras]
    moves = [np.linalg.inv(place) @ affine for place in places]
    nearest = [np.rint(move) for move in moves]
    corners = np.array([(*corner, 1) for corner in itertools.product(*((0, size - 1) for size in labels.shape))])
    far = [np.abs((move - near) @ corners.T).max() for move, near in zip(moves, nearest, strict=True)]
    move = nearest[int(np.argmin(far))]
    axes = np.abs(move[:3, :3])
    if not min(far) < APART or not (axes.sum(0) == 1).all() or not (axes.sum(1) == 1).all():
        raise DataError(
            "it does not lie on the volume's voxels: its place, its orientation or the size of its voxels is another "
            "one. Save it in the volume's geometry."
        )
    order = axes.argmax(1)
    signs = move[range(3), order]
    turned = labels.transpose(order)[tuple(slice(None, None, int(sign)) for sign in signs)]
    start = [int(move[i, 3] - (signs[i] < 0) * (turned.shape[i] - 1)) for i in range(3)]
    if turned.shape == geometry.size and not any(start):
        return turned
    ends = [begin + size for begin, size in zip(start, turned.shape, strict=True)]
    if min(start) < 0 or any(end > size for end, size in zip(ends, geometry.size, strict=True)):
        sizes = (" x ".join(map(str, size)) for size in (turned.shape, geometry.size))
        raise DataError("its mask is {}, the volume {} voxels, and it reaches beyond it.".format(*sizes))
    whole = np.zeros(geometry.size, np.uint8, order="F")
    whole[tuple(map(slice, start, ends))] = turned
    return whole
