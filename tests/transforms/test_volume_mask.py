# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""Masks of volumes are read as nibabel and SimpleITK read them, along whatever axes they are stored."""

from __future__ import annotations

import itertools

import nibabel
import numpy as np
import pytest
import torch
from monai.transforms import Compose, Orientationd

from monai_mgca.io import encode_rle
from monai_mgca.transforms import LoadMask, LoadMaskd, LoadVolumed
from monai_mgca.utils import DataError

AFFINE = np.array([[-2.0, 0, 0, 30], [0, -2, 0, 40], [0, 0, 5, -60], [0, 0, 0, 1]])
VALUES = np.random.default_rng(0).integers(0, 4, (6, 5, 4)).astype(np.uint8)
PART = (slice(30, 90), slice(20, 70), slice(1, 31))  # of a real one: off the middle, of another length along each axis
load = LoadMask(spatial_dims=3)


def save(path, values=VALUES, affine=AFFINE):
    nibabel.save(nibabel.Nifti1Image(values, affine), path)
    return str(path)


def orientations(image):
    """A volume stored along each order of the axes, each some way around."""
    for k, axes in enumerate(itertools.permutations(range(3))):
        flips = np.where((k + np.arange(3)) % 3 == 0, -1, 1)
        yield image.as_reoriented(np.stack([axes, flips], axis=1))


class TestRealSegmentation:
    """A real chest CT with the labels of its organs."""

    @pytest.fixture
    def ct(self, shared):
        return nibabel.load(shared / "data" / "ct" / "chest_small.nii.gz").slicer[PART]

    @pytest.fixture
    def labels(self, shared):
        return nibabel.load(shared / "data" / "ct" / "chest_small_segmentation.nii.gz").slicer[PART]

    def test_as_other_readers(self, labels, tmp_path):
        sitk = pytest.importorskip("SimpleITK")
        for turned in orientations(labels):
            nibabel.save(turned, path := tmp_path / "labels.nii.gz")
            values = np.asarray(nibabel.load(path).dataobj)
            read = load(path) if values.max() < 32 else LoadMask(int(values.max()), spatial_dims=3)(path)
            inside = read.any(0) if len(read) > 1 else read[0].bool()
            np.testing.assert_array_equal(np.asarray(inside), values > 0)
            np.testing.assert_array_equal(np.asarray(inside), sitk.GetArrayFromImage(sitk.ReadImage(str(path))).T > 0)
            np.testing.assert_allclose(read.affine.numpy(), nibabel.load(path).affine, atol=1e-6)

    def test_lies_on_its_volume_in_ras(self, ct, labels, tmp_path):
        """Image and mask are stored otherwise; Orientation alone brings both to one grid."""
        number = int(np.asarray(labels.dataobj).max())
        steps = Compose(
            [
                LoadVolumed("image"),
                LoadMaskd("label", number, spatial_dims=3),
                Orientationd(["image", "label"], "RAS", labels=None),
            ]
        )
        straight = nibabel.as_closest_canonical(labels)
        for image, mask in zip(orientations(ct), reversed(list(orientations(labels))), strict=True):
            nibabel.save(image, tmp_path / "ct.nii.gz")
            nibabel.save(mask, tmp_path / "mask.nii.gz")
            item = steps({"image": tmp_path / "ct.nii.gz", "label": tmp_path / "mask.nii.gz"})
            assert item["image"].shape[1:] == item["label"].shape[1:]
            np.testing.assert_allclose(item["image"].affine.numpy(), item["label"].affine.numpy(), atol=1e-3)
            places = (item["label"] * torch.arange(1, number + 1)[:, None, None, None]).amax(0)
            np.testing.assert_array_equal(np.asarray(places), np.asarray(straight.dataobj))


class TestClasses:
    def test_one(self, tmp_path):
        mask = load(save(tmp_path / "m.nii.gz"))
        assert mask.dtype == torch.uint8
        np.testing.assert_array_equal(mask[0].numpy(), VALUES > 0)
        np.testing.assert_allclose(mask.affine.numpy(), AFFINE)

    def test_values_are_the_classes(self, tmp_path):
        mask = LoadMask(3, spatial_dims=3)(save(tmp_path / "m.nii"))
        np.testing.assert_array_equal(mask.numpy(), [index == VALUES for index in (1, 2, 3)])
        with pytest.raises(DataError, match=r"m\.nii cannot be used: it holds the value 3, but there are 2 classes"):
            LoadMask(2, spatial_dims=3)(tmp_path / "m.nii")

    def test_a_list_lies_as_its_first(self, tmp_path):
        """Each is stored along other axes; all are of the same voxels."""
        images = list(orientations(nibabel.Nifti1Image(VALUES, AFFINE)))
        paths = [save(tmp_path / f"{k}.nii.gz", image.dataobj, image.affine) for k, image in enumerate(images)]
        mask = LoadMask(6, spatial_dims=3)(paths)
        assert mask.shape[1:] == images[0].shape
        np.testing.assert_allclose(mask.affine.numpy(), images[0].affine)
        for one in mask.numpy():
            np.testing.assert_array_equal(one, np.asarray(images[0].dataobj) > 0)

    def test_values_of_floats_and_one_time(self, tmp_path):
        mask = load(save(tmp_path / "m.nii", (VALUES[..., None] > 0) * 255.0))
        np.testing.assert_array_equal(mask[0].numpy(), VALUES > 0)


class TestErrors:
    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            (lambda path: save(path, VALUES[:, :, :3]), "differ in size or place"),
            (lambda path: save(path, affine=AFFINE + np.diag([0, 0, 0.5, 0])), "differ in size or place"),
            (lambda path: save(path, affine=np.diag([2.0, 2, 5, 1])), "differ in size or place"),
            (lambda path: path.write_bytes(path.read_bytes()[:-9]), "cannot read the mask"),
            (lambda path: path.write_text("no volume"), "cannot read the mask"),
            (lambda path: path.unlink(), "there is no such file"),
        ],
    )
    def test_of_a_list(self, tmp_path, change, reason):
        save(tmp_path / "first.nii.gz")
        save(second := tmp_path / "second.nii.gz")
        change(second)
        with pytest.raises(DataError, match=rf"(?s)second\.nii\.gz.*{reason}|{reason}.*second\.nii\.gz"):
            LoadMask(2, spatial_dims=3)([str(tmp_path / "first.nii.gz"), str(second)])

    def test_not_of_volumes(self, tmp_path):
        with pytest.raises(DataError, match="a path, got dict"):
            load(encode_rle(VALUES[0]))
        with pytest.raises(DataError, match=r"m\.png: that of a volume is NIfTI"):
            load(tmp_path / "m.png")
        with pytest.raises(DataError, match=r"its shape is \(6, 5, 4, 2\)"):
            load(save(tmp_path / "two.nii", np.stack([VALUES, VALUES], axis=-1)))
        with pytest.raises(DataError, match="1 masks for 2 classes"):
            LoadMask(2, spatial_dims=3)([str(tmp_path / "m.nii")])
        with pytest.raises(ValueError, match="spatial_dims must be 2 or 3, got 4"):
            LoadMask(spatial_dims=4)
