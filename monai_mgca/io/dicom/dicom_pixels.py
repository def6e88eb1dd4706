# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0


"""What a DICOM file stores of each pixel: the same values with every version of pydicom."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from monai_mgca.io.dicom.dicom_codec import decode_frame, is_compressed
from monai_mgca.io.dicom.dicom_file import number, numbers, syntax_of, tag_name, whole_number
from monai_mgca.io.dicom.series_tags import no_image
from monai_mgca.io.limits import refuse_bomb
from monai_mgca.utils import DataError

__all__ = [
    "PixelLayout",
    "padding_of",
    "photometric_of",
    "pixel_layout",
    "refuse_no_image",
    "stored_words",
    "values_of",
]

_BIG_ENDIAN = "1.2.840.10008.1.2.2"


class PixelLayout(NamedTuple):
    """How pixels are stored.

    Args:
        rows: H.
        columns: W.
        bits: of a pixel's word: 8, 16 or 32.
        stored: how many of them are the value; what is above or below is an overlay, or nothing.
        lowest: the place of the value's lowest bit.
        signed: whether the value's highest bit is its sign.
    """

    rows: int
    columns: int
    bits: int
    stored: int
    lowest: int
    signed: bool


def photometric_of(dataset: Any) -> str:
    """PhotometricInterpretation; gray where the file does not say it.

    Args:
        dataset: of :func:`monai_mgca.io.dicom.dicom_file.read_dicom`.
    """
    return str(dataset.get("PhotometricInterpretation") or "MONOCHROME2").strip().upper()


def refuse_no_image(dataset: Any) -> None:
    """Refuse a DICOM object that is a report, contours or alike.

    Args:
        dataset: of :func:`monai_mgca.io.dicom.dicom_file.read_dicom`.

    Raises:
        DataError: naming its kind.
    """
    if kind := no_image(dataset):
        raise DataError(f"the DICOM file is no image, but of the kind {kind}.", reason="not an image")


def pixel_layout(dataset: Any) -> PixelLayout:
    """How a radiograph's pixels are stored, by its tags.

    What one frame of gray values needs not say may be missing: SamplesPerPixel, NumberOfFrames, BitsStored, HighBit,
    PixelRepresentation.

    Args:
        dataset: of :func:`monai_mgca.io.dicom.dicom_file.read_dicom`.

    Raises:
        DataError: when it is no image, holds several frames or colors, too many pixels, or a tag makes no sense.
    """
    refuse_no_image(dataset)
    if (frames := whole_number(dataset, "NumberOfFrames", 1)) > 1:
        raise DataError(f"the DICOM file holds {frames} frames; a radiograph has one.", reason="multi-frame")
    if (photometric := photometric_of(dataset)) not in ("MONOCHROME1", "MONOCHROME2"):
        message = f"the DICOM file is {photometric}; a radiograph is MONOCHROME1 or MONOCHROME2."
        raise DataError(message, reason="wrong number of channels")
    if (samples := whole_number(dataset, "SamplesPerPixel", 1)) > 1:
        raise DataError(
            f"the DICOM file holds {samples} values a pixel ({tag_name('SamplesPerPixel')}); a radiograph has one.",
            reason="wrong number of channels",
        )
    rows, columns = whole_number(dataset, "Rows"), whole_number(dataset, "Columns")
    if min(rows, columns) < 1:
        raise DataError(f"the DICOM file declares {rows} x {columns} pixels (Rows x Columns).")
    refuse_bomb((rows, columns))
    bits = whole_number(dataset, "BitsAllocated")
    if bits not in (8, 16, 32):
        raise DataError(f"its {tag_name('BitsAllocated')} is {bits}; radiographs have 8, 16 or 32.")
    stored = int((numbers(dataset, "BitsStored") or [bits])[0])
    stored = stored if 1 <= stored <= bits else bits
    lowest = int((numbers(dataset, "HighBit") or [stored - 1])[0]) + 1 - stored
    signed = number(dataset, "PixelRepresentation", 0) == 1
    return PixelLayout(rows, columns, bits, stored, lowest if 0 <= lowest <= bits - stored else 0, signed)


def stored_words(dataset: Any) -> tuple[np.ndarray, PixelLayout]:
    """The words that are stored, and how a value is found in each.

    Args:
        dataset: of :func:`monai_mgca.io.dicom.dicom_file.read_dicom`.

    Returns:
        (H, W) words without a sign, and their layout.

    Raises:
        DataError: as of :func:`pixel_layout`, and when the pixels end too early, or cannot be decoded.
    """
    layout = pixel_layout(dataset)
    words = decode_frame(dataset, *layout[:4]) if is_compressed(dataset) else _native(dataset, layout)
    if layout.lowest and not (words >> layout.stored).any():  # HighBit is wrong: the values stand at the lower end
        layout = layout._replace(lowest=0)
    return words, layout


def _native(dataset: Any, layout: PixelLayout) -> np.ndarray:
    """(H, W) words without a sign, of pixels that are not compressed."""
    data, size = dataset.PixelData, layout.bits // 8
    count = layout.rows * layout.columns
    if len(data) < count * size:
        raise DataError(
            f"the DICOM file is truncated: it holds {len(data)} of {count * size} bytes of pixels.", reason="truncated"
        )
    if syntax_of(dataset) != _BIG_ENDIAN:
        words = np.frombuffer(data, f"<u{size}", count)
    elif size == 1 and dataset["PixelData"].VR == "OW":  # two pixels are one word
        words = np.frombuffer(data[: len(data) // 2 * 2], ">u2").astype("<u2").view(np.uint8)[:count]
    else:
        words = np.frombuffer(data, f">u{size}", count).astype(f"=u{size}")
    return words.reshape(layout.rows, layout.columns)


def values_of(words: np.ndarray, layout: PixelLayout) -> np.ndarray:
    """What the words mean: only the stored bits count, and the highest of them may be a sign.

    Args:
        words: without a sign, of any shape.
        layout: of :func:`stored_words`.
    """
    unused = layout.bits - layout.stored
    if layout.signed:
        signed = (words << (unused - layout.lowest)).view(f"i{layout.bits // 8}") if unused else words
        return signed.view(f"i{layout.bits // 8}") >> unused
    return (words >> layout.lowest) & words.dtype.type(2**layout.stored - 1) if unused else words


def padding_of(dataset: Any, words: np.ndarray, layout: PixelLayout) -> np.ndarray | None:
    """Which words are PixelPaddingValue, or one from there to PixelPaddingRangeLimit; None where none is.

    Args:
        dataset: of :func:`monai_mgca.io.dicom.dicom_file.read_dicom`.
        words: without a sign, of any shape.
        layout: of :func:`stored_words`.
    """
    ends = [(numbers(dataset, f"PixelPadding{name}") or (None,))[0] for name in ("Value", "RangeLimit")]
    if ends[0] is None:
        return None
    span = 2**layout.bits
    found = [int(end) % span for end in ends if end is not None]
    found = [end - span if layout.signed and end >= span // 2 else end for end in found]
    least = -(2 ** (layout.stored - 1)) if layout.signed else 0
    values = values_of(words, layout)
    if not all(least <= end < least + 2**layout.stored for end in found):  # as some devices pad beyond the stored bits
        values = words.view(f"i{layout.bits // 8}") if layout.signed else words
    padding = values == found[0] if len(found) == 1 else (values >= min(found)) & (values <= max(found))
    return padding if padding.any() else None
