# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0


"""From what a DICOM radiograph stores to what is displayed of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from monai_mgca.io.dicom.dicom_file import number, numbers, syntax_of, tag_name
from monai_mgca.io.dicom.dicom_pixels import padding_of, photometric_of, stored_words, values_of
from monai_mgca.io.levels import Levels
from monai_mgca.io.limits import refuse_not_finite
from monai_mgca.utils import DataError

__all__ = ["displayed_pixels", "scale_to_255"]


def scale_to_255(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Map [low, high] to [0, 255], float32; a constant image becomes 0."""
    values = np.asarray(values, dtype=np.float32)
    return (values - low) * (255.0 / (high - low) if high > low else 0.0)


def displayed_pixels(dataset: Any) -> np.ndarray:
    """The pixels as they are to be displayed: (H, W), float32, 0..255, air dark, padding 0.

    Args:
        dataset: of :func:`monai_mgca.io.dicom.dicom_file.read_dicom`, with pixels.

    Raises:
        DataError: when they are no gray values of one frame, cannot be read, are not finite, or a tag that they depend
            on is no number.
    """
    words, layout = stored_words(dataset)
    levels = Levels(words, layout.signed)
    padding = padding_of(dataset, levels.words, layout)
    values = _modality_values(values_of(levels.words, layout), levels, dataset)
    shown = _windowed(values, levels, dataset)
    if shown is None:  # without a window all that is seen in the image is its range
        shown = scale_to_255(values, *levels.ends(values, padding))
    if photometric_of(dataset) == "MONOCHROME1":
        shown = 255.0 - shown
    if padding is not None:
        shown[padding] = 0.0
    pixels = levels.spread(shown)
    if not np.isfinite(shown).all():  # perhaps of a level that no pixel has
        refuse_not_finite(pixels)
    return pixels


def _modality_values(stored: np.ndarray, levels: Levels, dataset: Any) -> np.ndarray:
    """In the units of the modality, in which windows are."""
    for first, table in _tables(dataset, "ModalityLUTSequence", stored, levels):
        return table[_entries(stored, first, table)]
    slope, intercept = number(dataset, "RescaleSlope", 1.0) or 1.0, number(dataset, "RescaleIntercept", 0.0)
    return stored if (slope, intercept) == (1.0, 0.0) else stored.astype(np.float64) * slope + intercept


def _windowed(values: np.ndarray, levels: Levels, dataset: Any) -> np.ndarray | None:
    """After the first VOI LUT that makes sense, else the first window, if all windows do; None where there is none."""
    for first, table in _tables(dataset, "VOILUTSequence", values, levels):
        return scale_to_255(table[_entries(values, first, table)], float(table.min()), float(table.max()))
    function = str(dataset.get("VOILUTFunction") or "LINEAR").strip().upper()
    linear = function not in ("LINEAR_EXACT", "SIGMOID")
    centers, widths = numbers(dataset, "WindowCenter"), numbers(dataset, "WindowWidth")
    # one that is not right, and nobody knows which of them were meant
    if not centers or not widths or min(widths) <= 0 or (linear and min(widths) < 1):
        return None
    center, width = centers[0], widths[0]
    if function == "SIGMOID":
        with np.errstate(over="ignore"):
            return (255.0 / (1.0 + np.exp(-4.0 * (values - center) / width))).astype(np.float32)
    if linear:  # of whole numbers: from the lower edge of the first to the upper edge of the last
        center, width = center - 0.5, width - 1.0
    low = center - width / 2
    if width == 0:
        return (values > low).astype(np.float32) * 255.0
    shown = np.subtract(values, low, dtype=np.float32, casting="unsafe")
    shown *= 255.0 / width
    return np.clip(shown, 0.0, 255.0, out=shown)


def _entries(values: np.ndarray, first: int, table: np.ndarray) -> np.ndarray:
    """Of each value its place in a table, whose ends serve what lies outside."""
    return np.clip(np.rint(values).astype(np.int64) - first, 0, len(table) - 1)


def _tables(dataset: Any, keyword: str, values: np.ndarray, levels: Levels) -> Iterator[tuple[int, np.ndarray]]:
    """The tables of a sequence that make sense: the value that the first entry is for, and the entries."""
    try:
        items = list(dataset.get(keyword) or ())
    except Exception:  # damaged
        items = []
    if keyword == "ModalityLUTSequence" and items and not any(_table(item, dataset) for item in items):
        raise DataError(f"its {tag_name(keyword)} holds no table that could be read: correct the tag, or remove it.")
    for item in items:
        found = _table(item, dataset)
        if found is not None:
            first, table = found
            # pydicom does not always know whether it has a sign
            negative = first >= 2**15 and levels.ends(values)[0] < 0
            yield first - 2**16 if negative else first, table


def _table(item: Any, dataset: Any) -> tuple[int, np.ndarray] | None:
    """Entries of 16 bits, or of 8 bits in a word each, or two in a word."""
    descriptor = numbers(item, "LUTDescriptor")
    try:
        data = item.get("LUTData")
    except Exception:  # damaged
        return None
    if not descriptor or len(descriptor) != 3 or data is None:
        return None
    count, first, bits = int(descriptor[0]) % 2**16 or 2**16, int(descriptor[1]), int(descriptor[2])
    order = ">" if syntax_of(dataset) == "1.2.840.10008.1.2.2" else "<"
    if isinstance(data, bytes):
        words = np.frombuffer(data[: len(data) // 2 * 2], f"{order}u2")
    else:
        words = np.atleast_1d(np.asarray(data)).astype(np.int64) % 2**16
    if bits <= 8 and len(words) < count <= 2 * len(words):  # the first of two stands in the lower half
        words = words.astype("<u2").view(np.uint8)
    table = words[:count].astype(np.int64)
    return (first, table) if len(table) else None
