# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import itertools
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest

from monai_mgca.data.check.image_problems import check_volume
from monai_mgca.data.check.problem import CheckLimits
from monai_mgca.io.dicom.dicom_series import Slice, find_slices
from monai_mgca.io.dicom.slice_stack import stack_slices
from monai_mgca.transforms import LoadVolume
from monai_mgca.utils import DataError

pytest.importorskip("itk")
pydicom = pytest.importorskip("pydicom")
VALUES = np.random.default_rng(0).integers(-1000, 1000, (6, 4, 5)).astype(np.int16)  # slices, rows, columns
AXIAL, CORONAL, SAGITTAL = (1, 0, 0, 0, 1, 0), (1, 0, 0, 0, 0, -1), (0, 1, 0, 0, 0, -1)


def dataset(values, path, series, **tags):
    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    data = pydicom.dataset.FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.SeriesInstanceUID, data.Modality = series, "CT"
    data.Rows, data.Columns = values.shape[-2:]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 1
    for name, value in {"RescaleSlope": 1, "RescaleIntercept": 0, "PixelSpacing": [0.8, 0.9], **tags}.items():
        if value is not None:
            setattr(data, name, value)
    data.PixelData = values.astype("<i2").tobytes()
    return data


def save(data, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():  # pydicom 3 has other names for these, pydicom 2 needs them
        warnings.simplefilter("ignore")
        data.is_little_endian, data.is_implicit_VR = True, False
        data.save_as(path)
    return path


def written(number):
    return float(f"{number:.10g}")


def draw(folder, values=VALUES, orientation=AXIAL, step=0.7, start=-17.8999, change=lambda k: {}, series="1.2.3"):
    """A series behind each other along its normal; files are in no order of places. `change` gives a slice's tags."""
    normal = np.cross(orientation[:3], orientation[3:])
    names = np.random.default_rng(1).permutation(len(values))
    for k, slice_values in enumerate(values):
        place = np.array([-30.5, -40.5, 0]) + (start + k * step) * normal
        tags = {"ImagePositionPatient": [written(x) for x in place], "ImageOrientationPatient": list(orientation)}
        tags |= {"InstanceNumber": k + 1, **change(k)}
        path = folder / f"{names[k]:03d}.dcm"
        save(dataset(slice_values, path, series, **tags), path)
    return folder


def by_sitk(folder):
    """What another reader gives: values (X, Y, Z), and the affine to RAS."""
    sitk = pytest.importorskip("SimpleITK")
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return sitk.GetArrayFromImage(image).T.astype(np.float32), np.diag([-1, -1, 1, 1]) @ affine


def refused(path, match):
    """The reader's reason, which is that of the check too."""
    with pytest.raises(DataError, match=match) as error:
        LoadVolume()(path)
    (reason, detail), *_ = check_volume(str(path), CheckLimits()).found
    assert reason == "unreadable"
    assert detail in str(error.value)
    assert str(path) in str(error.value)


def turned(axis, degrees):
    """AXIAL turned around an axis."""
    a, (i, j) = np.radians(degrees), [(1, 2), (0, 2), (0, 1)][axis]
    matrix = np.eye(3)
    matrix[[i, i, j, j], [i, j, i, j]] = np.cos(a), -np.sin(a), np.sin(a), np.cos(a)
    return tuple(np.round(matrix[:, :2].T.ravel(), 6))


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


def slices(places, sideways=0.0, orientation=AXIAL, **change):
    one = Slice(Path("a.dcm"), 0, "1", (5, 4), None, orientation, (0.8, 0.9))
    return [one._replace(file=Path(f"{k}.dcm"), position=(k * sideways, 0, z), **change) for k, z in enumerate(places)]


@pytest.mark.parametrize("step", [0.5, 0.6, 0.625, 0.7, 0.8, 0.9, 1.0, 1.25, 2.5, 5, 0.05])
@pytest.mark.parametrize("start", [0, -17.8999, -100.3, 1234.56])
@pytest.mark.parametrize("digits", [15, 6, 3])
def test_even_series_of_any_step(step, start, digits):
    """As they are written: with many digits, or rounded to a hundredth of the distance."""
    places = [float(f"{start + k * step:.{digits}f}") for k in range(40)]
    ordered, affine = stack_slices(slices(places)[::-1])
    assert [one.position[2] for one in ordered] == places
    assert affine[2, 2] == pytest.approx(step, abs=1e-3)
    assert affine[2, 3] == pytest.approx(start, abs=1e-3)


def test_places_with_few_digits():
    places = [float(f"{-17.89 + k * 1.255:.2f}") for k in range(40)]
    assert stack_slices(slices(places))[1][2, 2] == pytest.approx(1.255, abs=0.01)


@pytest.mark.parametrize(
    ("places", "reason"),
    [
        ([0, 1, 2, 4, 5], r"missing: 1 of them, 1 between 2.dcm \(at 2 mm\) and 3.dcm \(at 4 mm\)"),
        ([0, 0.7, 1.4, 3.5, 4.2, 5.6], r"missing: 3 of them, 2 between 2.dcm \(at 1.4 mm\) and 3.dcm \(at 3.5 mm\)"),
        ([0, 1, 3], r"missing: 1 of them, 1 between 1.dcm"),
        ([0, 1, 2, 3, 4.4], r"not evenly spaced: 1 to 1.4 mm apart, the last between 3.dcm .* and 4.dcm"),
        ([*np.arange(10), *np.arange(10, 20, 1.25)], "not evenly spaced: 1 to 1.25 mm"),
        ([3] * 9, r"all 9 slices are at one place \(3 mm\)"),
        ([0, 1, 1, 2, 3], r"1 slices are where another one is, such as 1.dcm \(at 1 mm\) and 2.dcm"),
        ([*range(5), *range(5)], "5 slices are where another one is"),
        ([7], "it is one slice"),
    ],
)
def test_places_that_make_no_volume(places, reason):
    with pytest.raises(DataError, match=reason):
        stack_slices(slices(places))


@pytest.mark.parametrize("tilt", [1, 5, 14, -20])
def test_a_tilted_gantry_is_named_with_its_angle(tilt):
    with pytest.raises(DataError, match=rf"tilted by {abs(tilt)}.0 degrees.*dcm2niix"):
        stack_slices(slices(np.arange(16) * np.cos(np.radians(tilt)), sideways=np.sin(np.radians(tilt))))


def test_a_slice_shifted_sideways():
    series = slices(range(16))
    series[5] = series[5]._replace(position=(3, 0, 5))
    with pytest.raises(DataError, match=r"shifted sideways by 3 mm \(5.dcm\)"):
        stack_slices(series)
    assert stack_slices(slices(range(16), sideways=0.004))  # as rounding does


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


def enhanced(path, places, rescale=lambda k: (2, -100), orientation=AXIAL):
    """All slices as frames of one file, in any order."""
    of = pydicom.Dataset
    data = dataset(VALUES, path, "1.2.3", PixelSpacing=None, RescaleSlope=None, RescaleIntercept=None)
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2.1"
    data.NumberOfFrames = len(places)
    shared, frames = of(), []
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [of()], [of()]
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = list(orientation)
    shared.PixelMeasuresSequence[0].PixelSpacing = [0.8, 0.9]
    shared.PixelMeasuresSequence[0].SliceThickness = 0.7
    for k, place in enumerate(places):
        frame = of()
        frame.PlanePositionSequence, frame.PixelValueTransformationSequence = [of()], [of()]
        frame.PlanePositionSequence[0].ImagePositionPatient = [-30.5, -40.5, place]
        values = frame.PixelValueTransformationSequence[0]
        values.RescaleSlope, values.RescaleIntercept = rescale(k)
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


def test_one_slice(tmp_path):
    folder = draw(tmp_path / "ct")
    refused(folder / "000.dcm", "it is one slice; a volume is the folder")


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
