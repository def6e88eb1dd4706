# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""Which affines, types and axes NIfTI files of volumes may have."""

from __future__ import annotations

import numpy as np
import pytest

from monai_mgca.data.check.image_problems import check_volume
from monai_mgca.data.check.problem import CheckLimits
from monai_mgca.transforms import LoadVolume
from monai_mgca.utils import DataError

from .ct_series import VALUES, refused, turned


class TestNifti:
    nibabel = pytest.importorskip("nibabel")

    def save(self, path, affine):
        self.nibabel.save(self.nibabel.Nifti1Image(VALUES.T, affine), path)
        return path

    def test_sheared(self, tmp_path):
        affine = np.diag([0.9, 0.8, 0.7, 1.0])
        affine[1, 2] = 0.7 * np.tan(np.radians(14))
        refused(self.save(tmp_path / "v.nii.gz", affine), "sheared by 14.0 degrees")

    def test_rotated_is_a_box(self, tmp_path):
        row, column = np.reshape(turned(0, 20), (2, 3))
        affine = np.eye(4)
        affine[:3, :3] = np.stack([row, column, np.cross(row, column)], axis=1) * [0.9, 0.8, 0.7]
        assert LoadVolume()(self.save(tmp_path / "v.nii", affine)).shape == (1, 5, 4, 6)

    def test_no_voxel_size(self, tmp_path):
        path = self.save(tmp_path / "v.nii", None)
        content = bytearray(path.read_bytes())
        content[88:92] = np.float32(np.nan).tobytes()  # of the third axis
        path.write_bytes(content)
        refused(path, "voxels of 1 x 1 x nan mm")

    def of_two(self, path, qform, sform):
        image = self.nibabel.Nifti1Image(VALUES.T, np.diag([0.9, 0.8, 0.7, 1.0]))
        for code, form, write in ((1, qform, image.set_qform), (2, sform, image.set_sform)):
            write(None if form is None else np.asarray(form, float), 0 if form is None else code)
        self.nibabel.save(image, path)
        return path

    @pytest.mark.parametrize(
        ("qform", "sform", "told"),
        [
            ([-1, 1, 1, 1], [1, 1, 1, 1], "LAS with voxels of 1 x 1 x 1 mm and RAS"),
            ([1, 1, 5, 1], [1, 1, 2.5, 1], "RAS with voxels of 1 x 1 x 5 mm and RAS with voxels of 1 x 1 x 2.5 mm"),
        ],
    )
    def test_two_orientations(self, tmp_path, qform, sform, told):
        refused(self.of_two(tmp_path / "v.nii", np.diag(qform), np.diag(sform)), f"qform and sform disagree: {told}")

    def test_two_orientations_that_may_be(self, tmp_path):
        """A sform that leads to a template, by a registration."""
        sform = np.diag([1.05, 1, 1, 1.0])
        sform[:3, :3] = np.stack([*np.reshape(turned(2, 20), (2, 3)), [0, 0, 1]]) @ sform[:3, :3]
        sform[:3, 3] = 50, -30, 20
        path = self.of_two(tmp_path / "v.nii", np.eye(4), sform)
        np.testing.assert_allclose(LoadVolume()(path).affine, sform, atol=1e-5)

    def test_a_sform_alone_counts_whatever_pixdim_says(self, tmp_path):
        """MONAI's reader takes the qform, which is not set, and so loses the orientation."""
        sform = np.array([[0, -0.8, 0, 5], [0.9, 0, 0, 6], [0, 0, -0.7, 7], [0, 0, 0, 1]])
        path = self.of_two(tmp_path / "v.nii", None, sform)
        content = bytearray(path.read_bytes())
        content[80:92] = np.ones(3, np.float32).tobytes()
        path.write_bytes(content)
        np.testing.assert_allclose(LoadVolume()(path).affine, sform, atol=1e-6)

    @pytest.mark.parametrize(("qform", "found"), [(None, ["orientation not given"]), (np.diag([-1, -1, 1, 1]), [])])
    def test_no_orientation(self, tmp_path, qform, found):
        path = self.of_two(tmp_path / "v.nii", qform, None)
        assert [reason for reason, _ in check_volume(str(path), CheckLimits()).found] == found

    @pytest.mark.parametrize("kind", ["int16", "int32", "uint16", "float32", "float64"])
    def test_types_and_slope(self, tmp_path, kind):
        stored = ((VALUES.T + 1000) * 2).astype(kind)
        image = self.nibabel.Nifti1Image(stored, np.eye(4))
        image.header.set_slope_inter(0.5, -1000)
        self.nibabel.save(image, tmp_path / "v.nii")
        content = bytearray((tmp_path / "v.nii").read_bytes())  # nibabel has written other values, that fit the slope
        content[352:] = stored.tobytes(order="F")
        content[112:120] = np.array([0.5, -1000], np.float32).tobytes()
        (tmp_path / "v.nii").write_bytes(content)
        np.testing.assert_array_equal(LoadVolume()(tmp_path / "v.nii")[0].numpy(), VALUES.T)

    @pytest.mark.parametrize(
        ("shape", "refusal"), [((1,), None), ((1, 1), None), ((2,), "of one channel and one time")]
    )
    def test_a_fourth_axis(self, tmp_path, shape, refusal):
        values = np.broadcast_to(VALUES.T[(...,) + (None,) * len(shape)], VALUES.T.shape + shape)
        self.nibabel.save(self.nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "v.nii")
        if refusal:
            with pytest.raises(DataError, match=refusal):
                LoadVolume()(tmp_path / "v.nii")
        else:
            np.testing.assert_array_equal(LoadVolume()(tmp_path / "v.nii")[0].numpy(), VALUES.T)
