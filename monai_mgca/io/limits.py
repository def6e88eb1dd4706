# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Refuses files whose headers promise more than a machine should allocate, and values that are not finite."""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from collections.abc import Iterable

import numpy as np
from pydicom.filereader import _read_file_meta_info as _read_meta

from monai_mgca.utils import DataError

__all__ = ["MAX_PIXELS", "MAX_VOXELS", "refuse_bomb", "refuse_dicom_bomb", "refuse_nifti_bomb", "refuse_not_finite"]

# 8192 x 8192: stitched films of the whole spine and mammograms have less than half of it.
MAX_PIXELS = 2**26
# 1024 x 1024 x 1024, 4 GB as float32: scans of today have a quarter of it.
MAX_VOXELS = 2**30
# What may stand between a NIfTI's header and its values.
MAX_EXTENSIONS = 2**22
_DEFLATED = "1.2.840.10008.1.2.1.99"


def refuse_bomb(shape: Iterable[int], limit: int = MAX_PIXELS) -> None:
    """Refuse an image by the size that its header declares, before anything of that size is made.

    A few kilobytes can declare, and unpack to, more than the memory holds.

    Args:
        shape: the declared numbers of pixels along each axis.
        limit: the most values that are read.

    Raises:
        DataError: when there are more.

    Example::

        refuse_bomb((3000, 2500))  # a radiograph
    """
    sizes = [int(size) for size in shape]
    if math.prod(sizes) > limit:
        shown = " x ".join(map(str, sizes))
        raise DataError(
            f"it declares {shown} values, and at most {limit:,} are read: a decompression bomb?",
            reason="decompression bomb",
        )


def refuse_not_finite(values: np.ndarray) -> None:
    """Refuse an image that holds NaN or infinity.

    Args:
        values: of its pixels.

    Raises:
        DataError: when it does.
    """
    if not np.isfinite(values).all():
        raise DataError("it holds values that are not finite.", reason="values that are not finite (NaN)")


def refuse_nifti_bomb(path: str | os.PathLike, limit: int = MAX_PIXELS) -> None:
    """Refuse a NIfTI file, packed or not, by the first bytes of its header; any other file is left to its reader.

    Args:
        path: the file.
        limit: the most values that are read.

    Raises:
        DataError: when it declares more values, or its extensions make no sense.
    """
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    with gzip.open(path) if packed else open(path, "rb") as stream:
        head = stream.read(544)
        if head[344:348] in (b"n+1\0", b"ni1\0") and len(head) >= 352:
            order, first = _order(head, 348), 352
            sizes = struct.unpack(f"{order}8h", head[40:56])
            start = struct.unpack(f"{order}f", head[108:112])[0]
        elif head[4:8] in (b"n+2\0", b"ni2\0") and len(head) == 544:
            order, first = _order(head, 540), 544
            sizes = struct.unpack(f"{order}8q", head[16:80])
            start = struct.unpack(f"{order}q", head[168:176])[0]
        else:
            return
        if not 0 <= sizes[0] <= 7:  # nibabel would take the bytes in the other order
            raise DataError(f"its header declares {sizes[0]} axes.")
        refuse_bomb((max(abs(size), 1) for size in sizes[1 : sizes[0] + 1]), limit)
        extended = head[first - 4] != 0
        if not 0 <= start <= MAX_EXTENSIONS or (extended and start < first):
            raise DataError(f"its values begin at byte {start:g}, which is no place for them.")
        if extended:
            stream.seek(first)
            _check_extensions(stream.read(int(start) - first), order)


def _order(head: bytes, size: int) -> str:
    """The order of a header's bytes, by its size, which it begins with; nibabel reads one without, and guesses."""
    for order in "<>":
        if head[:4] == struct.pack(f"{order}i", size):
            return order
    raise DataError("its header does not begin with its size.")


def _check_extensions(data: bytes, order: str) -> None:
    place = 0
    while len(data) - place >= 16:
        size = struct.unpack(f"{order}i", data[place : place + 4])[0]
        if not 8 <= size <= len(data) - place:
            raise DataError(f"an extension of its header declares {size} bytes, and {len(data) - place} are there.")
        place += size


def refuse_dicom_bomb(path: str | os.PathLike, limit: int = 2 * MAX_PIXELS) -> None:
    """Refuse a DICOM file whose whole content is packed ("deflated") and unpacks to more than a limit.

    Args:
        path: the file.
        limit: the most bytes that are unpacked.

    Raises:
        DataError: when there are more. A damaged file may also raise errors of pydicom and zlib.
    """
    with open(path, "rb") as file:
        # pydicom's own function: whatever it takes for the packed content is looked at, also of a damaged file
        if file.read(132)[128:] != b"DICM" or _read_meta(file).get("TransferSyntaxUID") != _DEFLATED:
            return
        unpack, total = zlib.decompressobj(-zlib.MAX_WBITS), 0
        while chunk := unpack.unconsumed_tail or file.read(2**16):
            total += len(unpack.decompress(chunk, 2**20))
            if total > limit:
                raise DataError(
                    f"the DICOM file unpacks to more than {limit:,} bytes: a decompression bomb?",
                    reason="decompression bomb",
                )
            if unpack.eof:
                return
