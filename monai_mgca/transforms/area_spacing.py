# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Resamples to a spacing or a size by area, so that nothing between the samples is lost."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.data.utils import affine_to_spacing
from monai.transforms import InvertibleTransform, MapTransform, Resize
from monai.utils import TraceKeys, TransformBackends, ensure_tuple_rep

__all__ = ["AreaSpacing", "AreaSpacingD", "AreaSpacingDict", "AreaSpacingd"]


class AreaSpacing(InvertibleTransform):
    """Resample a volume to a voxel size: every new voxel is the mean of those that it covers.

    :class:`monai.transforms.Spacing` interpolates between neighbors alone, and so sees one in ten of the slices that
    8 mm take in. Where voxels get smaller they are interpolated. The axes keep their direction and extent, so the voxel
    size is met within half a voxel of the whole edge. It can be inverted; for a smooth result by
    :class:`monai_mgca.transforms.InvertProbabilitiesd`.

    Args:
        voxel_size: millimeters, one number or one for each axis; above 0.

    Raises:
        ValueError: when a voxel size is not above 0.

    Example::

        from monai.data import MetaTensor
        from monai_mgca.transforms import AreaSpacing

        print(AreaSpacing(2.0)(MetaTensor(torch.rand(1, 40, 40, 20))).shape)  # (1, 20, 20, 10)
    """

    backend = [TransformBackends.TORCH]

    def __init__(self, voxel_size: float | tuple[float, float, float]) -> None:
        self.voxel_size = ensure_tuple_rep(voxel_size, 3)
        if min(self.voxel_size) <= 0:
            raise ValueError(f"voxel_size must be above 0, got {voxel_size}.")

    def __call__(self, img: MetaTensor) -> torch.Tensor:
        """
        Args:
            img: (C, X, Y, Z) with its affine.
        """
        extent = np.asarray(img.shape[1:]) * np.asarray(affine_to_spacing(img.affine, 3))
        wanted = np.maximum(1, np.rint(extent / self.voxel_size)).astype(int).tolist()
        fewer = [min(sizes) for sizes in zip(wanted, img.shape[1:], strict=True)]
        return Resize(wanted, mode="trilinear")(Resize(fewer, mode="area")(img))

    def inverse(self, data: torch.Tensor) -> torch.Tensor:
        """
        Args:
            data: (C, X, Y, Z) that this has resampled, or what a network made of it with the same applied operations.
        """
        for _ in range(2):  # the two of a call, which were made for that call alone
            done = self.pop_transform(data, check=False)
            data = Resize(done[TraceKeys.ORIG_SIZE]).inverse_transform(data, done)
        return data


class AreaSpacingd(MapTransform, InvertibleTransform):
    """Dictionary-based version of :class:`AreaSpacing`.

    Args:
        keys: keys of the volumes.
        voxel_size: see :class:`AreaSpacing`.
        allow_missing_keys: do not raise where a key is missing.
    """

    backend = AreaSpacing.backend

    def __init__(
        self,
        keys: KeysCollection,
        voxel_size: float | tuple[float, float, float],
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.resample = AreaSpacing(voxel_size)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.resample(d[key])
        return d

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.resample.inverse(d[key])
        return d


AreaSpacingD = AreaSpacingDict = AreaSpacingd
