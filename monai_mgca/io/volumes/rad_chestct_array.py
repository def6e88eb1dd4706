# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Reads the arrays of RAD-ChestCT, chest CTs in .npz files that bear no geometry: it is the same for all."""

from __future__ import annotations

import os
import zipfile

import numpy as np

from monai_mgca.io.limits import MAX_VOXELS, refuse_bomb
from monai_mgca.utils import DataError

__all__ = ["rad_chestct_grid", "read_rad_chestct"]

_NAME = "ct"
_MILLIMETERS = 0.8


def read_rad_chestct(path: str | os.PathLike) -> tuple[np.ndarray, np.ndarray]:
    """Read a volume of RAD-ChestCT: Hounsfield units from -1000 to 1000, in cubes of 0.8 mm.

    The array "ct" is (slices, rows, columns), from the head down, from front to back and from the patient's right to
    the left, as the set's authors wrote it.

    Args:
        path: of the .npz file.

    Returns:
        The values (X, Y, Z), and the affine to world coordinates (RAS).

    Raises:
        DataError: when the file holds no such array, or one of too many values.

    Example::

        np.savez_compressed("trn00001.npz", ct=np.zeros((10, 9, 8), np.int16))
        print(read_rad_chestct("trn00001.npz")[0].shape)  # (8, 9, 10)
    """
    _, affine = rad_chestct_grid(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            return file[_NAME].T, affine
    except (ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"it cannot be read ({type(error).__name__}).", reason="unreadable") from None


def rad_chestct_grid(path: str | os.PathLike) -> tuple[tuple[int, ...], np.ndarray]:
    """The shape and the affine of what :func:`read_rad_chestct` gives, without reading the values.

    Args:
        path: of the .npz file.

    Raises:
        DataError: when the file holds no such array, or one of too many values.

    Example::

        np.savez_compressed("trn00001.npz", ct=np.zeros((10, 9, 8), np.int16))
        print(rad_chestct_grid("trn00001.npz")[0])  # (8, 9, 10)
    """
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{_NAME}.npy") as member:
            version = np.lib.format.read_magic(member)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(member)
        refuse_bomb(shape, MAX_VOXELS)
        if dtype.kind not in "iuf":
            raise DataError(f"its array '{_NAME}' is no numbers.")
    except KeyError:
        raise DataError(f"it has no array '{_NAME}', as the volumes of RAD-ChestCT have.") from None
    except DataError:
        raise
    except (ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"it cannot be read ({type(error).__name__}).", reason="unreadable") from None
    return shape[::-1], np.diag([-_MILLIMETERS, -_MILLIMETERS, -_MILLIMETERS, 1.0])
