# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0


"""What a file is, and what is found in a folder."""

from __future__ import annotations

import json
import logging
import os
import shutil
import unicodedata

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from monai_mgca.apps.data_command import main
from monai_mgca.data import find_images, find_volumes
from monai_mgca.data.annotations import image_size
from monai_mgca.data.paths import file_problem
from monai_mgca.io import find_image_files, is_clutter, kind_of, kind_of_name, quick_kind, stem_of
from monai_mgca.io.image_header import look_at_header
from monai_mgca.transforms import LoadRadiograph
from monai_mgca.utils import DataError


def write_dicom(path, preamble=True, size=(6, 8), place=None, **tags):
    """A DICOM radiograph, or a slice, or a data set without preamble and meta information."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = FileDataset(None, {}, file_meta=FileMetaDataset() if preamble else None, preamble=b"\0" * 128)
    if preamble:
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
        data.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    data.SOPClassUID, data.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1.1", generate_uid()
    data.Modality = "DX"
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.Rows, data.Columns = size
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit, data.PixelRepresentation = 7, 0
    data.PixelData = np.arange(size[0] * size[1], dtype=np.uint8).tobytes()
    if place is not None:
        data.ImagePositionPatient, data.ImageOrientationPatient = [0, 0, place], [1, 0, 0, 0, 1, 0]
        data.PixelSpacing = [1, 1]
    for name, value in tags.items():
        setattr(data, name, value)
    data.is_little_endian, data.is_implicit_VR = True, not preamble
    pydicom.dcmwrite(path, data, write_like_original=True)
    return path


def write_document(path, modality="SR"):
    """A DICOM object that is no image: a report, contours."""
    write_dicom(path, Modality=modality, SOPClassUID="1.2.840.10008.5.1.4.1.1.88.22")
    data = pydicom.dcmread(path)
    for name in ("Rows", "Columns", "PixelData", "BitsAllocated"):
        delattr(data, name)
    data.save_as(path)
    return path


def write_picture(path, size=(8, 6), format=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.arange(size[0] * size[1], dtype=np.uint8).reshape(size[::-1])).save(path, format=format)
    return path


def write_nifti(path, shape=(8, 6)):
    import nibabel

    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(np.zeros(shape, dtype=np.uint8), np.eye(4)), path)
    return path


@pytest.mark.parametrize(
    "name",
    ["1.dcm", "1.DCM", "1.dicom", "1.dcm30", "1.ima", "1.IMA", "IM000001", "1.2.840.113.7", "1", "1.img", "1.png"],
)
def test_dicom_whatever_its_name(tmp_path, name):
    path = write_dicom(tmp_path / name)
    assert kind_of(path) == "dicom"
    assert [entry["image"] for entry in find_images(tmp_path)] == [str(path)]
    assert LoadRadiograph()(path).shape == (1, 6, 8)
    assert image_size(path) == (6, 8)
    assert look_at_header(path).kind == "dicom"


@pytest.mark.parametrize("name", ["IM0001", "1.2.840.7"])
def test_dicom_without_preamble(tmp_path, name):
    assert kind_of(write_dicom(tmp_path / name, preamble=False)) == "dicom"


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("1.tif", None),
        ("1.TIFF", None),
        ("1.bmp", None),
        ("1.PNG", None),
        ("1.jfif", "JPEG"),
        ("1", "PNG"),
        ("2", "TIFF"),
    ],
)
def test_pictures(tmp_path, name, format):
    path = write_picture(tmp_path / name, format=format)
    assert kind_of(path) == quick_kind(path) == "picture"
    assert [entry["image"] for entry in find_images(tmp_path)] == [str(path)]
    assert LoadRadiograph()(path).shape == (1, 6, 8)


@pytest.mark.parametrize(
    "content",
    [b"", b"\x08\0", b"\x08\0" * 99, b"\2\0\1\0 not DICOM" * 20, b"a report of a chest radiograph", b"BM" * 90],
)
@pytest.mark.parametrize("name", ["noise", "1.2.3", "notes.txt", "1.png.tmp", "1.dcm~"])
def test_no_image(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert kind_of(tmp_path / name) is None
    assert find_image_files(tmp_path).others == [tmp_path / name]


def test_half_written_copies_are_no_images(tmp_path):
    write_dicom(tmp_path / "1.dcm")
    for name in ("1.dcm.part", "1.dcm.bak", "1.dcm~", "1.dcm.tmp"):
        shutil.copy(tmp_path / "1.dcm", tmp_path / name)
    assert list(find_image_files(tmp_path).kinds) == [tmp_path / "1.dcm"]


@pytest.mark.parametrize("name", ["._1.png", ".1.png", "__MACOSX", "Thumbs.db", ".DS_Store", "DICOMDIR", "Desktop.ini"])
def test_clutter(tmp_path, name):
    assert is_clutter(name)
    write_picture(tmp_path / "1.png")
    (tmp_path / name).write_bytes((tmp_path / "1.png").read_bytes())
    write_picture(tmp_path / "2" / name / "1.png")
    found = find_image_files(tmp_path)
    assert (list(found.kinds), found.others) == ([tmp_path / "1.png"], [])


def test_the_folder_itself_may_be_hidden(tmp_path):
    write_picture(tmp_path / ".cache" / "1.png")
    assert len(find_images(tmp_path / ".cache")) == 1
    with pytest.raises(DataError, match="No folder of images is given"):  # --dataset_dir None
        find_images(None)


@pytest.mark.parametrize(
    ("name", "kind", "stem"),
    [
        ("a/1.nii.gz", "nifti", "a/1"),
        ("1.NII", "nifti", "1"),
        ("1.2.840.7.dcm", "dicom", "1.2.840.7"),
        ("1.2.840.7", None, "1.2.840.7"),
        ("a.png/b", None, "a.png/b"),
        ("IM1.dcm30", "dicom", "IM1"),
        ("x.txt", None, "x.txt"),
    ],
)
def test_names(name, kind, stem):
    assert (kind_of_name(name), stem_of(name)) == (kind, stem)


def test_others_are_named(tmp_path, caplog):
    write_picture(tmp_path / "1.png")
    for i in range(7):
        (tmp_path / f"{i}.xyz").write_text("no image")
    with caplog.at_level(logging.WARNING):
        assert len(find_images(tmp_path)) == 1
    assert "7 files are no image by name or content: 0.xyz, 1.xyz, 2.xyz, 3.xyz, 4.xyz ... and 2 more" in caplog.text
    os.remove(tmp_path / "1.png")
    with pytest.raises(DataError, match=r"No image in .*7 files are no image"):
        find_images(tmp_path)


@pytest.mark.parametrize("names", [("a.png", "a.dcm"), ("a.jpg", "a.JPEG"), ("IM1", "IM1.dcm"), ("a.nii.gz", "a.png")])
def test_two_images_of_one_name(tmp_path, names):
    for name in names:
        write_nifti(tmp_path / "1" / name) if ".nii" in name else write_picture(tmp_path / "1" / name, format="PNG")
        write_dicom(tmp_path / "1" / name) if name in ("a.dcm", "IM1", "IM1.dcm") else None
    write_picture(tmp_path / "2" / "a.png")
    with pytest.raises(DataError, match="holds several images of one name: 1/") as error:
        find_images(tmp_path)
    assert all(f"1/{name}" in str(error.value) for name in names)
    assert " 2/" not in str(error.value)


@pytest.mark.parametrize("modality", ["SR", "PR", "KO", "RTSTRUCT"])
@pytest.mark.parametrize("name", ["1.dcm", "1.2.840.7"])
def test_dicom_that_is_no_image(tmp_path, caplog, modality, name):
    radiograph = write_dicom(tmp_path / "IM1")
    write_document(tmp_path / name, modality)
    with caplog.at_level(logging.WARNING):
        assert find_images(tmp_path) == [{"image": str(radiograph)}]
    assert f"1 file is no image by name or content: {name}" in caplog.text
    header = look_at_header(tmp_path / name)
    assert header.problem == "not an image"
    assert "no image, but of the kind Enhanced SR Storage" in header.detail
    with pytest.raises(DataError, match="no image, but of the kind"):
        LoadRadiograph()(tmp_path / name)


def test_a_radiograph_without_its_rows_is_damaged(tmp_path):
    write_dicom(tmp_path / "1.dcm", Rows=None)
    assert len(find_images(tmp_path)) == 1
    assert look_at_header(tmp_path / "1.dcm").problem == "unreadable"


@pytest.mark.parametrize("content", [b"", b"no DICOM file at all", b"\0" * 128 + b"DICM" + b"\0" * 9])
def test_damaged_dicom_is_left_to_its_reader(tmp_path, content):
    (tmp_path / "1.dcm").write_bytes(content)
    assert find_images(tmp_path) == [{"image": str(tmp_path / "1.dcm")}]


@pytest.mark.parametrize("find", [find_images, find_volumes])
@pytest.mark.parametrize("names", [("1.nii", "1.nii.gz"), ("1.NII", "1.nii.gz")])
def test_packed_beside_unpacked(tmp_path, find, names):
    for name in names:
        write_nifti(tmp_path / "ct" / name)
    with pytest.raises(DataError, match=r"several images of one name: ct/1\.(nii|NII), ct/1\.nii\.gz\. Leave one"):
        find(tmp_path)


class TestSeries:
    def write(self, folder, number=3, **tags):
        tags = {"SeriesInstanceUID": "1.2.3", "Modality": "CT"} | tags
        for i in range(number):
            write_dicom(folder / f"IM{i}", place=float(i), **tags)

    def test_slices_of_one_series(self, tmp_path):
        self.write(tmp_path / "ct")
        (tmp_path / "ct" / "._IM0").write_bytes(b"\0\5\x16\7")
        write_nifti(tmp_path / "a.nii.gz", (4, 4, 4))
        found = [os.path.relpath(entry["image"], tmp_path) for entry in find_volumes(tmp_path)]
        assert found == ["a.nii.gz", "ct"]

    def test_a_single_file_is_taken_by_itself(self, tmp_path):
        self.write(tmp_path / "ct", number=1)
        assert find_volumes(tmp_path)[0]["image"] == str(tmp_path / "ct" / "IM0")

    @pytest.mark.parametrize("modality", ["DX", "CR", "MG"])
    def test_six_radiographs_are_no_volume(self, tmp_path, modality):
        self.write(tmp_path / "cxr", number=6, Modality=modality)
        with pytest.raises(DataError, match=f"6 files of modality {modality}"):
            find_volumes(tmp_path)
        assert len(find_images(tmp_path)) == 6

    def test_six_pictures_are_no_volume(self, tmp_path):
        for i in range(6):
            write_picture(tmp_path / "cxr" / f"{i}.png")
        with pytest.raises(DataError, match="6 files are no volume"):
            find_volumes(tmp_path)
        assert file_problem(str(tmp_path), "cxr") == "a folder without DICOM slices"

    def test_two_series(self, tmp_path):
        self.write(tmp_path / "ct")
        write_dicom(tmp_path / "ct" / "other", Modality="CT", SeriesInstanceUID="1.2.4")
        with pytest.raises(DataError, match="4 files of 2 series"):
            find_volumes(tmp_path)

    @pytest.mark.parametrize("folder", ["ct", "reports"])
    def test_a_structured_report_beside_the_slices(self, tmp_path, folder):
        self.write(tmp_path / "ct")
        write_document(tmp_path / folder / "SR1")
        assert find_volumes(tmp_path) == [{"image": str(tmp_path / "ct")}]


class TestFolderSource:
    def run(self, tmp_path, *options, reports=None):
        args = ["folder", "--images", tmp_path / "images", "--reports", reports or tmp_path / "reports", *options]
        return main([*map(str, args), "--output", str(tmp_path / "list.json"), "--fractions", "1", "0", "0"])

    def write_report(self, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("The lungs are clear. There is no effusion.")

    def test_without_suffix_and_upper_case(self, tmp_path, capsys):
        write_dicom(tmp_path / "images" / "1" / "IM000001")
        write_dicom(tmp_path / "images" / "2" / "1.2.3.4.IMA")
        write_picture(tmp_path / "images" / "3" / "a.TIF")
        for name in ("1/IM000001.txt", "2/1.2.3.4.TXT", "3/a.Txt"):
            self.write_report(tmp_path / "reports" / name)
        (tmp_path / "images" / "notes.xyz").write_text("no image")
        assert self.run(tmp_path, "--patient", "folder") == 0
        out = capsys.readouterr().out
        assert "training: 3 entries of 3 patients" in out
        assert "dropped: 0" in out
        assert "1 file is no image by name or content: notes.xyz" in out

    @pytest.mark.parametrize("case", ["appledouble_taken_for_images", "dicom_without_suffix_not_found"])
    def test_case(self, shared, tmp_path, capsys, case):
        shutil.copytree(shared / "cases" / case, tmp_path, dirs_exist_ok=True)
        assert self.run(tmp_path) == 0
        number = 1 if case.startswith("appledouble") else 2
        assert f"training: {number} entries" in capsys.readouterr().out
        assert len(find_images(tmp_path / "images")) == number

    @pytest.mark.parametrize(("of_image", "of_report"), [("NFD", "NFC"), ("NFC", "NFD")])
    def test_accents_of_macos(self, tmp_path, capsys, of_image, of_report):
        write_picture(tmp_path / "images" / unicodedata.normalize(of_image, "Müller.png"))
        self.write_report(tmp_path / "reports" / unicodedata.normalize(of_report, "Müller.txt"))
        assert self.run(tmp_path) == 0
        assert "training: 1 entries" in capsys.readouterr().out

    def test_reports_that_are_no_text_files(self, tmp_path, capsys):
        write_picture(tmp_path / "images" / "a.png")
        self.write_report(tmp_path / "reports" / "a.rtf")
        assert self.run(tmp_path) == 2
        assert "there is no .txt file in" in capsys.readouterr().err

    @pytest.mark.parametrize("names", [("a.png", "a.bmp"), ("a.nii", "a.nii.gz"), ("a.dcm", "a")])
    def test_two_images_of_one_name(self, tmp_path, capsys, names):
        for name in names:
            path = tmp_path / "images" / name
            {"png": write_picture, "bmp": write_picture, "nii": write_nifti, "gz": write_nifti}.get(
                name.rpartition(".")[2], write_dicom
            )(path)
        self.write_report(tmp_path / "reports" / "a.txt")
        assert self.run(tmp_path) == 2
        error = capsys.readouterr().err
        assert all(name in error for name in names)

    @pytest.mark.parametrize(
        ("texts", "options"),
        [
            (["images/1/s1/report.txt", "images/1/s2/a.txt", "images/2/s3.TXT"], ()),
            (["images/1/s1.txt", "images/1/s2/x.txt", "images/2/s3/._a.txt", "images/2/s3/b.txt"], ()),
            (["reports/1/s1.txt", "reports/1/s2.txt", "reports/2/s3/x.txt"], ("--one-per-folder",)),
        ],
    )
    def test_one_report_a_folder(self, tmp_path, capsys, texts, options):
        for name in ("1/s1/a.png", "1/s1/b.png", "1/s2/a.png", "2/s3/series/a.png", "2/s3/b.png", "3/s4/a.png"):
            write_picture(tmp_path / "images" / name)
        for i, name in enumerate(texts):
            self.write_report(tmp_path / name)
            (tmp_path / name).write_text(f"The report number {i} of a chest.")
        write_picture(tmp_path / "images" / "a.png")
        assert self.run(tmp_path, *options, reports=None if options else "one-per-folder") == 0
        out = capsys.readouterr().out
        assert "3 reports for 5 images" in out
        assert "dropped: 2 (image without a report)" in out
        entries = json.loads((tmp_path / "list.json").read_text())["training"]
        report_of = {entry["image"]: entry["report"] for entry in entries}
        assert report_of["1/s1/a.png"] == report_of["1/s1/b.png"] != report_of["1/s2/a.png"]
        assert report_of["2/s3/series/a.png"] == report_of["2/s3/b.png"]
        assert len({entry["patient"] for entry in entries}) == 3  # a study stays in one split
        assert self.run(tmp_path, *options, "--patient", "folder", reports=None if options else "one-per-folder") == 0
        assert "5 entries of 2 patients" in capsys.readouterr().out

    def test_several_reports_in_a_folder(self, tmp_path, capsys):
        write_picture(tmp_path / "images" / "1" / "a.png")
        for name in ("1.txt", "1/a.txt"):
            self.write_report(tmp_path / "images" / name)
        assert self.run(tmp_path, reports="one-per-folder") == 2
        assert "1: 1.txt, a.txt" in capsys.readouterr().err
