# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Where a volume lies, NIfTI or a DICOM series, by its headers alone; and label maps that are written where it lies."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import itk
import nibabel
import numpy as np

from monai_mgca.io.geometry import NIFTI
from monai_mgca.io.kind import kind_of_name
from monai_mgca.io.volumes.nifti_affine import take_geometry
from monai_mgca.io.volumes.volume_grid import load_nifti, read_grid
from monai_mgca.utils import DataError

__all__ = ["VolumeGeometry", "read_volume_geometry", "write_volume"]

_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class VolumeGeometry:
    """Where a volume lies, as its file stores it; every reader agrees on the numbers of its voxels.

    Args:
        size: (X, Y, Z) in voxels, as :class:`monai_mgca.transforms.LoadVolume` gives it.
        affine: (4, 4), from indices, whole numbers at the voxels' centers, to LPS in mm, as ITK and so 3D Slicer place
            the file.
        ras: (4, 4), from indices to RAS in mm, as nibabel and so the networks' input places it; of a NIfTI file whose
            qform is not its sform it may differ from the other one.
        header: what a NIfTI file says of its place, which its label maps say alike.

    Example::

        print(VolumeGeometry((4, 5, 6), np.eye(4), np.diag([-1, -1, 1, 1])).spacing)  # [1. 1. 1.]
    """

    size: tuple[int, int, int]
    affine: np.ndarray
    ras: np.ndarray
    header: Any = None

    @property
    def spacing(self) -> np.ndarray:
        """(3,) millimeters of a voxel along each axis."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)

    @property
    def ras_to_lps(self) -> np.ndarray:
        """(4, 4), from where nibabel sees a point to where 3D Slicer shows it."""
        return self.affine @ np.linalg.inv(self.ras)

    @property
    def bounds(self) -> np.ndarray:
        """(2, 3), the least and the greatest RAS in mm that the voxels reach to, edges included."""
        corners = np.array([[x, y, z, 1] for x in (0, 1) for y in (0, 1) for z in (0, 1)], dtype=float)
        corners[:, :3] = corners[:, :3] * self.size - 0.5
        places = (corners @ self.ras.T)[:, :3]
        return np.stack([places.min(0), places.max(0)])


def read_volume_geometry(path: str | os.PathLike) -> VolumeGeometry:
    """Read where a volume lies, without its voxels.

    Args:
        path: NIfTI, the folder of a DICOM series, or a DICOM file of all frames.

    Raises:
        DataError: when there is no such file, it is no volume, or it does not say where it lies; it names the path.

    Example::

        nibabel.save(nibabel.Nifti1Image(np.zeros((8, 9, 10), np.int16), np.diag([2, 2, 3, 1])), "ct.nii.gz")
        print(read_volume_geometry("ct.nii.gz").affine[0])  # [-2, 0, 0, 0]
    """
    grid = read_grid(path)
    size = (grid.shape[0], grid.shape[1], grid.shape[2])
    if min(size) < 2:
        raise DataError(f"cannot read the volume {path}: its shape is {size}, and a volume has several slices.")
    if kind_of_name(os.fspath(path)) != "nifti" or os.path.isdir(path):
        return VolumeGeometry(size, _LPS @ grid.affine, grid.affine)
    image = load_nifti(path)
    header = image.header if isinstance(image, nibabel.Nifti1Image) else None
    return VolumeGeometry(size, _itk_affine(path, grid.affine), grid.affine, header)


def _itk_affine(path: str | os.PathLike, ras: np.ndarray) -> np.ndarray:
    """As ITK chooses between qform and sform; what it does not read is placed as nibabel places it."""
    reader = itk.ImageIOFactory.CreateImageIO(os.fspath(path), itk.CommonEnums.IOFileMode_ReadMode)
    try:
        reader.SetFileName(os.fspath(path))
        reader.ReadImageInformation()
    except (AttributeError, RuntimeError):  # no reader; or axes that are a little less than perpendicular
        return _LPS @ ras
    affine = np.eye(4)
    for axis in range(3):
        affine[:3, axis] = np.asarray(reader.GetDirection(axis))[:3] * reader.GetSpacing(axis)
        affine[axis, 3] = reader.GetOrigin(axis)
    return affine


def write_volume(values: np.ndarray, geometry: VolumeGeometry, path: str | os.PathLike) -> None:
    """Write a label map or a heat map where the volume lies, whole or not at all.

    The values are not copied where their first axis is the fastest in memory, as :class:`LoadVolume` gives them.

    Args:
        values: (X, Y, Z) of the volume's own size; their type is the file's.
        geometry: of the volume.
        path: .nii.gz, .nii or .nrrd.

    Raises:
        DataError: when the sizes differ, or the format holds no volume.

    Example::

        geometry = VolumeGeometry((4, 5, 6), np.eye(4), np.diag([-1, -1, 1, 1]))
        write_volume(np.ones((4, 5, 6), np.uint8), geometry, "label.nrrd")
    """
    if values.shape != geometry.size:
        raise DataError(f"values of {values.shape} do not fit a volume of {geometry.size} (X, Y, Z).")
    path = Path(path)
    # both libraries choose the format by the end of the name
    ending = next((suffix for suffix in (*NIFTI, ".nrrd") if path.name.lower().endswith(suffix)), None)
    if ending is None:
        raise DataError(f"{path.name}: the result of a volume can be .nii.gz, .nii or .nrrd.")
    temporary = path.with_name(f".{secrets.token_hex(8)}{ending}")
    try:
        if ending == ".nrrd":
            itk.imwrite(_as_itk(values, geometry), os.fspath(temporary), compression=True)
        else:
            nibabel.save(_as_nifti(values, geometry), temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _as_itk(values: np.ndarray, geometry: VolumeGeometry) -> Any:
    image = itk.image_view_from_array(np.ascontiguousarray(values.T))
    image.SetSpacing(geometry.spacing.tolist())
    image.SetOrigin(geometry.affine[:3, 3].tolist())
    image.SetDirection(itk.matrix_from_array(geometry.affine[:3, :3] / geometry.spacing))
    return image


def _as_nifti(values: np.ndarray, geometry: VolumeGeometry) -> Any:
    """With the very fields of the volume's header, of which every reader makes the same for both."""
    if geometry.header is None:
        image = nibabel.Nifti1Image(values, geometry.ras)
        image.set_sform(geometry.ras, code="scanner")
        image.set_qform(geometry.ras, code="scanner")
        image.header.set_xyzt_units("mm")
        return image
    image = nibabel.Nifti1Image(values, None)
    take_geometry(image.header, geometry.header)
    return image
