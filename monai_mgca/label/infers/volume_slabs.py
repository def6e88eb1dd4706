# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Brings what a network gave of a volume back to the volume's own voxels, a few slices at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from monai_mgca.io.volumes.volume_geometry import VolumeGeometry
from monai_mgca.utils import CheckpointError

__all__ = ["restored_slabs"]

# slices at a time; of 512 x 512 voxels and eight classes 64 MB
THICK = 8
# of the angle between an axis of the network's input and of the volume
ALIGNED = 1e-3


def restored_slabs(
    values: torch.Tensor, affine: torch.Tensor, geometry: VolumeGeometry, thick: int = THICK
) -> Iterator[tuple[slice, torch.Tensor]]:
    """Values of a network at a volume's own voxels, by linear interpolation.

    It is the inverse of orientation, spacing, padding and cropping by what the affines say. MONAI's ``Invertd`` gives
    the whole at once, a float32 for every voxel and class, and one more while it flips them: of a CT of 512 x 512 x 600
    voxels 600 MB each.

    Args:
        values: (C, x, y, z), float32, on the CPU.
        affine: (4, 4) of the network's input, from its indices to RAS in mm.
        geometry: of the volume.
        thick: slices at a time.

    Yields:
        A slice of the volume's last axis, and (C, X, Y, slices) there, 0 where the network saw nothing.

    Raises:
        CheckpointError: when the input is turned against the volume by an angle.

    Example::

        geometry = VolumeGeometry((4, 4, 9), np.eye(4), np.eye(4))
        for place, slab in restored_slabs(torch.ones(1, 2, 2, 3), torch.diag(torch.tensor([2.0, 2, 3, 1])), geometry):
            print(place, slab.shape)  # slice(0, 8, None) (1, 4, 4, 8), slice(8, 9, None) (1, 4, 4, 1)
    """
    move = np.linalg.inv(np.asarray(affine, dtype=float)) @ geometry.ras  # from the volume's indices to the input's
    axes = np.abs(move[:3, :3])
    order = axes.argmax(0)
    if sorted(order) != [0, 1, 2] or (axes.sum(0) - axes.max(0) > ALIGNED * axes.max(0)).any():
        raise CheckpointError("The weights' preprocessing turns volumes by an angle: their results cannot be restored.")
    values = values.permute(0, *(int(axis) + 1 for axis in order))
    steps = [
        _steps(move[axis, index], move[axis, 3], size, values.shape[index + 1])
        for index, (axis, size) in enumerate(zip(order, geometry.size, strict=True))
    ]
    for start in range(0, geometry.size[2], thick):
        place = slice(start, min(start + thick, geometry.size[2]))
        slab = _interpolate(values, 3, *(part[place] for part in steps[2]))
        for index in (0, 1):
            slab = _interpolate(slab, index + 1, *steps[index])
        yield place, slab


def _steps(scale: float, shift: float, size: int, count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of the voxels along an axis: the input's voxel below each, the share of the next one, and whether it is seen."""
    places = torch.arange(size, dtype=torch.float64) * scale + shift
    seen = (places > -0.5 - ALIGNED) & (places < count - 0.5 + ALIGNED)
    # what was padded to the volume has no part in it: its last voxels are those with their centers inside
    centers = (torch.arange(count, dtype=torch.float64) - shift) / scale
    own = torch.nonzero((centers > -0.5 - ALIGNED) & (centers < size - 0.5 + ALIGNED)).flatten()
    inside = places.clamp(int(own.min()), int(own.max())) if len(own) else places.clamp(0, count - 1)
    below = inside.floor().clamp(max=max(count - 2, 0))
    return below.long(), (inside - below).float(), seen


def _interpolate(
    values: torch.Tensor, axis: int, below: torch.Tensor, share: torch.Tensor, seen: torch.Tensor
) -> torch.Tensor:
    shape = [-1 if index == axis else 1 for index in range(4)]
    low = values.index_select(axis, below)
    high = values.index_select(axis, (below + 1).clamp(max=values.shape[axis] - 1))
    return torch.lerp(low, high, share.view(shape)) * seen.view(shape)
