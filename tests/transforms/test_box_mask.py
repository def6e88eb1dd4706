# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from monai_mgca.transforms import BoxesToMask, BoxesToMaskd, MaskToBoxes, MaskToBoxesd
from monai_mgca.utils import DataError


@st.composite
def disjoint_boxes(draw):
    """Whole boxes of two classes in an image of 8 x 8 cells of 5 pixels: one a cell at most, which no other touches."""
    cells = draw(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), unique=True, max_size=12))
    boxes, labels = [], []
    for column, row in cells:
        x0, y0 = (draw(st.integers(0, 2)) for _ in "xy")
        x1, y1 = (draw(st.integers(start + 1, 4)) for start in (x0, y0))
        boxes.append([5 * column + x0, 5 * row + y0, 5 * column + x1, 5 * row + y1])
        labels.append(draw(st.integers(0, 1)))
    return boxes, labels


@settings(max_examples=100, deadline=None)
@given(disjoint_boxes())
def test_boxes_come_back_from_their_mask(annotation):
    boxes, labels = annotation
    found, classes = MaskToBoxes()(BoxesToMask(2)(boxes, labels, (40, 45)))
    assert found.shape == (len(boxes), 4)
    assert (found.dtype, classes.dtype) == (torch.float32, torch.int64)
    pairs = sorted(zip(boxes, labels, strict=True))
    assert sorted(zip(found.int().tolist(), classes.tolist(), strict=True)) == pairs


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.floats(-3, 12), min_size=4, max_size=4), max_size=5))
def test_a_pixel_belongs_to_a_box_that_holds_its_center(boxes):
    mask = BoxesToMask()(boxes, [0] * len(boxes), (7, 9))
    for y in range(7):
        for x in range(9):
            held = any(x0 <= x + 0.5 < x1 and y0 <= y + 0.5 < y1 for x0, y0, x1, y1 in boxes)
            assert mask[0, y, x] == held


def test_classes_have_their_own_channels_and_may_overlap():
    mask = BoxesToMask(3)([[0, 0, 2, 2], [1, 1, 3, 3]], [2, 0], (3, 4))
    assert mask.dtype == torch.float32
    assert mask.sum((1, 2)).tolist() == [4, 0, 4]
    assert mask[0, 1, 1] == mask[2, 1, 1] == 1


def test_boxes_that_touch_become_one():
    corner = torch.zeros(1, 4, 4)
    corner[0, :2, :2] = corner[0, 2:, 2:] = 1
    assert MaskToBoxes()(corner)[0].tolist() == [[0, 0, 4, 4]]


def test_small_regions_are_left_out():
    mask = np.zeros((2, 6, 6))
    mask[0, 0, 0] = mask[1, 1:3, 1:3] = 7
    mask[1, 5, 3:] = -1
    assert MaskToBoxes(min_area=4)(mask)[0].tolist() == [[1, 1, 3, 3]]
    boxes, labels = MaskToBoxes(min_area=2)(mask)
    assert boxes.tolist() == [[1, 1, 3, 3], [3, 5, 6, 6]]
    assert labels.tolist() == [1, 1]


@pytest.mark.parametrize("shape", [(1, 5, 4), (0, 5, 4)])
def test_nothing_gives_empty_boxes_of_the_same_form(shape):
    boxes, labels = MaskToBoxes()(torch.zeros(shape))
    assert (boxes.shape, labels.shape) == ((0, 4), (0,))
    assert not BoxesToMask()(boxes, labels, (5, 4)).any()
    assert BoxesToMask()([], [], (5, 4)).shape == (1, 5, 4)


def test_dictionaries():
    item = {"image": torch.zeros(1, 8, 6), "boxes": torch.tensor([[1.0, 2, 4, 7]]), "box_labels": torch.tensor([1])}
    item = BoxesToMaskd("boxes", num_classes=2)(item)
    assert item["mask"].shape == (2, 8, 6)
    again = MaskToBoxesd("mask", box_keys="found", label_keys="classes")(item)
    assert again["found"].tolist() == [[1, 2, 4, 7]]
    assert again["classes"].tolist() == [1]
    assert "mask" not in BoxesToMaskd("boxes", allow_missing_keys=True)({"image": item["image"]})


@pytest.mark.parametrize(
    ("boxes", "labels", "message"),
    [
        ([[0, 0, 1]], [0], r"\(N, 4\)"),
        ([0, 0, 1, 1], [0], r"\(N, 4\)"),
        ([[0, 0, 1, 1]], [], "1 boxes, but 0 labels"),
        ([[0, 0, 1, 1]], [2], r"0 to 1, got \[2\]"),
        ([[0, 0, 1, 1]], [-1], r"got \[-1\]"),
    ],
)
def test_wrong_boxes(boxes, labels, message):
    with pytest.raises(DataError, match=message):
        BoxesToMask(2)(boxes, labels, (4, 4))


def test_a_mask_without_channels():
    with pytest.raises(DataError, match=r"\(C, H, W\)"):
        MaskToBoxes()(torch.zeros(4, 4))
