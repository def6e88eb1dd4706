# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""What is made once for each level of a radiograph is what would be made for each pixel, to the last bit."""

from pathlib import Path

import numpy as np
import pytest
import torch

from monai_mgca.io.dicom import dicom_display
from monai_mgca.io.levels import Levels, ends_of
from monai_mgca.transforms import LoadRadiograph
from monai_mgca.utils import DataError

pydicom = pytest.importorskip("pydicom")
from .dicom_bytes import BIG_ENDIAN, EXPLICIT, RLE, dicom, run_lengths  # noqa: E402

SHAPE = (257, 260)  # more than 65,536 pixels


class EveryPixel(Levels):
    """Nothing is looked up: the pixels stand for the levels, as where a table would be larger than the image."""

    def __init__(self, pixels, signed=False):
        self.pixels, self.words = pixels, pixels


def load(tmp_path, content):
    (tmp_path / "a.dcm").write_bytes(content)
    try:
        return LoadRadiograph()(tmp_path / "a.dcm").as_tensor()
    except DataError as error:
        return str(error)


def both_ways(tmp_path, monkeypatch, content):
    """The image by levels, and the image pixel by pixel."""
    by_levels = load(tmp_path, content)
    with monkeypatch.context() as patch:
        patch.setattr(dicom_display, "Levels", EveryPixel)
        return by_levels, load(tmp_path, content)


def equal(first, second):
    if isinstance(first, str) or isinstance(second, str):
        return first == second
    return torch.equal(first.view(torch.int32), second.view(torch.int32))


MODALITY = {
    "as stored": {},
    "shifted": {"RescaleSlope": 1, "RescaleIntercept": -1024},
    "negative": {"RescaleSlope": -1, "RescaleIntercept": 4095},
    "fractional": {"RescaleSlope": "0.0244140625", "RescaleIntercept": "-3.7"},
    "too large": {"RescaleSlope": "1e306", "RescaleIntercept": 0},
    "table": {
        "ModalityLUTSequence": [{"LUTDescriptor": [90, 20, 16], "LUTData": [i * 7919 % 4000 for i in range(90)]}]
    },
}
VOI = {
    "range": {},
    "window": {"WindowCenter": 60, "WindowWidth": 91},
    "two windows": {"WindowCenter": "30.5\\1", "WindowWidth": "300\\20"},
    "width of 1": {"WindowCenter": 60, "WindowWidth": 1},
    "exact": {"WindowCenter": "60.25", "WindowWidth": "77.7", "VOILUTFunction": "LINEAR_EXACT"},
    "sigmoid": {"WindowCenter": 70, "WindowWidth": 33, "VOILUTFunction": "SIGMOID"},
    "table": {"VOILUTSequence": [{"LUTDescriptor": [60, 30, 16], "LUTData": [i * i * 11 for i in range(60)]}]},
    "table below 0": {"VOILUTSequence": [{"LUTDescriptor": [60, -30, 16], "LUTData": [i * i * 11 for i in range(60)]}]},
}
# type of a word, bits stored, the lowest of them, whether other bits hold something
WORDS = [
    *(("u1", 8, 0, False), ("u1", 6, 1, True), ("u2", 16, 0, False), ("u2", 14, 0, False)),
    *(("u2", 12, 0, True), ("u2", 10, 3, True), ("u2", 8, 0, True), ("u4", 20, 4, True)),
]


def words_of(kind, stored, lowest, garbage, signed, seed=0):
    rng, bits = np.random.default_rng(seed), 8 * np.dtype(kind).itemsize
    values = rng.normal(0, 2 ** min(stored - 3, 8), SHAPE).astype(np.int64) + (0 if signed else 2 ** (stored - 1))
    words = (values % 2**stored) << lowest if garbage else values % 2**bits
    noise = rng.integers(0, 2**32, SHAPE) & ~((2**stored - 1) << lowest)
    return ((words | noise if garbage else words) % 2**bits).astype(kind)


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
@pytest.mark.parametrize("voi", VOI.values(), ids=VOI)
@pytest.mark.parametrize("modality", MODALITY.values(), ids=MODALITY)
def test_levels_equal_pixels(tmp_path, monkeypatch, modality, voi):
    for number, (kind, stored, lowest, garbage) in enumerate(WORDS):
        for signed in (False, True):
            words = words_of(kind, stored, lowest, garbage, signed)
            tags = {"BitsStored": stored, "HighBit": stored + lowest - 1, "PixelPaddingValue": int(words[5, 5]) % 2**16}
            tags |= {"PhotometricInterpretation": f"MONOCHROME{1 + number % 2}", **modality, **voi}
            more = ({}, {"PixelPaddingValue": None}, {"PixelPaddingRangeLimit": 0})[(number + signed) % 3]
            content = dicom(words, (EXPLICIT, BIG_ENDIAN)[signed], signed=signed, **{**tags, **more})
            assert equal(*both_ways(tmp_path, monkeypatch, content)), (kind, stored, signed, more)


def test_levels_equal_pixels_of_compressed_files_and_extremes(tmp_path, monkeypatch):
    words = words_of("u2", 12, 0, False, False)
    window = {"BitsStored": 12, "HighBit": 11, "WindowCenter": 2048, "WindowWidth": 700}
    plain = load(tmp_path, dicom(words, **window))
    packed = both_ways(tmp_path, monkeypatch, dicom(words, RLE, frame=run_lengths(words), **window))
    assert equal(plain, packed[0])
    assert equal(*packed)
    all_of_them = (np.arange(2**17) % 2**16).astype(np.uint16).reshape(256, 512)
    two = np.where(np.arange(2**17) % 7, 65535, 0).astype(np.uint16).reshape(256, 512)
    for words in (all_of_them, two, np.full_like(two, 9)):
        for signed in (False, True):
            for tags in ({}, {"PixelPaddingValue": -1 if signed else 65535}, {"PixelPaddingValue": 9}):
                assert equal(*both_ways(tmp_path, monkeypatch, dicom(words, signed=signed, **tags)))


def test_levels_equal_pixels_of_real_files(shared, monkeypatch):
    folders = [pydicom.data.get_testdata_file("CT_small.dcm").rpartition("CT_small")[0], shared / "data" / "formats"]
    read = 0
    for path in sorted(path for folder in folders for path in Path(folder).glob("*.dcm")):
        found = []
        for kind in (Levels, EveryPixel):
            monkeypatch.setattr(dicom_display, "Levels", kind)
            try:
                found.append(LoadRadiograph()(path).as_tensor())
            except DataError as error:
                found.append(str(error))
        assert equal(*found), path.name
        read += not isinstance(found[0], str)
    assert read > 10


def displayed(monkeypatch, tmp_path, content):
    """How many values a window was applied to."""
    counts, windowed = [], dicom_display._windowed

    def counting(values, *args):
        counts.append(values.size)
        return windowed(values, *args)

    monkeypatch.setattr(dicom_display, "_windowed", counting)
    load(tmp_path, content)
    return counts


@pytest.mark.parametrize("voi", VOI.values(), ids=VOI)
@pytest.mark.parametrize("signed", [False, True])
def test_work_is_done_for_each_level_only(tmp_path, monkeypatch, voi, signed):
    words = (np.arange(300 * 400).reshape(300, 400) % 4096).astype(np.uint16)
    words[0, 0] = 2000 if signed else 4095
    words = (words - np.uint16(2048)) if signed else words
    tags = {"RescaleSlope": 2, "RescaleIntercept": -1024, **voi}
    assert displayed(monkeypatch, tmp_path, dicom(words, signed=signed, **tags)) == [65536]


@pytest.mark.parametrize(("dtype", "shape"), [("u4", (300, 400)), ("u2", (3, 4))])
def test_no_table_that_is_larger_than_the_image(tmp_path, monkeypatch, dtype, shape):
    words = (np.arange(np.prod(shape)).reshape(shape) * 5).astype(dtype)
    assert displayed(monkeypatch, tmp_path, dicom(words)) == [words.size]


def test_float_pixels_are_refused_as_ever(tmp_path):
    content = dicom(np.zeros((64, 64), np.uint32), BitsAllocated=32).replace(b"\xe0\x7f\x10\0OW", b"\xe0\x7f\x08\0OF")
    assert "holds no pixel data" in load(tmp_path, content)


PIXELS = np.array([[3, 3, 9, 5]] + [[5] * 4] * 99, np.uint8)


def test_levels():
    levels = Levels(PIXELS)
    assert levels.words.tolist() == list(range(256))
    np.testing.assert_array_equal(levels.spread(levels.words / 2), PIXELS / 2)
    pixels = PIXELS - np.uint8(5)  # -2 to 4, or 254 to 4
    signed = np.arange(256).astype(np.int8).astype(float)
    assert Levels(pixels, signed=True).ends(signed) == Levels(pixels).ends(signed) == (-2, 4)
    np.testing.assert_array_equal(Levels(pixels).spread(signed), PIXELS - 5.0)
    small = PIXELS[:2]
    assert Levels(small).words is small


@pytest.mark.parametrize(
    ("values", "left_out", "ends"),
    [
        ([0, 1, 2, 3, 4, 5, 6], [], (0, 6)),
        ([6, 5, 4, 3, 2, 1, 0], [], (0, 6)),
        ([0, 99, 2, -99, 99, 99, 6], [], (0, 6)),  # no pixel has the levels of 99
        ([0, 1, -7, 3, 4, 5, 6], [], (-7, 6)),
        ([0, 1, 2, 3, 4, 5, 6], [0], (2, 6)),  # the level after the first has no pixel
        ([0, 1, 2, 3, 4, 5, 6], [6, 0], (2, 2)),
        ([0, 1, 2, 3, 4, 5, 6], [0, 1, 2, 6], (0, 0)),  # nothing is seen
    ],
)
def test_ends_are_those_of_the_pixels(values, left_out, ends):
    of_levels, out = np.full(256, 1000.0), np.zeros(256, bool)
    of_levels[3:10] = values
    out[np.array(left_out, int) + 3] = True
    found = Levels(PIXELS).ends(of_levels, out if left_out else None)
    assert found == ends == ends_of(of_levels[PIXELS][~out[PIXELS]])
