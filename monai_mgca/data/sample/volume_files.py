# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Writes what the sample draws as a scanner does, as NIfTI and as a DICOM series, and says where masks lie in it.

Arrays are drawn along the patient's left, front and head, and stored along left, back and head, as the rows and columns
of axial slices go.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel
import numpy as np
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import PYDICOM_IMPLEMENTATION_UID, UID, CTImageStorage, ExplicitVRLittleEndian, generate_uid

from monai_mgca.utils.files import replacing

from .volume_canvas import FIELD

__all__ = ["box_around", "save_nifti", "save_series"]

_LOWEST = -1024  # Hounsfield units; scanners store values from 0 on
# What a CT must have, and a drawing has not.
_EMPTY = (
    *("AccessionNumber", "KVP", "Manufacturer", "PatientBirthDate", "PatientName", "PatientSex"),
    *("ReferringPhysicianName", "StudyDate", "StudyID", "StudyTime"),
)


def save_nifti(path: Path, values: np.ndarray) -> None:
    """Write a volume or a mask, the same bytes for the same values.

    Args:
        path: of the .nii.gz file.
        values: (left, front, head), a cube; their type is the file's.

    Example::

        save_nifti(Path("volume.nii.gz"), np.zeros((32, 32, 32), np.int16))
    """
    spacing = FIELD / len(values)
    affine = np.diag([-spacing, -spacing, spacing, 1.0])
    affine[:3, 3] = np.array([1.0, 1.0, -1.0]) * (FIELD - spacing) / 2
    image = nibabel.Nifti1Image(np.ascontiguousarray(values[:, ::-1]), affine)
    image.header.set_xyzt_units("mm")
    with replacing(path) as temporary:  # without the time, so that the same study is the same file
        temporary.write_bytes(gzip.compress(image.to_bytes(), compresslevel=1, mtime=0))


def save_series(folder: Path, values: np.ndarray, patient: str, seed: int) -> None:
    """Write a volume as the slices of a DICOM series, where :func:`save_nifti` puts it.

    Args:
        folder: of the series; DICOM files of another one in it are removed.
        values: (left, front, head), a cube, int16, from -1024 on.
        patient: PatientID.
        seed: of the drawing; with the folder's name and the size it makes the UIDs, so that the files are the same
            each time.

    Example::

        save_series(Path("series/volume_00000"), np.zeros((32, 32, 32), np.int16), "patient_00000", seed=0)
    """
    spacing = FIELD / len(values)
    corner = (spacing - FIELD) / 2
    slices = np.ascontiguousarray(values[:, ::-1].T) - _LOWEST  # heads, rows to the back, columns to the left
    names = [f"slice_{index:04d}.dcm" for index in range(len(slices))]
    folder.mkdir(parents=True, exist_ok=True)
    for file in folder.glob("*.dcm"):
        if file.name not in names:
            file.unlink(missing_ok=True)
    source = [f"monai_mgca {folder.name} {len(values)} {seed}"]
    study, series, frame = (generate_uid(entropy_srcs=[*source, what]) for what in ("study", "series", "frame"))
    for index, (name, pixels) in enumerate(zip(names, slices, strict=True)):
        data = _header(generate_uid(entropy_srcs=[*source, name]))
        data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = study, series, frame
        data.PatientID, data.PatientPosition, data.SeriesDescription = patient, "HFS", "A drawing, no patient"
        data.Modality, data.SeriesNumber, data.InstanceNumber = "CT", 1, index + 1
        data.ImageType, data.ImageOrientationPatient = ["ORIGINAL", "PRIMARY", "AXIAL"], [1, 0, 0, 0, 1, 0]
        data.ImagePositionPatient = [_decimal(corner), _decimal(corner), _decimal(corner + index * spacing)]
        data.PixelSpacing, data.SliceThickness = [_decimal(spacing)] * 2, _decimal(spacing)
        data.Rows, data.Columns = pixels.shape
        data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 0
        data.BitsAllocated, data.BitsStored, data.HighBit = 16, 12, 11
        data.RescaleSlope, data.RescaleIntercept, data.RescaleType = 1, _LOWEST, "HU"
        data.PixelData = pixels.astype("<u2").tobytes()
        with replacing(folder / name) as temporary:
            data.save_as(temporary)


def _header(uid: UID) -> FileDataset:
    meta = FileMetaDataset()
    meta.FileMetaInformationGroupLength, meta.FileMetaInformationVersion = 0, b"\0\1"  # the length is set on writing
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, uid
    meta.TransferSyntaxUID, meta.ImplementationClassUID = ExplicitVRLittleEndian, PYDICOM_IMPLEMENTATION_UID
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    if int(pydicom.__version__.split(".")[0]) < 3:  # later ones look at the transfer syntax, and warn of these
        data.is_little_endian, data.is_implicit_VR = True, False
    data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, uid
    for name in _EMPTY:
        setattr(data, name, "")
    return data


def _decimal(value: float) -> str:
    """A number as DICOM writes it, in at most 16 characters."""
    return f"{value:.10g}"


def box_around(mask: np.ndarray) -> list[float]:
    """The box around a mask in world coordinates, with all of its outermost voxels.

    Args:
        mask: (left, front, head), a cube, bool, not empty.

    Returns:
        [x0, y0, z0, x1, y1, z1] in millimeters to the patient's right, front and head (RAS+).

    Example::

        mask = np.zeros((44, 44, 44), bool)
        mask[0, 22, 43] = True
        print(box_around(mask))  # [210, 0, 210, 220, 10, 220]: 220 is the patient's far right
    """
    spacing = FIELD / len(mask)
    places = np.argwhere(mask)
    low, high = places.min(0) * spacing - FIELD / 2, (places.max(0) + 1) * spacing - FIELD / 2
    return [float(x) for x in (-high[0], low[1], low[2], -low[0], high[1], high[2])]
