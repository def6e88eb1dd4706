# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import nibabel
import numpy as np
import pytest
from PIL import Image, ImageDraw

from monai_mgca.transforms import LoadMask
from monai_mgca.transforms.foreground import find_foreground
from monai_mgca.utils import DataError

Y, X = np.mgrid[:256, :320]
SHAPE = ((Y - 128) / 70.0) ** 2 + ((X - 140) / 50.0) ** 2 < 1
INNER = ((Y - 128) / 35.0) ** 2 + ((X - 140) / 25.0) ** 2 < 1
WHITE = (SHAPE * 255).astype(np.uint8)


def rgba(color, alpha):
    return Image.fromarray(np.dstack([np.broadcast_to(np.uint8(color), SHAPE.shape)] * 3 + [alpha]), "RGBA")


def resized(size, up):
    return Image.fromarray(WHITE).resize(size, Image.BILINEAR).resize((320, 256), up)


def colored():
    colors = np.zeros((*SHAPE.shape, 3), np.uint8)
    colors[SHAPE] = (255, 0, 0)
    return Image.fromarray(colors)


def put(image, path, **settings):
    """A picture by Pillow, or values as NIfTI."""
    if path.suffix == ".nii":
        nibabel.save(nibabel.Nifti1Image(image.T, np.eye(4)), path)
    else:
        (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **settings)
    return path


@pytest.mark.parametrize("values", [SHAPE, SHAPE.astype(np.uint8), WHITE, SHAPE * 7, SHAPE.astype(np.uint16) * 40000])
def test_binary_masks_are_taken_as_they_are(values):
    np.testing.assert_array_equal(find_foreground(values), SHAPE)


@pytest.mark.parametrize("add", [1, 2, 30])
def test_labels_without_a_background_are_refused(add):
    with pytest.raises(DataError, match="no background; write 0 outside"):
        find_foreground(SHAPE.astype(np.uint8) + add)


@pytest.mark.parametrize("suffix", ["png", "gif", "bmp"])
def test_a_palette_that_begins_with_the_structure(suffix, tmp_path):
    image = Image.fromarray((~SHAPE).astype(np.uint8), "P")
    image.putpalette([255, 255, 255, 0, 0, 0])  # as made for the colors, by what compresses pictures
    path = put(image, tmp_path / f"mask.{suffix}")
    np.testing.assert_array_equal(LoadMask()(path)[0], SHAPE)
    with pytest.raises(DataError, match="holds the value 255"):
        LoadMask(2)(path)


@pytest.mark.parametrize("value", [0, 1, 20, 255, True])
def test_one_value(value):
    assert (find_foreground(np.full((4, 5), value)) == bool(value)).all()


SAME = {
    "mode_1.png": lambda: Image.fromarray(SHAPE),
    "wide.png": lambda: SHAPE.astype(np.uint16) * 65535,
    "red.png": colored,
    "background_20.png": lambda: (SHAPE * 200 + 20).astype(np.uint8),
    "alpha_of_black.png": lambda: rgba(0, WHITE),
    "alpha_of_white.png": lambda: rgba(255, WHITE),
    "opaque.png": lambda: rgba(WHITE, np.full_like(WHITE, 255)),
    "cut_out_black.png": lambda: rgba(255 - WHITE, WHITE),
    "half_transparent.png": lambda: rgba(WHITE, np.where(X < 300, 255, 0).astype(np.uint8)),
    "gray_alpha.png": lambda: Image.merge("LA", [Image.new("L", (320, 256)), Image.fromarray(WHITE)]),
    "background_nan.nii": lambda: np.where(SHAPE, 1, np.nan).astype(np.float32),
    "background_-1.nii": lambda: np.where(SHAPE, 1, -1).astype(np.float32),
    "background_-1000.nii": lambda: np.where(SHAPE, 1, -1000).astype(np.int16),
    "parts.nii": lambda: SHAPE * 0.7,
}


@pytest.mark.parametrize("name", SAME)
def test_the_same_mask_in_other_forms(tmp_path, name):
    np.testing.assert_array_equal(LoadMask()(put(SAME[name](), tmp_path / name))[0].numpy() > 0, SHAPE)


NEAR = {
    "a.jpg": (lambda: WHITE, {"quality": 90}),
    "b.jpg": (lambda: WHITE, {"quality": 30}),
    "color.jpg": (colored, {"quality": 75}),
    "background.jpg": (lambda: (SHAPE * 200 + 20).astype(np.uint8), {"quality": 90}),
    "linear.png": (lambda: resized((80, 64), Image.BILINEAR), {}),
    "cubic.png": (lambda: resized((160, 128), Image.BICUBIC), {}),
    "box.png": (lambda: Image.fromarray(WHITE).resize((160, 128), Image.BOX).resize((320, 256), Image.LANCZOS), {}),
    "turned.png": (lambda: Image.fromarray(WHITE).rotate(9, Image.BICUBIC).rotate(-9, Image.BICUBIC), {}),
    "linear.nii": (lambda: np.asarray(resized((80, 64), Image.BILINEAR)) / 255.0, {}),
}


@pytest.mark.parametrize("name", NEAR)
def test_gray_edges_are_cut_at_half(tmp_path, name):
    make, settings = NEAR[name]
    found = LoadMask()(put(make(), tmp_path / name, **settings))[0].numpy() > 0
    assert abs(found.sum() / SHAPE.sum() - 1) < 0.01
    assert 2 * (found & SHAPE).sum() / (found.sum() + SHAPE.sum()) > 0.99


def test_a_drawn_line_with_smooth_edges():
    image = Image.new("L", (640, 640))
    ImageDraw.Draw(image).line((100, 80, 500, 560), 255, 24)
    line = np.asarray(image.resize((160, 160), Image.BOX))
    np.testing.assert_array_equal(find_foreground(line), line >= 128)


@pytest.mark.parametrize("values", [SHAPE * 1 + INNER, (SHAPE * 1 + INNER + 3 * (X > 250)).astype(np.float32)])
def test_all_of_a_label_map_of_one_class(values):
    np.testing.assert_array_equal(find_foreground(values), values > 0)


REFUSED = {
    "two_lungs.png": (lambda: SHAPE * 127 + INNER * 128, "areas of several gray levels .127 and 255.*for each class"),
    "void.png": (lambda: SHAPE + INNER * 254, r"areas of several gray levels \(1 and 255\)"),
    "organs.png": (lambda: np.where(SHAPE, X // 8 * 2, 0), "areas of several gray levels"),
    "two_lungs.jpg": (lambda: SHAPE * 127 + INNER * 128, "areas of several gray levels"),
    "parts.nii": (lambda: (SHAPE * 1 + INNER) / 2, r"\(0.5 and 1\)"),
    "ignored.nii": (lambda: SHAPE - 1.0 * (X > 250), r"\(0 and 1\)"),
    "negative.nii": (lambda: -1.0 * SHAPE, "none is above 0"),
    "infinite.nii": (lambda: np.where(SHAPE, np.inf, 0), "infinite"),
    "no_background.png": (lambda: SHAPE * 60 + 150, "no background"),
    "dark.jpg": (lambda: SHAPE * 2, "JPEG keeps no small numbers"),
    "nothing.png": (lambda: rgba(255, np.zeros_like(WHITE)), "transparent everywhere"),
    "photograph.png": (lambda: rgba((X % 256).astype(np.uint8), WHITE), "colors and its transparency vary"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_clear_is_refused_by_name(tmp_path, name):
    make, reason = REFUSED[name]
    values = make()
    if not isinstance(values, Image.Image) and not name.endswith(".nii"):
        values = values.astype(np.uint8)
    path = put(values, tmp_path / name)
    with pytest.raises(DataError, match=rf"mask .*{name}.*{reason}"):
        LoadMask()(path)


@pytest.mark.parametrize(("value", "shown"), [(0.5, "0.5"), (-1, "-1"), (3, "3")])
def test_values_that_are_no_class(tmp_path, value, shown):
    path = put(np.array([[0, 1, 2, value]], np.float32), tmp_path / "m.nii")
    with pytest.raises(DataError, match=rf"m.nii .*holds the value {shown}, but there are 2 classes"):
        LoadMask(2)(path)


def test_nothing_is_nan_of_several_classes(tmp_path):
    path = put(np.array([[np.nan, 1, 2]], np.float32), tmp_path / "m.nii")
    assert LoadMask(2)(path)[:, 0].tolist() == [[0, 1, 0], [0, 0, 1]]


def test_each_of_a_list(tmp_path):
    paths = [put(WHITE, tmp_path / "a.jpg", quality=90), put(SHAPE.astype(np.uint8), tmp_path / "b.png")]
    assert LoadMask(2)(paths).sum((1, 2)).numpy() == pytest.approx([SHAPE.sum()] * 2, rel=0.01)
