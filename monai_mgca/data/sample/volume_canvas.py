# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The canvas that the sample's volumes are drawn on: Hounsfield units over millimeters of the body.

Coordinates are those of the body: x from the patient's right (negative) to left, y from back (negative) to front, z
from feet (negative) to head, with 0 in the middle of the chest. So a study looks the same at every resolution but for
its noise.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from monai.transforms import GaussianSmooth

__all__ = ["FIELD", "VolumeCanvas"]

FIELD = 440.0  # millimeters of an edge


class VolumeCanvas:
    """A cube of voxels around the chest, which lies a little turned, scaled and shifted in it.

    Args:
        size: voxels of an edge.
        rng: draws how the body lies.
    """

    def __init__(self, size: int, rng: np.random.Generator) -> None:
        self.size, self.spacing = size, FIELD / size
        self._angle, self._scale = rng.normal(0.0, 0.03), rng.uniform(0.96, 1.04)
        self._shift = rng.normal(0.0, 5.0, size=3)
        centers = ((np.arange(size) + 0.5) * self.spacing - FIELD / 2).astype(np.float32)
        x, y, z = ((centers - shift) / self._scale for shift in self._shift.astype(np.float32))
        cos, sin = np.float32(np.cos(self._angle)), np.float32(np.sin(self._angle))
        self.x = cos * x[:, None, None] + sin * y[None, :, None]  # these two broadcast with z
        self.y = cos * y[None, :, None] - sin * x[:, None, None]
        self.z = z[None, None, :]
        self.values = np.full((size,) * 3, -1000.0, dtype=np.float32)

    def paint(self, share: np.ndarray, hu: float | np.ndarray) -> None:
        """Put a tissue over what is there.

        Args:
            share: of each voxel that the tissue fills, 0 to 1; broadcasts to (size, size, size).
            hu: its Hounsfield units.
        """
        self.values += share * (hu - self.values)

    def inside(self, beyond: np.ndarray) -> np.ndarray:
        """The share of each voxel within an edge: 1 where the millimeters ``beyond`` it are negative, 0 far out."""
        return np.clip(0.5 - beyond / self.spacing, 0.0, 1.0)

    def distance(self, center: Sequence[float], radii: Sequence[float] | np.ndarray) -> np.ndarray:
        """How far each voxel is from the middle of an ellipsoid, whose surface is at 1."""
        offsets = zip((self.x, self.y, self.z), center, radii, strict=True)
        return np.sqrt(sum(((axis - middle) / radius) ** 2 for axis, middle, radius in offsets))

    def ellipsoid(self, center: Sequence[float], radii: Sequence[float] | np.ndarray) -> np.ndarray:
        """The share of each voxel within an ellipsoid."""
        return self.inside((self.distance(center, radii) - 1) * min(radii))

    def tube(self, start: Sequence[float], end: Sequence[float], radius: float) -> np.ndarray:
        """The share of each voxel within a tube with round ends."""
        (x0, y0, z0), (dx, dy, dz) = start, np.subtract(end, start)
        along = (self.x - x0) * dx + (self.y - y0) * dy + (self.z - z0) * dz
        t = np.clip(along / (dx * dx + dy * dy + dz * dz), 0.0, 1.0)
        square = (self.x - x0 - t * dx) ** 2 + (self.y - y0 - t * dy) ** 2 + (self.z - z0 - t * dz) ** 2
        return self.inside(np.sqrt(square) - radius)

    def threads(self, start: np.ndarray, end: np.ndarray, radius: float) -> np.ndarray:
        """The share of each voxel that thin lines (N, 3) to (N, 3) fill, for hundreds of them at once."""
        steps = np.linspace(0.0, 1.0, max(2, int(2 * np.abs(end - start).max() / self.spacing)))
        points = (start + steps[:, None, None] * (end - start)).reshape(-1, 3) * self._scale
        cos, sin = np.cos(self._angle), np.sin(self._angle)
        x, y = cos * points[:, 0] - sin * points[:, 1], sin * points[:, 0] + cos * points[:, 1]
        index = np.stack([x, y, points[:, 2]], axis=-1) + self._shift + FIELD / 2
        index = np.floor(index / self.spacing).astype(int)
        index = index[np.all((index >= 0) & (index < self.size), axis=1)]
        share = np.zeros((self.size,) * 3, dtype=np.float32)
        share[tuple(index.T)] = min(1.0, np.pi * radius**2 / self.spacing**2)
        return share

    def clouds(self, rng: np.random.Generator, millimeters: float) -> np.ndarray:
        """Smooth noise of unit variance whose lumps have about this radius."""
        noise = rng.standard_normal((1, *(self.size,) * 3), dtype=np.float32)
        smooth = GaussianSmooth(millimeters / self.spacing)(noise)[0]
        return np.asarray(smooth / smooth.std(), dtype=np.float32)
