# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Changes the voxels of a volume a plane at a time: what is made on the way is of the size of a plane."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from monai.data import get_track_meta
from monai.transforms import Transform
from monai.utils import TransformBackends, convert_to_dst_type, convert_to_tensor

__all__ = ["ByPlanes"]


class ByPlanes(Transform):
    """A transform that changes every voxel by itself, with the same result in less memory.

    MONAI's ``ScaleIntensityRange`` makes three more volumes beside the one that it is given: of a CT of 512 x 512 x 300
    voxels, 300 MiB each. This makes one, the result.

    Args:
        transform: of a tensor, whose values depend on nothing but the value at their own place.

    Example::

        from monai.transforms import ScaleIntensityRange

        print(ByPlanes(ScaleIntensityRange(-1000, 400, 0, 1))(torch.zeros(1, 8, 8, 8)).shape)  # (1, 8, 8, 8)
    """

    backend = [TransformBackends.TORCH]

    def __init__(self, transform: Callable[[Any], Any]) -> None:
        self.transform = transform

    def __call__(self, img: torch.Tensor) -> torch.Tensor:
        """
        Args:
            img: (C, X, Y, Z), of whatever order in memory, which the result has too; (C, H, W) is taken whole.
        """
        img = convert_to_tensor(img, track_meta=get_track_meta())
        changed: torch.Tensor
        if img.ndim < 4:
            changed = self.transform(img)
            return changed
        whole = img.as_subclass(torch.Tensor)
        result = torch.empty_like(whole, dtype=self.transform(whole[:, :1, :1, :1]).dtype)
        axis = 1 + int(np.argmax(whole.stride()[1:]))  # along which a plane lies in one piece
        for place, plane in zip(result.unbind(axis), whole.unbind(axis), strict=True):
            place.copy_(self.transform(plane))
        changed = convert_to_dst_type(result, img, dtype=result.dtype)[0]
        return changed
