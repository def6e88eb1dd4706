# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""A DICOM file of several frames becomes a volume."""

from __future__ import annotations

import numpy as np
import pytest

from monai_mgca.transforms import LoadVolume

from .ct_series import AXIAL, VALUES, dataset, refused, save, written

pydicom = pytest.importorskip("pydicom")


def enhanced(path, places, rescale=lambda k: (2, -100), orientation=AXIAL, padding=None):
    """All slices as frames of one file, in any order; without `rescale` they share slope and intercept."""
    of = pydicom.Dataset
    data = dataset(
        VALUES, path, "1.2.3", PixelSpacing=None, RescaleSlope=None, RescaleIntercept=None, PixelPaddingValue=padding
    )
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2.1"
    data.NumberOfFrames = len(places)
    shared, frames = of(), []
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [of()], [of()]
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = list(orientation)
    shared.PixelMeasuresSequence[0].PixelSpacing = [0.8, 0.9]
    shared.PixelMeasuresSequence[0].SliceThickness = 0.7
    for k, place in enumerate(places):
        frame = of()
        frame.PlanePositionSequence = [of()]
        frame.PlanePositionSequence[0].ImagePositionPatient = [-30.5, -40.5, place]
        values = of()
        values.RescaleSlope, values.RescaleIntercept = rescale(k) if rescale else (2, -100)
        (frame if rescale else shared).PixelValueTransformationSequence = [values]
        frames.append(frame)
    data.SharedFunctionalGroupsSequence, data.PerFrameFunctionalGroupsSequence = [shared], frames
    return save(data, path)


class TestMultiFrame:
    @pytest.mark.parametrize("order", [[0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0], [2, 5, 0, 3, 1, 4]])
    def test_frames_in_any_order(self, tmp_path, order):
        path = enhanced(tmp_path / "ct" / "all.dcm", [written(-17.8999 + 0.7 * k) for k in order])
        for source in (path, path.parent):
            volume = LoadVolume()(source)
            np.testing.assert_array_equal(volume[0].numpy(), (VALUES[np.argsort(order)] * 2 - 100).T)
            np.testing.assert_allclose(np.diag(volume.affine)[:3], [-0.9, -0.8, 0.7], atol=1e-6)
            np.testing.assert_allclose(volume.affine[:3, 3], [30.5, 40.5, -17.8999], atol=1e-6)

    @pytest.mark.parametrize(
        ("places", "rescale", "reason"),
        [
            ([0, 1, 2, 4, 5, 6], (1, 0), "missing: 1 of them"),
            ([3] * 6, (1, 0), "all 6 slices are at one place"),
            (range(6), None, "differ in rescale slope"),
        ],
    )
    def test_frames_that_make_no_volume(self, tmp_path, places, rescale, reason):
        path = enhanced(tmp_path / "all.dcm", list(places), lambda k: rescale or (1 + k, 0))
        refused(path, reason)

    def test_frames_without_places(self, tmp_path):
        path = tmp_path / "all.dcm"
        data = dataset(VALUES, path, "1", NumberOfFrames=6, ImagePositionPatient=[0, 0, 0])
        refused(save(data, path), "the 6 frames of all.dcm give no position")

    def test_two_files_of_frames(self, tmp_path):
        first = enhanced(tmp_path / "ct" / "a.dcm", range(6))
        enhanced(first.parent / "b.dcm", range(6, 12))
        refused(first.parent, "several files of several frames")
