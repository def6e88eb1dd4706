# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Crops patches of volumes to train on, around structures and elsewhere, of whichever class they are."""

from __future__ import annotations

from typing import Any

import torch
from monai.transforms import RandCropByPosNegLabeld

__all__ = ["RandCropByMasksD", "RandCropByMasksDict", "RandCropByMasksd"]


class RandCropByMasksd(RandCropByPosNegLabeld):
    """MONAI's ``RandCropByPosNegLabeld`` for masks of one channel a class.

    MONAI takes the first of several channels for the background's, as in one-hot masks. Here every channel is a
    structure, and a patch is around any of them as often as ``pos`` to ``neg`` says.

    It takes the arguments of :class:`monai.transforms.RandCropByPosNegLabeld`.

    Example::

        crop = RandCropByMasksd(["image", "label"], label_key="label", spatial_size=8, num_samples=2)
        patches = crop({"image": torch.rand(1, 16, 16, 16), "label": torch.ones(2, 16, 16, 16)})
        print(len(patches), patches[0]["label"].shape)  # 2 (2, 8, 8, 8)
    """

    def randomize(  # type: ignore[override]
        self, label: torch.Tensor | None = None, *args: Any, **kwargs: Any
    ) -> None:
        """
        Args:
            label: (C, X, Y, Z) of 0 and 1.
            args: see :class:`monai.transforms.RandCropByPosNegLabeld`.
            kwargs: see :class:`monai.transforms.RandCropByPosNegLabeld`.
        """
        anywhere = None if label is None else (label > 0).any(dim=0, keepdim=True)
        super().randomize(anywhere, *args, **kwargs)


RandCropByMasksD = RandCropByMasksDict = RandCropByMasksd
