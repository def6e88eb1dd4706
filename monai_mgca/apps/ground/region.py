# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Where an image has what a phrase says: pixels of a radiograph, or boxes in the millimeters of a volume."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from monai_mgca.data.image_item import ImageLike, path_of
from monai_mgca.io.volumes.volume_grid import VolumeGrid, axes_onto, read_grid, turn_onto
from monai_mgca.transforms import LoadMask
from monai_mgca.utils import DataError

__all__ = ["AnyRegion", "Region", "VolumeRegion", "fill_boxes"]


class Region(NamedTuple):
    """Where an image has what a phrase says."""

    image: ImageLike
    name: str  # of the class
    phrase: str
    mask: torch.Tensor  # (H, W[, D]), 0 and 1, of the image as it is stored
    spacing: tuple[float, ...] | None = None  # of a volume, millimeters of a voxel along each axis

    def filled(self) -> Region:
        """Itself."""
        return self


class VolumeRegion(NamedTuple):
    """The same of a volume, by boxes: the voxels of a CT take 150 MB, and are filled when they are looked at."""

    image: ImageLike
    name: str
    phrase: str
    boxes: Sequence[Sequence[float]]  # [x0, y0, z0, x1, y1, z1] in millimeters (RAS+)
    within: str | None = None  # path of a mask that the boxes are cut to

    def filled(self) -> Region:
        """The region with its voxels, of which there may be none.

        Raises:
            DataError: when the volume's header or the mask cannot be read, or the mask lies elsewhere.
        """
        path, spacing = path_of(self.image), self.image.get("spacing") if isinstance(self.image, Mapping) else None
        grid = read_grid(path)
        affine = np.array(grid.affine, dtype=float)
        if spacing is not None:  # in place of what the header says, as LoadVolumed takes it
            affine[:3, :3] *= np.asarray(spacing, dtype=float) / np.linalg.norm(affine[:3, :3], axis=0)
        mask = fill_boxes(self.boxes, VolumeGrid(grid.shape, affine))
        if self.within is not None:
            axes = axes_onto(read_grid(self.within), grid)
            if axes is None:
                raise DataError(
                    f"the mask {self.within} lies elsewhere than the voxels of {path}: resample it onto them."
                )
            mask *= turn_onto(LoadMask(spatial_dims=3)(self.within)[0].numpy(), axes)
        sizes = np.linalg.norm(affine[:3, :3], axis=0)
        return Region(self.image, self.name, self.phrase, torch.from_numpy(mask), tuple(sizes.tolist()))


AnyRegion = Region | VolumeRegion


def fill_boxes(boxes: Sequence[Sequence[float]], grid: VolumeGrid) -> np.ndarray:
    """The voxels whose middle is in one of some boxes, however the volume's axes lie.

    Args:
        boxes: (N, 6) [x0, y0, z0, x1, y1, z1] in millimeters of the world (RAS+).
        grid: of the volume.

    Returns:
        (X, Y, Z), uint8, 0 and 1.

    Example::

        grid = VolumeGrid((4, 4, 4), np.diag([2, 2, 2, 1]))
        print(fill_boxes([[0, 0, 0, 3, 3, 3]], grid).sum())  # 8
    """
    mask = np.zeros(grid.shape, dtype=np.uint8)
    for box in boxes:
        ends = np.reshape(box, (2, 3)).astype(float)
        corners = np.stack(np.meshgrid(*ends.T, indexing="ij"), axis=-1).reshape(-1, 3)
        indices = np.linalg.solve(grid.affine[:3, :3], (corners - grid.affine[:3, 3]).T)
        # all voxels that the box may reach; where its sides lie along the axes these are just its own
        first = np.clip(np.ceil(indices.min(1) - 1e-6), 0, grid.shape).astype(int)
        last = np.clip(np.floor(indices.max(1) + 1e-6) + 1, 0, grid.shape).astype(int)
        i, j, k = np.ogrid[tuple(slice(low, high) for low, high in zip(first, last, strict=True))]
        inside: Any = True
        for axis in range(3):
            a, b, c, start = grid.affine[axis]
            place = a * i + b * j + c * k + start
            inside = inside & (place >= ends[0, axis] - 1e-6) & (place <= ends[1, axis] + 1e-6)
        mask[first[0] : last[0], first[1] : last[1], first[2] : last[2]] |= inside
    return mask
