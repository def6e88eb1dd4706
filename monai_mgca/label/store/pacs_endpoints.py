# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""What MONAI Label's own endpoints do otherwise where the studies are in a PACS."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
from fastapi import HTTPException, Request, Response
from monailabel.config import settings
from monailabel.endpoints import infer, proxy

from monai_mgca.io.geometry import read_geometry, read_label_map
from monai_mgca.label.store.dicom_seg import segment_names, write_segmentation
from monai_mgca.label.store.volume_seg import PLACE, segmentation_of_volume
from monai_mgca.utils import DataError
from monai_mgca.utils.files import replacing

if TYPE_CHECKING:
    from pydicom import Dataset


__all__ = ["replace_endpoints", "replace_proxy", "result_as_segmentation", "segmentation_of"]

SOURCE, RESULT = "image.dcm", "segmentation.dcm"  # in the folder of a series
# "studies/1.2/series/1.3/frames/1,2": nothing that leads elsewhere, nor a percent sign that hides it
RESOURCE = re.compile(r"/?(studies|series|instances)(/[A-Za-z0-9][\w.,-]*)*/?", re.ASCII)
_hand_on = proxy.proxy_dicom


def replace_endpoints() -> None:
    """Put ours in the place of a function of MONAI Label's endpoints.

    ``/infer?output=dicom_seg`` would run a program that wants planes, which radiographs lack, and renumber the
    segments.
    """
    infer.nifti_to_dicom_seg = result_as_segmentation
    replace_proxy()


def replace_proxy() -> None:
    """``/proxy/dicom`` would forward, with the server's password, what is no DICOMweb.

    ``../`` leads to all that the PACS has under other addresses.
    """
    proxy.proxy_dicom = hand_on


async def hand_on(request: Request, op: str, path: str) -> Response:
    """MONAI Label's own, for addresses of DICOMweb alone.

    Raises:
        HTTPException: 404, for others, and where the studies are a folder; 502, when the PACS does not answer.
    """
    if not settings.MONAI_LABEL_STUDIES.startswith(("http://", "https://")):
        raise HTTPException(404, "The studies are a folder: there is no PACS to hand a request on to.")
    if not RESOURCE.fullmatch(path):
        raise HTTPException(404, "Only addresses of DICOMweb are forwarded.")
    try:
        return await _hand_on(request, op, path)
    except OSError as error:  # of requests
        raise HTTPException(502, f"The DICOMweb server does not answer: {type(error).__name__}.") from None


def result_as_segmentation(series_dir: str, label: str | None, label_info: Any, **_options: Any) -> str:
    """What MONAI Label's ``/infer?output=dicom_seg`` asks: path of a DICOM SEG of a model's result.

    Args:
        series_dir: the folder of the series.
        label: path of the model's result.
        label_info: names of the segments, see :func:`segment_names`.

    Raises:
        HTTPException: 400, when the result is no mask.
    """
    folder = Path(series_dir)
    if not label or label.endswith(".json"):
        raise HTTPException(400, "output=dicom_seg is for masks: this model gives none; ask for output=json.")
    data = segmentation_of(folder, label, label_info, automatic=True)
    with replacing(folder / RESULT) as temporary:
        data.save_as(temporary, write_like_original=False)
    return str(folder / RESULT)


def segmentation_of(folder: Path, label: str, label_info: Any, automatic: bool) -> Dataset:
    """The DICOM SEG of a label of the radiograph or the volume in a series' folder.

    Args:
        folder: of the series.
        label: path of the label map; ``.bin`` holds bytes alone, as OHIF sends them.
        label_info: names of the segments, see :func:`segment_names`.
        automatic: a network alone made it.

    Raises:
        HTTPException: 400, when the label cannot be read or does not fit.
    """
    names = segment_names(label_info)
    if (folder / PLACE).is_file():
        return segmentation_of_volume(folder, label, names, automatic)
    source = pydicom.dcmread(folder / SOURCE, stop_before_pixels=True)
    geometry = read_geometry(folder / SOURCE)
    try:
        if label.endswith(".bin"):
            mask = np.fromfile(label, np.uint8).reshape(geometry.size[::-1])
        else:
            mask = read_label_map(label)
        return write_segmentation(mask, source, geometry, names, automatic)
    except (DataError, ValueError) as error:
        raise HTTPException(400, f"The label cannot be saved: {error}") from None
