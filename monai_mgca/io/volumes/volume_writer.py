# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Writes masks and heat maps of a volume as NIfTI, voxel by voxel where the volume's file has them."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from monai_mgca.io.kind import kind_of_name
from monai_mgca.io.volumes.nifti_affine import take_geometry
from monai_mgca.utils.files import replacing

__all__ = ["write_volume"]


def write_volume(
    values: np.ndarray,
    affine: np.ndarray,
    path: str | os.PathLike,
    volume: str | os.PathLike | None = None,
    slope: float = 1.0,
) -> None:
    """Write what was made of a volume in the volume's own geometry, whole or not at all.

    Args:
        values: (X, Y, Z) along the axes of the volume as it is stored.
        affine: (4, 4), from their indices to the world (RAS+).
        path: of the file, .nii.gz.
        volume: the file or folder of the volume: where that is NIfTI and its header has this affine, the header's two
            forms are taken over as they are.
        slope: what readers multiply the values by.

    Example::

        write_volume(np.ones((8, 9, 10), np.uint8), np.eye(4), "mask.nii.gz")
        print(nibabel.load("mask.nii.gz").shape)  # (8, 9, 10)
    """
    image = nibabel.Nifti1Image(values, affine)
    image.header.set_xyzt_units("mm")
    if volume is not None and kind_of_name(os.fspath(volume)) == "nifti":
        stored: Any = nibabel.load(volume)
        if np.allclose(stored.affine, affine):
            take_geometry(image.header, stored.header)
    image.header.set_slope_inter(slope, 0)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:  # without the time, so that the same values are the same file
        temporary.write_bytes(gzip.compress(image.to_bytes(), mtime=0))
