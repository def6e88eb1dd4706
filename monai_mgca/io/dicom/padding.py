# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""What a CT scanner writes outside of the circle that it sees, PixelPaddingValue, becomes air."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from scipy import ndimage

__all__ = ["fill_padding", "padding_ends"]

# In Hounsfield units; the lowest value of many devices, -1024, is air as well.
AIR, LOWEST_AIR = -1000.0, -1024.0


def padding_ends(data: Any, slope: float, intercept: float) -> tuple[float, float] | None:
    """Between which values a CT's padding lies after slope and intercept; None where it has none.

    Args:
        data: pydicom's data set of a slice, or of a file of frames.
        slope: RescaleSlope.
        intercept: RescaleIntercept.

    Example::

        import pydicom

        header = pydicom.Dataset()
        header.Modality, header.BitsStored, header.PixelRepresentation, header.PixelPaddingValue = "CT", 16, 1, -2000
        print(padding_ends(header, 1, -1024))  # (-3024.5, -3023.5)
    """
    try:
        if data.get("Modality") != "CT" or data.get("PixelPaddingValue") is None:
            return None
        first = int(data.PixelPaddingValue)
        last = int(data.get("PixelPaddingRangeLimit") or first)
        span = 2 ** int(data.get("BitsStored") or data.get("BitsAllocated") or 16)
        signed = data.get("PixelRepresentation") == 1
    except Exception:  # a damaged tag, which pydicom parses now: no padding is known
        return None
    # some devices write it without its sign, or with more bits than they store
    stored = [end % span - span * (signed and end % span >= span // 2) for end in (first, last)]
    ends = sorted(value * slope + intercept for value in stored)
    return ends[0] - abs(slope) / 2, ends[1] + abs(slope) / 2


def fill_padding(values: np.ndarray, paddings: Iterable[tuple[float, float] | None]) -> None:
    """Make air of padding, in place.

    A value that tissue has too is padding only where it reaches the edge of its slice: the tag may be wrong.

    Args:
        values: (slices, rows, columns), in Hounsfield units.
        paddings: of each slice, :func:`padding_ends`.

    Example::

        values = np.full((1, 4, 4), 30.0)
        values[0, 0] = 3071
        fill_padding(values, [(3070.5, 3071.5)])
        print(values[0, :2, 0])  # [-1000, 30]
    """
    for image, ends in zip(values, paddings, strict=True):
        if ends is None or LOWEST_AIR <= sum(ends) / 2 <= AIR:
            continue
        inside = (image > ends[0]) & (image < ends[1])
        if not inside.any():
            continue
        others = image[~inside]
        if others.size and others.min() < ends[0] and others.max() > ends[1]:
            areas, _ = ndimage.label(inside)
            at_edge = np.concatenate([areas[0], areas[-1], areas[:, 0], areas[:, -1]])
            inside &= np.isin(areas, at_edge)  # 0, what is in no area, is not inside
        image[inside] = AIR
