# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Refuses damaged DICOM files before ITK, which would crash, hang or guess.

It is written by hand, for neither reader of MONAI would do: docs/reliability.md has what they made of 55 series.
Without this look ITK ends the process by a segmentation fault where 100,000 sequences lie in each other.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, NamedTuple

from monai_mgca.utils import DataError

__all__ = ["refuse_damaged_dicom"]

UNDEFINED = 0xFFFFFFFF
# Sequences in sequences: structured reports have a dozen.
DEEPEST = 64
# What is unpacked of a file that is packed as a whole.
MAX_UNPACKED = 2**28
# Values of the outermost level that are looked at are no longer.
SMALL = 64
# What a file is filled up with is shorter.
FILLING = 2**20
PIXELS = 0x7FE00010
# Value representations of explicit files whose length has 4 bytes.
LONG = (b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"SQ", b"UC", b"UN", b"UR", b"UT", b"SV", b"UV")
SHORT = tuple(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())  # those of 2 bytes
BIG_ENDIAN, DEFLATED = "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"


class _Form(NamedTuple):
    """How elements are written: with their value representation or without, and the order of bytes."""

    explicit: bool
    order: str


def refuse_damaged_dicom(path: str | os.PathLike) -> int:
    """Refuse a damaged DICOM file before ITK reads it: one with a value longer than what is left of it, say.

    ITK makes room for as much as an element declares, up to 4 GB, before it sees that the file has ended, and takes
    garbage for elements. Radiographs are read by pydicom, which does not; this is for what ITK reads. What is no DICOM
    file is left to its reader.

    Args:
        path: the file.

    Returns:
        The number of pixels that the file describes.

    Raises:
        DataError: when a length or the depth of sequences is too large, elements are not in their order, or the pixels
            are not gray values, described as such, or fewer than described.

    Example::

        Path("notes.txt").write_text("no DICOM file")
        refuse_damaged_dicom("notes.txt")
    """
    path = Path(path)
    with path.open("rb") as opened:
        file: BinaryIO = opened
        head = file.read(132)
        known = head[128:] == b"DICM"
        if not known and path.suffix.lower() not in (".dcm", ".dicom") and head[:2] not in (b"\2\0", b"\x08\0"):
            return 0
        file.seek(132 if known else 0)
        syntax = _syntax(file) if known else ""
        if syntax == DEFLATED:
            packed = zlib.decompressobj(-zlib.MAX_WBITS)
            try:
                file = io.BytesIO(packed.decompress(file.read(), MAX_UNPACKED))
            except zlib.error as error:
                raise DataError(f"the deflated DICOM file is damaged ({error}).") from None
        place = file.tell()
        kind = file.read(6)[4:]  # the data themselves are more reliable than the declared syntax
        form = _Form(kind.isalpha() and kind.isupper(), ">" if syntax == BIG_ENDIAN else "<")
        file.seek(place)
        return _count_pixels(_Walk(file, form).found, form.order)


def _syntax(file: BinaryIO) -> str:
    """The transfer syntax in the group of meta information; the file then stands behind this group."""
    size = file.seek(0, os.SEEK_END)
    file.seek(132)
    syntax = ""
    while (head := file.read(8))[:2] == b"\2\0" and len(head) == 8:
        if head[4:6] not in LONG + SHORT:  # ITK would take the next bytes for a length of up to 4 GB
            raise DataError("the meta information of the DICOM file is damaged.")
        length = struct.unpack("<I", file.read(4).ljust(4, b"\0"))[0] if head[4:6] in LONG else head[6] + 256 * head[7]
        if length > size - file.tell():
            raise DataError(f"an element of {length} bytes is longer than the DICOM file.")
        value = file.read(length)
        syntax = value.strip(b"\0 ").decode("ascii", "replace") if head[2:4] == b"\x10\0" else syntax
    file.seek(-len(head), os.SEEK_CUR)
    return syntax


class _Walk:
    """Goes from element to element without reading more than small values, and keeps those of the outermost level."""

    def __init__(self, file: BinaryIO, form: _Form) -> None:
        self.file, self.found = file, dict[int, bytes]()
        place = file.tell()
        self.size = file.seek(0, os.SEEK_END)
        file.seek(place)
        self._elements(self.size, form, 0, False)

    def _elements(self, end: int, form: _Form, depth: int, opaque: bool) -> None:
        """Up to an end or a delimiter, into sequences, over the content of opaque items."""
        if depth > DEEPEST:
            raise DataError(f"the DICOM file has sequences in sequences, more than {DEEPEST} deep.")
        while self.file.tell() + 8 <= end:
            tag, kind, length = self._head(form)
            if tag >> 16 == 0xFFFE and tag != 0xFFFEE000:
                return
            place = self.file.tell()
            if depth == 0 and tag == length == 0 and self._ends_in_zeros(place):
                return
            if length != UNDEFINED and length > self.size - place:
                cut = "truncated" if tag == PIXELS else None
                raise DataError(f"an element of {length} bytes is longer than the rest of the DICOM file.", reason=cut)
            if depth == 0:
                self._keep(tag, length)
            if length == UNDEFINED or kind == b"SQ" or (tag == 0xFFFEE000 and not opaque):
                within = _Form(False, "<") if kind == b"UN" else form
                self._elements(self.size if length == UNDEFINED else place + length, within, depth + 1, tag == PIXELS)
            if length != UNDEFINED:
                self.file.seek(place + length)

    def _ends_in_zeros(self, place: int) -> bool:
        """Whether the file was only filled up from here on, as to whole blocks of a tape."""
        rest = self.file.read(FILLING)
        self.file.seek(place)
        return len(rest) < FILLING and not any(rest)

    def _head(self, form: _Form) -> tuple[int, bytes, int]:
        """Tag, value representation where it is written, and length."""
        group, number = struct.unpack(f"{form.order}HH", self.file.read(4))
        kind = b"" if group == 0xFFFE or not form.explicit else self.file.read(2)
        if kind and kind not in LONG:
            return group << 16 | number, kind, struct.unpack(f"{form.order}H", self.file.read(2))[0]
        self.file.seek(2 if kind else 0, os.SEEK_CUR)
        return group << 16 | number, kind, struct.unpack(f"{form.order}I", self.file.read(4).ljust(4, b"\0"))[0]

    def _keep(self, tag: int, length: int) -> None:
        if tag <= next(reversed(self.found), -1):
            raise DataError("the elements of the DICOM file are not in their order.")
        if tag == PIXELS:
            self.found[tag] = struct.pack("<I", length)
        else:
            self.found[tag] = self.file.read(length) if length <= SMALL else b""
            self.file.seek(-len(self.found[tag]), os.SEEK_CUR)


def _count_pixels(found: dict[int, bytes], order: str) -> int:
    """How many pixels are described, if there are any, after a look whether they are gray values, and there."""
    if PIXELS not in found:
        return 0
    names = {
        "SamplesPerPixel": 2,
        "Rows": 16,
        "Columns": 17,
        "BitsAllocated": 256,
        "BitsStored": 257,
        "HighBit": 258,
        "PixelRepresentation": 259,
    }
    values = {}
    for name, number in names.items():
        value = found.get(0x00280000 + number, b"")
        values[name] = struct.unpack(f"{order}H", value)[0] if len(value) == 2 else -1
    bits = values["BitsAllocated"]
    if not found.get(0x00280004, b"").startswith(b"MONOCHROME") or values["SamplesPerPixel"] != 1:
        raise DataError("the DICOM file is not of gray values.")
    if bits not in (8, 16, 32) or not 1 <= values["BitsStored"] <= bits or not 0 <= values["HighBit"] < bits:
        raise DataError(f"the DICOM file describes no pixels: {values}.")
    if values["PixelRepresentation"] not in (0, 1):
        raise DataError("the DICOM file does not say whether its pixels have a sign.")
    frames = found.get(0x00280008, b"").strip(b"\0 ") or b"1"
    length = struct.unpack("<I", found[PIXELS])[0]
    if not frames.isdigit() or min(values["Rows"], values["Columns"]) < 1:
        raise DataError("the DICOM file has no pixels.")
    count = values["Rows"] * values["Columns"] * int(frames)
    if length != UNDEFINED and length < count * bits // 8:
        raise DataError(f"the DICOM file holds {length} bytes of pixels, fewer than it describes.")
    return count
