# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0


"""The same file, the same pixels: by its own tags, whatever stands in those that do not matter, with every pydicom."""

import struct

import numpy as np
import pytest

from monai_mgca.io.image_header import look_at_header
from monai_mgca.transforms import LoadRadiograph
from monai_mgca.utils import DataError

pydicom = pytest.importorskip("pydicom")
from .dicom_bytes import BIG_ENDIAN, EXPLICIT, dicom  # noqa: E402

PIXELS = np.linspace(650, 3500, 12).round().astype(np.uint16).reshape(3, 4)
MIN_MAX = (PIXELS - 650.0) * 255 / 2850


def load(tmp_path, content, name="a.dcm"):
    (tmp_path / name).write_bytes(content)
    return LoadRadiograph()(tmp_path / name)[0].numpy()


HARMLESS = {
    "no place": {"ImagePositionPatient": "", "ImageOrientationPatient": ""},
    "place of text": {"ImagePositionPatient": "a\\b\\c", "ImageOrientationPatient": "1\\0\\0\\0\\1\\0"},
    "place of two": {"ImagePositionPatient": "1\\2", "ImageOrientationPatient": "1\\0\\0\\0\\1\\0"},
    "no plane": {
        "ImagePositionPatient": "1\\2\\3",
        "ImageOrientationPatient": "0\\0\\0\\0\\0\\0",
        "PixelSpacing": "1\\1",
    },
    "spacing of one": {"PixelSpacing": "0.14"},
    "spacing of three": {"PixelSpacing": "0.14\\0.14\\0.14"},
    "spacing of text": {"PixelSpacing": "unknown\\unknown"},
    "spacing of 0": {"PixelSpacing": "0\\0"},
    "window of 0": {"WindowCenter": "2000", "WindowWidth": "0"},
    "window below 0": {"WindowCenter": "2000", "WindowWidth": "-3000"},
    "window below 1": {"WindowCenter": "2000", "WindowWidth": "0.5"},
    "window of text": {"WindowCenter": "2000,5", "WindowWidth": "3000,0"},
    "window not finite": {"WindowCenter": "nan", "WindowWidth": "inf"},
    "window without center": {"WindowWidth": "3000"},
    "window without width": {"WindowCenter": "3000", "WindowWidth": ""},
    "second window sound": {"WindowCenter": "0\\2000", "WindowWidth": "0\\3000"},
    "second window empty": {"WindowCenter": "2000\\", "WindowWidth": "3000\\"},
    "VOI LUT without items": {"VOILUTSequence": []},
    "VOI LUT empty": {"VOILUTSequence": [{"LUTDescriptor": [0, 0], "LUTData": b""}]},
    "modality LUT without items": {"ModalityLUTSequence": []},
    "slope of 0": {"RescaleSlope": "0", "RescaleIntercept": "5"},
    "slope empty": {"RescaleSlope": "", "RescaleIntercept": ""},
    "intercept alone": {"RescaleIntercept": "-1024"},
    "frames 0": {"NumberOfFrames": "0"},
    "frames empty": {"NumberOfFrames": ""},
    "no samples": {"SamplesPerPixel": None},
    "no photometric": {"PhotometricInterpretation": None},
    "photometric small": {"PhotometricInterpretation": "monochrome2"},
    "no bits stored": {"BitsStored": None, "HighBit": None},
    "bits stored of 0": {"BitsStored": 0, "HighBit": 0},
    "more stored than there are": {"BitsStored": 20, "HighBit": 19},
    "no high bit": {"HighBit": None},
    "no representation": {"PixelRepresentation": None},
    "wrong high bit": {"BitsStored": 12, "HighBit": 15},
    "padding of text": {"PixelPaddingValue": b""},
    "planar": {"PlanarConfiguration": 1},
    "unknown function": {"VOILUTFunction": "CUBIC", "WindowCenter": "2075", "WindowWidth": "2851"},
}


@pytest.mark.parametrize("tags", HARMLESS.values(), ids=HARMLESS)
def test_tags_that_need_not_be_right(tmp_path, tags):
    np.testing.assert_allclose(load(tmp_path, dicom(PIXELS, **tags)), MIN_MAX, atol=0.05)
    assert look_at_header(tmp_path / "a.dcm").problem is None


@pytest.mark.parametrize("options", [{"syntax": ""}, {"preamble": False}, {"preamble": False, "meta": False}])
@pytest.mark.parametrize("name", ["a.dcm", "IM0001"])
def test_header_that_is_not_whole(tmp_path, options, name):
    np.testing.assert_allclose(load(tmp_path, dicom(PIXELS, **options), name), MIN_MAX, atol=1e-3)
    assert look_at_header(tmp_path / name).problem is None


NAMED = {
    "RescaleSlope (0028,1053)": {"RescaleSlope": "1,0"},
    "RescaleIntercept (0028,1052)": {"RescaleIntercept": "none"},
    "ModalityLUTSequence (0028,3000)": {"ModalityLUTSequence": [{"LUTDescriptor": [1, 2]}]},
    "Rows (0028,0010)": {"Rows": None},
    "Columns": {"Columns": 0},
    "BitsAllocated (0028,0100)": {"BitsAllocated": 12},
    "NumberOfFrames (0028,0008)": {"NumberOfFrames": "one"},
    "SamplesPerPixel (0028,0002)": {"SamplesPerPixel": 3},
}


@pytest.mark.parametrize(("name", "tags"), NAMED.items())
def test_tag_that_the_pixels_depend_on_is_named(tmp_path, name, tags):
    with pytest.raises(DataError) as error:
        load(tmp_path, dicom(PIXELS, **tags))
    assert name in str(error.value)
    assert "a.dcm" in str(error.value)


def windowed(values, center, width):
    return np.clip((values - (center - 0.5)) / (width - 1) + 0.5, 0, 1) * 255


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(("slope", "intercept"), [(-1, 4095), (-0.5, 0), (2, -1000), (1, 0)])
@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID", None])
def test_window_of_rescaled_values(tmp_path, photometric, slope, intercept, function):
    values = PIXELS * float(slope) + intercept
    center, width = float(values.mean()), 1500.0
    tags = {"RescaleSlope": slope, "RescaleIntercept": intercept, "WindowCenter": center, "WindowWidth": width}
    right = {
        "LINEAR_EXACT": np.clip((values - center) / width + 0.5, 0, 1) * 255,
        "SIGMOID": 255 / (1 + np.exp(-4 * (values - center) / width)),
    }.get(function, windowed(values, center, width))
    right = right if photometric == "MONOCHROME2" else 255 - right
    found = load(tmp_path, dicom(PIXELS, PhotometricInterpretation=photometric, VOILUTFunction=function, **tags))
    np.testing.assert_allclose(found, right, atol=0.01)


@pytest.mark.parametrize(("stored", "lowest"), [(12, 0), (12, 4), (10, 3), (8, 0), (16, 0)])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("syntax", [EXPLICIT, BIG_ENDIAN])
def test_only_stored_bits_are_values(tmp_path, stored, lowest, signed, syntax):
    """Of overlays and garbage above and below them nothing is seen, and the highest of them is the sign."""
    values = np.arange(12).reshape(3, 4) * 20 - (120 if signed else 0)
    values[-1, -1] = 2 ** (stored - signed) - 1
    garbage = np.random.default_rng(0).integers(0, 2**16, (3, 4)) & ~((2**stored - 1) << lowest) & 0xFFFF
    words = ((values % 2**stored) << lowest | garbage).astype(np.uint16)
    tags = {"BitsStored": stored, "HighBit": stored + lowest - 1, "WindowCenter": 0, "WindowWidth": 201}
    found = load(tmp_path, dicom(words, syntax, signed=signed, **tags))
    np.testing.assert_allclose(found, windowed(values, 0, 201), atol=1e-3)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint32])
@pytest.mark.parametrize("syntax", [EXPLICIT, BIG_ENDIAN])
def test_words_of_other_sizes(tmp_path, dtype, syntax):
    words = (np.arange(12).reshape(3, 4) * 20).astype(dtype)
    content = dicom(words, syntax)
    if syntax == BIG_ENDIAN and dtype == np.uint8:  # OW: two pixels are one word
        content = content[:-12] + words.view("<u2").astype(">u2").tobytes()
    np.testing.assert_allclose(load(tmp_path, content), words * 255.0 / 220, atol=1e-3)


PADDING = {
    "above": ({"PixelPaddingValue": 65535}, 65535, False),
    "below": ({"PixelPaddingValue": 0}, 0, False),
    "in a range": ({"PixelPaddingValue": 65000, "PixelPaddingRangeLimit": 65535}, 65100, False),
    "a range from its upper end": ({"PixelPaddingValue": 100, "PixelPaddingRangeLimit": 0}, 50, False),
    "with a sign": ({"PixelPaddingValue": -2000}, -2000, True),
    "beyond the stored bits": ({"PixelPaddingValue": 63536, "BitsStored": 12, "HighBit": 11}, 63536, False),
    "inverted": ({"PixelPaddingValue": 4095, "PhotometricInterpretation": "MONOCHROME1"}, 4095, False),
}


@pytest.mark.parametrize(("tags", "value", "signed"), PADDING.values(), ids=PADDING)
@pytest.mark.parametrize("window", [{}, {"WindowCenter": 2075, "WindowWidth": 2851}])
def test_padding_is_background_and_sets_no_range(tmp_path, tags, value, signed, window):
    words = PIXELS.copy()
    words[0, 1] = value % 2**16
    right = 255 - MIN_MAX if tags.get("PhotometricInterpretation") == "MONOCHROME1" else MIN_MAX.copy()
    right[0, 1] = 0
    np.testing.assert_allclose(load(tmp_path, dicom(words, signed=signed, **tags, **window)), right, atol=0.1)


def test_nothing_but_padding(tmp_path):
    assert not load(tmp_path, dicom(np.full((3, 4), 7, np.uint16), PixelPaddingValue=7)).any()


TABLE = [0, 10, 20, 40, 80, 100, 120, 140, 160, 180, 220, 240]
# entries of 16 bits; of 8 bits in a word each; of 8 bits packed as bytes; of 8 bits, two in a word
TABLES = {
    "words": {"LUTDescriptor": [12, 0, 16], "LUTData": TABLE},
    "words in bytes": {"LUTDescriptor": [12, 0, 16], "LUTData": struct.pack("<12H", *TABLE)},
    "8 bits in words": {"LUTDescriptor": [12, 0, 8], "LUTData": TABLE},
    "8 bits packed": {"LUTDescriptor": [12, 0, 8], "LUTData": bytes(TABLE)},
    "8 bits in US": {"LUTDescriptor": [12, 0, 8], "LUTData": list(struct.unpack("<6H", bytes(TABLE)))},
    "8 bits packed, an odd number": {"LUTDescriptor": [11, 0, 8], "LUTData": bytes([*TABLE[:11], 0])},
}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
@pytest.mark.parametrize("sequence", ["VOILUTSequence", "ModalityLUTSequence"])
def test_tables(tmp_path, table, sequence):
    words = np.arange(12, dtype=np.uint16).reshape(3, 4)
    count = table["LUTDescriptor"][0]
    right = np.array(TABLE)[np.minimum(words, count - 1)] * 255.0 / TABLE[count - 1]
    np.testing.assert_allclose(load(tmp_path, dicom(words, **{sequence: [table]})), right, atol=1e-3)


@pytest.mark.parametrize("syntax", [EXPLICIT, BIG_ENDIAN])
def test_table_of_values_with_a_sign(tmp_path, syntax):
    words = (np.arange(12) - 6).astype(np.uint16).reshape(3, 4)
    table = {"LUTDescriptor": [12, -6, 16], "LUTData": TABLE}
    found = load(tmp_path, dicom(words, syntax, signed=True, VOILUTSequence=[table]))
    np.testing.assert_allclose(found, np.reshape(TABLE, (3, 4)) * 255.0 / 240, atol=1e-3)


def test_table_that_makes_no_sense_is_passed_by(tmp_path):
    tables = [{"LUTDescriptor": [12], "LUTData": TABLE}, TABLES["words"]]
    words = np.arange(12, dtype=np.uint16).reshape(3, 4)
    np.testing.assert_allclose(
        load(tmp_path, dicom(words, VOILUTSequence=tables)), np.reshape(TABLE, (3, 4)) * 255.0 / 240, atol=1e-3
    )


CASES = [
    *((f"dicom_bits_above_bits_stored/{name}.dcm", f"right_{name}.npy") for name in ("garbage", "overlay", "signed12")),
    *(("dicom_negative_slope_with_window/a.dcm", "right.npy"), ("dicom_without_preamble/a.dcm", "right.npy")),
    ("dicom_without_preamble/IM0001", "right.npy"),
]


def test_cases(shared):
    for path, right in CASES:
        path = shared / "cases" / path
        np.testing.assert_allclose(LoadRadiograph()(path)[0], np.load(path.with_name(right)), atol=0.01)
    folder = shared / "cases" / "dicom_tags_that_need_not_be_right"
    for path in folder.glob("*.dcm"):
        if path.stem == "slope_comma":
            with pytest.raises(DataError, match="RescaleSlope"):
                LoadRadiograph()(path)
        else:
            np.testing.assert_allclose(LoadRadiograph()(path)[0], np.load(folder / "right.npy"), atol=0.01)
