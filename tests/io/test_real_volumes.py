# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""Real volumes are read and windowed as other readers read them, to the voxel, in all six orientations."""

from __future__ import annotations

import itertools

import nibabel
import numpy as np
import pytest
from monai.transforms import Compose, Orientation, ScaleIntensityRange

from monai_mgca.transforms import LoadVolume

from .ct_series import AXIAL, CORONAL, SAGITTAL, by_sitk, draw, refused

NAMES = ["chest_1p5mm_a", "chest_3mm_int32", "chest_small", "mr_small"]
PLANES = [sign * np.array(plane) for plane in (AXIAL, CORONAL, SAGITTAL) for sign in (1, np.repeat([1, -1], 3))]


@pytest.fixture(params=NAMES)
def image(request, shared):
    """A part off the middle, of another length along each axis."""
    whole = nibabel.load(shared / "data" / "ct" / f"{request.param}.nii.gz")
    return whole.slicer[30:62, 20:50, 1:19]


def in_six_orientations(image, folder):
    for k, axes in enumerate(itertools.permutations(range(3))):
        flips = np.where((k + np.arange(3)) % 3 == 0, -1, 1)
        turned = image.as_reoriented(np.stack([axes, flips], axis=1))
        nibabel.save(turned, folder / f"{k}.nii.gz")
        yield turned, folder / f"{k}.nii.gz"


def test_nifti(image, tmp_path):
    sitk = pytest.importorskip("SimpleITK")
    steps = Compose([LoadVolume(), Orientation("RAS", labels=None), ScaleIntensityRange(-1000, 400, 0, 255, clip=True)])
    first = nibabel.as_closest_canonical(image)
    window = (np.clip(first.get_fdata(), -1000, 400) + 1000) / 1400 * 255
    for turned, path in in_six_orientations(image, tmp_path):
        read = LoadVolume()(path)
        np.testing.assert_array_equal(read[0].numpy(), turned.get_fdata())
        np.testing.assert_allclose(read.affine.numpy(), turned.affine, atol=1e-5)
        np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path))).T, read[0].numpy())
        shown = steps(path)
        np.testing.assert_allclose(shown[0].numpy(), window, atol=1e-3)
        np.testing.assert_allclose(shown.affine.numpy(), first.affine, atol=1e-4)


@pytest.mark.parametrize("plane", PLANES, ids=str)
def test_series(shared, tmp_path, plane):
    """Files in no order, stored without a sign, with a slope of 0.5."""
    ct = np.asarray(nibabel.load(shared / "data" / "ct" / "chest_small.nii.gz").dataobj)[40:60, 30:54, 8:20]
    tags = {"RescaleSlope": 0.5, "RescaleIntercept": -1200, "PixelRepresentation": 0}
    stored = ((ct.T + 1200) * 2).astype(np.uint16).view(np.int16)
    folder = draw(tmp_path / "ct", stored, [int(x) for x in plane], 3.0, 5.0, change=lambda k: tags)
    read = LoadVolume()(folder)
    np.testing.assert_array_equal(read[0].numpy(), ct)
    values, affine = by_sitk(folder)
    np.testing.assert_array_equal(read[0].numpy(), values)
    np.testing.assert_allclose(read.affine.numpy(), affine, atol=1e-5)


def test_series_that_are_refused(shared, tmp_path):
    ct = np.asarray(nibabel.load(shared / "data" / "ct" / "chest_small.nii.gz").dataobj)[40:60, 30:54, 8:20]
    values = np.ascontiguousarray(ct.T, dtype=np.int16)
    tilted = lambda k: {"ImagePositionPatient": [0, 0.7 * k, 3 * k]}  # noqa: E731
    refused(draw(tmp_path / "tilt", values, change=tilted), "13.1 degrees")
    gap = lambda k: {"ImagePositionPatient": [0, 0, 3 * (k + (k > 5))]}  # noqa: E731
    refused(draw(tmp_path / "gap", values, change=gap), "slices are missing: 1")
    localizer = lambda k: {"ImageOrientationPatient": list(CORONAL)} if k == 0 else {}  # noqa: E731
    refused(draw(tmp_path / "localizer", values, change=localizer), "localizers")
    twice = lambda k: {"ImagePositionPatient": [0, 0, 3 * max(1, k)]}  # noqa: E731
    refused(draw(tmp_path / "twice", values, change=twice), "where another one is")
    two = lambda k: {"SeriesInstanceUID": f"1.2.{k % 2}"}  # noqa: E731
    refused(draw(tmp_path / "two", values, change=two), "2 DICOM series")
