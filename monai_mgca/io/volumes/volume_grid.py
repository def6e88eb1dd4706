# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The grid of voxels of a volume, read without its values, and whether another volume lies on it."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any, NamedTuple

import nibabel
import numpy as np
from nibabel.orientations import apply_orientation, inv_ornt_aff

from monai_mgca.io.dicom.dicom_series import find_slices
from monai_mgca.io.dicom.slice_stack import stack_slices
from monai_mgca.io.kind import kind_of_name
from monai_mgca.io.limits import MAX_VOXELS, refuse_nifti_bomb
from monai_mgca.io.volumes.nifti_affine import refuse_two_orientations
from monai_mgca.io.volumes.rad_chestct_array import rad_chestct_grid
from monai_mgca.utils import DataError

__all__ = ["VolumeGrid", "axes_onto", "load_nifti", "read_grid", "turn_onto"]

# A volume lies on the grid of another where no corner is farther from its own than this part of a voxel's shortest
# edge: headers round, and a confusion of a voxel's middle and its edge is half of one.
OFF = 0.2


class VolumeGrid(NamedTuple):
    """Where the voxels of a volume lie.

    Args:
        shape: numbers of voxels along the axes as they are stored.
        affine: (4, 4), from indices of voxels to millimeters to the patient's right, front and head (RAS+).
    """

    shape: tuple[int, ...]
    affine: np.ndarray

    @property
    def corners(self) -> np.ndarray:
        """(8, 3), of the outermost voxels' outer corners, in millimeters."""
        ends = itertools.product(*((-0.5, size - 0.5) for size in self.shape))
        return np.array([self.affine[:3, :3] @ end + self.affine[:3, 3] for end in ends])

    def __str__(self) -> str:
        codes = "".join(str(code) for code in nibabel.aff2axcodes(self.affine))
        return f"{' x '.join(map(str, self.shape))} voxels ({codes})"


def load_nifti(path: str | os.PathLike) -> Any:
    """Open a NIfTI file whose header makes sense; of its values none is read yet.

    Args:
        path: .nii or .nii.gz.

    Returns:
        The image of nibabel. Its affine is the sform, else the qform.

    Raises:
        DataError: when it declares too many values, or its qform and sform disagree.
    """
    refuse_nifti_bomb(path, MAX_VOXELS)
    # not by MONAI's reader, which takes a qform, even one that is not set, where the sform's sizes are not pixdim's
    # into memory: what is mapped is read from a file that may change or be cut meanwhile
    image: Any = nibabel.load(path, mmap=False)
    refuse_two_orientations(image)
    return image


def read_grid(path: str | os.PathLike, what: str = "volume") -> VolumeGrid:
    """Read the grid of a volume, or of its mask, from its headers.

    Args:
        path: what :class:`monai_mgca.transforms.LoadVolume` reads: NIfTI, the folder of a DICOM series, a DICOM file of
            several frames, or an array of RAD-ChestCT.
        what: it is, for the message.

    Raises:
        DataError: when it cannot be read, or is no volume; the message names the path and the reason.

    Example::

        nibabel.save(nibabel.Nifti1Image(np.zeros((8, 9, 10), dtype=np.int16), np.eye(4)), "ct.nii.gz")
        print(read_grid("ct.nii.gz"))  # 8 x 9 x 10 voxels (RAS)
    """
    path = Path(path)
    try:
        if not path.exists():
            raise DataError("there is no such file or folder.")
        grid = _read(path)
        if len(grid.shape) != 3 or min(grid.shape) < 1:
            raise DataError(f"its shape is {grid.shape}; a volume is (X, Y, Z), of one channel and one time.")
        if not np.isfinite(grid.affine).all() or abs(np.linalg.det(grid.affine)) == 0:
            raise DataError("its header gives no place in the world.")
    except Exception as error:
        reason = str(error) if isinstance(error, DataError) else f"{type(error).__name__}: {error}"
        raise DataError(f"cannot read the {what} {path}: {reason}") from error
    return grid


def _read(path: Path) -> VolumeGrid:
    if path.suffix.lower() == ".npz":
        return VolumeGrid(*rad_chestct_grid(path))
    if kind_of_name(path.name) == "nifti" and not path.is_dir():
        image = load_nifti(path)
        sizes = tuple(int(size) for size in image.shape)
        return VolumeGrid(sizes[:3] + tuple(size for size in sizes[3:] if size > 1), image.affine)
    slices, affine = stack_slices(find_slices(path))
    return VolumeGrid((*slices[0].size, len(slices)), affine)


def axes_onto(grid: VolumeGrid, other: VolumeGrid) -> np.ndarray | None:
    """How the axes of one grid must be permuted and turned around to be those of another.

    Args:
        grid: that is turned.
        other: that it is to become.

    Returns:
        (3, 2) as nibabel's orientations, for :func:`turn_onto`; None where the two are no grid of the same voxels.

    Example::

        grid = VolumeGrid((8, 9, 10), np.eye(4))
        print(axes_onto(grid, grid))  # [[0, 1], [1, 1], [2, 1]]
    """
    turns = np.rint(np.linalg.solve(other.affine[:3, :3], grid.affine[:3, :3]))
    if not (np.abs(turns).sum(0) == 1).all() or not (np.abs(turns).sum(1) == 1).all():
        return None
    axes = np.stack([np.abs(turns).argmax(0), turns.sum(0)], axis=1)
    shape = [0, 0, 0]
    for size, axis in zip(grid.shape, axes[:, 0].astype(int), strict=True):
        shape[axis] = size
    turned = VolumeGrid(tuple(shape), grid.affine @ inv_ornt_aff(axes, grid.shape))
    if turned.shape != tuple(other.shape):
        return None
    far = np.linalg.norm(turned.corners - other.corners, axis=1).max()
    return axes if far <= OFF * np.linalg.norm(other.affine[:3, :3], axis=0).min() else None


def turn_onto(values: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """The values of a volume along the axes of another grid.

    Args:
        values: (X, Y, Z).
        axes: of :func:`axes_onto`.

    Example::

        axes = np.array([[1, 1], [0, -1], [2, 1]])
        print(turn_onto(np.zeros((8, 9, 10)), axes).shape)  # (9, 8, 10)
    """
    return np.asarray(apply_orientation(values, axes))
