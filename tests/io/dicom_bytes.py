# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0


"""DICOM files byte by byte, so that they can hold what pydicom would not write."""

import struct

from pydicom.datadict import dictionary_VR, tag_for_keyword

EXPLICIT, BIG_ENDIAN, RLE = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.5"
LONG = (b"OB", b"OW", b"SQ", b"UT", b"UN")


def element(tag, kind, value, order="<"):
    value += (b" " if kind in (b"DS", b"CS", b"LO", b"IS") else b"\0") * (len(value) % 2)
    head = struct.pack(f"{order}HH", tag >> 16, tag & 0xFFFF) + kind
    return (
        head + struct.pack(f"{order}HI" if kind in LONG else f"{order}H", *([0] * (kind in LONG)), len(value)) + value
    )


def encode(keyword, value, order="<", signed=False):
    """An element; numbers as its value representation wants them, bytes and texts as they are."""
    tag, kind = tag_for_keyword(keyword), dictionary_VR(keyword).split(" or ")[0].encode()
    kind = {b"OB": b"OW"}.get(kind, kind)
    kind = b"SS" if kind == b"US" and signed and "US or SS" in dictionary_VR(keyword) else kind
    if kind == b"SQ":
        items = (b"".join(encode(k, v, order, signed) for k, v in item.items()) for item in value)
        value = b"".join(struct.pack(f"{order}HHI", 0xFFFE, 0xE000, len(item)) + item for item in items)
    elif keyword == "LUTData" and isinstance(value, bytes):
        kind = b"OW"
    elif isinstance(value, str):
        value = value.encode()
    elif not isinstance(value, bytes) and kind in (b"US", b"SS"):
        values = value if isinstance(value, (list, tuple)) else [value]
        value = b"".join(struct.pack(f"{order}H", one % 2**16) for one in values)
    elif not isinstance(value, bytes):
        values = value if isinstance(value, (list, tuple)) else [value]
        value = "\\".join(map(str, values)).encode()
    return element(tag, kind, value, order)


def fragments(frame, cut=None):
    """The value of compressed pixels: offsets, which may be empty, and one fragment."""
    frame += b"\0" * (len(frame) % 2)
    items = struct.pack("<HHI", 0xFFFE, 0xE000, 0) + struct.pack("<HHI", 0xFFFE, 0xE000, len(frame)) + frame
    return (items + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0))[:cut]


def dicom(words=None, syntax=EXPLICIT, frame=None, preamble=True, meta=True, signed=False, **tags):
    """The bytes of a file of (H, W) words, or of a compressed frame; a tag that is None is left out."""
    order = ">" if syntax == BIG_ENDIAN else "<"
    bits = 8 * words.dtype.itemsize
    found = {
        **{"SOPClassUID": "1.2.840.10008.5.1.4.1.1.1", "Modality": "DX", "SamplesPerPixel": 1},
        **{"PhotometricInterpretation": "MONOCHROME2", "Rows": words.shape[0], "Columns": words.shape[1]},
        **{"BitsAllocated": bits, "BitsStored": bits, "HighBit": bits - 1, "PixelRepresentation": int(signed), **tags},
    }
    parts = sorted((tag_for_keyword(k), encode(k, v, order, signed)) for k, v in found.items() if v is not None)
    body = b"".join(part for _, part in parts)
    if frame is None:
        body += element(0x7FE00010, b"OW", words.astype(words.dtype.newbyteorder(order)).tobytes(), order)
    else:
        body += struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OB", 0, 0xFFFFFFFF) + fragments(frame)
    named = element(0x00020010, b"UI", syntax.encode()) if syntax else b""
    head = element(0x00020000, b"UL", struct.pack("<I", len(named))) + named if meta else b""
    return (b"\0" * 128 + b"DICM" if preamble else b"") + head + body


def run_lengths(words):
    """An RLE frame of 16-bit words, in literal runs: the higher bytes are the first segment."""
    segments = []
    for plane in (words >> 8, words & 255):
        data = plane.astype("u1").tobytes()
        runs = (data[i : i + 128] for i in range(0, len(data), 128))
        segment = b"".join(bytes([len(run) - 1]) + run for run in runs)
        segments.append(segment + b"\0" * (len(segment) % 2))
    return struct.pack("<16I", 2, 64, 64 + len(segments[0]), *[0] * 13) + b"".join(segments)
