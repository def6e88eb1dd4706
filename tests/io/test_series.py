# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""A folder of DICOM slices becomes a volume, or the error names the slice."""

from __future__ import annotations

import itertools
import shutil
import warnings

import numpy as np
import pytest

from monai_mgca.data.check.image_problems import check_volume
from monai_mgca.data.check.problem import CheckLimits
from monai_mgca.io.dicom.dicom_series import find_slices
from monai_mgca.io.dicom.slice_stack import stack_slices
from monai_mgca.transforms import LoadVolume
from monai_mgca.utils import DataError

from .ct_series import AXIAL, CORONAL, SAGITTAL, VALUES, by_sitk, dataset, draw, refused, save, turned

pydicom = pytest.importorskip("pydicom")


@pytest.mark.parametrize(
    "orientation",
    [
        AXIAL,
        CORONAL,
        SAGITTAL,
        (-1, 0, 0, 0, -1, 0),
        (0, -1, 0, 1, 0, 0),
        (1, 0, 0, 0, -1, 0),
        turned(0, 20),
        turned(1, 33),
    ],
)
def test_every_orientation(tmp_path, orientation):
    volume = LoadVolume()(draw(tmp_path / "ct", orientation=orientation))
    np.testing.assert_array_equal(volume[0].numpy(), VALUES.T)
    row, column = np.reshape(orientation, (2, 3))
    expected = np.stack([row * 0.9, column * 0.8, np.cross(row, column) * 0.7], axis=1) * [[-1], [-1], [1]]
    np.testing.assert_allclose(volume.affine.numpy()[:3, :3], expected, atol=1e-5)
    values, affine = by_sitk(tmp_path / "ct")
    np.testing.assert_array_equal(volume[0].numpy(), values)
    np.testing.assert_allclose(volume.affine.numpy(), affine, atol=1e-4)


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"ImagePositionPatient": None}, "slices give no position .*dcm.*export it with ImagePositionPatient"),
        ({"ImagePositionPatient": ""}, "give no position"),
        ({"ImageOrientationPatient": None}, "give no orientation"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "no pair of perpendicular directions"),
        ({"ImageOrientationPatient": [0, 0, 0, 0, 0, 0]}, "no pair of perpendicular directions"),
        ({"PixelSpacing": None}, "give no spacing"),
        ({"PixelSpacing": [0, 0]}, "PixelSpacing is not above 0"),
        ({"ImagePositionPatient": [1, 2, 3]}, "all 6 slices are at one place"),
    ],
)
def test_tags_of_all_slices(tmp_path, tags, reason):
    refused(draw(tmp_path / "ct", change=lambda k: tags), reason)


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"ImagePositionPatient": None}, r"1 of 6 slices give no position \(\d+.dcm\)"),
        (
            {"ImageOrientationPatient": list(CORONAL)},
            r"1 of 6 slices have another orient.* \(\d+.dcm\): localizers",
        ),
        ({"PixelSpacing": [2, 2]}, r"differ in PixelSpacing \(\d+.dcm\)"),
    ],
)
def test_tags_of_one_slice(tmp_path, tags, reason):
    refused(draw(tmp_path / "ct", change=lambda k: tags if k == 2 else {}), reason)


def test_a_slice_of_another_size(tmp_path):
    folder = draw(tmp_path / "ct", VALUES[:5])
    other = dataset(np.zeros((8, 9), np.int16), folder / "scout.dcm", "1.2.3", ImagePositionPatient=[0, 0, 99])
    other.ImageOrientationPatient = list(AXIAL)
    save(other, folder / "scout.dcm")
    refused(folder, r"differ in size: 5 of 5 x 4, 1 of 9 x 8 pixels \(scout.dcm\)")


def test_several_series_are_counted_and_named(tmp_path):
    folder = draw(tmp_path / "ct", VALUES[:5])
    save(dataset(VALUES[0], folder / "dose.dcm", "1.2.4", PixelSpacing=None), folder / "dose.dcm")
    refused(folder, r"holds 2 DICOM series \(5 slices, such as 0\d\d.dcm; 1 slices, such as dose.dcm\); give each")


def test_only_files_of_the_series_decide(tmp_path):
    folder = draw(tmp_path / "ct")
    expected = LoadVolume()(folder)
    (folder / "._000.dcm").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X" + b"\0" * 4000)
    (folder / ".000.dcm.part").write_bytes((folder / "000.dcm").read_bytes()[:300])
    (folder / "notes.txt").write_text("text")
    (folder / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
    (folder / "sub").mkdir()
    (folder / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 300)
    report = dataset(VALUES[0], folder / "report", "1.2.9")
    del report.PixelData, report.Rows, report.Columns
    report.SOPClassUID = report.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.22"
    save(report, folder / "report")
    volume = LoadVolume()(folder)
    np.testing.assert_array_equal(volume.numpy(), expected.numpy())
    assert check_volume(str(folder), CheckLimits()).found == []


@pytest.mark.parametrize("left", [0, 400, -9])
def test_a_damaged_file_of_the_folder_is_named(tmp_path, left):
    folder = draw(tmp_path / "ct")
    (folder / "003.dcm").write_bytes((folder / "003.dcm").read_bytes()[:left])
    with pytest.raises(DataError, match=r"It is 003.dcm: take it out of the folder if it is no slice"):
        LoadVolume()(folder)


def test_a_cut_slice_is_truncated(tmp_path):
    folder = draw(tmp_path / "ct")
    (folder / "003.dcm").write_bytes((folder / "003.dcm").read_bytes()[:-9])
    (reason, detail), *_ = check_volume(str(folder), CheckLimits()).found
    assert reason == "truncated"
    assert "It is 003.dcm" in detail


def test_itk_says_nothing_of_rounded_places(tmp_path, capfd):
    rounded = lambda k: {"ImagePositionPatient": [0, 0, round(k / 3, 2)]}  # noqa: E731
    assert LoadVolume()(draw(tmp_path / "ct", change=rounded)).shape == (1, 5, 4, 6)
    assert capfd.readouterr().err == ""


def test_slices_without_suffix_or_preamble(tmp_path):
    folder = draw(tmp_path / "ct")
    for k, path in enumerate(sorted(folder.iterdir())):
        path.rename(folder / f"IM{k}")
    first = folder / "IM0"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = pydicom.dcmread(first)
        data.file_meta, data.preamble = pydicom.dataset.FileMetaDataset(), None
        data.is_little_endian, data.is_implicit_VR = True, True
        pydicom.dcmwrite(first, data, write_like_original=True)
    assert first.read_bytes()[128:132] != b"DICM"
    np.testing.assert_array_equal(LoadVolume()(folder)[0].numpy(), VALUES.T)


def test_each_slice_has_its_own_slope_and_intercept(tmp_path):
    slopes, intercepts = [1, 0.5, 2, 0.25, 3, 1], [-1024, 0, 7, 0.5, 1, 2]
    folder = draw(tmp_path / "ct", change=lambda k: {"RescaleSlope": slopes[k], "RescaleIntercept": intercepts[k]})
    expected = VALUES * np.reshape(slopes, (6, 1, 1)) + np.reshape(intercepts, (6, 1, 1))
    np.testing.assert_array_equal(LoadVolume()(folder)[0].numpy(), expected.T)


@pytest.mark.parametrize(("sign", "garbage"), itertools.product([0, 1], [False, True]))
def test_bits_above_the_stored_ones_are_no_values(tmp_path, sign, garbage):
    true = VALUES if sign else np.abs(VALUES)
    stored = (true.astype(np.int32) & 0xFFF) | (0xF000 if garbage else 0)  # NumPy 2 keeps to 16 bits
    bits = {"BitsStored": 12, "HighBit": 11, "PixelRepresentation": sign}
    folder = draw(tmp_path / "ct", stored.astype(np.uint16).view(np.int16), change=lambda k: bits)
    np.testing.assert_array_equal(LoadVolume()(folder)[0].numpy(), true.T)


def test_one_slice(tmp_path):
    folder = draw(tmp_path / "ct")
    refused(folder / "000.dcm", "it is one slice; a volume is the folder")


def test_the_cases(shared):
    cases = shared / "cases"
    if not cases.is_dir():
        pytest.skip("the cases are not here")
    for name in ("ct_even_0.7mm_refused/series", "ct_appledouble_in_folder/series"):
        volume = LoadVolume()(cases / name)
        assert volume.shape == (1, 24, 20, 16)
        assert (volume.min(), volume.max()) == (-1000, 700)
    refused(cases / "ct_no_position" / "series", "give no position")
    refused(cases / "ct_localizer_same_uid" / "series", "090.dcm")
    refused(cases / "ct_gantry_tilt" / "series", "14.0 degrees")


def test_a_real_series(shared, tmp_path):
    """JPEG 2000, lossless; a few of its files under other names, in another order."""
    ordered, _ = stack_slices(find_slices(shared / "data" / "ct" / "series_dicom"))
    for k, one in enumerate(ordered[4:8]):
        shutil.copy(one.file, tmp_path / f"IM{(k * 3 + 2) % 4}")
    volume = LoadVolume()(tmp_path)
    values, affine = by_sitk(tmp_path)
    assert volume.shape == (1, 512, 512, 4)
    assert volume.min() == -1024
    np.testing.assert_array_equal(volume[0].numpy(), values)
    np.testing.assert_allclose(volume.affine.numpy(), affine, atol=1e-6)
