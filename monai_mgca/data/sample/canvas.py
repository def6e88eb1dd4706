# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The canvas that the sample's radiographs are drawn on, in the coordinates of the body.

Positions are those of the body: x from -0.5 (the patient's right, on the image's left) to 0.5, y from 0 (top) to 1.
So a study looks the same at every image size but for its noise.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

__all__ = ["SIGN", "Canvas", "curve"]

SIGN = {"right": -1.0, "left": 1.0}  # of x


class Canvas:
    """A square of pixels that the body lies on, a little turned, scaled and shifted.

    Args:
        size: width and height in pixels.
        rng: draws how the body lies.
    """

    def __init__(self, size: int, rng: np.random.Generator) -> None:
        self.size = size
        angle, scale = rng.normal(0.0, 0.02), rng.uniform(0.95, 1.04)
        self.shift = rng.normal(0.0, 0.012, size=2) + (0.5, 0.5)  # noqa: RUF005  a sum of arrays
        self.turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        centers = (np.arange(size) + 0.5) / size
        grid = np.stack(np.meshgrid(centers, centers), axis=-1) - self.shift
        body = grid @ np.linalg.inv(self.turn).T
        self.x = body[..., 0].astype(np.float32)
        self.y = (body[..., 1] + 0.5).astype(np.float32)
        self._fine = max(2, 512 // size)  # drawn larger, then averaged: smooth edges

    def _paint(self, paths: np.ndarray, width: float | None = None) -> np.ndarray:
        """Paint polygons (no width) or lines of shape (N, points, 2)."""
        image = (np.asarray(paths) - (0.0, 0.5)) @ self.turn.T + self.shift
        pixels = (image * self.size * self._fine).reshape(len(paths), -1).tolist()
        paper = Image.new("L", (self.size * self._fine,) * 2)
        draw = ImageDraw.Draw(paper)
        for path in pixels:
            if width is None:
                draw.polygon(path, fill=255)
            else:
                draw.line(path, fill=255, width=max(1, round(width * self.size * self._fine)), joint="curve")
        return np.asarray(paper.reduce(self._fine), dtype=np.float32) / 255.0

    def fill(self, polygon: np.ndarray) -> np.ndarray:
        """The inside of a polygon (points, 2): 0 to 1."""
        return self._paint(polygon[None])

    def lines(self, paths: np.ndarray, width: float) -> np.ndarray:
        """Lines (N, points, 2) of a width that is a fraction of the image: 0 to 1."""
        return self._paint(paths, width)

    def blur(self, layer: np.ndarray, sigma: float) -> np.ndarray:
        """Gaussian blur; sigma is a fraction of the image."""
        pad = 8 * int(np.ceil(3 * sigma * self.size / 8))  # keeps sizes that are quick to transform
        padded = np.pad(layer, pad, mode="edge")
        rows, columns = (np.exp(-2 * (np.pi * sigma * self.size * f) ** 2) for f in map(np.fft.fftfreq, padded.shape))
        spectrum = np.fft.rfft2(padded) * rows[:, None] * columns[None, : padded.shape[1] // 2 + 1]
        blurred = np.fft.irfft2(spectrum, s=padded.shape)
        return blurred[pad : pad + self.size, pad : pad + self.size].astype(np.float32)


def curve(points: list[tuple[float, float]], closed: bool = True, steps: int = 8) -> np.ndarray:
    """A smooth (Catmull-Rom) curve through points; a point given twice is a corner."""
    p = np.asarray(points, dtype=float)
    p = np.concatenate([p[-1:], p, p[:2]]) if closed else np.concatenate([p[:1], p, p[-1:]])
    t = np.linspace(0.0, 1.0, steps, endpoint=False)[None, :, None]
    a, b, c, d = (p[i : len(p) - 3 + i, None, :] for i in range(4))
    path = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    path = path.reshape(-1, 2)
    return path if closed else np.concatenate([path, p[-1:]])
