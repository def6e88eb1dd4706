# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Boxes of volumes: from millimeters of the world to voxels of the network, along with the volume, and back."""

from __future__ import annotations

from itertools import permutations, product

import nibabel
import numpy as np
import pytest
import torch
from monai.apps.detection.transforms.dictionary import RandCropBoxByPosNegLabeld
from monai.data import MetaTensor
from monai.transforms import Compose, DivisiblePadd, Orientationd, RandAffined, SpatialPadd

from monai_mgca.transforms import (
    AreaSpacingd,
    LoadVolumed,
    MapBoxesd,
    RememberAffineAgaind,
    RememberAffined,
    RestoreBoxesd,
    map_boxes,
    restore_boxes,
)

# of the stored volume (30, 24, 18) with voxels of 2 x 3 x 4 mm
START, STOP = (6, 4, 5), (16, 13, 11)
AFFINE = np.array([[2, 0, 0, -31], [0, 3, 0, 17], [0, 0, 4, -205], [0, 0, 0, 1]], dtype=float)
ORIENTATIONS = ["".join(axes) for order in permutations(("RL", "AP", "IS")) for axes in product(*order)]
SIX = ["RAS", "ASR", "SRA", "LPS", "PIR", "ILA"]


def stored(path, orientation="RAS", affine=AFFINE):
    """A file with a bright box, turned to an orientation as nibabel does it; the box in millimeters."""
    values = np.zeros((30, 24, 18), dtype=np.int16)
    values[tuple(slice(*ends) for ends in zip(START, STOP, strict=True))] = 255
    image = nibabel.Nifti1Image(values, affine)
    turn = nibabel.orientations.ornt_transform(
        nibabel.orientations.io_orientation(affine), nibabel.orientations.axcodes2ornt(orientation)
    )
    nibabel.save(image.as_reoriented(turn), path)
    corners = np.array(list(product(*zip(START, STOP, strict=True)))) - 0.5
    world = nibabel.affines.apply_affine(affine, corners)
    return [*world.min(0).tolist(), *world.max(0).tolist()]


def chain(*spatial, voxel_size=2.0):
    return Compose(
        [
            LoadVolumed("image"),
            RememberAffined("image"),
            Orientationd("image", "RAS", labels=None),
            AreaSpacingd("image", voxel_size),
            *spatial,
            MapBoxesd("boxes", label_keys="box_labels"),
        ]
    )


def bright_voxels(image):
    """The box around what is bright, in voxels of the network's volume."""
    places = torch.nonzero(torch.as_tensor(image[0]) > 127)
    return torch.cat((places.amin(0), places.amax(0) + 1)).float()


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_every_orientation_gives_the_same_voxels(tmp_path, orientation):
    box = stored(tmp_path / "v.nii", orientation)
    item = chain(voxel_size=(2.0, 3.0, 4.0))({"image": str(tmp_path / "v.nii"), "boxes": [box], "box_labels": [1]})
    assert item["boxes"].tolist() == [[*START, *STOP]]
    assert item["boxes"][0].tolist() == bright_voxels(item["image"]).tolist()
    assert RestoreBoxesd("boxes")(item)["boxes"][0].tolist() == pytest.approx(box)


@pytest.mark.parametrize("orientation", SIX)
@pytest.mark.parametrize("spatial", [(), (SpatialPadd("image", 80), DivisiblePadd("image", 16))], ids=["", "padded"])
def test_there_and_back_through_spacing_and_padding(tmp_path, orientation, spatial):
    box = stored(tmp_path / "v.nii", orientation)
    item = chain(*spatial)({"image": str(tmp_path / "v.nii"), "boxes": [box], "box_labels": [0]})
    torch.testing.assert_close(item["boxes"][0], bright_voxels(item["image"]), atol=1.01, rtol=0)
    assert RestoreBoxesd("boxes")(item)["boxes"][0].tolist() == pytest.approx(box, abs=1e-3)


def test_oblique_volumes(tmp_path):
    """A rotated scanner table: the box in voxels holds that of the world, and the upright one of it is no smaller."""
    angle = 0.2
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    box = stored(tmp_path / "v.nii", affine=turn @ AFFINE)
    item = chain(voxel_size=(2.0, 3.0, 4.0))({"image": str(tmp_path / "v.nii"), "boxes": [box], "box_labels": [0]})
    low, high = item["boxes"][0].chunk(2)
    assert (low <= torch.tensor(START) + 1e-3).all()
    assert (high >= torch.tensor(STOP) - 1e-3).all()


def test_patches_and_augmentation_take_boxes_along(tmp_path):
    """As in training: to voxels, MONAI's random crop around boxes, then a random affine of the patch."""
    box = stored(tmp_path / "v.nii")
    random = Compose(
        [
            RandCropBoxByPosNegLabeld("image", "boxes", "box_labels", spatial_size=(24, 24, 24), pos=1, neg=0),
            RememberAffineAgaind("image"),
            RandAffined("image", prob=1, rotate_range=(0.1,) * 3, scale_range=(0.1,) * 3, padding_mode="border"),
            MapBoxesd("boxes", label_keys="box_labels", world=False),
        ]
    )
    whole = chain(voxel_size=2.0)({"image": str(tmp_path / "v.nii"), "boxes": [box], "box_labels": [3]})
    seen = 0
    for seed in range(8):
        random.set_random_state(seed)
        for patch in random(whole):
            assert patch["image"].shape == (1, 24, 24, 24)
            for found, label in zip(patch["boxes"], patch["box_labels"], strict=True):
                seen, expected = seen + 1, bright_voxels(patch["image"])
                assert label == 3
                # rotated corners reach farther than what is bright
                torch.testing.assert_close(found, expected, atol=3.5, rtol=0)
    assert seen >= 6


def test_restored_boxes_are_clipped_to_the_stored_volume(tmp_path):
    stored(tmp_path / "v.nii", "LPS")
    item = chain(SpatialPadd("image", 96))({"image": str(tmp_path / "v.nii"), "boxes": [], "box_labels": []})
    assert item["boxes"].shape == (0, 6)
    whole = RestoreBoxesd("boxes")({**item, "boxes": torch.tensor([[0.0, 0, 0, 96, 96, 96]])})["boxes"][0]
    # voxels of 2 x 3 x 4 mm from half a voxel before the first center
    assert whole.tolist() == pytest.approx([-32, 15.5, -207, 28, 87.5, -135])


def test_vanished_boxes_go_with_their_labels(tmp_path):
    box = stored(tmp_path / "v.nii")
    thin = [box[0], box[1], box[2], box[0] + 1.0, box[4], box[5]]  # half a voxel wide
    item = chain()({"image": str(tmp_path / "v.nii"), "boxes": [thin, box], "box_labels": [4, 2]})
    assert item["box_labels"].tolist() == [2]
    assert item["boxes"].shape == (1, 6)


def test_voxels_where_they_are_asked_for():
    """Between two stages of a training boxes are in voxels, as those of images always are."""
    volume = MetaTensor(torch.zeros(1, 8, 9, 10), affine=torch.as_tensor(AFFINE), meta={"spatial_shape": (8, 9, 10)})
    volume = RememberAffined("image")({"image": volume})["image"]
    box = torch.tensor([[1.0, 2, 3, 4, 5, 6]])
    assert torch.equal(map_boxes(box, volume, world=False), box)
    assert torch.equal(restore_boxes(box, volume, world=False), box)
    assert not torch.equal(map_boxes(box, volume), box)


def test_where_the_volume_was_is_needed_to_restore(tmp_path):
    stored(tmp_path / "v.nii")
    image = LoadVolumed("image")({"image": str(tmp_path / "v.nii")})["image"]
    with pytest.raises(ValueError, match="RememberAffined"):
        restore_boxes([[0, 0, 0, 1, 1, 1]], image)
