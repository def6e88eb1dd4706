# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0


"""Pictures of more than 8 gray bits: their depth, what is transparent, and which end is white."""

import itertools
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from monai_mgca.transforms import LoadRadiograph
from monai_mgca.utils import DataError

GRAY = np.arange(12).reshape(3, 4)
HIDDEN = np.array([[1, 1, 1, 1], [1, 0, 1, 1], [1, 1, 1, 1]], bool)  # False: transparent


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(path, values, depth, color, extra=b""):
    """(H, W) or (H, W, C) whole numbers, as Pillow does not write them all."""
    rows = []
    for row in values.reshape(len(values), -1):
        bits = "".join(format(int(value), f"0{depth}b") for value in row)
        bits += "0" * (-len(bits) % 8)
        rows.append(b"\0" + int(bits, 2).to_bytes(len(bits) // 8, "big"))
    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], depth, color, 0, 0, 0)
    body = chunk(b"IHDR", head) + extra + chunk(b"IDAT", zlib.compress(b"".join(rows))) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


def load(path):
    return LoadRadiograph()(path)[0].numpy()


def stack(*planes):
    return np.stack(np.broadcast_arrays(*planes), axis=-1)


DEEP = GRAY * 300  # 12 bits
OPAQUE = np.where(HIDDEN, 65535, 0)
DEEP_CASES = {
    "RGB": (stack(DEEP, DEEP, DEEP), 2, b"", None),
    "gray and alpha": (stack(DEEP, 65535), 4, b"", None),
    "RGB and alpha": (stack(DEEP, DEEP, DEEP, 65535), 6, b"", None),
    "gray, transparent": (stack(np.where(HIDDEN, DEEP, 65535), OPAQUE), 4, b"", HIDDEN),
    "RGB, transparent": (stack(*[np.where(HIDDEN, DEEP, 65535)] * 3, OPAQUE), 6, b"", HIDDEN),
    "gray, one value transparent": (np.where(HIDDEN, DEEP, 65535), 0, b"\xff\xff", HIDDEN),
    "RGB, one value transparent": (stack(*[np.where(HIDDEN, DEEP, 65535)] * 3), 2, b"\xff\xff" * 3, HIDDEN),
}


@pytest.mark.parametrize(("values", "color", "transparent", "seen"), DEEP_CASES.values(), ids=DEEP_CASES)
def test_16_bits_of_png_stay(tmp_path, values, color, transparent, seen):
    """All gray levels, whose range is that of what is seen."""
    path = png(tmp_path / "a.png", values, 16, color, chunk(b"tRNS", transparent) if transparent else b"")
    right = DEEP * 255.0 / 3300
    np.testing.assert_allclose(load(path), right if seen is None else np.where(seen, right, 0), atol=0.01)


def test_half_transparent_lies_on_black(tmp_path):
    path = png(tmp_path / "a.png", stack(DEEP, 32768), 16, 4)
    np.testing.assert_allclose(load(path), DEEP * 127.5 / 3300, atol=0.01)
    Image.fromarray(stack(GRAY * 20, 128).astype(np.uint8), "LA").save(tmp_path / "b.png")
    np.testing.assert_allclose(load(tmp_path / "b.png"), GRAY * 20 * 128 / 255, atol=0.51)


WHITE = np.where(HIDDEN, GRAY * 20, 255).astype(np.uint8)


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
@pytest.mark.parametrize("suffix", ["png", "webp", "tif"])
def test_hidden_white(tmp_path, mode, suffix):
    if (mode, suffix) == ("LA", "webp"):
        pytest.skip("there is none")
    gray = Image.fromarray(WHITE)
    image = gray.convert(mode)
    image.putalpha(Image.fromarray((HIDDEN * 255).astype(np.uint8)))
    image.save(tmp_path / f"a.{suffix}", **({"lossless": True, "exact": True} if suffix == "webp" else {}))
    np.testing.assert_array_equal(load(tmp_path / f"a.{suffix}"), np.where(HIDDEN, WHITE, 0))


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_one_transparent_value(tmp_path, depth):
    values = np.where(HIDDEN, GRAY % (2**depth - 1) if depth > 1 else 0, 2**depth - 1)
    path = png(tmp_path / "a.png", values, depth, 0, chunk(b"tRNS", struct.pack(">H", 2**depth - 1)))
    np.testing.assert_array_equal(load(path), np.where(HIDDEN, values * (255 // (2**depth - 1)), 0))


def test_transparent_colors(tmp_path):
    palette = bytes(value for level in range(16) for value in (level * 17,) * 3)
    values = np.where(HIDDEN, GRAY, 15)
    alpha = bytes([255] * 15 + [0])
    path = png(tmp_path / "a.png", values, 4, 3, chunk(b"PLTE", palette) + chunk(b"tRNS", alpha))
    np.testing.assert_array_equal(load(path), np.where(HIDDEN, GRAY * 17, 0))
    path = png(tmp_path / "b.png", stack(*[WHITE] * 3), 8, 2, chunk(b"tRNS", b"\0\xff" * 3))
    np.testing.assert_array_equal(load(path), np.where(HIDDEN, WHITE, 0))
    image = Image.fromarray(WHITE).convert("P")
    image.save(tmp_path / "c.gif", transparency=image.getpixel((1, 1)))
    np.testing.assert_array_equal(load(tmp_path / "c.gif"), np.where(HIDDEN, WHITE, 0))


def test_nothing_is_seen(tmp_path):
    assert not load(png(tmp_path / "a.png", stack(DEEP, 0), 16, 4)).any()


def tiff(path, values, photometric, samples=1, alpha=False, planes=False):
    """One strip, not compressed, of whole numbers in the order of bytes of most machines."""
    data = np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<")).tobytes()
    bits = values.dtype.itemsize * 8
    numbers = {256: values.shape[1], 257: values.shape[0], 258: bits, 259: 1, 262: photometric, 277: samples}
    numbers |= {278: values.shape[0], 279: len(data), 339: {"u": 1, "i": 2, "f": 3}[values.dtype.kind]}
    numbers |= {284: 2} if planes else {}
    count = len(numbers) + 1 + alpha
    behind = 8 + 2 + 12 * count + 4
    entries = {tag: struct.pack("<HHII", tag, 4, 1, value) for tag, value in numbers.items()}
    if samples > 1:
        for tag, value in ((258, bits), (339, 1)):
            entries[tag] = struct.pack("<HHII", tag, 3, samples, behind)
            extra = struct.pack(f"<{samples}H", *[value] * samples)
            entries[tag] = struct.pack("<HHII", tag, 3, samples, behind)
            entries[f"{tag}"] = extra
            behind += len(extra)
    extras = b"".join(value for tag, value in entries.items() if isinstance(tag, str))
    entries = {tag: value for tag, value in entries.items() if not isinstance(tag, str)}
    if alpha:
        entries[338] = struct.pack("<HHIHH", 338, 3, 1, 2, 0)
    entries[273] = struct.pack("<HHII", 273, 4, 1, behind)
    body = struct.pack("<H", count) + b"".join(entries[tag] for tag in sorted(entries)) + bytes(4)
    path.write_bytes(b"II*\0" + struct.pack("<I", 8) + body + extras + data)
    return path


OTHERS = [(np.int16, False), (np.uint32, False), (np.int32, False)]  # Pillow opens none of them with white as zero


@pytest.mark.parametrize(
    ("dtype", "white_is_zero"), [*itertools.product([np.uint8, np.uint16, np.float32], [True, False]), *OTHERS]
)
def test_tiff_white_is_zero(tmp_path, dtype, white_is_zero):
    values = (GRAY * 20).astype(dtype)
    found = load(tiff(tmp_path / "a.tif", values, 0 if white_is_zero else 1))
    right = GRAY * 20.0 if dtype == np.uint8 else GRAY * 255.0 / 11
    np.testing.assert_allclose(found, 255 - right if white_is_zero else right, atol=0.01)


def test_tiff_without_a_sign(tmp_path):
    values = (GRAY * (2**32 // 12)).astype(np.uint32)
    np.testing.assert_allclose(load(tiff(tmp_path / "a.tif", values, 1)), GRAY * 255.0 / 11, atol=0.01)


def test_tiff_of_16_bit_planes_is_refused(tmp_path):
    values = stack(DEEP, DEEP, DEEP).astype(np.uint16)
    with pytest.raises(DataError, match="lie behind each other; save it as gray"):
        LoadRadiograph()(tiff(tmp_path / "a.tif", values, 2, 3, planes=True))


def test_tiff_of_16_bit_colors(tmp_path):
    values = stack(DEEP, DEEP, DEEP).astype(np.uint16)
    np.testing.assert_allclose(load(tiff(tmp_path / "a.tif", values, 2, 3)), DEEP * 255.0 / 3300, atol=0.01)
    values = stack(*[np.where(HIDDEN, DEEP, 65535)] * 3, OPAQUE).astype(np.uint16)
    found = load(tiff(tmp_path / "b.tif", values, 2, 4, alpha=True))
    np.testing.assert_allclose(found, np.where(HIDDEN, DEEP * 255.0 / 3300, 0), atol=0.01)


def test_cases(shared):
    folder = shared / "cases" / "tiff16_white_is_zero"
    for name in ("a16.tif", "a8.tif"):
        np.testing.assert_allclose(load(folder / name), np.load(folder / "right.npy"), atol=0.01)
    for name in ("la.png", "rgba.png"):
        path = shared / "cases" / "png_transparent_parts" / name
        with Image.open(path) as image:
            gray, alpha = np.asarray(image)[..., 0], np.asarray(image)[..., -1]
        np.testing.assert_array_equal(load(path), np.where(alpha == 255, gray, 0))
