# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Moves boxes with an image through spatial transforms, and back; those of volumes from and to millimeters."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from itertools import product
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, RandomizableTrait
from monai.utils import MetaKeys, TransformBackends, ensure_tuple

__all__ = [
    "MapBoxesD",
    "MapBoxesDict",
    "MapBoxesd",
    "RememberAffineAgaind",
    "RememberAffineD",
    "RememberAffineDict",
    "RememberAffined",
    "RestoreBoxesD",
    "RestoreBoxesDict",
    "RestoreBoxesd",
    "map_boxes",
    "restore_boxes",
]

LOADED_AFFINE = "loaded_affine"


def map_boxes(boxes: Any, image: MetaTensor, world: bool | None = None) -> torch.Tensor:
    """Boxes of the stored image, where its transforms have brought them.

    All that moves pixels is known from the image's affine: resizing, padding, cropping, flips, rotation. A rotated box
    becomes the upright box around it. Nothing is clipped.

    Args:
        boxes: (N, 4) [x0, y0, x1, y1], edges in pixels of the stored image, x to the right; of a volume
            (N, 6) [x0, y0, z0, x1, y1, z1] in millimeters of the world, RAS+.
        image: (C, H, W[, D]), which passed :class:`RememberAffined` and then transforms of MONAI.
        world: whether the boxes are in millimeters of the world; of a volume False takes voxels of the volume that
            passed :class:`RememberAffined`. Defaults to what is usual: those of volumes are.

    Returns:
        (N, 4), float32, edges in pixels of ``image``; of a volume (N, 6), in voxels along its axes.

    Raises:
        ValueError: when the image did not pass :class:`RememberAffined`.
    """
    if _is_world(image, world):
        return _move(boxes, torch.linalg.inv(_affine(image)), image, from_world=True)
    original = _original(image)
    return _move(boxes, torch.linalg.solve(_affine(image), original), image)


def restore_boxes(boxes: Any, image: MetaTensor, world: bool | None = None) -> torch.Tensor:
    """The inverse of :func:`map_boxes`, clipped to the stored image.

    Args:
        boxes: (N, 4) [x0, y0, x1, y1], edges in pixels of ``image``; of a volume (N, 6) in voxels along its axes.
        image: (C, H, W[, D]), which passed :class:`RememberAffined` and then transforms of MONAI.
        world: see :func:`map_boxes`.

    Returns:
        (N, 4), float32, edges in pixels of the stored image; of a volume (N, 6), as ``world`` says.

    Raises:
        ValueError: when the image did not pass :class:`RememberAffined`.
    """
    original, size = _original(image), image.meta[MetaKeys.SPATIAL_SHAPE]
    if _is_world(image, world):
        whole = torch.tensor([[0.0] * len(size) + [float(side) for side in size]])
        lowest, highest = _move(whole, original, image, to_world=True)[0].chunk(2)
        return _clip(_move(boxes, _affine(image), image, to_world=True), lowest, highest)
    restored = _move(boxes, torch.linalg.solve(original, _affine(image)), image)
    return _clip_to_size(restored, size)


def _is_world(image: MetaTensor, world: bool | None) -> bool:
    return image.ndim == 4 if world is None else world


def _affine(image: MetaTensor) -> torch.Tensor:
    return torch.as_tensor(image.affine, dtype=torch.float64, device="cpu")


def _original(image: MetaTensor) -> torch.Tensor:
    affine = getattr(image, "meta", {}).get(LOADED_AFFINE)
    if affine is None:
        raise ValueError(
            "It is not known how the image was loaded: put RememberAffined behind LoadRadiographd or LoadVolumed."
        )
    return torch.as_tensor(affine, dtype=torch.float64)


def _move(
    boxes: Any, matrix: torch.Tensor, image: torch.Tensor, from_world: bool = False, to_world: bool = False
) -> torch.Tensor:
    """Apply a matrix on indices (row, column[, slice]) or millimeters to all corners, and take the upright box."""
    axes = image.ndim - 1
    boxes = torch.as_tensor(boxes, dtype=torch.float64, device="cpu").reshape(-1, 2 * axes)
    order = [1, 0] if axes == 2 else [0, 1, 2]  # an image's boxes have x, its column, first
    edges = [
        [axis + axes * end for axis, end in zip(order, ends, strict=True)] for ends in product((0, 1), repeat=axes)
    ]
    # indices are of the pixels' centers, half a pixel from their edges
    corners = boxes[:, edges] - (0.0 if from_world else 0.5)
    moved = corners @ matrix[:axes, :axes].T + matrix[:axes, -1] + (0.0 if to_world else 0.5)
    return torch.cat((moved.amin(1)[:, order], moved.amax(1)[:, order]), dim=1).float()


def _clip(boxes: torch.Tensor, lowest: torch.Tensor, highest: torch.Tensor) -> torch.Tensor:
    return boxes.clamp(min=lowest.repeat(2), max=highest.repeat(2))


def _clip_to_size(boxes: torch.Tensor, size: Any) -> torch.Tensor:
    sides = [float(side) for side in size]
    highest = torch.tensor(sides[::-1] if len(sides) == 2 else sides)
    return _clip(boxes, torch.zeros(len(sides)), highest)


class RememberAffined(MapTransform):
    """Keep an image's affine as it was loaded, by which its boxes can follow it. Put it right behind the loading.

    What readers call the original affine may have other axes than the image that they give. It takes the keys of the
    images and ``allow_missing_keys``, as every ``MapTransform``.
    """

    backend = [TransformBackends.TORCH]

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            # a cache on disk gives plain tensors
            d[key] = image = d[key].clone() if isinstance(d[key], MetaTensor) else MetaTensor(d[key])
            image.meta[LOADED_AFFINE] = image.affine.clone()
        return d


class RememberAffineAgaind(RememberAffined, RandomizableTrait):
    """As :class:`RememberAffined`, before random transforms, when the boxes have followed the image up to here.

    Datasets take it for random and run it every time: what they keep on disk has no affine.
    """


class MapBoxesd(MapTransform):
    """Boxes of the stored image become boxes of the image as it is now, clipped to it; those that vanish are dropped.

    Put it behind all spatial transforms of the image, random ones too; a box needs no other transform.
    MONAI's box transforms come one for each spatial transform, and none for resizing to the longest side, padding or
    random affines; ``AffineBoxToImageCoordinated`` leaves rotated boxes and the half pixel aside.

    Args:
        keys: keys of the boxes, (N, 4) or empty, [x0, y0, x1, y1], edges in pixels of the stored image; of volumes
            (N, 6) in millimeters, see :func:`map_boxes`.
        image_key: key of the image.
        label_keys: keys of what goes with every box, (N,); it becomes int64.
        min_size: a box that is narrower or lower, in pixels of the image as it is now, has vanished.
        world: see :func:`map_boxes`.
        allow_missing_keys: do not raise where a key is missing.

    Example::

        from monai.transforms import Compose, Resized, SpatialPadd
        from monai_mgca.transforms import LoadRadiographd
        from PIL import Image

        Image.new("L", (60, 40)).save("radiograph.png")
        transform = Compose([
            LoadRadiographd("image"),
            RememberAffined("image"),
            Resized("image", 30, size_mode="longest", mode="area"),
            SpatialPadd("image", (30, 30)),
            MapBoxesd("boxes", "image", "box_labels"),
        ])
        item = {"image": "radiograph.png", "boxes": [[0, 0, 60, 40]], "box_labels": [1]}
        print(transform(item)["boxes"])  # [[0, 5, 30, 25]]
    """

    backend = [TransformBackends.TORCH]

    def __init__(
        self,
        keys: KeysCollection,
        image_key: str = "image",
        label_keys: KeysCollection = (),
        min_size: float = 1.0,
        allow_missing_keys: bool = False,
        world: bool | None = None,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.image_key = image_key
        self.label_keys = ensure_tuple(label_keys)
        self.min_size, self.world = min_size, world

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        image = d[self.image_key]
        for key in self.key_iterator(d):
            boxes = _clip_to_size(map_boxes(d[key], image, self.world), image.shape[1:])
            lowest, highest = boxes.chunk(2, dim=1)
            kept = (highest - lowest >= self.min_size).all(1)
            d[key] = boxes[kept]
            for label_key in self.label_keys:
                d[label_key] = torch.as_tensor(data[label_key], dtype=torch.int64, device="cpu")[kept]
        return d


class RestoreBoxesd(MapTransform):
    """Boxes of the image as it is now become boxes of the stored image, clipped to it: the inverse of ``MapBoxesd``.

    Args:
        keys: keys of the boxes, (N, 4), [x0, y0, x1, y1], edges in pixels of the image as it is now; of volumes (N, 6).
        image_key: key of the image.
        allow_missing_keys: do not raise where a key is missing.
        world: see :func:`map_boxes`.
    """

    backend = MapBoxesd.backend

    def __init__(
        self,
        keys: KeysCollection,
        image_key: str = "image",
        allow_missing_keys: bool = False,
        world: bool | None = None,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.image_key, self.world = image_key, world

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = restore_boxes(d[key], d[self.image_key], self.world)
        return d


RememberAffineD = RememberAffineDict = RememberAffined
MapBoxesD = MapBoxesDict = MapBoxesd
RestoreBoxesD = RestoreBoxesDict = RestoreBoxesd
