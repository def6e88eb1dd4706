# Copyright (c) MONAI MGCA contributors
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#     http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.


from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, NamedTuple

from monai_mgca.utils import DataError

__all__ = ["refuse_overlong_dicom"]

UNDEFINED = 0xFFFFFFFF
# Sequences in sequences: structured reports have a dozen.
DEEPEST = 64
# What is unpacked of a file that is packed as a whole.
MAX_UNPACKED = 2**28
# Value representations of explicit files whose length has 4 bytes.
LONG = (b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"SQ", b"UC", b"UN", b"UR", b"UT", b"SV", b"UV")
BIG_ENDIAN, DEFLATED = "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"


class _Form(NamedTuple):
    """How elements are written: with their value representation or without, and the order of bytes."""

    explicit: bool
    order: str


def refuse_overlong_dicom(path: str | os.PathLike) -> None:
    """Refuse a DICOM file with a value that is longer than what is left of the file, or with very deep sequences.

    ITK makes room for as much as an element declares, up to 4 GB, before it sees that the file has ended. Radiographs
    are read by pydicom, which does not; this is for what ITK reads. What is no DICOM file is left to its reader.

    Args:
        path: the file.

    Raises:
        DataError: when a length or the depth is too large.

    Example::

        Path("notes.txt").write_text("no DICOM file")
        refuse_overlong_dicom("notes.txt")
    """
    path = Path(path)
    with path.open("rb") as file:
        known = file.read(132)[128:] == b"DICM"
        if not known and path.suffix.lower() not in (".dcm", ".dicom"):
            return
        file.seek(132 if known else 0)
        syntax = _syntax(file) if known else ""
        if syntax == DEFLATED:
            packed = zlib.decompressobj(-zlib.MAX_WBITS)
            try:
                file = io.BytesIO(packed.decompress(file.read(), MAX_UNPACKED))
            except zlib.error as error:
                raise DataError(f"the deflated DICOM file is damaged ({error}).") from None
        place = file.tell()
        kind = file.read(6)[4:]  # the file itself is surer than what it says of itself
        form = _Form(kind.isalpha() and kind.isupper(), ">" if syntax == BIG_ENDIAN else "<")
        size = file.seek(0, os.SEEK_END)
        file.seek(place)
        _walk(file, size, size, form)


def _syntax(file: BinaryIO) -> str:
    """The transfer syntax in the group of meta information; the file then stands behind this group."""
    size = file.seek(0, os.SEEK_END)
    file.seek(132)
    syntax = ""
    while (head := file.read(8))[:2] == b"\2\0" and len(head) == 8:
        length = struct.unpack("<I", file.read(4).ljust(4, b"\0"))[0] if head[4:6] in LONG else head[6] + 256 * head[7]
        if length > size - file.tell():
            raise DataError(f"an element of {length} bytes is longer than the DICOM file.")
        value = file.read(length)
        syntax = value.strip(b"\0 ").decode("ascii", "replace") if head[2:4] == b"\x10\0" else syntax
    file.seek(-len(head), os.SEEK_CUR)
    return syntax


def _walk(file: BinaryIO, size: int, end: int, form: _Form, depth: int = 0, opaque: bool = False) -> None:
    """Go from element to element up to an end or a delimiter, into sequences, over the content of opaque items."""
    if depth > DEEPEST:
        raise DataError(f"the DICOM file has sequences in sequences, more than {DEEPEST} deep.")
    while file.tell() + 8 <= end:
        group, number = struct.unpack(f"{form.order}HH", file.read(4))
        kind = b"" if group == 0xFFFE or not form.explicit else file.read(2)
        if kind and kind not in LONG:
            length = struct.unpack(f"{form.order}H", file.read(2))[0]
        else:
            file.seek(2 if kind else 0, os.SEEK_CUR)
            length = struct.unpack(f"{form.order}I", file.read(4).ljust(4, b"\0"))[0]
        if group == 0xFFFE and number != 0xE000:
            return
        place = file.tell()
        if length != UNDEFINED and length > size - place:
            raise DataError(f"an element of {length} bytes is longer than the rest of the DICOM file.")
        inside = length == UNDEFINED or kind == b"SQ" or (group == 0xFFFE and not opaque)
        if inside:
            within = _Form(False, "<") if kind == b"UN" else form
            _walk(file, size, size if length == UNDEFINED else place + length, within, depth + 1, group == 0x7FE0)
        if length != UNDEFINED:
            file.seek(place + length)
