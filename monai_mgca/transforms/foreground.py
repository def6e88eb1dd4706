# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""What of a mask's gray values belongs to the structure; masks are resized, saved as JPEG and made by many programs."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

from monai_mgca.utils import DataError

__all__ = ["find_foreground", "read_gray", "refuse_no_labels"]

# Whole numbers up to here are taken for the classes of a label map, and not for gray levels.
MAX_LABEL = 31
# Gray lies between these parts of the range: at edges that were resized, but in no area. JPEG makes others brighter.
_LOW, _HIGH = 0.1, 0.7
# A label map has few values, each with areas of its own; of gray edges there is a smaller part in flat areas.
_FEW, _FLAT_PART = 16, 0.01
# Channels that differ by more are a color, and what is brighter is no black.
_COLORED = 100


def find_foreground(values: np.ndarray, lossy: bool = False) -> np.ndarray:
    """The pixels of a mask of one class.

    - Of 0 and one other value, that is the structure.
    - Of more values it is what has at least half of the largest: edges are gray where a mask was resized or saved as
      JPEG. NaN and what is negative is background.
    - Whole numbers of 0 to 31, with 0, are a label map, whose labels all belong to it.
    - Areas of several gray levels may be classes or degrees, and are refused.

    Args:
        values: (H, W) or (X, Y, Z), of any type.
        lossy: they come from a JPEG, which adds small numbers everywhere.

    Returns:
        bool, of the same shape.

    Raises:
        DataError: when it is not clear what the values mean; it says the mend.

    Example::

        print(find_foreground(np.array([[0, 90, 255]])))  # [[False, False, True]]
    """
    if values.dtype == bool or not values.size:
        return np.asarray(values, dtype=bool)
    if values.dtype.kind == "f":
        values = np.nan_to_num(values, nan=0, posinf=np.inf, neginf=-np.inf)
    top, low = values.max(), values.min()
    if not (np.isfinite(top) and np.isfinite(low)):
        raise DataError("it holds infinite values; write 0 and 255 instead.")
    if low >= 0 and ((inside := values == top) | (values == 0)).all():
        return inside & (values != 0)
    if top <= 0:
        raise DataError(f"its values are {low:g} to {top:g}: none is above 0; write 0 and 255 instead.")
    if top <= MAX_LABEL and lossy:
        raise DataError(f"its largest value is {top:g}, and JPEG keeps no small numbers; save it as PNG.")
    labels = top <= MAX_LABEL and low >= 0 and (values == np.rint(values)).all()
    inside = values != 0 if labels else values >= top / 2
    if inside.all() and (labels or low < 0.9 * top):
        raise DataError(f"its values are {low:g} to {top:g}: it has no background; write 0 outside of the structure.")
    if not labels:
        _refuse_levels(values, float(low), float(top), inside, lossy)
    return inside


def _refuse_levels(values: np.ndarray, low: float, top: float, inside: np.ndarray, lossy: bool) -> None:
    """Refuse a mask with areas of several levels."""
    flat = ndimage.maximum_filter(values, 3) == ndimage.minimum_filter(values, 3)
    flat &= (values > low) & (values < top)
    part = (values[flat] - low) / (top - low)
    few = flat.any() and not lossy and len(np.unique(values)) <= _FEW
    if few or ((part > _LOW) & (part < _HIGH)).sum() > _FLAT_PART * inside.sum():
        levels, sizes = np.unique(values[flat], return_counts=True)
        seen = ", ".join(f"{level:g}" for level in sorted(levels[np.argsort(-sizes)[:5]]))
        raise DataError(
            f"it has areas of several gray levels ({seen} and {top:g}): classes, or degrees? Write a mask of 0 and 255 "
            "for each class, or the classes as 1, 2, ..."
        )


def read_gray(image: Image.Image) -> np.ndarray:
    """The values of a mask's picture: gray levels, a palette's indices, or what is not transparent.

    Args:
        image: of any mode; its pixels may not have been read yet.

    Returns:
        (H, W).

    Raises:
        DataError: when colors and transparency are masks, and each another one, or colors lie on white or gray.
    """
    if len(image.getbands()) == 1:
        # a palette's indices are the classes, colors are not; but where the background is not the first of them
        return np.asarray(image.convert("L") if _is_disordered(image) else image)
    if "A" not in image.getbands():
        _refuse_colors(image)
        return np.asarray(image.convert("L"))
    color = image.convert("RGBA")
    return _visible(np.asarray(color.convert("L")), np.asarray(color)[..., 3])


def _refuse_colors(image: Image.Image) -> None:
    """Refuse colors on white, which would be the structure, or drawn over a picture; on black they are a mask."""
    if image.mode not in ("RGB", "YCbCr"):
        return
    colors = np.asarray(image.convert("RGB")).astype(np.int16)
    colored = np.ptp(colors, axis=2) > _COLORED
    if (~colored & (colors.max(axis=2) > _COLORED)).sum() > 0.05 * colored.sum() > 0:
        raise DataError("it has colors beside bright gray: what is the structure? Write a mask of 0 and 255.")


def _is_disordered(image: Image.Image) -> bool:
    """Whether a palette was made for the colors alone, as by compression: black is a later index, another color 0."""
    colors = image.getpalette("RGB") if image.mode == "P" else None
    if not colors or not any(colors[:3]):
        return False
    used: Any = (
        image.getcolors() or ()
    )  # of a palette the indices, which Pillow declares with all else that they may be
    return any(not any(colors[3 * index : 3 * index + 3]) for _, index in used)


def _visible(gray: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """The mask may be the picture, or its transparency where the picture is of one color."""
    if alpha.min() == alpha.max():
        if not alpha.max():
            raise DataError("it is transparent everywhere; save it without transparency.")
        return gray
    seen = gray[alpha >= 128]
    if not seen.size or (seen >= 128).all() or (seen < 128).all():
        return alpha
    if ((seen > _LOW * 255) & (seen < _HIGH * 255)).mean() > 0.05:
        raise DataError("both its colors and its transparency vary; save it without transparency, as 0 and 255.")
    return np.rint(gray * (alpha / 255.0)).astype(np.uint8)


def refuse_no_labels(values: Any, num_classes: int) -> None:
    """Refuse a mask of several classes with values that are none.

    Args:
        values: (H, W) or (X, Y, Z).
        num_classes: C; values are 0 to C.

    Raises:
        DataError: naming the values.
    """
    wrong = np.unique(values[~np.isin(values, np.arange(num_classes + 1))])
    if len(wrong):
        seen = ", ".join(f"{value:g}" for value in wrong[:5].tolist())
        raise DataError(
            f"it holds the value {seen}{' ...' if len(wrong) > 5 else ''}, but there are {num_classes} classes: values "
            "are 0 for none, then 1, 2, ... in the order of the classes."
        )
