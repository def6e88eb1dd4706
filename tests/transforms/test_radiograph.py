# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

import warnings

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from PIL import Image

from monai_mgca.transforms import LoadRadiograph, LoadRadiographd
from monai_mgca.utils import DataError

pydicom = pytest.importorskip("pydicom")

# Three rows, four columns, all different: a flip or a transposition shows.
PIXELS = np.arange(12).reshape(3, 4)
MIN_MAX = PIXELS * 255.0 / 11.0


def write_dicom(path, pixels=PIXELS, **tags):
    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset = pydicom.dataset.FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    settings = {
        "PatientName": "Doe^Jane",
        "PhotometricInterpretation": "MONOCHROME2",
        "SamplesPerPixel": 1,
        "BitsAllocated": 16,
        "BitsStored": 12,
        "HighBit": 11,
        "PixelRepresentation": 0,
        "Rows": pixels.shape[-2],
        "Columns": pixels.shape[-1],
        **tags,
    }
    for name, value in settings.items():
        setattr(dataset, name, value)
    dataset.PixelData = pixels.astype("<u2").tobytes()
    with warnings.catch_warnings():  # pydicom 3 has other names for these, pydicom 2 needs them
        warnings.simplefilter("ignore")
        dataset.is_little_endian, dataset.is_implicit_VR = True, False
        dataset.save_as(path)
    return path


def voi_lut(table, first, bits):
    item = pydicom.Dataset()
    item.LUTDescriptor = [len(table), first, bits]
    item.LUTData = list(table)
    item["LUTDescriptor"].VR = item["LUTData"].VR = "US"
    return pydicom.Sequence([item])


DICOM_CASES = [
    ({}, MIN_MAX),
    ({"PhotometricInterpretation": "MONOCHROME1"}, 255 - MIN_MAX),
    ({"RescaleSlope": -2, "RescaleIntercept": 100}, 255 - MIN_MAX),
    # LINEAR: 2.5 .. 8.5 by the standard's formula ((x - (c - 0.5)) / (w - 1) + 0.5)
    ({"WindowCenter": 6, "WindowWidth": 7}, np.clip((PIXELS - 5.5) / 6 + 0.5, 0, 1) * 255),
    ({"WindowCenter": [6, 1], "WindowWidth": [7, 1]}, np.clip((PIXELS - 5.5) / 6 + 0.5, 0, 1) * 255),
    (
        {"WindowCenter": 106, "WindowWidth": 7, "RescaleSlope": 1, "RescaleIntercept": 100},  # in rescaled units
        np.clip((PIXELS - 5.5) / 6 + 0.5, 0, 1) * 255,
    ),
    ({"WindowCenter": 6, "WindowWidth": 6, "VOILUTFunction": "LINEAR_EXACT"}, np.clip((PIXELS - 3) / 6, 0, 1) * 255),
    ({"WindowCenter": 6, "WindowWidth": 6, "VOILUTFunction": "SIGMOID"}, 255 / (1 + np.exp(-4 * (PIXELS - 6) / 6))),
    # A LUT goes before a window, and its first and last entries serve what lies outside.
    (
        {"VOILUTSequence": voi_lut([0, 10, 40, 50], 4, 12), "WindowCenter": 1, "WindowWidth": 1},
        np.interp(PIXELS, [4, 5, 6, 7], [0, 10, 40, 50]) * 255 / 50,
    ),
    (
        {"VOILUTSequence": voi_lut(range(300), 0, 8), "RescaleSlope": 1, "RescaleIntercept": 260},
        (PIXELS + 260) * 255 / 299,
    ),
]


@pytest.mark.parametrize(("tags", "expected"), DICOM_CASES)
def test_dicom(tmp_path, tags, expected):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        image = LoadRadiograph()(write_dicom(tmp_path / "image", **tags))  # recognized by its content
    np.testing.assert_allclose(image[0], expected, atol=0.02)


def test_dicom_meta(tmp_path):
    image = LoadRadiograph()(write_dicom(tmp_path / "image.dcm", PixelSpacing=[0.2, 0.1]))
    assert image.affine.diagonal().tolist() == [0.2, 0.1, 1.0, 1.0]
    assert "Doe" not in str(image.meta)
    tags = {"ImagePositionPatient": [1, 2, 3], "ImageOrientationPatient": [1, 0, 0, 0, 0, -1]}
    image = LoadRadiograph()(write_dicom(tmp_path / "image.dcm", PixelSpacing=[0.2, 0.1], **tags))
    # Down a row is 0.2 mm to the feet, along a column is 0.1 mm to the patient's left.
    np.testing.assert_allclose(image.affine @ torch.tensor([1.0, 0, 0, 1]).double(), [-1, -2, 2.8, 1])
    np.testing.assert_allclose(image.affine @ torch.tensor([0, 1.0, 0, 1]).double(), [-1.1, -2, 3, 1])


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"NumberOfFrames": 2, "pixels": np.stack([PIXELS, PIXELS])}, "2 frames"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "PALETTE COLOR"),
        ({"RescaleSlope": 1, "RescaleIntercept": 0, "SamplesPerPixel": 3}, "SamplesPerPixel"),
        ({"Rows": 30}, "cannot read"),
    ],
)
def test_bad_dicom(tmp_path, tags, reason):
    with pytest.raises(DataError, match=reason) as error:
        LoadRadiograph()(write_dicom(tmp_path / "image.dcm", **tags))
    assert "image.dcm" in str(error.value)
    assert "Doe" not in str(error.value)


GRAY = (PIXELS * 20).astype(np.uint8)
PILLOW_CASES = [
    ("a.png", Image.fromarray(GRAY), GRAY),
    ("a.bmp", Image.fromarray(GRAY), GRAY),
    ("a.tif", Image.fromarray(GRAY), GRAY),
    ("rgb.png", Image.fromarray(GRAY).convert("RGB"), GRAY),
    ("rgba.png", Image.fromarray(GRAY).convert("RGBA"), GRAY),
    ("la.png", Image.fromarray(GRAY).convert("LA"), GRAY),
    ("palette.png", Image.fromarray(GRAY).convert("P"), GRAY),
    ("bilevel.png", Image.fromarray(GRAY > 100), (GRAY > 100) * 255.0),
    ("16bit.png", Image.fromarray((PIXELS * 300).astype(np.uint16)), MIN_MAX),
    ("float.tif", Image.fromarray(PIXELS.astype(np.float32)), MIN_MAX),
    ("no_suffix", Image.fromarray(GRAY), GRAY),
]


@pytest.mark.parametrize(("name", "image", "expected"), PILLOW_CASES)
def test_pillow(tmp_path, name, image, expected):
    path = tmp_path / name
    image.save(path, format=None if path.suffix else "png")
    output = LoadRadiograph()(path)
    assert isinstance(output, MetaTensor)
    assert output.shape == (1, 3, 4)
    assert output.dtype == torch.float32
    np.testing.assert_allclose(output[0], expected, atol=1e-4)
    assert output.meta["filename_or_obj"] == str(path)
    assert tuple(output.meta["spatial_shape"]) == (3, 4)
    assert torch.equal(output.affine, torch.eye(4, dtype=torch.float64))


def test_jpeg(tmp_path):
    pixels = np.repeat(np.repeat(GRAY, 16, axis=0), 16, axis=1)
    Image.fromarray(pixels).save(tmp_path / "a.jpg", quality=95)
    output = LoadRadiograph()(str(tmp_path / "a.jpg"))
    assert output.shape == (1, 48, 64)
    assert np.abs(output[0].numpy() - pixels).max() < 3


@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 1), (4, 3, 1, 1)])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_nifti(tmp_path, shape, name):
    values = PIXELS.T.reshape(shape).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(values, np.diag([2.0, 3.0, 1.0, 1.0])), tmp_path / name)
    output = LoadRadiograph()(tmp_path / name)
    np.testing.assert_allclose(output, MIN_MAX[None], atol=1e-4)
    assert tuple(output.meta["spatial_shape"]) == (3, 4)
    assert (output.affine @ torch.tensor([1.0, 0, 0, 1]).double()).tolist() == [0, 3, 0, 1]  # down a row: y


def test_nifti_of_8_bits_is_as_it_is(tmp_path):
    values = np.array([[10, 20, 30], [40, 50, 200]], dtype=np.uint8)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(LoadRadiograph()(tmp_path / "a.nii.gz")[0], values.T)
    scaled = nibabel.Nifti1Image(values, np.eye(4))
    scaled.header.set_slope_inter(2.0, 5.0)
    nibabel.save(scaled, tmp_path / "b.nii")
    assert np.asarray(LoadRadiograph()(tmp_path / "b.nii")).max() == 255


def test_volume_and_nan_are_refused(tmp_path):
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 3, 2), np.int16), np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(DataError, match=r"a.nii.*(4, 3, 2).*LoadImage"):
        LoadRadiograph()(tmp_path / "a.nii")
    nibabel.save(nibabel.Nifti1Image(np.full((4, 3), np.nan, np.float32), np.eye(4)), tmp_path / "b.nii")
    with pytest.raises(DataError, match=r"b.nii.*finite"):
        LoadRadiograph()(tmp_path / "b.nii")


def test_unreadable_files_are_named(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)).save(tmp_path / "whole.png")
    whole = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    dicom = write_dicom(tmp_path / "whole.dcm").read_bytes()
    (tmp_path / "cut.dcm").write_bytes(dicom[:-10])
    (tmp_path / "head.dcm").write_bytes(dicom[:200])
    (tmp_path / "text.nii").write_text("no image")
    for name in ("text.png", "text.dcm", "text"):
        (tmp_path / name).write_text("no image")
    (tmp_path / "empty.png").touch()
    (tmp_path / "folder").mkdir()
    names = [
        "cut.png",
        "cut.dcm",
        "head.dcm",
        "text.nii",
        "text.png",
        "text.dcm",
        "text",
        "empty.png",
        "folder",
        "absent",
    ]
    for name in names:
        with pytest.raises(DataError, match=name) as error:
            LoadRadiograph()(tmp_path / name)
        assert error.value.__cause__ is not None
    with pytest.raises(DataError, match="NoneType"):
        LoadRadiograph()(None)


def test_constant_image_and_meta(tmp_path):
    image, meta = LoadRadiograph(image_only=False)(write_dicom(tmp_path / "a.dcm", np.full((3, 4), 7)))
    assert image.abs().sum() == 0
    assert tuple(meta["spatial_shape"]) == (3, 4)


def test_dictionary(tmp_path):
    Image.fromarray(GRAY).save(tmp_path / "a.png")
    data = {"image": str(tmp_path / "a.png"), "id": "a"}
    output = LoadRadiographd(["image", "absent"], allow_missing_keys=True)(data)
    assert torch.equal(output["image"], LoadRadiograph()(tmp_path / "a.png"))
    assert output["id"] == "a"
    assert data["image"] == str(tmp_path / "a.png")


def test_golden_dicom(shared, tmp_path):
    golden = np.load(shared / "goldens" / "image_resize.npz")
    for kind in ("MONOCHROME1", "MONOCHROME2"):
        path = write_dicom(
            tmp_path / "a.dcm", golden["dicom_in"], PhotometricInterpretation=kind, BitsStored=16, HighBit=15
        )
        difference = LoadRadiograph()(path)[0].numpy() - golden[f"dicom_out_{kind}_noresize"]
        assert np.abs(difference).max() < 1  # theirs is rounded to whole levels


def test_real_files(shared):
    formats = shared / "data" / "formats"
    load = LoadRadiograph()
    plain, inverted = (load(path) for path in sorted(formats.glob("*.dcm")))
    # "Fake": the same stored pixels, tagged MONOCHROME1, so that the tag alone turns them around.
    assert torch.equal(inverted, 255 - plain)
    assert plain.shape == (1, 1024, 1024)
    assert plain.affine[0, 0] == 0.168
    corner, lung = plain[0, :40, :40].mean(), plain[0, 400:500, 300:380].mean()
    assert corner < lung < plain[0, 800:900, 250:350].mean()  # air outside, lung, liver
    for path in [*formats.glob("*.png"), *formats.rglob("imgs/**/*.png")]:
        assert load(path).shape == (1, 512, 512)
