# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Crops patches of volumes to train a detector on, around boxes and elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from monai.apps.detection.transforms.dictionary import RandCropBoxByPosNegLabeld

__all__ = ["RandCropByBoxesD", "RandCropByBoxesDict", "RandCropByBoxesd"]


class RandCropByBoxesd(RandCropBoxByPosNegLabeld):
    """MONAI's ``RandCropBoxByPosNegLabeld`` for sets in which many volumes have no box.

    MONAI warns of each of them. A patch of such a volume is from anywhere, which is what is wanted of it.

    It takes the arguments of :class:`monai.apps.detection.transforms.dictionary.RandCropBoxByPosNegLabeld`.

    Example::

        import torch

        crop = RandCropByBoxesd("image", "boxes", "box_labels", spatial_size=8, num_samples=2)
        item = {"image": torch.rand(1, 16, 16, 16), "boxes": torch.zeros(0, 6), "box_labels": torch.zeros(0)}
        print(len(crop(item)), crop(item)[0]["image"].shape)  # 2 (1, 8, 8, 8)
    """

    def randomize(  # type: ignore[override]
        self, boxes: Any, image_size: Sequence[int], *args: Any, **kwargs: Any
    ) -> None:
        """
        Args:
            boxes: (N, 6) [x0, y0, z0, x1, y1, z1] in voxels.
            image_size: voxels along each axis.
            args: see :class:`monai.apps.detection.transforms.dictionary.RandCropBoxByPosNegLabeld`.
            kwargs: see there.
        """
        if len(boxes) == 0:
            anywhere = np.arange(np.prod(image_size))
            args, kwargs = (anywhere, anywhere), {}
        super().randomize(boxes, image_size, *args, **kwargs)


RandCropByBoxesD = RandCropByBoxesDict = RandCropByBoxesd
