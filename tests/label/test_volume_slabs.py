# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""What a network gave comes back to the volume's voxels as MONAI's Invertd brings it, a few slices at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import CenterSpatialCropd, Compose, Orientationd, ResizeWithPadOrCropd, Rotated, SpatialPadd

pytest.importorskip("monailabel", reason="MONAI Label is not installed: on Python 3.13 it needs a line of its own")

from monai_mgca.io.volumes.volume_geometry import read_volume_geometry
from monai_mgca.label.infers.volume_slabs import restored_slabs
from monai_mgca.transforms import AreaSpacingd, InvertProbabilitiesd, LoadVolumed
from monai_mgca.utils import CheckpointError

from .volume_studies import draw_ct, save_nifti


def restored(values, affine, geometry, thick=8):
    whole = torch.zeros((len(values), *geometry.size))
    for place, slab in restored_slabs(values, affine, geometry, thick):
        whole[..., place] = slab
    return whole


@pytest.mark.parametrize("axes", ["LPS", "RAS", "PIR", "SAL", "ILA", "AIR"])
def test_as_monai_inverts(tmp_path, axes):
    path = save_nifti(tmp_path / "ct.nii.gz", draw_ct(0), axes)
    steps = Compose([LoadVolumed("image"), Orientationd("image", "RAS", labels=None), AreaSpacingd("image", 17.0)])
    item = steps({"image": str(path)})
    item["pred"] = torch.rand(2, *item["image"].shape[1:], generator=torch.Generator().manual_seed(0))
    expected = InvertProbabilitiesd("pred", steps)(item)["pred"].as_tensor()
    geometry = read_volume_geometry(path)
    assert expected.shape[1:] == geometry.size
    for thick in (1, 7, 100):
        found = restored(item["pred"], item["image"].affine, geometry, thick)
        torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)
    pad = SpatialPadd(["image", "pred"], (40, 17, 33), mode="constant", value=9)
    item["pred"] = MetaTensor(item["pred"], affine=item["image"].affine)
    padded = pad(item)
    found = restored(padded["pred"].as_tensor(), padded["image"].affine, geometry)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)


def test_what_was_cropped_is_nothing_and_padding_changes_nothing(tmp_path):
    path = save_nifti(tmp_path / "ct.nii.gz", draw_ct(0), "LAS")
    load = [LoadVolumed("image"), Orientationd("image", "RAS", labels=None)]
    item = Compose([*load, CenterSpatialCropd("image", (20, 99, 8))])({"image": str(path)})
    found = restored(torch.ones_like(item["image"].as_tensor()), item["image"].affine, read_volume_geometry(path))
    inside = torch.zeros(30, 26, 20)
    inside[5:25, :, 6:14] = 1
    assert torch.equal(found[0], inside)
    padded = Compose([*load, ResizeWithPadOrCropd("image", (40, 40, 40))])({"image": str(path)})["image"]
    whole = restored(padded.as_tensor(), padded.affine, read_volume_geometry(path))
    torch.testing.assert_close(whole, LoadVolumed("image")({"image": str(path)})["image"].as_tensor())


def test_turned_by_an_angle(tmp_path):
    path = save_nifti(tmp_path / "ct.nii.gz", draw_ct(0))
    turned: MetaTensor = Compose([LoadVolumed("image"), Rotated("image", (0, 0, np.radians(5)))])({"image": str(path)})[
        "image"
    ]
    with pytest.raises(CheckpointError, match="by an angle"):
        restored(turned.as_tensor(), turned.affine, read_volume_geometry(path))
