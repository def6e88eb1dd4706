# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0


"""Opening DICOM files, and asking their tags, which hold whatever someone wrote into them."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import pydicom

from monai_mgca.io.limits import refuse_dicom_bomb
from monai_mgca.utils import DataError

__all__ = ["number", "numbers", "read_dicom", "syntax_of", "tag_name", "whole_number"]

# How a data set begins that lacks the preamble and "DICM": with group 2 or 8, in one order of bytes or the other.
_BARE = (b"\2\0", b"\x08\0", b"\0\x08")


def read_dicom(path: str | os.PathLike, **kwargs: Any) -> Any:
    """Open a DICOM file, also one without the preamble, as older archives and some PACS export them.

    Args:
        path: the file.
        kwargs: of :func:`pydicom.dcmread`.

    Returns:
        pydicom's data set.

    Raises:
        DataError: when it is packed and unpacks to too much. pydicom's errors where it is no DICOM file, or damaged.

    Example::

        import pydicom

        path = pydicom.data.get_testdata_file("CT_small.dcm")  # comes with pydicom
        print(read_dicom(path, stop_before_pixels=True).Rows)  # 128
    """
    refuse_dicom_bomb(path)
    with open(path, "rb") as file:
        head = file.read(132)
    bare = head[128:] != b"DICM" and head.startswith(_BARE)
    return pydicom.dcmread(path, force=bare, **kwargs)


def syntax_of(dataset: Any) -> str:
    """The transfer syntax' UID, that is, how the pixels are packed; empty where the file does not say.

    Args:
        dataset: of :func:`read_dicom`.
    """
    meta = getattr(dataset, "file_meta", None)
    return str((meta.get("TransferSyntaxUID") if meta is not None else None) or "")


def tag_name(keyword: str) -> str:
    """A tag's keyword and number, for messages.

    Args:
        keyword: as pydicom names it.

    Example::

        print(tag_name("RescaleSlope"))  # RescaleSlope (0028,1053)
    """
    tag = pydicom.tag.Tag(keyword)
    return f"{keyword} ({tag.group:04X},{tag.elem:04X})"


def numbers(dataset: Any, keyword: str) -> tuple[float, ...] | None:
    """All values of a tag as numbers: none where it is missing or empty, None where one of them is no finite number.

    Args:
        dataset: of :func:`read_dicom`, or an item of a sequence.
        keyword: of the tag.
    """
    try:
        value = dataset.get(keyword)
        if isinstance(value, bytes):  # pydicom does not know of every tag whether it has a sign
            return tuple(np.frombuffer(value, "<u2").astype(float))
        several = isinstance(value, Sequence) and not isinstance(value, str)
        values = list(value) if several else [] if value is None or str(value).strip() == "" else [value]
        found = tuple(float(str(one)) for one in values)
    except Exception:  # pydicom looks at a value only when it is asked for
        return None
    return found if all(map(math.isfinite, found)) else None


def number(dataset: Any, keyword: str, default: float) -> float:
    """The first value of a tag that the pixels depend on.

    Args:
        dataset: of :func:`read_dicom`.
        keyword: of the tag.
        default: where it is missing or empty.

    Raises:
        DataError: when it is no number, naming the tag.
    """
    found = numbers(dataset, keyword)
    if found is None:
        raise DataError(f"its {tag_name(keyword)} is no number: correct the tag, or remove it.")
    return found[0] if found else default


def whole_number(dataset: Any, keyword: str, default: int | None = None) -> int:
    """The first value of a tag that counts something.

    Args:
        dataset: of :func:`read_dicom`.
        keyword: of the tag.
        default: where it is missing or empty; None where it must be there.

    Raises:
        DataError: when it is missing, or no whole number of 0 or more, naming the tag.
    """
    value = number(dataset, keyword, -1 if default is None else default)
    if value < 0 or value != int(value):
        fault = "missing" if value == -1 and default is None else f"{value:g}, no whole number of 0 or more"
        raise DataError(f"its {tag_name(keyword)} is {fault}, so that its pixels are not known: correct the tag.")
    return int(value)
