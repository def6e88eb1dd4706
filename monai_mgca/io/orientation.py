# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0


"""How an image is stored and how it is displayed: turned and mirrored, as its file says."""

from __future__ import annotations

import os
from typing import Any, NamedTuple, TypeVar

import nibabel
import numpy as np
from PIL import ExifTags, Image, ImageFile

from monai_mgca.io.limits import refuse_nifti_bomb
from monai_mgca.utils import DataError

__all__ = ["AS_STORED", "Turn", "turn_of_file", "turn_of_nifti", "turn_of_picture"]

_A = TypeVar("_A", bound=Any)


class Turn(NamedTuple):
    """What leads from an image as it is stored to the image as it is displayed; by default nothing.

    Args:
        transpose: rows become columns, first of all.
        flip_rows: what was at the bottom comes to the top.
        flip_columns: what was at the right comes to the left.

    Example::

        print(Turn(flip_rows=True).apply(np.array([[1, 2], [3, 4]])))  # [[3, 4], [1, 2]]
    """

    transpose: bool = False
    flip_rows: bool = False
    flip_columns: bool = False

    def apply(self, stored: _A) -> _A:
        """
        Args:
            stored: (..., H, W), an array or a tensor.

        Returns:
            The same as it is displayed.
        """
        return self._flip(stored.swapaxes(-1, -2) if self.transpose else stored)

    def undo(self, displayed: _A) -> _A:
        """
        Args:
            displayed: (..., H, W), an array or a tensor.

        Returns:
            The same as it is stored.
        """
        flipped = self._flip(displayed)
        return flipped.swapaxes(-1, -2) if self.transpose else flipped

    def matrix(self, shape: tuple[int, ...]) -> np.ndarray:
        """The (4, 4) matrix from a displayed pixel's (row, column) to the stored one's.

        Args:
            shape: (H, W) as displayed.
        """
        matrix = np.eye(4)
        for axis, flip in enumerate((self.flip_rows, self.flip_columns)):
            if flip:
                matrix[axis, axis], matrix[axis, 3] = -1.0, shape[axis] - 1.0
        return matrix[[1, 0, 2, 3]] if self.transpose else matrix

    def _flip(self, values: _A) -> _A:
        axes = tuple(axis for axis, flip in ((-2, self.flip_rows), (-1, self.flip_columns)) if flip)
        if not axes:
            return values
        flipped: Any = np.flip(values, axes) if isinstance(values, np.ndarray) else values.flip(axes)
        return flipped


AS_STORED = Turn()
# EXIF's orientations: what the first row and the first column of the stored pixels are.
_EXIF = {
    1: Turn(),
    2: Turn(flip_columns=True),
    3: Turn(flip_rows=True, flip_columns=True),
    4: Turn(flip_rows=True),
    5: Turn(transpose=True),
    6: Turn(transpose=True, flip_columns=True),
    7: Turn(transpose=True, flip_rows=True, flip_columns=True),
    8: Turn(transpose=True, flip_rows=True),
}


def turn_of_picture(image: ImageFile.ImageFile) -> Turn:
    """What the EXIF orientation of a picture asks for, as cameras and scanners of phones note it.

    Args:
        image: opened by Pillow.
    """
    unseen = image.format == "PNG" and not {"exif", "Raw profile type exif"} & set(image.info)
    if unseen and not _has_exif_chunk(image.filename):  # behind the pixels, which Pillow would decode to look there
        return AS_STORED
    return _EXIF.get(image.getexif().get(ExifTags.Base.Orientation, 1), AS_STORED)


def _has_exif_chunk(path: str | bytes | os.PathLike) -> bool:
    """Whether a PNG file has an eXIf chunk anywhere."""
    with open(path, "rb") as file:
        file.seek(8)
        while len(head := file.read(8)) == 8 and head[4:] != b"IEND":
            if head[4:] == b"eXIf":
                return True
            file.seek(int.from_bytes(head[:4], "big") + 4, os.SEEK_CUR)
    return False


def turn_of_nifti(image: Any) -> Turn:
    """What brings a NIfTI radiograph upright: the head or, of one that lies in the axial plane, the front on top.

    A projection is seldom oriented for real. Converters store it as an axial slice, some of them with the rows from
    bottom to top (dcm2niix) and some from top to bottom (ITK); an axis that begins at 0 and goes to the right, the
    front or the head is what a file has that nobody oriented, and stays as it is stored.

    Args:
        image: of nibabel; its first two axes are the picture.
    """
    affine = _written_affine(image.header)
    if affine is None or not np.isfinite(affine).all():
        return AS_STORED
    axes = nibabel.io_orientation(affine)[:2]
    if not np.isfinite(axes).all():
        return AS_STORED
    worlds, signs = axes[:, 0].astype(int), axes[:, 1]
    unknown = [affine[world, 3] == 0 and sign > 0 for world, sign in zip(worlds, signs, strict=True)]
    # left to right is the first of these that an axis goes along, top to bottom the other one
    transpose = bool(worlds[0] > worlds[1]) and not any(unknown)
    down, across = (0, 1) if transpose else (1, 0)
    # on the display columns go to the patient's left or back, rows to the back or the feet: all to the negative end
    return Turn(transpose, *(bool(signs[axis] > 0 and not unknown[axis]) for axis in (down, across)))


def _written_affine(header: Any) -> np.ndarray | None:
    """The affine that the file holds: also where its codes say that it is of no known space, as dcm2niix writes it."""
    if header["sform_code"] == 0 and header["qform_code"] > 0:
        return np.asarray(header.get_qform())
    sform = np.asarray(header.get_sform())
    return sform if np.any(sform[:3]) else None


def turn_of_file(path: str | os.PathLike) -> Turn:
    """What :class:`monai_mgca.transforms.LoadRadiograph` does to a file's pixels; DICOM is stored as it is displayed.

    Args:
        path: of the image.

    Raises:
        DataError: when it is a NIfTI file that cannot be read.

    Example::

        Image.new("L", (30, 40)).save("radiograph.png")
        print(turn_of_file("radiograph.png"))
    """
    path = os.fspath(path)
    if path.lower().endswith((".nii", ".nii.gz")):
        try:
            refuse_nifti_bomb(path)
            return turn_of_nifti(nibabel.load(path))
        except Exception as error:  # a damaged file
            raise DataError(f"cannot read {path}: {type(error).__name__}: {error}") from None
    try:
        with Image.open(path) as image:
            return turn_of_picture(image)
    except OSError:  # no picture
        return AS_STORED
