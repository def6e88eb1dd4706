# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Pictures of a radiograph or a volume by the same calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL import Image

from monai_mgca.data.image_item import ImageLike, path_of
from monai_mgca.transforms import LoadRadiograph
from monai_mgca.visualize.overlay import draw_heat
from monai_mgca.visualize.volume_view import VolumeView

__all__ = ["RadiographView", "open_view"]


class RadiographView:
    """A radiograph on the screen: itself, at its own size, where :class:`VolumeView` has planes.

    Args:
        image: path of a PNG, JPEG, DICOM or NIfTI file, or an entry of a datalist.

    Raises:
        DataError: when it cannot be read.
    """

    planes = 1

    def __init__(self, image: ImageLike) -> None:
        self.pixels = LoadRadiograph()(path_of(image))[0]

    def draw(self) -> Image.Image:
        """The radiograph in gray."""
        return Image.fromarray(self.pixels.clamp(0, 255).round().byte().numpy())

    def draw_heat(self, heat: torch.Tensor, region: torch.Tensor | None = None) -> Image.Image:
        """The radiograph with a heat map (H, W), and perhaps the outline of a region (H, W)."""
        return draw_heat(self.pixels, heat, region)

    def slices(self) -> Sequence[Image.Image]:
        """None: a radiograph is seen whole."""
        return ()


def open_view(image: ImageLike, settings: Mapping[str, Any] | None = None) -> RadiographView | VolumeView:
    """What draws an image, of volumes in the window of a model.

    Args:
        image: path, or entry of a datalist.
        settings: of the model that it is for, which say whether the image is a volume; see :class:`VolumeView`.

    Raises:
        DataError: when it cannot be read.

    Example::

        Image.new("L", (60, 40)).save("radiograph.png")
        print(open_view("radiograph.png").draw().size)  # (60, 40)
    """
    return VolumeView(image, settings) if settings and settings.get("spatial_dims") == 3 else RadiographView(image)
