# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""Files as the labeled sets have them: images of random pixels, and tables."""

from __future__ import annotations

import csv
import warnings

import numpy as np
import pydicom
from PIL import Image

HEIGHT, WIDTH = 20, 30


def make_values(path):
    """Pixels of every file's own."""
    return np.random.default_rng(list(str(path).encode())).integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8)


def save_png(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(make_values(path)).save(path)


def save_dicom(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1", "1.2.3"
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset = pydicom.dataset.FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = HEIGHT, WIDTH, 1
    dataset.PhotometricInterpretation, dataset.PixelRepresentation = "MONOCHROME2", 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.Modality, dataset.PixelData = "CR", make_values(path).tobytes()
    with warnings.catch_warnings():  # pydicom 3 has other names for these, pydicom 2 needs them
        warnings.simplefilter("ignore")
        dataset.is_little_endian, dataset.is_implicit_VR = True, False
        dataset.save_as(path)


def make_volume(name):
    """A few voxels of every file's own."""
    return np.random.default_rng(list(name.encode())).integers(-1000, 1000, (2, 3, 4), dtype=np.int16)


def write_table(path, header, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def everything(document):
    return {e["id"]: e for part in ("training", "validation", "test") for e in document.get(part, [])}
