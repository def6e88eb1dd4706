# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""NRRD files of label maps, as 3D Slicer writes them."""

from __future__ import annotations

import gzip
import math
import os
from typing import Any

import numpy as np

from monai_mgca.io.limits import MAX_PIXELS, refuse_bomb
from monai_mgca.utils import DataError

__all__ = ["read_nrrd", "read_nrrd_volume"]

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
# what leads from a file's own space to LPS
SPACES = {
    **dict.fromkeys(("left-posterior-superior", "lps"), (1.0, 1.0, 1.0, 1.0)),
    **dict.fromkeys(("right-anterior-superior", "ras"), (-1.0, -1.0, 1.0, 1.0)),
    **dict.fromkeys(("left-anterior-superior", "las"), (1.0, -1.0, 1.0, 1.0)),
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
    return _read(path, MAX_PIXELS)[1]


def read_nrrd_volume(path: str | os.PathLike, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """Read the values of a NRRD file that a client sent, and where it lies.

    Args:
        path: of a file that holds its own values, packed by gzip or not.
        limit: the most values that are read.

    Returns:
        The values (X, Y, Z) as they are stored, and the affine (4, 4) from their indices to LPS in mm.

    Raises:
        DataError: as :func:`read_nrrd`; also when it is no volume, or does not say where it lies.
    """
    header, values = _read(path, limit)
    if values.ndim != 3:
        raise DataError(
            f"its shape is {values.shape}; the label of a volume is (X, Y, Z): segments that overlap, which Slicer "
            "keeps in layers, are no label map."
        )
    directions: Any = header.get("space directions")
    origin: Any = header.get("space origin")
    signs = SPACES.get(str(header.get("space")).lower())
    if signs is None or np.shape(directions) != (3, 3) or np.shape(origin) != (3,):
        raise DataError("it does not say where it lies: space, space directions and space origin.")
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = np.transpose(directions), origin
    return values, np.diag(signs) @ affine


def _read(path: str | os.PathLike, limit: int) -> tuple[dict[str, Any], np.ndarray]:
    import nrrd  # MONAI Label brings it

    with open(path, "rb") as file:
        header = nrrd.read_header(file)
        sizes = [int(size) for size in header["sizes"]]
        if not sizes or min(sizes) < 1 or header["dimension"] != len(sizes):
            raise DataError(f"its sizes are {sizes}, and they should be {header['dimension']}.")
        refuse_bomb(sizes, limit)
        kind, encoding = TYPES.get(header["type"]), header["encoding"]
        if kind is None or encoding not in ("raw", "gzip", "gz") or {"line skip", "byte skip"} & set(header):
            raise DataError("it is neither raw nor packed by gzip, of numbers, or its values begin elsewhere.")
        values = np.dtype(kind).newbyteorder(">" if header.get("endian") == "big" else "<")
        wanted = math.prod(sizes) * values.itemsize
        data = (file if encoding == "raw" else gzip.GzipFile(fileobj=file)).read(wanted)
    if len(data) < wanted:
        raise DataError(f"it holds {len(data)} bytes of {wanted}.")
    return header, np.frombuffer(data, values).reshape(sizes, order="F")
