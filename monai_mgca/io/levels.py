# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The different words that the pixels of an image hold: what follows from a word is made once, not for every pixel."""

from __future__ import annotations

import numpy as np

__all__ = ["Levels", "ends_of"]

# So many pixels at a time are looked up: NumPy makes indices of 64 bits of them, which then stay in the cache.
PART = 2**16
# Those of 16 bits.
MOST = 2**16


def ends_of(seen: np.ndarray) -> tuple[float, float]:
    """The minimum and maximum of what is seen of an image, which may be nothing."""
    return (float(seen.min()), float(seen.max())) if seen.size else (0.0, 0.0)


class Levels:
    """All words that pixels may hold, from 0 on.

    A radiograph of millions of pixels of up to 16 bits has at most 65,536 levels. Where there are not fewer levels than
    pixels, and of words of more bits, the pixels themselves stand for the levels: nothing is looked up.

    Args:
        pixels: (H, W) words without a sign.
        signed: whether their highest bit is a sign.

    Example::

        pixels = np.full((20, 50), 7, np.uint8)
        levels = Levels(pixels)
        print(len(levels.words), levels.spread(levels.words * 0.5)[0, 0])  # 256 3.5
    """

    def __init__(self, pixels: np.ndarray, signed: bool = False) -> None:
        count = 2 ** (8 * pixels.itemsize)
        self.pixels, self.signed = pixels, signed
        self.words = np.arange(count).astype(pixels.dtype) if count <= MOST and count < pixels.size else pixels

    def ends(self, values: np.ndarray, left_out: np.ndarray | None = None) -> tuple[float, float]:
        """The minimum and maximum over the image.

        Args:
            values: of each level, in the shape of ``words``.
            left_out: the levels whose pixels do not count, in the same shape.
        """
        if self.words is self.pixels:
            return ends_of(values if left_out is None else values[~left_out])
        counted = np.ones(values.shape, bool) if left_out is None else ~left_out
        kind = f"{'i' if self.signed else 'u'}{self.pixels.itemsize}"
        numbers, pixels = self.words.view(kind), self.pixels.view(kind)
        least, greatest = pixels.min(), pixels.max()
        ends = ends_of(values[counted & (numbers >= least) & (numbers <= greatest)])
        # a level in between may have no pixel; the two outer ones have some
        outer = np.array([least, greatest]).view(self.pixels.dtype)
        if counted[outer].all() and sorted(values[outer].astype(float)) == list(ends):
            return ends
        found = np.zeros(values.shape, bool)
        found[self.pixels] = True
        return ends_of(values[counted & found])

    def spread(self, values: np.ndarray) -> np.ndarray:
        """The value of each pixel, (H, W).

        Args:
            values: of each level, in the shape of ``words``.
        """
        if self.words is self.pixels:
            return values
        words, spread = self.pixels.reshape(-1), np.empty(self.pixels.size, values.dtype)
        for start in range(0, words.size, PART):
            # every word has its level, so that nothing is wrapped: the fastest of NumPy's modes
            values.take(words[start : start + PART], out=spread[start : start + PART], mode="wrap")
        return spread.reshape(self.pixels.shape)
