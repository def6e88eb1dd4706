# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Which files of a folder are a DICOM series, and what the headers of its slices say of their places."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pydicom

from monai_mgca.io.dicom.dicom_guard import refuse_damaged_dicom
from monai_mgca.io.dicom.padding import padding_ends
from monai_mgca.io.kind import is_clutter, kind_of
from monai_mgca.io.limits import MAX_VOXELS, refuse_bomb, refuse_dicom_bomb
from monai_mgca.utils import DataError

__all__ = ["Slice", "find_slices", "series_files"]

_TAGS = (
    "SeriesInstanceUID",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "Modality",
    "RescaleSlope",
    "RescaleIntercept",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "BitsAllocated",
    "BitsStored",
    "PixelRepresentation",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)
# of a multi-frame file, where a frame's geometry is stored
_MACROS = {
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
}


class Slice(NamedTuple):
    """What a slice's header says of its place; None is what it does not say.

    Args:
        file: that holds it.
        frame: its number in the file.
        series: SeriesInstanceUID.
        size: columns and rows.
        position: (3,), of the first pixel's center, in millimeters to the patient's left, back and head.
        orientation: (6,), the directions of a row and of a column.
        spacing: (2,), the distances of rows and of columns in millimeters.
        rescale: slope and intercept, of a frame of several.
        padding: between which Hounsfield units what is no image lies.
    """

    file: Path
    frame: int
    series: str
    size: tuple[int, int]
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    spacing: tuple[float, ...] | None
    rescale: tuple[Any, Any] = (None, None)
    padding: tuple[float, float] | None = None


def series_files(folder: Path) -> list[Path]:
    """The DICOM files of a folder; no hidden ones, as macOS leaves beside every file, and no DICOMDIR.

    Args:
        folder: of a DICOM series.
    """
    files = (path for path in folder.iterdir() if not is_clutter(path.name) and path.is_file())
    return sorted(path for path in files if kind_of(path) == "dicom")


def find_slices(path: Path) -> list[Slice]:
    """The slices of a folder's one DICOM series, or of one file; files of other kinds are none, nor are reports.

    Args:
        path: the file or folder.

    Raises:
        DataError: when a DICOM file is damaged, there are too many pixels, several series or none; it names the file.
    """
    if path.is_file() and kind_of(path) != "dicom":
        raise DataError("a volume is NIfTI (.nii, .nii.gz) or DICOM, and this is neither.")
    pixels: dict[Path, int] = {}
    for file in series_files(path) if path.is_dir() else [path]:
        try:
            # before ITK, which makes room for the pixels already when it looks at a header
            pixels[file] = refuse_damaged_dicom(file) if file.stat().st_size else 0
        except DataError as error:
            raise DataError(f"{error}{_take_out(path, file)}", reason=error.reason) from None
    refuse_bomb([sum(pixels.values())], MAX_VOXELS)
    slices = [one for file, count in pixels.items() if count for one in _slices_of(file)]
    series: dict[str, list[Slice]] = {}
    for one in slices:
        series.setdefault(one.series, []).append(one)
    if len(series) > 1:
        counts = "; ".join(f"{len(some)} slices, such as {some[0].file.name}" for some in series.values())
        raise DataError(f"the folder holds {len(series)} DICOM series ({counts}); give each a folder of its own.")
    kinds = {_storage_class(file) for file in {one.file for one in slices}}
    for file in (file for file, count in pixels.items() if not count):
        if path == file or not file.stat().st_size or _storage_class(file) in kinds:
            raise DataError(f"the DICOM file holds no pixels.{_take_out(path, file)}")
    if not series:
        raise DataError("the folder holds no DICOM series.")
    return slices


def _take_out(path: Path, file: Path) -> str:
    return "" if file == path else f" It is {file.name}: take it out of the folder if it is no slice."


def _storage_class(file: Path) -> str:
    """What kind of object a DICOM file is, by its UID: CT image, report, ..."""
    return str(
        pydicom.dcmread(file, stop_before_pixels=True, specific_tags=["SOPClassUID"], force=True).get("SOPClassUID")
    )


def _slices_of(file: Path) -> Iterator[Slice]:
    refuse_dicom_bomb(file)
    data = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(_TAGS), force=True)
    count = int(data.get("NumberOfFrames") or 1)
    frames = list(data.get("PerFrameFunctionalGroupsSequence") or [None])
    if frames == [None] and count > 1:
        raise DataError(f"the {count} frames of {file.name} give no position; convert the file to NIfTI.")
    shared = next(iter(data.get("SharedFunctionalGroupsSequence") or ()), None)
    size, series = (int(data.get("Columns") or 0), int(data.get("Rows") or 0)), str(data.get("SeriesInstanceUID") or "")
    for index, frame in enumerate(frames):

        def numbers(name: str, count: int, own: Any = frame) -> tuple[float, ...] | None:
            macros = ((group.get(_MACROS[name]) or [None])[0] for group in (own, shared) if group is not None)
            tags = data if own is None else next((macro for macro in macros if macro is not None), None)
            return _numbers(tags, name, count)

        slope, intercept = numbers("RescaleSlope", 1), numbers("RescaleIntercept", 1)
        position, orientation = numbers("ImagePositionPatient", 3), numbers("ImageOrientationPatient", 6)
        rescale = (None, None) if frame is None else (slope, intercept)
        padding = padding_ends(data, (slope or (1.0,))[0], (intercept or (0.0,))[0])
        yield Slice(file, index, series, size, position, orientation, numbers("PixelSpacing", 2), rescale, padding)


def _numbers(tags: Any, name: str, count: int) -> tuple[float, ...] | None:
    """The finite values of a tag; None where they are not there, or not so many."""
    try:
        value = tags.get(name)
        values = tuple(map(float, value if count > 1 else [value]))
    except Exception:  # no tags, no value, or a text that is no number, which pydicom parses now
        return None
    return values if len(values) == count and np.isfinite(values).all() else None
