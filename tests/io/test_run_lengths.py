# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monai_mgca.io import decode_rle, decode_siim, encode_rle
from monai_mgca.utils import DataError


@st.composite
def masks(draw):
    height, width = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    pixels = draw(st.lists(st.booleans(), min_size=height * width, max_size=height * width))
    return np.array(pixels, dtype=np.uint8).reshape(height, width)


def siim(mask, relative):
    """SIIM-ACR's text of a mask, pixel by pixel."""
    numbers, end = [], 0
    pixels = [mask[y, x] for x in range(mask.shape[1]) for y in range(mask.shape[0])]
    for place, value in enumerate(pixels):
        if value and (place == 0 or not pixels[place - 1]):
            numbers += [place - end if relative else place, 0]
        if value:
            numbers[-1] += 1
            end = place + 1
    return " ".join(map(str, numbers)) or "-1"


@settings(max_examples=200, deadline=None)
@given(masks())
def test_decode_is_the_inverse_of_encode(mask):
    rle = encode_rle(mask)
    assert np.array_equal(decode_rle(json.loads(json.dumps(rle))), mask)
    assert decode_rle(rle).dtype == np.uint8
    assert rle["size"] == list(mask.shape)
    assert all(count > 0 for count in rle["counts"][1:])
    assert sum(rle["counts"][1::2]) == mask.sum()


@settings(max_examples=50, deadline=None)
@given(masks())
def test_as_pycocotools(mask):
    coco = pytest.importorskip("pycocotools.mask")
    compressed = coco.frPyObjects(encode_rle(mask), *mask.shape)
    assert np.array_equal(coco.decode(compressed), mask)


def test_down_the_columns_and_zeros_first():
    assert encode_rle([[1, 0], [0, 0], [1, 1]]) == {"size": [3, 2], "counts": [0, 1, 1, 1, 2, 1]}
    assert encode_rle(np.zeros((2, 3), bool)) == {"size": [2, 3], "counts": [6]}
    assert encode_rle(np.full((2, 3), 255)) == {"size": [2, 3], "counts": [0, 6]}
    assert decode_rle({"size": [2, 1], "counts": [0, 1, 0, 1]}).tolist() == [[1], [1]]  # a run of no length


@pytest.mark.parametrize(
    "rle",
    [
        {"size": [2, 3], "counts": [5]},
        {"size": [2, 3], "counts": [4, 4]},
        {"size": [2, 3], "counts": [8, -2]},
        {"size": [2, 3], "counts": []},
        {"size": [-2, -3], "counts": [6]},
        {"size": [6], "counts": [6]},
        {"size": [2, 3], "counts": "PPYo0"},
        {"size": [2, 3]},
        {"counts": [6]},
        [6],
    ],
)
def test_wrong_run_lengths(rle):
    with pytest.raises(DataError, match="run lengths"):
        decode_rle(rle)


def test_a_mask_with_channels_is_not_encoded():
    with pytest.raises(DataError, match=r"\(1, 2, 3\)"):
        encode_rle(np.zeros((1, 2, 3)))


@settings(max_examples=200, deadline=None)
@given(masks(), st.booleans())
def test_both_spellings_of_siim(mask, relative):
    assert np.array_equal(decode_siim(siim(mask, relative), *mask.shape, relative), mask)


def test_siim_by_hand():
    expected = [[0, 1], [1, 0], [1, 0]]  # pixels 1, 2 and 3, down the columns
    assert decode_siim("1 3", 3, 2, relative=True).tolist() == expected
    assert decode_siim(" 1 2 0 1 ", 3, 2, relative=True).tolist() == expected
    assert decode_siim("1 2 3 1", 3, 2, relative=False).tolist() == expected
    assert decode_siim("2 2 1 2", 3, 2, relative=False).tolist() == expected  # out of order, overlapping
    assert not decode_siim("-1", 3, 2, relative=True).any()


@pytest.mark.parametrize(
    ("text", "relative", "message"),
    [
        ("1 2 3", True, "pairs .* got 3 numbers"),
        ("", True, "pairs"),
        ("1 a", True, "whole numbers"),
        ("1.5 2", True, "whole numbers"),
        ("3 4", True, "leaves the image of 3 rows and 2 columns"),
        ("1 2 3 2", True, "leaves the image"),
        ("5 2", False, "leaves the image"),
        ("-2 1", False, "leaves the image"),
        ("3 -1", False, "leaves the image"),
    ],
)
def test_wrong_siim(text, relative, message):
    with pytest.raises(DataError, match=message):
        decode_siim(text, 3, 2, relative)
