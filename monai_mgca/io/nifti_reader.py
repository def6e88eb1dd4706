# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""MONAI's reader of NIfTI, for radiographs: as they are displayed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from monai.config import PathLike
from monai.data import NibabelReader
from monai.utils import MetaKeys, ensure_tuple

from monai_mgca.io.dicom.dicom_display import scale_to_255
from monai_mgca.io.levels import ends_of
from monai_mgca.io.limits import refuse_nifti_bomb
from monai_mgca.io.orientation import AS_STORED, turn_of_nifti
from monai_mgca.utils import DataError

__all__ = ["RadiographNiftiReader"]


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
