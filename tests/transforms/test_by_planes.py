# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""A plane at a time, with the values that MONAI gives of the whole, to the last bit."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Orientationd, ScaleIntensityRange, ScaleIntensityRanged

from monai_mgca.data.without_meta import without_meta
from monai_mgca.transforms import AreaSpacingd, LoadVolumed, restore_preprocessing
from monai_mgca.transforms.by_planes import ByPlanes

RANGES = [{"a_min": -1000, "a_max": 400, "b_min": 0, "b_max": 255, "clip": True}, {"a_min": -3, "a_max": 7}]


@pytest.mark.parametrize("options", RANGES)
@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 3, 2, 1), (0, 2, 3, 1)])
@pytest.mark.parametrize("kind", [torch.float32, torch.int16, torch.uint8])
def test_as_monai_scales(options, order, kind):
    values = (torch.rand(2, 7, 9, 11, generator=torch.Generator().manual_seed(0)) * 2500 - 1200).to(kind)
    scale, image = ScaleIntensityRange(**options), MetaTensor(values.permute(order), affine=torch.eye(4) * 3)
    before, expected, found = image.clone(), scale(image), ByPlanes(scale)(image)
    assert torch.equal(found, expected)
    assert (found.dtype, found.stride()) == (expected.dtype, expected.stride())
    assert torch.equal(found.affine, expected.affine)
    assert torch.equal(image, before)
    with without_meta():
        plain = ByPlanes(scale)(image)
    assert type(plain) is torch.Tensor
    assert torch.equal(plain, expected.as_tensor())


@pytest.mark.parametrize("type_of", [np.int16, np.float32])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("slope", [(1, 0), (0.37, -1024.5)])
def test_a_volume_is_prepared_as_by_monai_of_a_copy(tmp_path, type_of, ending, slope):
    """Against MONAI's steps on the values as nibabel gives them, in the usual order in memory."""
    stored = np.random.default_rng(0).integers(-900, 3000, (20, 18, 14)).astype(type_of)
    image = nibabel.Nifti1Image(stored, np.diag([-2.0, -3, 4, 1]))
    image.header.set_slope_inter(*slope)
    nibabel.save(image, tmp_path / f"ct{ending}")
    read = nibabel.load(tmp_path / f"ct{ending}")
    assert (read.dataobj.slope, read.dataobj.inter) == pytest.approx(slope)
    values = np.ascontiguousarray(np.asarray(read.dataobj)[None], dtype=np.float32)
    item = {"image": MetaTensor(torch.from_numpy(values), affine=torch.from_numpy(read.affine))}
    orient, spacing = Orientationd("image", "RAS", labels=None), AreaSpacingd("image", 5.0)
    expected = Compose([orient, ScaleIntensityRanged("image", **RANGES[0]), spacing])(item)["image"]
    names = ["monai_mgca.transforms.LoadVolumed", "monai.transforms.Orientationd"]
    names += ["monai.transforms.ScaleIntensityRanged", "monai_mgca.transforms.AreaSpacingd"]
    options = [{}, {"axcodes": "RAS", "labels": None}, RANGES[0], {"voxel_size": 5.0}]
    steps = [{"_target_": name, "keys": "image", **more} for name, more in zip(names, options, strict=True)]
    found = Compose(restore_preprocessing({"preprocessing": steps}))({"image": str(tmp_path / f"ct{ending}")})["image"]
    assert torch.equal(found, expected)
    assert torch.equal(found.affine, expected.affine)
    assert torch.equal(LoadVolumed("image")({"image": str(tmp_path / f"ct{ending}")})["image"], item["image"])
