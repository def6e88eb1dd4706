# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""What MONAI Label's own endpoints do otherwise where studies are DICOM series: viewers get one file of a series."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import HTTPException
from fastapi.responses import FileResponse
from monailabel.endpoints import datastore as endpoints
from monailabel.interfaces.utils.app import app_instance
from monailabel.utils.others.generic import remove_file
from starlette.background import BackgroundTask

from monai_mgca.io.volumes.volume_geometry import read_volume_geometry, write_volume
from monai_mgca.transforms import LoadVolume
from monai_mgca.utils import DataError

__all__ = ["serve_series", "write_series_file"]

_download_image = endpoints.download_image


def serve_series() -> None:
    """Put ours in the place of a function of MONAI Label's endpoints, which knows files alone."""
    endpoints.download_image = download_image


def download_image(image: str, check_only: bool = False, check_sum: str | None = None) -> Any:
    """As MONAI Label's; a series as a NIfTI file, which goes once it was sent.

    Raises:
        HTTPException: 400, when the series is no volume; 404, when it is asked whether it has some checksum.
    """
    path = app_instance().datastore().get_image_uri(image)
    if not os.path.isdir(path):
        return _download_image(image, check_only, check_sum)
    if check_only:
        if check_sum:
            raise HTTPException(404, "A DICOM series has no checksum of its own.")
        return {}
    handle, name = tempfile.mkstemp(suffix=".nii.gz")
    os.close(handle)
    sent = BackgroundTask(remove_file, name)
    try:
        write_series_file(path, name)
    except Exception as error:
        os.unlink(name)
        if isinstance(error, DataError):
            raise HTTPException(400, str(error)) from None
        raise
    return FileResponse(name, media_type="application/gzip", filename=f"{image}.nii.gz", background=sent)


def write_series_file(series: str | os.PathLike, path: str | os.PathLike) -> None:
    """Write a DICOM series as one NIfTI file, in Hounsfield units, with nothing of the patient.

    Args:
        series: its folder.
        path: .nii.gz or .nii.

    Raises:
        DataError: when it is no volume.
    """
    geometry = read_volume_geometry(series)
    values = LoadVolume()(series)[0].numpy()
    fits = values.min() >= -(2**15) and values.max() < 2**15
    whole = fits and all((plane % 1 == 0).all() for plane in np.moveaxis(values, -1, 0))
    write_volume(values.astype(np.int16) if whole else values, geometry, Path(path))
