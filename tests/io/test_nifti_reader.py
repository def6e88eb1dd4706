# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""Which affines of NIfTI files a volume may have."""

from __future__ import annotations

import numpy as np
import pytest

from monai_mgca.transforms import LoadVolume

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
