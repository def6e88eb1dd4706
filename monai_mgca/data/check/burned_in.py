# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Text that is burned into the corners of an image."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

__all__ = ["has_corner_text"]

# Text is looked for in this part of the height and width at every corner.
CORNER_HEIGHT, CORNER_WIDTH = 0.25, 0.4
# A stroke is brighter by this than what surrounds it, of 255.
CONTRAST = 40
# A line of text has at least so many signs.
MIN_SIGNS = 5
# Letters that touch are one sign, at most so many times as wide as high; between two are at most so many heights.
LONGEST, GAP = 3, 1.2
# The least height of a sign in pixels, and the greatest as a part of the image's height.
MIN_HEIGHT, MAX_HEIGHT = 5, 0.06
CORNERS = {"upper left": (1, 1), "upper right": (1, -1), "lower left": (-1, 1), "lower right": (-1, -1)}


def has_corner_text(pixels: np.ndarray) -> str | None:
    """Whether a radiograph seems to have a line of text burned in near a corner: a heuristic that reads nothing.

    It looks for thin bright strokes, and among them for five or more of about the same height that stand in a row.
    A lone marker of a side ("L", "R") is not enough; text that is dark, faint, slanted, handwritten or large is missed,
    and so is what stands elsewhere.

    Args:
        pixels: (H, W), 0..255.

    Returns:
        The corner, such as "upper left", or None.

    Example::

        import numpy as np

        print(has_corner_text(np.zeros((512, 512))))  # None
    """
    height, width = pixels.shape
    rows, columns = round(CORNER_HEIGHT * height), round(CORNER_WIDTH * width)
    for name, (down, right) in CORNERS.items():
        part = pixels[:rows] if down > 0 else pixels[height - rows :]
        part = part[:, :columns] if right > 0 else part[:, width - columns :]
        if _has_line(np.ascontiguousarray(part, dtype=np.float32), max(MIN_HEIGHT + 1, MAX_HEIGHT * height)):
            return name
    return None


def _has_line(part: np.ndarray, max_height: float) -> bool:
    # wider things than this are no strokes; never more than the image is wide, of which some are very long
    stroke = max(3, min(round(max_height / 4), *part.shape)) | 1
    bright = part - ndimage.grey_opening(part, size=(stroke, stroke)) > CONTRAST
    labels, count = ndimage.label(bright, structure=np.ones((3, 3)))
    if not 0 < count <= 5000:  # more are noise, not text
        return False
    signs = []
    areas = np.bincount(labels.ravel())
    for index, (rows, columns) in enumerate(ndimage.find_objects(labels), 1):
        high, wide = rows.stop - rows.start, columns.stop - columns.start
        filled = areas[index] / (high * wide)
        if MIN_HEIGHT <= high <= max_height and wide <= LONGEST * high and 0.15 <= filled <= 0.95:
            letters = max(1, round(wide / (0.75 * high)))  # several that touch are one sign
            signs.append((columns.start, columns.stop, (rows.start + rows.stop) / 2, high, letters))
    return bool(signs) and _stand_in_a_row(np.array(sorted(signs), dtype=np.float64))


def _stand_in_a_row(signs: np.ndarray) -> bool:
    """Whether enough signs, ordered from left to right, follow one another on one line at the distance of letters."""
    length = signs[:, 4].copy()
    for i in range(len(signs)):
        left, _, middle, high, letters = signs[i]
        before = signs[:i]
        gap = left - before[:, 1]
        fits = (
            (np.abs(before[:, 2] - middle) < 0.25 * high)
            & (np.maximum(before[:, 3], high) < 1.6 * np.minimum(before[:, 3], high))
            & (gap > -0.2 * high)
            & (gap < GAP * high)
        )
        if fits.any():
            length[i] = letters + length[:i][fits].max()
    return bool(length.max() >= MIN_SIGNS)
