# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""MONAI image readers of radiographs: DICOM and NIfTI."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pydicom
from monai.config import PathLike
from monai.data import NibabelReader, PydicomReader
from monai.utils import MetaKeys, ensure_tuple

from monai_mgca.io.dicom.dicom_display import displayed_pixels, scale_to_255
from monai_mgca.io.dicom.dicom_file import numbers, read_dicom
from monai_mgca.io.dicom.dicom_pixels import refuse_no_image
from monai_mgca.io.levels import ends_of
from monai_mgca.io.limits import refuse_nifti_bomb
from monai_mgca.io.orientation import AS_STORED, turn_of_nifti
from monai_mgca.io.pictures import OTHER_COLORS, to_gray
from monai_mgca.utils import DataError

__all__ = ["OTHER_COLORS", "RadiographDicomReader", "RadiographNiftiReader", "to_gray"]

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
            told = "is truncated: its pixels end too early" if cut else "holds no pixel data"
            raise DataError(f"the DICOM file {told}.", reason="truncated" if cut else "unreadable")
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


class RadiographNiftiReader(NibabelReader):
    """Read a NIfTI radiograph, stored (W, H) or (W, H, 1), as (H, W), float32, 0..255.

    Whole numbers of 8 bits stay as they are, as in a PNG; of other types the range is scaled to 0..255.

    The header says which way is up (:func:`monai_mgca.io.orientation.turn_of_nifti`): the patient's head, or
    front, comes to the top and the right side to the left, whatever converter stored it. Where it says nothing, the
    first axis is taken for the columns from left to right and the second for the rows from top to bottom.

    Args:
        scale: scale the range; a mask's values stay as they are.
        upright: turn it as the header says, else (H, W) is as it is stored.
        kwargs: see :class:`monai.data.NibabelReader`.

    Raises:
        DataError: when the file holds a volume, or too many pixels.
    """

    def __init__(self, scale: bool = True, upright: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scale, self.upright = scale, upright

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> Any:
        for path in ensure_tuple(data):
            refuse_nifti_bomb(path)
        return super().read(data, **kwargs)

    def get_data(self, img: Any) -> tuple[np.ndarray, dict]:
        """As MONAI's reader, of a radiograph alone: a volume is refused."""
        shape = tuple(int(size) for size in img.shape)
        if len(shape) < 2 or any(size > 1 for size in shape[2:]):
            raise DataError(
                f"the NIfTI file has shape {shape}; a radiograph is (W, H) or (W, H, 1). "
                "Volumes are read by monai.transforms.LoadImage."
            )
        values, meta = super().get_data(img)
        turn = turn_of_nifti(img) if self.upright else AS_STORED
        values = turn.apply(values.reshape(values.shape[:2]).T)
        affine = np.asarray(meta[MetaKeys.AFFINE])[:, [1, 0, 2, 3]]
        meta[MetaKeys.AFFINE] = affine @ turn.matrix(values.shape)
        meta[MetaKeys.SPATIAL_SHAPE] = np.asarray(values.shape)
        meta[MetaKeys.ORIGINAL_CHANNEL_DIM] = float("nan")
        as_stored = img.get_data_dtype() == np.uint8 and (img.dataobj.slope, img.dataobj.inter) == (1, 0)
        return scale_to_255(values, *ends_of(values)) if self.scale and not as_stored else values, meta
