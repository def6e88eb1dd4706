# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Boxes to masks and masks to boxes."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends, ensure_tuple_rep
from scipy import ndimage

from monai_mgca.utils import DataError

__all__ = [
    "BoxesToMask",
    "BoxesToMaskD",
    "BoxesToMaskDict",
    "BoxesToMaskd",
    "MaskToBoxes",
    "MaskToBoxesD",
    "MaskToBoxesDict",
    "MaskToBoxesd",
]


class BoxesToMask(Transform):
    """Fill boxes: a mask for each class, (C, H, W), float32, 0 and 1.

    A pixel belongs to a box that holds its center. MONAI's ``BoxToMaskd`` makes a channel for each box instead.

    Args:
        num_classes: C.

    Raises:
        DataError: when boxes are not (N, 4), or labels are not one class of 0 to C - 1 for each box.

    Example::

        from monai_mgca.transforms import BoxesToMask

        print(BoxesToMask()([[1, 0, 3, 2]], [0], (2, 4))[0])  # [[0, 1, 1, 0], [0, 1, 1, 0]]
    """

    backend = [TransformBackends.TORCH]

    def __init__(self, num_classes: int = 1) -> None:
        self.num_classes = num_classes

    def __call__(self, boxes: Any, labels: Any, size: Sequence[int]) -> torch.Tensor:  # type: ignore[override]
        """
        Args:
            boxes: (N, 4) or empty, [x0, y0, x1, y1], edges in pixels; what leaves the image is left out.
            labels: (N,), the class of each box.
            size: (H, W) of the image.
        """
        edges = torch.as_tensor(boxes, dtype=torch.float64, device="cpu")
        classes = torch.as_tensor(labels, device="cpu").reshape(-1)
        if edges.numel() and (edges.ndim != 2 or edges.shape[1] != 4):
            raise DataError(f"boxes are (N, 4), [x0, y0, x1, y1], got the shape {tuple(edges.shape)}.")
        edges = edges.reshape(-1, 4)
        if len(classes) != len(edges):
            raise DataError(f"{len(edges)} boxes, but {len(classes)} labels: give one to each box.")
        if not all(0 <= label < self.num_classes for label in classes.tolist()):
            raise DataError(f"labels of boxes are 0 to {self.num_classes - 1}, got {sorted(set(classes.tolist()))}.")
        mask = torch.zeros(self.num_classes, *size)
        # the first pixel whose center lies at or behind an edge
        first = torch.ceil(edges - 0.5).clamp_(min=0).long().tolist()
        for (x0, y0, x1, y1), label in zip(first, classes.tolist(), strict=True):
            mask[int(label), y0:y1, x0:x1] = 1
        return mask


class MaskToBoxes(Transform):
    """The boxes around the connected regions of a mask; pixels that touch by a corner are connected.

    The inverse of :class:`BoxesToMask` for whole boxes of which no two of a class touch. MONAI's ``MaskToBoxd`` makes
    one box of a channel instead.

    Args:
        min_area: a region of fewer pixels is left out.

    Raises:
        DataError: when the mask is not (C, H, W).

    Example::

        import torch
        from monai_mgca.transforms import MaskToBoxes

        mask = torch.tensor([[[0, 1, 1, 0], [0, 1, 1, 0]]])
        print(MaskToBoxes()(mask))  # boxes [[1, 0, 3, 2]], labels [0]
    """

    backend = [TransformBackends.NUMPY]

    def __init__(self, min_area: int = 1) -> None:
        self.min_area = min_area

    def __call__(self, mask: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Args:
            mask: (C, H, W); all that is not zero belongs to the class of its channel.

        Returns:
            The boxes, (N, 4), float32, [x0, y0, x1, y1], edges in pixels, and their classes, (N,), int64; by class,
            then from top to bottom.
        """
        planes = np.asarray(torch.as_tensor(mask).detach().cpu()) != 0
        if planes.ndim != 3:
            raise DataError(f"the mask is (C, H, W), got the shape {planes.shape}.")
        boxes = [_boxes_of(plane, self.min_area) for plane in planes]
        labels = np.repeat(np.arange(len(boxes)), [len(some) for some in boxes])
        edges = np.concatenate([np.zeros((0, 4)), *boxes]).astype(np.float32)
        return torch.from_numpy(edges), torch.from_numpy(labels.astype(np.int64))


def _boxes_of(plane: np.ndarray, min_area: int) -> np.ndarray:
    """The boxes of the regions of one class, (N, 4)."""
    index, _ = ndimage.label(plane, structure=np.ones((3, 3)))
    areas = np.bincount(index.ravel())[1:]
    places = [place for place, area in zip(ndimage.find_objects(index), areas, strict=True) if area >= min_area]
    boxes = [(x.start, y.start, x.stop, y.stop) for y, x in places]
    return np.array(boxes, dtype=np.float64).reshape(-1, 4)


class BoxesToMaskd(MapTransform):
    """Dictionary-based version of :class:`BoxesToMask`: the mask comes beside the boxes.

    Args:
        keys: keys of the boxes of the image as it is now.
        label_keys: of each key, the key of the boxes' labels.
        mask_keys: of each key, the key to put the mask under.
        image_key: key of the image, (C, H, W), whose size the mask gets.
        num_classes: C.
        allow_missing_keys: do not raise where a key is missing.
    """

    backend = BoxesToMask.backend

    def __init__(
        self,
        keys: KeysCollection,
        label_keys: KeysCollection = "box_labels",
        mask_keys: KeysCollection = "mask",
        image_key: str = "image",
        num_classes: int = 1,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.label_keys = ensure_tuple_rep(label_keys, len(self.keys))
        self.mask_keys = ensure_tuple_rep(mask_keys, len(self.keys))
        self.image_key = image_key
        self.fill = BoxesToMask(num_classes)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key, label_key, mask_key in self.key_iterator(d, self.label_keys, self.mask_keys):
            d[mask_key] = self.fill(d[key], d[label_key], d[self.image_key].shape[-2:])
        return d


class MaskToBoxesd(MapTransform):
    """Dictionary-based version of :class:`MaskToBoxes`: the boxes come beside the mask.

    Args:
        keys: keys of the masks.
        box_keys: of each key, the key to put the boxes under.
        label_keys: of each key, the key to put the boxes' labels under.
        min_area: a region of fewer pixels is left out.
        allow_missing_keys: do not raise where a key is missing.
    """

    backend = MaskToBoxes.backend

    def __init__(
        self,
        keys: KeysCollection,
        box_keys: KeysCollection = "boxes",
        label_keys: KeysCollection = "box_labels",
        min_area: int = 1,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.box_keys = ensure_tuple_rep(box_keys, len(self.keys))
        self.label_keys = ensure_tuple_rep(label_keys, len(self.keys))
        self.find = MaskToBoxes(min_area)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key, box_key, label_key in self.key_iterator(d, self.box_keys, self.label_keys):
            d[box_key], d[label_key] = self.find(d[key])
        return d


BoxesToMaskD = BoxesToMaskDict = BoxesToMaskd
MaskToBoxesD = MaskToBoxesDict = MaskToBoxesd
