# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""MONAI's reader of DICOM, for radiographs: as they are displayed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pydicom
from monai.config import PathLike
from monai.data import PydicomReader
from monai.utils import ensure_tuple

from monai_mgca.io.dicom.dicom_display import displayed_pixels
from monai_mgca.io.dicom.dicom_file import numbers, read_dicom
from monai_mgca.io.dicom.dicom_pixels import refuse_no_image
from monai_mgca.utils import DataError

__all__ = ["RadiographDicomReader"]

# How pixels begin in the usual order of bytes.
PIXEL_TAG = b"\xe0\x7f\x10\0"


class RadiographDicomReader(PydicomReader):
    """Read a DICOM radiograph (CR, DX, ...) as it is to be displayed: (H, W), float32, 0..255, air dark.

    The modality LUT (or rescale slope and intercept) comes first, then the VOI LUT or the first window, whose output
    range becomes 0..255. Without either, or where the windows make no sense, the image's minimum and maximum do.
    MONOCHROME1 is inverted; padding becomes 0. Compressed pixels are decoded by ITK.

    Tags that do not concern the pixels stop nothing: a geometry that makes no sense is none.

    Args:
        kwargs: see :class:`monai.data.PydicomReader`.

    Raises:
        DataError: when the file holds several frames or colors, too many pixels or none, or a tag that the pixels
            depend on makes no sense; the message names the tag.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(swap_ij=False, **kwargs)

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> Any:
        self.filenames, self.has_series = list(ensure_tuple(data)), False
        found = [read_dicom(path, **{**self.kwargs, **kwargs}) for path in self.filenames]
        return found[0] if len(found) == 1 else found

    def _get_array_data(self, img: Any, filename: Any) -> np.ndarray:
        if "PixelData" not in img:
            refuse_no_image(img)
            with open(filename, "rb") as file:
                cut = PIXEL_TAG in file.read()  # pydicom leaves out what it could not read to its end
            problem = "is truncated: its pixels end too early" if cut else "holds no pixel data"
            raise DataError(f"the DICOM file {problem}.", reason="truncated" if cut else "unreadable")
        return displayed_pixels(img)

    def _get_meta_dict(self, img: Any) -> dict:
        kept = pydicom.Dataset()
        kept.update({img[tag].tag: img[tag] for tag in _sound_geometry(img)})
        return super()._get_meta_dict(kept)

    def _get_affine(self, metadata: dict, lps_to_ras: bool = True) -> np.ndarray:
        if "00200037" in metadata and "00200032" in metadata:
            return super()._get_affine(metadata, lps_to_ras)
        # A projection has no place in the patient: only its spacing is known, and that need not be warned of.
        rows, columns = metadata.get("00280030", {}).get("Value", (1.0, 1.0))
        return np.diag([float(rows), float(columns), 1.0, 1.0])


def _sound_geometry(img: Any) -> list[str]:
    """The tags of the affine that make sense, nothing of the patient; the place and the directions only together."""
    spacing = numbers(img, "PixelSpacing") or ()
    sound = ["PixelSpacing"] if len(spacing) == 2 and min(spacing) > 0 else []
    place, directions = numbers(img, "ImagePositionPatient") or (), numbers(img, "ImageOrientationPatient") or ()
    if sound and (len(place), len(directions)) == (3, 6) and np.any(np.cross(directions[:3], directions[3:])):
        sound += ["ImagePositionPatient", "ImageOrientationPatient"]
    return sound
