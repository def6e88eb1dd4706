# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Masks of volumes go back to the geometry of their file: against nibabel and SimpleITK, to the voxel."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import AsDiscreted, Compose, Orientationd, ScaleIntensityRanged, SpatialPadd

from monai_mgca.transforms import AreaSpacingd, InvertProbabilitiesd, LoadVolumed, RandCropByMasksd, SaveMaskd

pytest.importorskip("itk")
sitk = pytest.importorskip("SimpleITK")
# of each of the six orders of the axes one, and each axis in both directions
ORIENTATIONS = ("RAS", "LPI", "RSP", "PIR", "ALS", "SLA", "IPL")


def chain(voxel_size, low=0, high=1):
    """What the configs do to a volume before the network, for values of a window."""
    return Compose(
        [
            LoadVolumed("image"),
            Orientationd("image", axcodes="RAS", labels=None),
            ScaleIntensityRanged("image", low, high, 0, 1, clip=True),
            AreaSpacingd("image", voxel_size),
            SpatialPadd("image", (64, 64, 64)),
        ]
    )


def save_what_is_seen(path, folder, voxel_size=3.0, low=0.0, high=1.0):
    """A network that finds what it sees, from a file to the file of its mask."""
    transform = chain(voxel_size, low, high)
    item = transform({"image": str(path)})
    # a plain tensor, as a network gives it
    item["pred"] = item["image"].as_tensor().clone()
    save = SaveMaskd("pred", output_dir=folder / "masks", data_dir=path.parent, classes=["bone"])
    post = [InvertProbabilitiesd("pred", transform), AsDiscreted("pred", threshold=0.5), save]
    found = Compose(post)(item)["pred"]
    (written,) = (folder / "masks").glob("*")
    return written, found


def reoriented(image, axes):
    """The same volume, stored in another order and direction of axes."""
    start = nibabel.io_orientation(image.affine)
    turn = nibabel.orientations.ornt_transform(start, nibabel.orientations.axcodes2ornt(axes))
    return image.as_reoriented(turn)


@pytest.fixture(scope="module")
def truth(shared):
    """A real chest CT's organs, as one structure: shape (122, 101, 30), voxels of 3 mm."""
    image = nibabel.load(shared / "data" / "ct" / "chest_small_segmentation.nii.gz")
    return nibabel.Nifti1Image((np.asarray(image.dataobj) > 0).astype(np.int16), image.affine)


@pytest.mark.parametrize("axes", ORIENTATIONS)
class TestOrientations:
    def test_to_the_voxel(self, truth, axes, tmp_path):
        image = reoriented(truth, axes)
        nibabel.save(image, tmp_path / "ct.nii.gz")
        written, _ = save_what_is_seen(tmp_path / "ct.nii.gz", tmp_path)
        mask = nibabel.load(written)
        assert written.name == "ct_mask.nii.gz"
        assert "".join(nibabel.aff2axcodes(mask.affine)) == axes
        np.testing.assert_array_equal(mask.affine, image.affine)
        np.testing.assert_array_equal(np.asarray(mask.dataobj), np.asarray(image.dataobj))
        theirs, of_image = sitk.ReadImage(str(written)), sitk.ReadImage(str(tmp_path / "ct.nii.gz"))
        for name in ("GetSize", "GetOrigin", "GetSpacing", "GetDirection"):
            assert getattr(theirs, name)() == getattr(of_image, name)()
        np.testing.assert_array_equal(sitk.GetArrayFromImage(theirs), sitk.GetArrayFromImage(of_image))

    def test_resampled_alike(self, truth, axes, tmp_path):
        """Through a coarser grid: the same mask of the patient, and next to the truth."""
        masks = []
        for place, turned in ((tmp_path / "a", truth), (tmp_path / "b", reoriented(truth, axes))):
            place.mkdir()
            nibabel.save(turned, place / "ct.nii.gz")
            written, _ = save_what_is_seen(place / "ct.nii.gz", place, voxel_size=5.0)
            masks.append(np.asarray(reoriented(nibabel.load(written), "RAS").dataobj))
        np.testing.assert_array_equal(*masks)
        expected = np.asarray(truth.dataobj)
        assert 2 * (masks[0] & expected).sum() / (masks[0].sum() + expected.sum()) > 0.95


def test_dicom_series(write_series, tmp_path):
    """The mask lies where SimpleITK sees the slices, also in a folder whose name has points."""
    values = np.random.default_rng(0).integers(-1000, 1000, (10, 8, 6)).astype(np.int16)
    folder = write_series(tmp_path / "1.2.840.113", values, (1.5, 2.0, 3.0), (-20, -30, -40))
    written, _ = save_what_is_seen(folder, tmp_path, voxel_size=(1.5, 2.0, 3.0), low=-1000, high=1000)
    assert written.name == "1.2.840.113_mask.nii.gz"
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    series, mask = reader.Execute(), sitk.ReadImage(str(written))
    assert mask.GetSize() == series.GetSize() == (10, 8, 6)
    for name in ("GetOrigin", "GetSpacing", "GetDirection"):
        np.testing.assert_allclose(getattr(mask, name)(), getattr(series, name)(), atol=1e-4)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(mask), sitk.GetArrayFromImage(series) >= 0)


def test_one_volume_of_a_fourth_axis(tmp_path):
    values = np.zeros((8, 9, 10, 1), dtype=np.int16)
    values[2:5, 3:9, 1:4] = 1
    image = nibabel.Nifti1Image(values, np.diag([3.0, 3.0, 3.0, 1]))
    nibabel.save(image, tmp_path / "ct.nii")
    written, _ = save_what_is_seen(tmp_path / "ct.nii", tmp_path)
    np.testing.assert_array_equal(np.asarray(nibabel.load(written).dataobj), values)


def test_area_spacing_is_undone():
    """Back on the grid before, at its place, interpolated."""
    x, y, z = np.mgrid[:12, :16, :20]
    affine = torch.diag(torch.tensor([2.0, 1.5, 1.0, 1.0], dtype=torch.float64))
    image = MetaTensor(torch.from_numpy(np.float32(x + 2 * y - z))[None], affine=affine)
    spacing = Compose([AreaSpacingd("image", 3.0)])
    smaller = spacing({"image": image})
    assert smaller["image"].shape == (1, 8, 8, 7)
    back = InvertProbabilitiesd("pred", spacing)({**smaller, "pred": smaller["image"].clone()})["pred"]
    assert back.shape == image.shape
    torch.testing.assert_close(back.affine, image.affine)
    inner = (slice(None), slice(2, -2), slice(2, -2), slice(3, -3))
    # the values rise by 2 a voxel, and an area is of whole voxels
    torch.testing.assert_close(back[inner].as_tensor(), image[inner].as_tensor(), atol=0.5, rtol=0)


def test_patches_are_around_any_of_the_classes():
    """Also around the first, which MONAI takes for the background's."""
    label = torch.zeros(2, 24, 24, 24, dtype=torch.uint8)
    label[0, 4:6, 4:6, 4:6], label[1, 18:20, 18:20, 18:20] = 1, 1
    crop = RandCropByMasksd(
        ["image", "label"], label_key="label", spatial_size=8, pos=1, neg=0, num_samples=20
    ).set_random_state(0)
    patches = crop({"image": label[:1].float(), "label": label})
    seen = [tuple(patch["label"].any(dim=3).any(dim=2).any(dim=1).tolist()) for patch in patches]
    assert set(seen) == {(True, False), (False, True)}
    assert all(patch["label"].shape == (2, 8, 8, 8) for patch in patches)
