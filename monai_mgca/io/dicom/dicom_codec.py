# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0


"""The pixels of compressed DICOM files, which ITK's GDCM decodes: JPEG, JPEG-LS, JPEG 2000, run lengths."""

from __future__ import annotations

import itertools
import struct
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import itk
import numpy as np

from monai_mgca.io.dicom.dicom_file import syntax_of, tag_name
from monai_mgca.utils import DataError

try:
    import imagecodecs
except ImportError:
    imagecodecs = None

__all__ = ["decode_frame", "is_compressed", "missing_decoder"]

_JPEG = "1.2.840.10008.1.2.4."
_RLE = "1.2.840.10008.1.2.5"
_JPEG_XL = ("110", "111", "112")
# What GDCM does not decode, by the end of the transfer syntax.
_UNKNOWN = {
    **dict.fromkeys(("92", "93"), "JPEG 2000 of several components"),
    **dict.fromkeys(("94", "95"), "JPIP, whose pixels are on a server"),
    **dict.fromkeys((str(end) for end in range(100, 109)), "a video"),
    **dict.fromkeys(_JPEG_XL, "JPEG XL"),
}
_CONVERT = "convert it to an uncompressed DICOM file"
_INSTALL = "pip install imagecodecs, or convert it to an uncompressed DICOM file"
# Frames of JPEG and JPEG-LS by the second byte of their marker, and the transfer syntax that they have in DICOM.
_FRAMES = {0xC0: "50", 0xC1: "51", 0xC2: "51", 0xC3: "57", 0xF7: "80"}
_START_2000, _START_XL = b"\xff\x4f\xff\x51", (b"\xff\x0a", b"\0\0\0\x0cJXL ")


class _Stream(NamedTuple):
    """What compressed pixels say of themselves; the file's tags may say something else."""

    syntax: str
    rows: int
    columns: int
    precision: int
    signed: bool
    components: int


def missing_decoder(syntax: str) -> str | None:
    """Why pixels that are packed so cannot be decoded, sound as they are, and what to do; None where they can.

    Args:
        syntax: the transfer syntax' UID.

    Example::

        print(missing_decoder("1.2.840.10008.1.2.4.70"))  # JPEG Lossless: None
    """
    end = syntax.removeprefix(_JPEG)
    if end == syntax or end not in _UNKNOWN or (end in _JPEG_XL and imagecodecs is not None):
        return None
    return f"{_UNKNOWN[end]}: {_INSTALL if end in _JPEG_XL else _CONVERT}"


def is_compressed(dataset: Any) -> bool:
    """Whether the pixels are compressed, as they themselves show, whatever the transfer syntax says.

    Args:
        dataset: of :func:`monai_mgca.io.dicom.dicom_file.read_dicom`, with pixels.
    """
    return bool(dataset["PixelData"].is_undefined_length)


def decode_frame(dataset: Any, rows: int, columns: int, bits: int, stored: int) -> np.ndarray:
    """Decode the one frame of a compressed file.

    Args:
        dataset: of :func:`monai_mgca.io.dicom.dicom_file.read_dicom`.
        rows: as the tags say.
        columns: as the tags say.
        bits: of a pixel's word: 8, 16 or 32.
        stored: how many of them are the value.

    Returns:
        (H, W) words without a sign.

    Raises:
        DataError: when they cannot be decoded; its reason is "no decoder", "truncated" or "unreadable".
    """
    syntax = syntax_of(dataset)
    if missing := missing_decoder(syntax):
        raise DataError(f"there is no decoder for its pixels, which are {missing}.", reason="no decoder")
    frame = _frame_of(dataset.PixelData)
    if frame.startswith(_START_XL):
        return _decode_jpeg_xl(frame).reshape(rows, columns).astype(f"u{bits // 8}")
    # some devices write the boxes of a .jp2 before it
    frame = frame[max(frame.find(_START_2000, 0, 4096), 0) :]
    stream = _look(frame)
    if stream is None and syntax == _RLE:
        _check_run_lengths(frame, bits // 8)
        stream = _Stream(_RLE, rows, columns, stored, False, 1)
    if stream is None:
        raise DataError(
            f"its pixels are compressed in a way that is not known ({tag_name('TransferSyntaxUID')} is "
            f"{syntax or 'missing'}): {_CONVERT}.",
            reason="no decoder",
        )
    if stream.components > 1:
        message = f"its compressed pixels have {stream.components} colors; a radiograph is gray."
        raise DataError(message, reason="wrong number of channels")
    if (stream.rows, stream.columns) != (rows, columns):  # before room is made for them
        found = f"{stream.rows} x {stream.columns}"
        raise DataError(f"its tags describe {rows} x {columns} pixels, and its compressed pixels are {found}.")
    if not 1 <= stream.precision <= (bits if stream.syntax == _RLE else 16):
        raise DataError(f"its compressed pixels have {stream.precision} bits; radiographs have up to 16.")
    word = bits if stream.syntax == _RLE else 8 if stream.precision <= 8 else 16
    return _decode(frame, stream, word).astype(f"u{bits // 8}")


def _frame_of(data: bytes) -> bytes:
    """The fragments of a frame, put together; the first item holds offsets, or nothing."""
    fragments, place = [], 0
    while data[place : place + 4] == b"\xfe\xff\x00\xe0" and place + 8 <= len(data):
        (length,) = struct.unpack_from("<I", data, place + 4)
        if length > len(data) - place - 8:
            raise DataError("the DICOM file is truncated: its compressed pixels end too early.", reason="truncated")
        fragments.append(data[place + 8 : place + 8 + length])
        place += 8 + length
    return b"".join(fragments[1:])


def _check_run_lengths(frame: bytes, count: int) -> None:
    """Run lengths begin with the places of as many segments as a pixel has bytes; GDCM divides by their number."""
    head = struct.unpack_from("<16I", frame.ljust(64, b"\0"))
    places = (*head[1 : count + 1], len(frame))
    if head[0] != count or places[0] < 64 or any(a >= b for a, b in itertools.pairwise(places)):
        raise DataError("its run lengths are damaged, and cannot be decoded.", reason="unreadable")


def _look(frame: bytes) -> _Stream | None:
    """Size and kind of a stream of JPEG, JPEG-LS or JPEG 2000; None for others."""
    if frame.startswith(_START_2000) and len(frame) >= 43:
        columns, rows, left, top = struct.unpack_from(">IIII", frame, 8)
        components, kind = struct.unpack_from(">HB", frame, 40)
        # a place far off on its grid is none of a radiograph, and makes OpenJPEG slow
        rows, columns = (rows - top, columns - left) if max(rows, columns) < 2**16 else (rows, columns)
        return _Stream(_JPEG + "90", rows, columns, (kind & 0x7F) + 1, kind > 0x7F, components)
    place = 2 if frame.startswith(b"\xff\xd8") else len(frame)
    while place + 10 <= len(frame) and frame[place] == 0xFF:
        marker = frame[place + 1]
        if marker == 0xFF:  # filled up
            place += 1
        elif marker in _FRAMES:
            precision, rows, columns, components = struct.unpack_from(">BHHB", frame, place + 4)
            return _Stream(_JPEG + _FRAMES[marker], rows, columns, precision, False, components)
        else:
            place += 2 + struct.unpack_from(">H", frame, place + 2)[0]
    return None


def _decode_jpeg_xl(frame: bytes) -> np.ndarray:
    if imagecodecs is None:
        raise DataError(f"there is no decoder for its pixels, which are JPEG XL: {_INSTALL}.", reason="no decoder")
    return np.asarray(imagecodecs.jpegxl_decode(frame))


def _decode(frame: bytes, stream: _Stream, word: int) -> np.ndarray:
    """Have ITK read a file of these pixels alone: nothing else can stop it, and nothing is of a patient."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "frame.dcm")
        path.write_bytes(_plain_file(frame, stream, word))
        try:
            image = itk.imread(str(path), imageio=itk.GDCMImageIO.New())
        except (RuntimeError, TypeError, KeyError):  # of damaged pixels, which may declare types that ITK has not
            ended = stream.syntax == _RLE or b"\xff\xd9" in frame[-16:]
            fault = "are damaged" if ended else "end too early"
            raise DataError(
                f"its compressed pixels {fault}, and cannot be decoded.",
                reason="unreadable" if ended else "truncated",
            ) from None
    return np.asarray(itk.array_from_image(image)).reshape(stream.rows, stream.columns)


def _plain_file(frame: bytes, stream: _Stream, word: int) -> bytes:
    numbers = {2: 1, 0x10: stream.rows, 0x11: stream.columns, 0x100: word, 0x101: stream.precision}
    # ITK has no images of 8 bits with a sign
    numbers |= {0x102: stream.precision - 1, 0x103: int(stream.signed and word > 8)}
    meta = _element(2, 1, b"OB", b"\0\1") + _element(2, 2, b"UI", b"1.2.840.10008.5.1.4.1.1.7")
    meta += _element(2, 3, b"UI", b"1.2.3") + _element(2, 0x10, b"UI", stream.syntax.encode())
    body = _element(8, 0x16, b"UI", b"1.2.840.10008.5.1.4.1.1.7") + _element(8, 0x18, b"UI", b"1.2.3")
    described = {number: _element(0x28, number, b"US", struct.pack("<H", value)) for number, value in numbers.items()}
    described[4] = _element(0x28, 4, b"CS", b"MONOCHROME2 ")
    body += b"".join(described[number] for number in sorted(described))
    frame += b"\0" * (len(frame) % 2)
    items = struct.pack("<HHIHHI", 0xFFFE, 0xE000, 0, 0xFFFE, 0xE000, len(frame)) + frame
    pixels = struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OB", 0, 0xFFFFFFFF) + items + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    length = _element(2, 0, b"UL", struct.pack("<I", len(meta)))
    return b"\0" * 128 + b"DICM" + length + meta + body + pixels


def _element(group: int, number: int, kind: bytes, value: bytes) -> bytes:
    value += b"\0" * (len(value) % 2)
    long = kind == b"OB"
    return (
        struct.pack("<HH2s", group, number, kind)
        + struct.pack("<HI" if long else "<H", *([0] * long), len(value))
        + value
    )
