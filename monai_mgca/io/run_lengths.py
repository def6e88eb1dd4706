# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Run-length codes of masks: COCO's, Kaggle's and those of SIIM-ACR."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from monai_mgca.io.limits import refuse_bomb
from monai_mgca.utils import DataError

__all__ = ["decode_rle", "decode_siim", "encode_rle"]


def decode_rle(rle: Mapping[str, Any]) -> np.ndarray:
    """Read COCO's uncompressed run lengths.

    Args:
        rle: {"size": [H, W], "counts": [...]}: the lengths of runs of 0 and 1 in turn, beginning with 0, down the
            columns.

    Returns:
        (H, W), uint8, 0 and 1.

    Raises:
        DataError: when the object has another form, the runs are not as many pixels as the image, or it is too large.

    Example::

        print(decode_rle({"size": [2, 3], "counts": [2, 3, 1]}))  # [[0, 1, 1], [0, 1, 0]]
    """
    try:
        height, width = (int(side) for side in rle["size"])
        counts = np.asarray(rle["counts"], dtype=np.int64)
        if counts.ndim != 1:
            raise TypeError("a number, or lists in a list")
    except (KeyError, TypeError, ValueError, OverflowError):
        raise DataError('run lengths must be {"size": [height, width], "counts": [numbers]}.') from None
    refuse_bomb((height, width))
    total = sum(counts.tolist())  # of numbers that do not overflow
    if min(height, width) < 0 or (counts < 0).any() or total != height * width:
        raise DataError(f"the run lengths cover {total} pixels, not those of {height} rows and {width} columns.")
    values = np.repeat(np.arange(len(counts)) % 2, counts).astype(np.uint8)
    return values.reshape(width, height).T


def encode_rle(mask: Any) -> dict[str, list[int]]:
    """Write a mask as COCO's uncompressed run lengths, plain numbers for JSON: the inverse of :func:`decode_rle`.

    Args:
        mask: (H, W); all that is not 0 belongs to it.

    Raises:
        DataError: when the mask has another number of axes.

    Example::

        print(encode_rle([[0, 1, 1], [0, 1, 0]]))  # {"size": [2, 3], "counts": [2, 3, 1]}
    """
    values = np.asarray(mask) != 0
    if values.ndim != 2:
        raise DataError(f"a mask to encode has rows and columns, got the shape {values.shape}.")
    flat = values.T.reshape(-1)
    starts = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    none = [0] if flat[:1].any() else []  # the first run is one of 0, perhaps of no length
    counts = np.diff(np.concatenate(([0], none, starts, [flat.size])).astype(np.int64))
    return {"size": [int(side) for side in values.shape], "counts": counts.tolist()}


def decode_siim(text: str, height: int, width: int, relative: bool) -> np.ndarray:
    """Read the run lengths of the SIIM-ACR pneumothorax data: "start length start length ...", down the columns.

    Args:
        text: pairs of a start and a length, or "-1" for no mask.
        height: rows of the image.
        width: columns of the image.
        relative: whether a start counts from the end of the run before (the first stage's table), or from the image's
            first pixel (the second stage's).

    Returns:
        (H, W), uint8, 0 and 1.

    Raises:
        DataError: when the text is no pairs of numbers, or a run leaves the image.

    Example::

        print(decode_siim("1 2 1 1", height=2, width=3, relative=True))  # [[0, 1, 0], [1, 0, 1]]
    """
    try:
        numbers = np.array([int(word) for word in text.split()], dtype=np.int64)
    except (ValueError, OverflowError):
        raise DataError("run lengths must be whole numbers, or -1 for no mask.") from None
    flat = np.zeros(height * width + 1, dtype=np.int64)
    if numbers.tolist() != [-1]:
        if not len(numbers) or len(numbers) % 2:
            raise DataError(f"run lengths must be pairs of a start and a length, got {len(numbers)} numbers.")
        if (numbers < -height * width).any() or (numbers > height * width).any():  # their sums could overflow
            raise DataError(f"a run leaves the image of {height} rows and {width} columns.")
        starts, lengths = numbers[::2], numbers[1::2]
        if relative:
            starts = np.cumsum(starts) + np.concatenate(([0], np.cumsum(lengths)[:-1]))
        ends = starts + lengths
        if (lengths < 0).any() or (starts < 0).any() or (ends > height * width).any():
            raise DataError(f"a run leaves the image of {height} rows and {width} columns.")
        np.add.at(flat, starts, 1)
        np.add.at(flat, ends, -1)
    return (np.cumsum(flat[:-1]) > 0).astype(np.uint8).reshape(width, height).T
