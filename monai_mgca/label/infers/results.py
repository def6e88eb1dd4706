# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Files of results, in the geometry of their radiograph or volume and the format that a client asks for."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import HTTPException

from monai_mgca.io.geometry import NIFTI, read_geometry, write_label_map
from monai_mgca.io.volumes.volume_geometry import VolumeGeometry, write_volume

__all__ = ["EXTENSIONS", "VOLUME_EXTENSIONS", "extensions", "temporary_name", "write_result", "write_volume_result"]

EXTENSIONS = (".nrrd", ".nii.gz", ".nii", ".png")
VOLUME_EXTENSIONS = (".nii.gz", ".nii", ".nrrd")


def extensions(spatial_dims: int) -> list[str]:
    """What a client may ask a result as; first nothing, which leaves it to the image.

    Args:
        spatial_dims: 3 for volumes.

    Example::

        print(extensions(3))  # ['', '.nii.gz', '.nii', '.nrrd']
    """
    return ["", *(VOLUME_EXTENSIONS if spatial_dims == 3 else EXTENSIONS)]


def temporary_name(suffix: str) -> Path:
    """A new file's name, which MONAI Label removes once it was sent."""
    handle, name = tempfile.mkstemp(suffix=suffix)
    os.close(handle)
    return Path(name)


def write_result(values: np.ndarray, image: str, request: dict[str, Any]) -> str:
    """Write (H, W) values in an image's geometry, in the format that the request names or that fits its viewer.

    Args:
        values: of the image's own size.
        image: path of the image.
        request: "result_extension", one of :data:`EXTENSIONS`; without it NIfTI for a NIfTI image, else NRRD.

    Returns:
        Path of a temporary file.

    Raises:
        HTTPException: for another extension; 400.
        DataError: when the file cannot hold the values.
    """
    usual = ".nii.gz" if image.lower().endswith(NIFTI) else ".nrrd"
    path = temporary_name(_asked(request, EXTENSIONS) or usual)
    try:
        write_label_map(values, read_geometry(image), path)
    except Exception:
        path.unlink()
        raise
    return str(path)


def write_volume_result(values: np.ndarray, geometry: VolumeGeometry, request: dict[str, Any]) -> str:
    """Write (X, Y, Z) values where their volume lies, in the format that the request names.

    Args:
        values: of the volume's own size.
        geometry: of the volume.
        request: "result_extension", one of :data:`VOLUME_EXTENSIONS`; without it packed NIfTI.

    Returns:
        Path of a temporary file.

    Raises:
        HTTPException: for another extension; 400.
    """
    path = temporary_name(_asked(request, VOLUME_EXTENSIONS) or ".nii.gz")
    try:
        write_volume(values, geometry, path)
    except Exception:
        path.unlink()
        raise
    return str(path)


def _asked(request: dict[str, Any], known: tuple[str, ...]) -> str:
    extension = request.get("result_extension") or ""
    extension = extension[0] if isinstance(extension, list) else extension  # a client may send the choices themselves
    if extension and extension not in known:
        raise HTTPException(400, f"result_extension is one of {', '.join(known)}, not {extension!r}.")
    return str(extension)
