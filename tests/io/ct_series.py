# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""A small CT as DICOM files, and what another reader gives of it."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from monai_mgca.data.check.image_problems import check_volume
from monai_mgca.data.check.problem import CheckLimits
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
