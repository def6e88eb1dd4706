# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Which DICOM files are images, and which of them the slices of one series."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import pydicom

__all__ = ["describes_image", "no_image", "series_problem"]

# Modalities whose files are images of their own: projections and photographs.
_SINGLE = ("CR", "DX", "DR", "MG", "RG", "IO", "PX", "RF", "XA", "XC", "ES", "GM", "SM")
_TAGS = ["SOPClassUID", "SeriesInstanceUID", "Modality", "NumberOfFrames", "Rows"]


def no_image(header: Any) -> str | None:
    """What a DICOM object is that is no image: a report, presentation state, document; None for an image.

    Args:
        header: pydicom's data set; one that lacks its rows, or does not say what it is, counts as a damaged image.

    Example::

        header = pydicom.Dataset()
        header.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
        print(no_image(header))  # Basic Text SR Storage
    """
    meta = getattr(header, "file_meta", None) or {}
    kind = str(header.get("SOPClassUID") or meta.get("MediaStorageSOPClassUID") or "")
    name = pydicom.uid.UID(kind).name
    return None if "Rows" in header or not kind or "Image" in name else name


def describes_image(file: str | os.PathLike) -> bool:
    """Whether a DICOM file is an image; what is damaged counts as one, and its reader reports what is wrong.

    Args:
        file: DICOM.

    Example::

        print(describes_image("ct/1.dcm"))
    """
    return no_image(_header(file)) is None


def series_problem(files: Sequence[str | os.PathLike]) -> str | None:
    """Why DICOM files that lie together are not the slices of one series; None where they may be.

    Damage and the slices' places are left to the reader.

    Args:
        files: DICOM files, of one folder; one alone is no series, but may be a volume of frames.

    Example::

        print(series_problem(["ct/1.dcm", "ct/2.dcm"]))
    """
    if len(files) < 2:
        return None
    headers = [header for header in map(_header, files) if header.get("Rows")]  # structures and reports have none
    single = sorted({str(header.get("Modality")) for header in headers} & set(_SINGLE))
    if single:
        return f"{len(files)} files of modality {', '.join(single)}, which are images and no slices"
    series = {str(header.get("SeriesInstanceUID") or "") for header in headers}
    if len(series) > 1:
        return f"{len(files)} files of {len(series)} series"
    frames = sum(str(header.get("NumberOfFrames") or 1).strip() not in ("0", "1") for header in headers)
    return f"{frames} of {len(files)} files are volumes of their own, with several frames" if frames else None


def _header(file: str | os.PathLike) -> Any:
    try:
        return pydicom.dcmread(file, stop_before_pixels=True, force=True, specific_tags=_TAGS)
    except Exception:  # the reader reports what is wrong
        return {}
