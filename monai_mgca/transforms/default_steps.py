# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""What is done to a radiograph where the settings of the weights do not say what the training's validation did.

The one place of these steps for the configs of inference and evaluation and for the commands. The training configs
spell their own out, because overlays change them one by one, and what they are travels with the weights
(:mod:`monai_mgca.transforms.preprocessing`).
"""

from __future__ import annotations

from typing import Any

from monai.transforms import MapTransform
from monai.utils import CommonKeys

from monai_mgca.transforms.preprocessing import restore_preprocessing

__all__ = ["default_preprocessing", "describe_default"]


def describe_default(
    image_size: int, in_channels: int = 1, resize_size: int | None = None, remember_affine: bool = False
) -> list[dict[str, Any]]:
    """The steps of the configs: resized, padded to a square, scaled to -1..1.

    Args:
        image_size: pixels of the square that the network sees.
        in_channels: of the network; more than one repeat the radiograph.
        resize_size: pixels of the longest side before the center is cut out, as in a pretraining; None: nothing is cut.
        remember_affine: keep the place of the image's pixels, which a detector's boxes are mapped back by.

    Returns:
        Them as :func:`monai_mgca.transforms.describe_preprocessing` writes them beside the weights.
    """
    own, side, cut = "monai_mgca.transforms", resize_size or image_size, resize_size is not None
    steps: list[tuple[str, dict[str, Any]]] = [
        (f"{own}.LoadRadiographd", {}),
        *([(f"{own}.RememberAffined", {})] if remember_affine else []),
        ("monai.transforms.Resized", {"spatial_size": side, "size_mode": "longest", "mode": "area"}),
        ("monai.transforms.SpatialPadd", {"spatial_size": [side, side]}),
        *([("monai.transforms.CastToTyped", {"dtype": {"_dtype_": "torch.uint8"}})] if cut else []),
        *([("monai.transforms.CenterSpatialCropd", {"roi_size": [image_size, image_size]})] if cut else []),
        ("monai.transforms.ScaleIntensityRanged", {"a_min": 0, "a_max": 255, "b_min": -1, "b_max": 1}),
        *([("monai.transforms.RepeatChanneld", {"repeats": in_channels})] if in_channels > 1 else []),
    ]
    return [{"_target_": name, "keys": CommonKeys.IMAGE.value, **arguments} for name, arguments in steps]


def default_preprocessing(
    image_size: int, in_channels: int = 1, resize_size: int | None = None, remember_affine: bool = False
) -> list[MapTransform]:
    """The transforms of :func:`describe_default`, whose arguments these are.

    In a config: ``"default_preprocessing": "$monai_mgca.transforms.default_preprocessing(@image_size, @in_channels)"``.

    Example::

        from monai.transforms import Compose

        print(len(Compose(default_preprocessing(224)).transforms))  # 4
    """
    described = describe_default(image_size, in_channels, resize_size, remember_affine)
    return restore_preprocessing({"preprocessing": described}) or []
