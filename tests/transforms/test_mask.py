# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

from monai_mgca.io import encode_rle
from monai_mgca.transforms import LoadMask, LoadMaskd
from monai_mgca.utils import DataError

VALUES = np.array([[0, 1, 2], [2, 0, 0]], dtype=np.uint8)  # (H, W) = (2, 3)


def save(values, path):
    if path.name.endswith(".nii.gz"):
        nibabel.save(nibabel.Nifti1Image(values.T, np.eye(4)), path)
    elif path.name == "cube.nii":
        nibabel.save(nibabel.Nifti1Image(values.T[:, :, None], np.eye(4)), path)
    elif path.name == "palette.png":
        image = Image.fromarray(values)
        image.putpalette([9, 9, 9, 200, 0, 0, 0, 0, 250, 5, 5, 5])  # the color of 0 is not black
        image.save(path)
    else:
        Image.fromarray(values).save(path)
    return str(path)


@pytest.fixture(params=["gray.png", "palette.png", "gray.tif", "flat.nii.gz", "cube.nii"])
def path(request, tmp_path):
    return save(VALUES, tmp_path / request.param)


def test_one_class_is_all_that_is_not_zero(path):
    mask = LoadMask()(path)
    assert mask.dtype == torch.float32
    assert mask.tolist() == (VALUES[None] > 0).tolist()


def test_values_are_the_classes(path):
    mask = LoadMask(3)(path)
    assert mask.tolist() == [(index == VALUES).tolist() for index in (1, 2, 3)]


def test_palette_is_a_palette(tmp_path):
    with Image.open(save(VALUES, tmp_path / "palette.png")) as image:
        assert image.mode == "P"


def test_a_value_that_is_no_class(path):
    save(np.where(VALUES == 2, 3, VALUES).astype(np.uint8), Path(path))
    with pytest.raises(DataError, match="holds the value 3, but there are 2 classes"):
        LoadMask(2)(path)


def test_run_lengths():
    assert LoadMask()(encode_rle(VALUES)).tolist() == (VALUES[None] > 0).tolist()


def test_a_list_has_one_a_class_which_may_overlap(tmp_path):
    whole = encode_rle(np.ones((2, 3)))
    mask = LoadMask(2)([save(VALUES, tmp_path / "gray.png"), whole])
    assert mask.tolist() == [(VALUES > 0).tolist(), np.ones((2, 3)).tolist()]


def test_color_becomes_gray(tmp_path):
    colors = np.stack([VALUES * 100, VALUES * 0, VALUES * 0], axis=-1)
    assert LoadMask()(save(colors, tmp_path / "color.png")).tolist() == (VALUES[None] > 0).tolist()


def square(size=(40, 60)):
    mask = np.zeros(size, bool)
    mask[8:24, 8:40] = True
    return mask


def test_colors_on_white_or_over_a_picture_are_refused(tmp_path):
    mask, gray = square()[..., None], np.random.default_rng(0).integers(60, 255, (40, 60, 1))
    red = np.array([255, 0, 0])
    assert (LoadMask()(save(np.where(mask, red, 0).astype(np.uint8), tmp_path / "a.jpg"))[0].numpy() == square()).all()
    for k, ground in enumerate((np.array([255, 255, 255]), gray)):
        with pytest.raises(DataError, match="colors beside bright gray"):
            LoadMask()(save(np.where(mask, red, ground).astype(np.uint8), tmp_path / f"{k}.png"))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_of_a_jpeg(tmp_path, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(square().astype(np.uint8) * 255).save(tmp_path / "a.jpg", exif=exif)
    turns = {2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud, 5: np.transpose, 6: lambda a: np.rot90(a, -1)}
    turns |= {7: lambda a: np.rot90(a, 2).T, 8: np.rot90}
    right = turns.get(orientation, np.array)(square())
    np.testing.assert_array_equal(LoadMask()(tmp_path / "a.jpg")[0].numpy(), right)


def test_tiff_white_is_zero(tmp_path):
    values = 65535 - square().astype(np.uint16) * 65535
    image = Image.fromarray(values)
    image.save(tmp_path / "a.tif", tiffinfo={262: 0})
    with Image.open(tmp_path / "a.tif") as written:
        assert written.tag_v2[262] == 0
    np.testing.assert_array_equal(LoadMask()(tmp_path / "a.tif")[0].numpy(), square())


def test_dictionary(tmp_path):
    path = save(VALUES, tmp_path / "gray.png")
    item = LoadMaskd(["mask", "other"], allow_missing_keys=True)({"mask": path, "image": path})
    assert item["mask"].shape == (1, 2, 3)
    assert item["image"] == path


class TestErrors:
    def test_sizes_differ(self, tmp_path):
        path = save(VALUES, tmp_path / "gray.png")
        with pytest.raises(DataError, match=r"differ in size: .*gray.png.*run lengths"):
            LoadMask(2)([path, encode_rle(np.ones((3, 2)))])

    def test_number_of_masks(self, tmp_path):
        with pytest.raises(DataError, match="1 masks for 2 classes"):
            LoadMask(2)([save(VALUES, tmp_path / "gray.png")])

    def test_missing(self, tmp_path):
        with pytest.raises(DataError, match=r"cannot read the mask .*none.png"):
            LoadMask()(str(tmp_path / "none.png"))

    def test_no_image(self, tmp_path):
        (tmp_path / "text.png").write_text("no image")
        with pytest.raises(DataError, match=r"cannot read the mask .*text.png: UnidentifiedImageError"):
            LoadMask()(tmp_path / "text.png")

    def test_volume(self, tmp_path):
        nibabel.save(nibabel.Nifti1Image(np.zeros((3, 2, 4), np.uint8), np.eye(4)), tmp_path / "volume.nii")
        with pytest.raises(DataError, match=r"volume.nii: the NIfTI file has shape \(3, 2, 4\)"):
            LoadMask()(tmp_path / "volume.nii")

    def test_run_lengths_of_another_size(self):
        with pytest.raises(DataError, match="5 pixels, not those of 2 rows and 3 columns"):
            LoadMask()({"size": [2, 3], "counts": [5]})
