# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""NRRD files of label maps, as 3D Slicer writes them."""

from __future__ import annotations

import gzip
import math
import os

import numpy as np

from monai_mgca.io.limits import refuse_bomb
from monai_mgca.utils import DataError

__all__ = ["read_nrrd"]

TYPES = {
    **dict.fromkeys(("signed char", "int8", "int8_t"), "i1"),
    **dict.fromkeys(("uchar", "unsigned char", "uint8", "uint8_t"), "u1"),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), "i2"),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), "u2"),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t"), "i4"),
    **dict.fromkeys(("uint", "unsigned int", "uint32", "uint32_t"), "u4"),
    **dict.fromkeys(("longlong", "long long", "long long int", "int64", "int64_t"), "i8"),
    **dict.fromkeys(("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"), "u8"),
    **{"float": "f4", "double": "f8"},
}


def read_nrrd(path: str | os.PathLike) -> np.ndarray:
    """Read the values of a NRRD file that a client sent. ITK's reader crashes on a damaged header; this one refuses it.

    Args:
        path: of a file that holds its own values, packed by gzip or not.

    Returns:
        The values as they are stored, the first axis being the fastest.

    Raises:
        DataError: when the header says what is not read here, or there are fewer values than it says.
    """
    import nrrd  # MONAI Label brings it

    with open(path, "rb") as file:
        header = nrrd.read_header(file)
        sizes = [int(size) for size in header["sizes"]]
        if not sizes or min(sizes) < 1 or header["dimension"] != len(sizes):
            raise DataError(f"its sizes are {sizes}, and they should be {header['dimension']}.")
        refuse_bomb(sizes)
        kind, encoding = TYPES.get(header["type"]), header["encoding"]
        if kind is None or encoding not in ("raw", "gzip", "gz") or {"line skip", "byte skip"} & set(header):
            raise DataError("it is neither raw nor packed by gzip, of numbers, or its values begin elsewhere.")
        values = np.dtype(kind).newbyteorder(">" if header.get("endian") == "big" else "<")
        wanted = math.prod(sizes) * values.itemsize
        data = (file if encoding == "raw" else gzip.GzipFile(fileobj=file)).read(wanted)
    if len(data) < wanted:
        raise DataError(f"it holds {len(data)} bytes of {wanted}.")
    return np.frombuffer(data, values).reshape(sizes, order="F")
