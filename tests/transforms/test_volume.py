# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Orientation

from monai_mgca.transforms import AreaSpacing, AreaSpacingd, InvertProbabilitiesd, LoadVolume, LoadVolumed
from monai_mgca.utils import DataError

pytest.importorskip("itk")
SPACING = (1.5, 2.0, 3.0)
# axes to the patient's left, back and head, as a scanner stores them
VALUES = np.random.default_rng(0).integers(-1000, 1000, (10, 8, 6)).astype(np.int16)
AFFINE = np.array([[-1.5, 0, 0, 20], [0, -2.0, 0, 30], [0, 0, 3.0, -40], [0, 0, 0, 1]])


def save(path, values, affine=AFFINE):
    nibabel.save(nibabel.Nifti1Image(values, affine), path)
    return path


@pytest.fixture
def series(write_series, tmp_path):
    return write_series(tmp_path / "series", VALUES, SPACING, (-20, -30, -40))


class TestLoadVolume:
    def test_nifti(self, tmp_path):
        volume = LoadVolume()(save(tmp_path / "v.nii.gz", VALUES))
        assert volume.shape == (1, 10, 8, 6)
        assert volume.dtype == torch.float32
        np.testing.assert_array_equal(volume[0].numpy(), VALUES)
        np.testing.assert_allclose(volume.affine, AFFINE)

    def test_nifti_with_slope_and_intercept(self, tmp_path):
        image = nibabel.Nifti1Image(VALUES, AFFINE)
        image.header.set_slope_inter(2, -100)
        image.to_filename(tmp_path / "v.nii")
        volume = LoadVolume()(tmp_path / "v.nii")
        np.testing.assert_allclose(volume[0].numpy(), np.asarray(nibabel.load(tmp_path / "v.nii").dataobj), atol=1e-3)

    def test_dicom_series_equals_nifti(self, series, tmp_path):
        """Slices by place, not by name; rescale slope and intercept applied once; the same world."""
        dicom, nifti = LoadVolume()(series), LoadVolume()(save(tmp_path / "v.nii.gz", VALUES))
        turn = Orientation(axcodes="RAS", labels=None)
        dicom, nifti = turn(dicom), turn(nifti)
        np.testing.assert_array_equal(dicom.numpy(), nifti.numpy())
        np.testing.assert_allclose(dicom.affine, nifti.affine, atol=1e-5)

    def test_nothing_of_the_patient_is_kept(self, series):
        volume, meta = LoadVolume(image_only=False)(series)
        assert "Doe" not in repr(meta) + repr(volume.meta)
        assert "canary" not in repr(meta) + repr(volume.meta)

    def test_dictionary(self, tmp_path):
        data = {"image": str(save(tmp_path / "v.nii", VALUES)), "report": "r"}
        loaded = LoadVolumed(["image", "other"], allow_missing_keys=True)(data)
        assert loaded["image"].shape == (1, 10, 8, 6)
        assert loaded["report"] == "r"

    def test_one_time_is_a_volume(self, tmp_path):
        assert LoadVolume()(save(tmp_path / "v.nii", VALUES[..., None])).shape == (1, 10, 8, 6)

    @pytest.mark.parametrize(
        ("values", "reason"),
        [
            (np.zeros((4, 4, 4, 3), np.int16), "one channel"),
            (np.zeros((4, 4), np.int16), "one channel"),
            (np.full((4, 4, 4), np.nan, np.float32), "not finite"),
        ],
    )
    def test_no_volume(self, tmp_path, values, reason):
        with pytest.raises(DataError, match=f"v.nii.*{reason}"):
            LoadVolume()(save(tmp_path / "v.nii", values))

    def test_missing_file_and_empty_folder(self, tmp_path):
        with pytest.raises(DataError, match="no such file or folder"):
            LoadVolume()(tmp_path / "none.nii.gz")
        with pytest.raises(DataError, match="no DICOM series"):
            LoadVolume()(tmp_path)

    def test_damaged_file(self, tmp_path):
        (tmp_path / "v.nii").write_bytes(b"not a volume")
        with pytest.raises(DataError, match=r"cannot read the volume .*v\.nii"):
            LoadVolume()(tmp_path / "v.nii")

    def test_two_series_in_a_folder(self, series, write_series):
        write_series(series, VALUES + 1, SPACING, (0, 0, 0))
        with pytest.raises(DataError, match=r"holds 2 DICOM series .*; give each a folder"):
            LoadVolume()(series)

    def test_a_missing_slice(self, series):
        sorted(series.iterdir())[2].unlink()  # some slice between the first and the last
        with pytest.raises(DataError, match="slices are missing"):
            LoadVolume()(series)


class TestAreaSpacing:
    def test_means_of_what_a_voxel_covers(self):
        volume = MetaTensor(torch.rand(1, 8, 6, 4), affine=torch.diag(torch.tensor([1.0, 2.0, 4.0, 1.0])))
        result = AreaSpacing(4.0)(volume)
        expected = torch.stack(
            [
                volume[0, 4 * i : 4 * i + 4, 2 * j : 2 * j + 2, k].mean()
                for i in range(2)
                for j in range(3)
                for k in range(4)
            ]
        )
        assert result.shape == (1, 2, 3, 4)
        torch.testing.assert_close(result.as_tensor().flatten(), expected.as_tensor())
        np.testing.assert_allclose(result.pixdim, 4.0)

    def test_finer_is_interpolated(self):
        ramp = torch.arange(10.0).expand(1, 4, 4, 10)
        result = AreaSpacing((1, 1, 0.5))(MetaTensor(ramp))
        assert result.shape == (1, 4, 4, 20)
        steps = result[0, 0, 0].diff()
        assert steps.min() >= 0
        assert steps.max() <= 0.5 + 1e-5

    def test_middle_of_the_volume_stays(self):
        affine = torch.tensor([[-1.5, 0, 0, 20], [0, -2.0, 0, 30], [0, 0, 3.0, -40], [0, 0, 0, 1]])
        volume = MetaTensor(torch.rand(1, 21, 15, 10), affine=affine)
        result = AreaSpacing(4.0)(volume)
        middle = [v.affine.numpy() @ [*((np.array(v.shape[1:]) - 1) / 2), 1] for v in (volume, result)]
        np.testing.assert_allclose(*middle, atol=1e-4)

    def test_inverse_has_the_voxels_of_before(self):
        """What is linear stays so on the way there and back, but for the half voxel at each end."""
        x, y, z = torch.meshgrid(*(torch.arange(float(n)) for n in (24, 18, 10)), indexing="ij")
        affine = torch.diag(torch.tensor([1.0, 1.5, 5.0, 1.0]))
        volume = MetaTensor((x + 2 * y - z)[None], affine=affine)
        chain = Compose([AreaSpacingd("image", 3.0)])
        result = chain({"image": volume})
        assert result["image"].shape == (1, 8, 9, 17)
        restored = InvertProbabilitiesd("pred", chain)({**result, "pred": result["image"].clone()})["pred"]
        assert restored.shape == volume.shape
        assert restored.applied_operations == []
        np.testing.assert_allclose(restored.affine, affine, atol=1e-6)
        inner = np.s_[:, 2:-2, 2:-2, 1:-1]
        torch.testing.assert_close(restored.as_tensor()[inner], volume.as_tensor()[inner], atol=0.15, rtol=0)

    def test_dictionary_and_bad_size(self):
        result = AreaSpacingd("image", 2)({"image": MetaTensor(torch.rand(1, 8, 8, 8)), "report": "r"})
        assert result["image"].shape == (1, 4, 4, 4)
        assert result["report"] == "r"
        with pytest.raises(ValueError, match="above 0"):
            AreaSpacing((1, 0, 1))
