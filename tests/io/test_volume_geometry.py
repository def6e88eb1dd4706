# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""Label maps lie where their volume lies, for nibabel, SimpleITK and 3D Slicer, in all orientations."""

from __future__ import annotations

import itertools

import nibabel
import numpy as np
import pytest

from monai_mgca.io.volumes.volume_geometry import VolumeGeometry, read_volume_geometry, write_volume
from monai_mgca.io.volumes.volume_labels import read_volume_labels
from monai_mgca.transforms import LoadVolume
from monai_mgca.utils import DataError

from .ct_series import AXIAL, CORONAL, SAGITTAL, VALUES, by_sitk, draw, turned

pytest.importorskip("nrrd", reason="MONAI Label brings it")
sitk = pytest.importorskip("SimpleITK")
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
# each with its own name: ITK looks for the voxels of a.nii.gz in a.nii first
ENDINGS = ["1.nii.gz", "2.nii", "3.nrrd"]


def draw_mask(size):
    """No two parts alike, and nothing that a flip or another order of axes would leave."""
    return np.asfortranarray(np.random.default_rng(1).integers(0, 3, size, dtype=np.uint8))


def place_of(path):
    """Where another reader places a file: its values (X, Y, Z) and the affine to LPS."""
    image = sitk.ReadImage(str(path))
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return sitk.GetArrayFromImage(image).T, affine


@pytest.mark.parametrize("name", ["chest_small", "mr_small"])
def test_real_volumes_in_six_orientations(shared, tmp_path, name):
    whole = nibabel.load(shared / "data" / "ct" / f"{name}.nii.gz").slicer[30:47, 20:43, 1:12]
    for k, axes in enumerate(itertools.permutations(range(3))):
        flips = np.where((k + np.arange(3)) % 3 == 0, -1, 1)
        image = whole.as_reoriented(np.stack([axes, flips], axis=1))
        nibabel.save(image, tmp_path / "ct.nii.gz")
        geometry = read_volume_geometry(tmp_path / "ct.nii.gz")
        assert geometry.size == image.shape
        np.testing.assert_allclose(geometry.ras, image.affine, atol=1e-5)
        np.testing.assert_allclose(geometry.affine, place_of(tmp_path / "ct.nii.gz")[1], atol=1e-4)
        mask = draw_mask(geometry.size)
        for ending in ENDINGS:
            write_volume(mask, geometry, tmp_path / f"mask{ending}")
            values, affine = place_of(tmp_path / f"mask{ending}")
            np.testing.assert_array_equal(values, mask)
            np.testing.assert_allclose(affine, geometry.affine, atol=1e-4)
            np.testing.assert_array_equal(read_volume_labels(tmp_path / f"mask{ending}", geometry), mask)
        written = nibabel.load(tmp_path / "mask1.nii.gz")
        np.testing.assert_array_equal(np.asarray(written.dataobj), mask)
        np.testing.assert_array_equal(written.affine, nibabel.load(tmp_path / "ct.nii.gz").affine)
        assert written.get_data_dtype() == np.uint8


@pytest.mark.parametrize("plane", [AXIAL, CORONAL, SAGITTAL, (-1, 0, 0, 0, -1, 0), turned(0, 20)], ids=str)
def test_series(tmp_path, plane):
    folder = draw(tmp_path / "ct", orientation=plane)
    geometry = read_volume_geometry(folder)
    assert geometry.size == VALUES.T.shape
    np.testing.assert_allclose(geometry.ras, LoadVolume()(folder).affine.numpy(), atol=1e-9)
    np.testing.assert_allclose(geometry.affine, LPS @ by_sitk(folder)[1], atol=1e-4)
    mask = draw_mask(geometry.size)
    for ending in ENDINGS:
        write_volume(mask, geometry, tmp_path / f"mask{ending}")
        values, affine = place_of(tmp_path / f"mask{ending}")
        np.testing.assert_array_equal(values, mask)
        np.testing.assert_allclose(affine, geometry.affine, atol=1e-4)
        np.testing.assert_array_equal(read_volume_labels(tmp_path / f"mask{ending}", geometry), mask)
    np.testing.assert_allclose(nibabel.load(tmp_path / "mask1.nii.gz").affine, geometry.ras, atol=1e-4)


def test_a_real_series(shared):
    folder = shared / "data" / "ct" / "series_dicom"
    geometry = read_volume_geometry(folder)
    assert geometry.size == (512, 512, 20)
    np.testing.assert_allclose(geometry.affine, LPS @ by_sitk(folder)[1], atol=1e-6)


def test_qform_and_sform_of_a_registered_volume(tmp_path):
    """ITK and nibabel place it otherwise; the mask lies with it for both, and a label of either is understood."""
    values = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    image = nibabel.Nifti1Image(values, np.diag([2.0, 2, 3, 1]))
    image.set_qform(np.diag([2.0, 2, 3, 1]), code="scanner")
    image.set_sform(np.array([[2.0, 0, 0, 40], [0, 2, 0, -30], [0, 0, 3, 7], [0, 0, 0, 1]]), code="mni")
    nibabel.save(image, tmp_path / "ct.nii.gz")
    geometry = read_volume_geometry(tmp_path / "ct.nii.gz")
    itk_place = place_of(tmp_path / "ct.nii.gz")[1]
    np.testing.assert_allclose(geometry.affine, itk_place, atol=1e-6)
    np.testing.assert_allclose(geometry.ras, image.affine)
    assert np.abs(geometry.ras_to_lps - LPS).max() > 1
    mask = draw_mask(geometry.size)
    for ending in ENDINGS:
        write_volume(mask, geometry, tmp_path / f"mask{ending}")
        np.testing.assert_allclose(place_of(tmp_path / f"mask{ending}")[1], itk_place, atol=1e-5)
        np.testing.assert_array_equal(read_volume_labels(tmp_path / f"mask{ending}", geometry), mask)
    np.testing.assert_allclose(nibabel.load(tmp_path / "mask1.nii.gz").affine, image.affine)


@pytest.fixture
def geometry():
    affine = np.array([[0, -1.5, 0, 10], [0.7, 0, 0, -20], [0, 0, 2.5, 30], [0, 0, 0, 1]])
    return VolumeGeometry((9, 8, 7), affine, LPS @ affine)


def moved(geometry, mask, path, order=(0, 1, 2), flips=(1, 1, 1), start=(0, 0, 0), shift=(0, 0, 0)):
    """Save a label with other axes, of a part that begins at `start`, or beside its place by parts of a voxel."""
    affine = geometry.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ (np.array(start) + shift)
    values, columns = mask.transpose(order), affine[:3, :3][:, list(order)]
    for axis, flip in enumerate(flips):
        if flip < 0:
            affine[:3, 3] += columns[:, axis] * (values.shape[axis] - 1)
            values, columns[:, axis] = np.flip(values, axis), -columns[:, axis]
    affine[:3, :3] = columns
    write_volume(np.asfortranarray(values), VolumeGeometry(values.shape, affine, LPS @ affine), path)
    return path


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_label_with_other_axes_lies_on_the_same_voxels(geometry, tmp_path, ending):
    mask = draw_mask(geometry.size)
    for order, flips in [((0, 1, 2), (-1, 1, 1)), ((2, 0, 1), (1, -1, -1)), ((1, 0, 2), (1, 1, -1))]:
        path = moved(geometry, mask, tmp_path / f"l{ending}", order, flips, shift=(0.15, -0.15, 0.1))
        np.testing.assert_array_equal(read_volume_labels(path, geometry), mask)


def test_a_part_is_put_in_its_place(geometry, tmp_path):
    mask = draw_mask((4, 3, 2))
    path = moved(geometry, mask, tmp_path / "part.nrrd", (2, 1, 0), (1, -1, 1), start=(5, 4, 3))
    whole = np.zeros(geometry.size)
    whole[5:9, 4:7, 3:5] = mask
    np.testing.assert_array_equal(read_volume_labels(path, geometry), whole)
    path = moved(geometry, mask, tmp_path / "part.nrrd", start=(6, 4, 3))
    with pytest.raises(DataError, match="its mask is 4 x 3 x 2, the volume 9 x 8 x 7 voxels, and it reaches beyond"):
        read_volume_labels(path, geometry)


def test_labels_elsewhere_are_refused(geometry, tmp_path):
    mask = draw_mask(geometry.size)
    for ending in ENDINGS:
        path = moved(geometry, mask, tmp_path / f"half{ending}", shift=(0, 0.3, 0))
        with pytest.raises(DataError, match=rf"half{ending}: .*does not lie on the volume's voxels"):
            read_volume_labels(path, geometry)
        other = VolumeGeometry(geometry.size, geometry.affine @ np.diag([1.3, 1, 1, 1]), geometry.ras)
        write_volume(mask, VolumeGeometry(other.size, other.affine, LPS @ other.affine), path)
        with pytest.raises(DataError, match="size of its voxels"):
            read_volume_labels(path, geometry)
    nibabel.save(nibabel.Nifti1Image(mask, None), tmp_path / "l.nii.gz")
    with pytest.raises(DataError, match="does not say where it lies"):
        read_volume_labels(tmp_path / "l.nii.gz", geometry)


@pytest.mark.parametrize(
    ("values", "reason"), [(-1, "values -1 to 2"), (256, "values 0 to 256"), (np.nan, "not finite"), (np.inf, "finite")]
)
def test_values_that_are_no_classes(geometry, tmp_path, values, reason):
    mask = draw_mask(geometry.size).astype(np.float32)
    for ending in ENDINGS:
        write_volume(mask, geometry, tmp_path / f"l{ending}")
        assert read_volume_labels(tmp_path / f"l{ending}", geometry).dtype == np.uint8
        mask[3, 3, 3] = values
        write_volume(mask, geometry, tmp_path / f"l{ending}")
        with pytest.raises(DataError, match=reason):
            read_volume_labels(tmp_path / f"l{ending}", geometry)
        mask[3, 3, 3] = 0


def test_spaces_of_nrrd(geometry, tmp_path):
    mask = draw_mask(geometry.size)
    write_volume(mask, geometry, tmp_path / "l.nrrd")
    content = (tmp_path / "l.nrrd").read_bytes()
    ras = VolumeGeometry(geometry.size, LPS @ geometry.affine, geometry.affine)
    for space, place in (("right-anterior-superior", ras), ("RAS", ras), ("LPS", geometry)):
        (tmp_path / "l.nrrd").write_bytes(content.replace(b"left-posterior-superior", space.encode()))
        np.testing.assert_array_equal(read_volume_labels(tmp_path / "l.nrrd", place), mask)
    (tmp_path / "l.nrrd").write_bytes(content.replace(b"left-posterior-superior", b"scanner-xyz"))
    with pytest.raises(DataError, match="does not say where it lies"):
        read_volume_labels(tmp_path / "l.nrrd", geometry)


def test_what_declares_more_than_its_volume_has_is_not_unpacked(geometry, tmp_path):
    big = VolumeGeometry((64, 64, 64), geometry.affine, geometry.ras)
    for ending in ENDINGS:
        write_volume(np.zeros(big.size, np.uint8), big, tmp_path / f"l{ending}")
        with pytest.raises(DataError, match="at most 504 are read"):
            read_volume_labels(tmp_path / f"l{ending}", geometry)


def test_what_is_no_label_of_a_volume(geometry, tmp_path):
    (tmp_path / "l.png").write_bytes(b"")
    with pytest.raises(DataError, match="a PNG is no volume"):
        read_volume_labels(tmp_path / "l.png", geometry)
    header = "NRRD0004\ntype: uint8\ndimension: 4\nsizes: 2 3 4 5\nencoding: raw\n\n"
    (tmp_path / "l.nrrd").write_bytes(header.encode() + bytes(120))
    with pytest.raises(DataError, match="keeps in layers"):
        read_volume_labels(tmp_path / "l.nrrd", geometry)
    secret = tmp_path / "secret"
    (tmp_path / "l.nrrd").write_text(header.replace("raw\n", f"raw\ndata file: {secret}\n"))
    with pytest.raises(DataError, match="another file"):
        read_volume_labels(tmp_path / "l.nrrd", geometry)
    for ending in ENDINGS:
        (tmp_path / f"l{ending}").write_bytes(b"NRRD0004\nnothing")
        with pytest.raises(DataError, match=f"l{ending}"):
            read_volume_labels(tmp_path / f"l{ending}", geometry)


def test_what_is_no_volume_is_named(geometry, tmp_path):
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 5, 1), np.uint8), np.eye(4)), tmp_path / "flat.nii.gz")
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 5, 6, 2), np.uint8), np.eye(4)), tmp_path / "two.nii.gz")
    (tmp_path / "cut.nii.gz").write_bytes((tmp_path / "flat.nii.gz").read_bytes()[:30])
    (tmp_path / "empty").mkdir()
    for name in ("flat.nii.gz", "two.nii.gz", "cut.nii.gz", "empty", "nothing"):
        with pytest.raises(DataError, match=f"cannot read the volume .*{name}"):
            read_volume_geometry(tmp_path / name)
    with pytest.raises(DataError, match=r"values of \(2, 2, 2\) do not fit a volume of \(9, 8, 7\)"):
        write_volume(np.zeros((2, 2, 2)), geometry, tmp_path / "l.nrrd")
    with pytest.raises(DataError, match=r"can be \.nii\.gz, \.nii or \.nrrd"):
        write_volume(np.zeros(geometry.size, np.uint8), geometry, tmp_path / "l.png")
    assert not list(tmp_path.glob("l.*"))


def test_bounds_are_the_edges_of_the_voxels():
    geometry = VolumeGeometry((4, 5, 6), np.eye(4), np.diag([-2.0, 3, 1, 1]))
    np.testing.assert_allclose(geometry.bounds, [[-7, -1.5, -0.5], [1, 13.5, 5.5]])
