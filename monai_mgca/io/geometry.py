# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The geometry of an image file, and label maps that are written and read in it."""

from __future__ import annotations

import itertools
import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

import itk
import numpy as np
from PIL import Image

from monai_mgca.io.dicom.dicom_guard import refuse_damaged_dicom
from monai_mgca.io.limits import refuse_bomb
from monai_mgca.io.nifti_reader import RadiographNiftiReader
from monai_mgca.io.nrrd import read_nrrd
from monai_mgca.io.orientation import AS_STORED, Turn, turn_of_file
from monai_mgca.utils import DataError
from monai_mgca.utils.files import replacing

__all__ = ["Geometry", "read_geometry", "read_label_map", "refuse_detached", "write_label_map"]

NIFTI = (".nii.gz", ".nii")
# of a NRRD file whose pixels are in another one, which could be any file of this machine
ELSEWHERE = re.compile(rb"^\s*data ?file\s*:", re.IGNORECASE)


@dataclass(frozen=True)
class Geometry:
    """Where an image lies, as ITK and so 3D Slicer place its file.

    Args:
        size: (width, height) in pixels, as displayed.
        affine: (4, 4), from indices (x, y, 0), whole numbers at the pixels' centers as displayed, to LPS in mm. An
            image of two dimensions is one slice of 1 mm.
        turn: what leads from the pixels as the file stores them, and as viewers save labels, to the displayed ones.
    """

    size: tuple[int, int]
    affine: np.ndarray
    turn: Turn = AS_STORED

    @property
    def stored_affine(self) -> np.ndarray:
        """From indices of the pixels as the file stores them."""
        to_stored = self.turn.matrix(self.size[::-1])
        return self.affine @ np.linalg.inv(_columns_first(to_stored))


def read_geometry(path: str | os.PathLike) -> Geometry:
    """Read the geometry of a radiograph without its pixels.

    Args:
        path: PNG, JPEG, NIfTI (W, H) or (W, H, 1), or DICOM.

    Raises:
        DataError: when ITK cannot read the file, or it is a volume; the message names the file.

    Example::

        from PIL import Image

        Image.new("L", (31, 47)).save("radiograph.png")
        print(read_geometry("radiograph.png").size)  # (31, 47)
    """
    _check_dicom(path)
    try:
        reader = itk.ImageIOFactory.CreateImageIO(os.fspath(path), itk.CommonEnums.IOFileMode_ReadMode)
        if reader is None:
            raise DataError(f"cannot read the geometry of {path}: no reader of ITK knows the file.")
        reader.SetFileName(os.fspath(path))
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise DataError(f"cannot read the geometry of {path}: {str(error).strip().splitlines()[-1]}") from None
    axes = reader.GetNumberOfDimensions()
    sizes = [reader.GetDimensions(axis) for axis in range(axes)]
    if axes < 2 or any(size > 1 for size in sizes[2:]):
        raise DataError(f"{path} has the size {' x '.join(map(str, sizes))}: a radiograph is one image, no volume.")
    affine = np.eye(4)
    for axis in range(min(axes, 3)):
        direction = np.asarray(reader.GetDirection(axis))[:3]
        affine[: len(direction), axis] = direction * reader.GetSpacing(axis)
        affine[axis, 3] = reader.GetOrigin(axis)
    turn = turn_of_file(path)
    size = (sizes[1], sizes[0]) if turn.transpose else (sizes[0], sizes[1])
    return Geometry(size, affine @ _columns_first(turn.matrix(size[::-1])), turn)


def _columns_first(matrix: np.ndarray) -> np.ndarray:
    """A matrix of (row, column) as one of (x, y)."""
    return matrix[[1, 0, 2, 3]][:, [1, 0, 2, 3]]


def read_label_map(path: str | os.PathLike, turn: Turn = AS_STORED) -> np.ndarray:
    """Read a saved label map, which viewers store as its image is stored.

    Args:
        path: .nii.gz, .nii, .nrrd or .png.
        turn: of the image's geometry.

    Returns:
        (H, W) whole numbers, as the image is displayed.

    Raises:
        DataError: when the file cannot be read, points to another one, or is a volume; the message names the file.

    Example::

        geometry = Geometry((31, 47), np.eye(4))
        write_label_map(np.ones((47, 31), np.uint8), geometry, "label.nrrd")
        print(read_label_map("label.nrrd").shape)  # (47, 31)
    """
    refuse_detached(path)
    try:
        if Path(path).suffix.lower() == ".png":
            with Image.open(path) as image:
                refuse_bomb(image.size)
                return turn.apply(np.asarray(image if len(image.getbands()) == 1 else image.convert("L")))
        if os.fspath(path).lower().endswith(NIFTI):
            reader = RadiographNiftiReader(scale=False, upright=False)
            values = reader.get_data(reader.read(path))[0].T
        else:
            values = read_nrrd(path)
    except Exception as error:
        raise DataError(f"cannot read the label {path}: {type(error).__name__}: {error}") from None
    if values.ndim < 2 or any(size > 1 for size in values.shape[2:]):
        raise DataError(
            f"the label {path} has the shape {values.shape}: the label of a radiograph is (W, H) or (W, H, 1)."
        )
    if not np.isfinite(values).all():
        raise DataError(f"the label {path} holds values that are not finite.")
    return turn.apply(np.rint(values.reshape(values.shape[:2])).astype(np.int64).T)


def write_label_map(values: np.ndarray, geometry: Geometry, path: str | os.PathLike) -> None:
    """Write a mask or a heat map where the image lies, whole or not at all.

    Args:
        values: (H, W) of the image's own size, as displayed; their type is the file's.
        geometry: of the image.
        path: .nii.gz, .nii and .nrrd hold (W, H, 1) in the image's geometry; .png holds the values alone.

    Raises:
        DataError: when the sizes differ, or a PNG cannot hold the values.
    """
    if values.shape != geometry.size[::-1]:
        raise DataError(f"values of {values.shape} do not fit an image of {geometry.size[::-1]} (H, W).")
    path, values, affine = Path(path), geometry.turn.undo(values), geometry.stored_affine
    if path.suffix.lower() == ".png":
        if values.dtype != np.uint8:
            raise DataError(f"a PNG holds whole numbers of 0 to 255, not {values.dtype}: ask for .nrrd or .nii.gz.")
        with replacing(path) as temporary:
            Image.fromarray(np.ascontiguousarray(values)).save(temporary, format="PNG")
        return
    # ITK chooses the format by the end of the name
    ending = next((suffix for suffix in (*NIFTI, ".nrrd") if path.name.lower().endswith(suffix)), None)
    if ending is None:
        raise DataError(f"{path.name}: the result can be .nii.gz, .nii, .nrrd or .png.")
    image = itk.image_from_array(np.ascontiguousarray(values[None]))
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    image.SetDirection(itk.matrix_from_array(affine[:3, :3] / spacing))
    temporary = path.with_name(f".{secrets.token_hex(8)}{ending}")
    try:
        itk.imwrite(image, os.fspath(temporary), compression=True)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def refuse_detached(path: str | os.PathLike) -> None:
    """Refuse a client's label whose values are in another file, which could be any file of this machine.

    Args:
        path: of the label.

    Raises:
        DataError: when it is of another format than .nii.gz, .nii, .nrrd and .png, or leads to another file.

    Example::

        refuse_detached("label.nrrd")
    """
    if not os.fspath(path).lower().endswith((*NIFTI, ".nrrd", ".png")):
        raise DataError(f"cannot read the label {path}: a label is .nii.gz, .nii, .nrrd or .png.")
    if os.path.isfile(path):
        with open(path, "rb") as file:
            header = itertools.takewhile(bytes.strip, file) if file.read(4) == b"NRRD" else ()
            if any(ELSEWHERE.match(line) for line in header):
                raise DataError(f"cannot read the label {path}: its pixels are in another file, save it as one.")


def _check_dicom(path: str | os.PathLike) -> None:
    try:
        refuse_bomb([refuse_damaged_dicom(path)])  # ITK makes room for the pixels already when it looks at a header
    except (OSError, DataError) as error:
        raise DataError(f"cannot read {path}: {error}") from None
