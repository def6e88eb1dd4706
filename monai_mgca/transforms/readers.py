# Copyright (c) MONAI MGCA contributors
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#     http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from monai.config import PathLike
from monai.data import NibabelReader, PydicomReader
from monai.utils import MetaKeys, ensure_tuple, optional_import
from PIL import Image

from monai_mgca.transforms.limits import refuse_bomb, refuse_dicom_bomb, refuse_nifti_bomb
from monai_mgca.utils import DataError

pydicom, _ = optional_import("pydicom")
# pydicom 3 moved these functions to pydicom.pixels, where pydicom 2 has none.
_, _has_pixels = optional_import("pydicom.pixels")
_pixels, _ = optional_import("pydicom.pixels" if _has_pixels else "pydicom.pixel_data_handlers.util")

__all__ = ["RadiographDicomReader", "RadiographNiftiReader", "to_gray"]

# Modes of Pillow that are no gray and no RGB, from which a gray value does not follow.
OTHER_COLORS = ("CMYK", "LAB", "HSV")
# ImagePositionPatient, ImageOrientationPatient, PixelSpacing: all that the affine needs, nothing of the patient.
AFFINE_TAGS = (0x00200032, 0x00200037, 0x00280030)


# Pillow tells at DEBUG what the tags of TIFF and JPEG files hold, and that may be the patient's name
logging.getLogger("PIL.TiffImagePlugin").setLevel(logging.INFO)


def scale_to_255(values: np.ndarray, low: float | None = None, high: float | None = None) -> np.ndarray:
    """Map [low, high] (default: the minimum and maximum) to [0, 255], float32; a constant image becomes 0."""
    values = np.asarray(values, dtype=np.float32)
    low = float(values.min()) if low is None else low
    high = float(values.max()) if high is None else high
    return (values - low) * (255.0 / (high - low) if high > low else 0.0)


def to_gray(image: Image.Image) -> Image.Image:
    """Convert any Pillow image to luminance in 0..255: 8 bits as they are, 16 and 32 bits from minimum to maximum.

    Args:
        image: opened, of any mode but CMYK, LAB and HSV; its pixels may not have been read yet.

    Raises:
        DataError: when it declares too many pixels, several frames or other colors.
    """
    refuse_bomb(image.size)
    # a photograph's file of several pictures (MPO) begins with the one that is meant
    if getattr(image, "is_animated", False) and image.format != "MPO":
        raise DataError("the file holds several frames or pages; a radiograph has one.")
    if image.mode in OTHER_COLORS:
        raise DataError(f"its channels are {image.mode}; a radiograph is gray, or gray stored as RGB.")
    if image.mode.startswith(("I", "F")):  # a 16-bit file seldom uses all 16 bits
        return Image.fromarray(scale_to_255(np.asarray(image)))
    return image.convert("L")


class RadiographDicomReader(PydicomReader):
    """Read a DICOM radiograph (CR, DX, ...) as it is to be displayed: (H, W), float32, 0..255, air dark.

    The modality LUT (or rescale slope and intercept) comes first, then the VOI LUT or the first window, whose output
    range becomes 0..255; without either, the image's minimum and maximum do. MONOCHROME1 is inverted.

    Args:
        kwargs: see :class:`monai.data.PydicomReader`.

    Raises:
        DataError: when the file holds several frames or colors, too many pixels or none.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(swap_ij=False, **kwargs)

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> Any:
        for path in ensure_tuple(data):
            refuse_dicom_bomb(path)
        return super().read(data, **kwargs)

    def _get_array_data(self, img: Any, filename: Any) -> np.ndarray:
        if "PixelData" not in img:
            raise DataError("the DICOM file holds no pixel data.")
        if int(img.get("NumberOfFrames") or 1) > 1:
            raise DataError(f"the DICOM file holds {img.NumberOfFrames} frames; a radiograph has one.")
        photometric = img.get("PhotometricInterpretation")
        if photometric not in ("MONOCHROME1", "MONOCHROME2"):
            raise DataError(f"the DICOM file is {photometric}; a radiograph is MONOCHROME1 or MONOCHROME2.")
        refuse_bomb((img.Rows, img.Columns))
        values = _displayed(img)
        return 255.0 - values if photometric == "MONOCHROME1" else values

    def _get_meta_dict(self, img: Any) -> dict:
        kept = pydicom.Dataset()
        kept.update({tag: img[tag] for tag in AFFINE_TAGS if tag in img})
        return super()._get_meta_dict(kept)

    def _get_affine(self, metadata: dict, lps_to_ras: bool = True) -> np.ndarray:
        if "00200037" in metadata and "00200032" in metadata:
            return super()._get_affine(metadata, lps_to_ras)
        # A projection has no place in the patient: only its spacing is known, and that need not be warned of.
        rows, columns = metadata.get("00280030", {}).get("Value", (1.0, 1.0))
        return np.diag([float(rows), float(columns), 1.0, 1.0])


def _displayed(img: Any) -> np.ndarray:
    """The pixels after modality LUT and VOI LUT or window, scaled to 0..255."""
    values = _pixels.apply_modality_lut(img.pixel_array, img)
    if img.get("VOILUTSequence"):
        # Not pydicom's apply_voi: version 2 wraps around where a table of 8-bit entries is longer than 256.
        item = img.VOILUTSequence[0]
        table = np.frombuffer(item.LUTData, "<u2") if isinstance(item.LUTData, bytes) else np.asarray(item.LUTData)
        entry = np.clip(np.rint(values).astype(np.int64) - item.LUTDescriptor[1], 0, len(table) - 1)
        return scale_to_255(table[entry], float(table.min()), float(table.max()))
    if img.get("WindowCenter") is not None and img.get("WindowWidth") is not None:
        # What lies far outside the window gets the ends of its output range.
        with np.errstate(over="ignore"):  # of a sigmoid window
            low, high = _pixels.apply_windowing(np.array([-1e9, 1e9]), img)
        return scale_to_255(_pixels.apply_windowing(values, img), float(low), float(high))
    return scale_to_255(values)


class RadiographNiftiReader(NibabelReader):
    """Read a NIfTI radiograph, stored (W, H) or (W, H, 1), as (H, W), float32, 0..255.

    Whole numbers of 8 bits stay as they are, as in a PNG; of other types the range is scaled to 0..255.

    The first axis is taken for the columns from left to right and the second for the rows from top to bottom, as the
    usual converters store them; the header's orientation flips nothing.

    Args:
        scale: scale the range; a mask's values stay as they are.
        kwargs: see :class:`monai.data.NibabelReader`.

    Raises:
        DataError: when the file holds a volume, or too many pixels.
    """

    def __init__(self, scale: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scale = scale

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> Any:
        for path in ensure_tuple(data):
            refuse_nifti_bomb(path)
        return super().read(data, **kwargs)

    def get_data(self, img: Any) -> tuple[np.ndarray, dict]:
        shape = tuple(int(size) for size in img.shape)
        if len(shape) < 2 or any(size > 1 for size in shape[2:]):
            raise DataError(
                f"the NIfTI file has shape {shape}; a radiograph is (W, H) or (W, H, 1). "
                "Volumes are read by monai.transforms.LoadImage."
            )
        values, meta = super().get_data(img)
        values = values.reshape(values.shape[:2]).T
        meta[MetaKeys.AFFINE] = np.asarray(meta[MetaKeys.AFFINE])[:, [1, 0, 2, 3]]
        meta[MetaKeys.SPATIAL_SHAPE] = np.asarray(values.shape)
        meta[MetaKeys.ORIGINAL_CHANNEL_DIM] = float("nan")
        as_stored = img.get_data_dtype() == np.uint8 and (img.dataobj.slope, img.dataobj.inter) == (1, 0)
        return scale_to_255(values) if self.scale and not as_stored else values, meta
