# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import itertools

import nibabel
import numpy as np
import pytest
import torch
from monai.data import decollate_batch, list_data_collate
from monai.metrics import compute_hausdorff_distance
from monai.transforms import (
    AsDiscreted,
    CenterSpatialCropd,
    Compose,
    Orientationd,
    RepeatChanneld,
    Resized,
    ResizeWithPadOrCropd,
    ScaleIntensityRanged,
    SpatialPadd,
)
from nibabel.orientations import axcodes2ornt
from PIL import Image
from scipy import ndimage

from monai_mgca.transforms import AreaSpacingd, InvertProbabilitiesd, LoadMask, LoadRadiographd, LoadVolumed


def draw(width, height):
    """A box in the upper left and an ellipse in the lower right: no flip or transposition leaves it alike."""
    y, x = np.mgrid[:height, :width] / np.array([height, width]).reshape(2, 1, 1)
    box = (y > 0.2) & (y < 0.7) & (x > 0.1) & (x < 0.35)
    return box | (((y - 0.6) / 0.3) ** 2 + ((x - 0.72) / 0.2) ** 2 < 1)


def preprocessing(size, channels=1):
    """The spatial part of the configs, then values of 0 to 1."""
    return Compose(
        [
            LoadRadiographd("image"),
            Resized("image", size, size_mode="longest", mode="area"),
            SpatialPadd("image", (size, size)),
            ScaleIntensityRanged("image", 0, 255, 0, 1),
            RepeatChanneld("image", channels),
        ]
    )


@pytest.mark.parametrize(("width", "height"), [(61, 83), (83, 61), (64, 64), (200, 90), (77, 150), (301, 299)])
@pytest.mark.parametrize("size", [32, 64, 96, 160])
def test_a_mask_survives_within_a_pixel(tmp_path, width, height, size):
    """Load, resize and pad, predict what is seen, invert: the contour is a pixel off at most, of the coarser grid."""
    mask, path = draw(width, height), str(tmp_path / "mask.png")
    Image.fromarray(mask).save(path)
    transform = preprocessing(size)
    item = transform({"image": path})
    item["pred"] = item["image"].clone()
    post = Compose([InvertProbabilitiesd("pred", transform), AsDiscreted("pred", threshold=0.5)])
    found = post(item)["pred"].as_tensor()
    expected = LoadMask()(path).as_tensor()
    assert found.shape == expected.shape == (1, height, width)
    distance = compute_hausdorff_distance(found[None], expected[None], include_background=True)
    assert distance <= max(1, max(width, height) / size)


def test_batches_plain_tensors_and_the_image_itself(tmp_path):
    """As in an engine: a network gives a plain tensor of other channels than the image; images differ in size."""
    transform = preprocessing(48, channels=3)
    items = []
    for index, (width, height) in enumerate(itertools.permutations((60, 90))):
        Image.fromarray(draw(width, height)).save(tmp_path / f"{index}.png")
        items.append(transform({"image": str(tmp_path / f"{index}.png")}))
    batch = list_data_collate(items)
    batch["pred"] = batch["image"][:, :2].as_tensor()
    for (width, height), item in zip(itertools.permutations((60, 90)), decollate_batch(batch), strict=True):
        result = InvertProbabilitiesd("pred", transform, "image")(item)
        assert result["pred"].shape == (2, height, width)
        assert result["image"] is item["image"]
        assert result["image"].shape == (3, 48, 48)
        agree = (result["pred"][1].as_tensor() > 0.5).numpy() == draw(width, height)
        assert agree.mean() > 0.98


def test_probabilities_are_smooth_and_stay_in_range(tmp_path):
    """Made larger by interpolation: between two network pixels there are values between."""
    Image.fromarray(np.repeat(np.array([[0, 255]], dtype=np.uint8), 128, 0).repeat(64, 1)).save(tmp_path / "step.png")
    transform = preprocessing(16)
    item = transform({"image": str(tmp_path / "step.png")})
    row = InvertProbabilitiesd("pred", transform)({**item, "pred": item["image"].clone()})["pred"][0, 64]
    assert row.min() >= 0
    assert row.max() <= 1
    assert len(row.unique()) > 4
    assert (row.diff() >= 0).all()


def itk_image(values, affine):
    """(X, Y, Z) values with an affine to RAS as an image of SimpleITK."""
    sitk = pytest.importorskip("SimpleITK")
    to_lps = np.diag([-1.0, -1, 1, 1]) @ np.asarray(affine, dtype=float)
    sizes = np.linalg.norm(to_lps[:3, :3], axis=0)
    image = sitk.GetImageFromArray(np.ascontiguousarray(np.asarray(values, dtype=np.float32).T))
    image.SetSpacing(sizes.tolist())
    image.SetOrigin(to_lps[:3, 3].tolist())
    image.SetDirection((to_lps[:3, :3] / sizes).ravel().tolist())
    return image


@pytest.mark.parametrize("axes", ["RAS", "LPS", "LAI", "SRA", "IPL", "ASR"])
def test_a_map_of_a_volume_lies_where_another_reader_puts_it(tmp_path, axes):
    """Back to the axes, the slices and the edges of the file, as SimpleITK resamples the network's grid."""
    sitk = pytest.importorskip("SimpleITK")
    affine = np.array([[1.5, 0, 0, -20], [0, 2, 0, 5], [0, 0, 5, 60], [0, 0, 0, 1]])
    upright = nibabel.Nifti1Image(np.zeros((40, 34, 15), np.int16), affine)
    turn = nibabel.orientations.ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(axes))
    nibabel.save(upright.as_reoriented(turn), tmp_path / "v.nii")
    transform = Compose(
        [
            LoadVolumed("image"),
            Orientationd("image", "RAS", labels=None),
            AreaSpacingd("image", 3.0),
            ResizeWithPadOrCropd("image", (22, 22, 24)),
            CenterSpatialCropd("image", (18, 20, 20)),
        ]
    )
    item = transform({"image": str(tmp_path / "v.nii")})
    torch.manual_seed(0)
    heat = torch.rand(1, *item["image"].shape[1:])
    found = InvertProbabilitiesd("pred", transform)({**item, "pred": heat})["pred"][0].numpy()
    stored = nibabel.load(tmp_path / "v.nii")
    assert found.shape == stored.shape
    grid = itk_image(np.zeros(stored.shape), stored.affine)
    wanted = sitk.Resample(itk_image(heat[0], item["image"].affine), grid, sitk.Transform(), sitk.sitkLinear, 0.0)
    inside = sitk.Resample(itk_image(np.ones(heat.shape[1:]), item["image"].affine), grid)
    inside = ndimage.binary_erosion(sitk.GetArrayFromImage(inside).T > 0.5, iterations=2)
    assert inside.sum() > 3000
    np.testing.assert_allclose(found[inside], sitk.GetArrayFromImage(wanted).T[inside], atol=1e-4)
