# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Brings probabilities back to the stored image's size by inverting the transforms."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import Invertd, InvertibleTransform
from monai.transforms.utils import convert_applied_interp_mode

__all__ = ["InvertProbabilitiesd"]


class InvertProbabilitiesd(Invertd):
    """MONAI's ``Invertd`` for probabilities: back to the image's own size, with linear interpolation.

    Images are made smaller by area, which would make steps of pixels where a prediction is made larger again. Take the
    threshold behind this transform, so that contours are smooth at the image's own size.

    Args:
        keys: keys of the probabilities.
        transform: what the image went through.
        orig_keys: key of the image.

    Example::

        from monai.transforms import Compose, Resized
        from monai_mgca.transforms import InvertProbabilitiesd, LoadRadiographd
        from PIL import Image

        Image.new("L", (30, 40)).save("radiograph.png")
        resize = Compose([LoadRadiographd("image"), Resized("image", 16, size_mode="longest", mode="area")])
        item = resize({"image": "radiograph.png"})
        invert = InvertProbabilitiesd(keys="pred", transform=resize, orig_keys="image")
        print(invert({**item, "pred": item["image"]})["pred"].shape)  # (1, 40, 30)
    """

    def __init__(
        self, keys: KeysCollection, transform: InvertibleTransform, orig_keys: KeysCollection = "image"
    ) -> None:
        super().__init__(keys, transform, orig_keys, nearest_interp=False)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for orig_key in set(self.orig_keys):
            if isinstance(d.get(orig_key), MetaTensor):
                d[orig_key] = image = d[orig_key].clone()
                image.applied_operations = convert_applied_interp_mode(image.applied_operations, "bilinear", False)
        # a network may return plain tensors, which Invertd would pass by
        d |= {key: MetaTensor(d[key]) for key in self.key_iterator(d)}
        inverted = super().__call__(d)
        return {**inverted, **{key: data[key] for key in self.orig_keys if key in data}}
