# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Small sound files of every kind that the package reads, to be broken by mutate.py."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import torch
from PIL import Image
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID
from safetensors.torch import save

from monai_mgca.data.datalist import write_datalist
from monai_mgca.io.embedding_file import write_embeddings
from monai_mgca.io.geometry import Geometry, write_label_map
from monai_mgca.label.store.markups import boxes_to_markups
from monai_mgca.utils.files import write_settings

AFFINE = np.diag([0.5, 0.5, 1.0, 1.0])
GRAY = (np.arange(20 * 30).reshape(20, 30) % 251).astype(np.uint8)
REPORT = "FINDINGS: Clear lungs, no effusion. IMPRESSION: Normal chest."
RUNS = {"size": [20, 30], "counts": [100, 40, 460]}
_EXPLICIT, J2K = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.90"


def _files(folder: Path, *names: str) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in names}


def _images(folder: Path, *names: str) -> None:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.roll(GRAY, number)).save(folder / name)


def datalist(folder: Path) -> dict[str, bytes]:
    _images(folder, "1.png", "2.png", "3.png", "mask.png")
    annotated = {"labels": [1, 0], "boxes": [[1, 2, 10, 12.5]], "box_labels": [0], "mask": "mask.png"}
    entries = [
        {"id": "1", "image": "1.png", "report": REPORT, "patient": "1", **annotated},
        {"id": "2", "image": "2.png", "report": REPORT, "patient": "2", **annotated, "labels": [-1, 1], "mask": RUNS},
        {"id": "3", "image": "3.png", "report": REPORT, "patient": "3", **annotated},
    ]
    header = {"classes": ["edema", "mass"], "box_classes": ["nodule"], "mask_classes": ["lung"]}
    write_datalist(
        folder / "datalist.json", {"training": entries[:2], "test": entries[2:]}, "fuzz", "by hand", {}, **header
    )
    return _files(folder, "datalist.json")


def table(folder: Path) -> dict[str, bytes]:
    _images(folder, "1.png", "2.png", "mask.png")
    runs = json.dumps(RUNS).replace('"', '""')
    rows = [
        ("image", "report", "patient", "split", "mask", "boxes", "class", "edema", "mass"),
        ("1.png", f'"{REPORT}"', "p1", "train", "mask.png", '"[[1, 2, 10, 12.5]]"', "nodule", "1", "0"),
        ("2.png", f'"{REPORT}"', "p2", "test", f'"{runs}"', '"[]"', "nodule", "-1", ""),
    ]
    for name, separator in (("table.csv", ","), ("table.tsv", "\t")):
        (folder / name).write_text("\n".join(separator.join(row) for row in rows) + "\n")
    (folder / "table.csv.gz").write_bytes(gzip.compress((folder / "table.csv").read_bytes()))
    return _files(folder, "table.csv", "table.tsv", "table.csv.gz")


def box_table(folder: Path) -> dict[str, bytes]:
    _images(folder, "1.png", "2.png")
    rows = "image;x;y;w;h;class;names\n1.png;1;2;5;6.5;nodule;edema|mass\n1.png;3;3;4;4;mass;\n2.png;;;;;;edema\n"
    (folder / "boxes.csv").write_text(rows)
    return _files(folder, "boxes.csv")


def siim(folder: Path) -> dict[str, bytes]:
    _images(folder, "a.png", "b.png")
    (folder / "train-rle.csv").write_text("ImageId, EncodedPixels\na, 300 5 200 7\na, 3 2\nb, -1\n")
    return _files(folder, "train-rle.csv")


def object_cxr(folder: Path) -> dict[str, bytes]:
    _images(folder, "train/1.png", "train/2.png", "dev/3.png")
    (folder / "train.csv").write_text("image_name,annotation\n1.png,0 1 2 10 12;2 1 1 5 5 9 3\n2.png,\n")
    (folder / "dev.csv").write_text("image_name,annotation\n3.png,1 1 2 10 12\n")
    return _files(folder, "train.csv", "dev.csv")


def folder(folder: Path) -> dict[str, bytes]:
    (folder / "images").mkdir()
    (folder / "reports").mkdir()
    (folder / "images" / "1.dcm").write_bytes(write_dicom(GRAY, PatientID="p1"))
    (folder / "reports" / "1.txt").write_text(REPORT)
    return _files(folder, "images/1.dcm", "reports/1.txt")


def open_i(folder: Path) -> dict[str, bytes]:
    _images(folder, "images/CXR1_1_IM-0001-3001.png", "images/CXR1_1_IM-0001-4001.png")
    rows = "uid,filename,projection\n1,1_IM-0001-3001.dcm.png,Frontal\n1,1_IM-0001-4001.dcm.png,Lateral\n"
    (folder / "projections.csv").write_text(rows)
    (folder / "xml").mkdir()
    (folder / "xml" / "1.xml").write_text(
        '<?xml version="1.0" encoding="utf-8"?>\n<eCitation><meta type="rr"/><uId id="CXR1"/><MedlineCitation>'
        '<Abstract><AbstractText Label="FINDINGS">Clear lungs &amp; no effusion.</AbstractText>'
        '<AbstractText Label="IMPRESSION">Normal chest.</AbstractText></Abstract></MedlineCitation>'
        '<parentImage id="CXR1_1_IM-0001-3001"/><parentImage id="CXR1_1_IM-0001-4001"/></eCitation>'
    )
    return _files(folder, "xml/1.xml")


def write_dicom(values: np.ndarray, syntax: str = _EXPLICIT, frames: Sequence[bytes] = (), **tags: Any) -> bytes:
    """A radiograph of these gray values; or of frames of this size, compressed where the syntax says so."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPInstanceUID = UID(syntax), UID("1.2.3.4")
    meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.1")
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID, data.Modality = meta.MediaStorageSOPClassUID, UID("1.2.3.4"), "CR"
    data.PatientID, data.PatientName, data.PixelSpacing = "p1", "A^B", [0.2, 0.2]
    data.PhotometricInterpretation, data.SamplesPerPixel = "MONOCHROME2", 1
    data.Rows, data.Columns = values.shape
    bits = values.dtype.itemsize * 8
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = bits, bits, bits - 1, 0
    packed = ".1.2.4." in syntax
    data.PixelData = encapsulate(list(frames)) if packed else b"".join(frames) or values.tobytes()
    data["PixelData"].is_undefined_length = packed
    for name, value in tags.items():
        setattr(data, name, value)
    stream = io.BytesIO()
    little, implicit = syntax != "1.2.840.10008.1.2.2", syntax == "1.2.840.10008.1.2"
    if pydicom.__version_info__[0] == "2":
        data.is_little_endian, data.is_implicit_VR = little, implicit
        pydicom.dcmwrite(stream, data, write_like_original=False)
    else:
        pydicom.dcmwrite(stream, data, little_endian=little, implicit_vr=implicit, enforce_file_format=True)
    return stream.getvalue()


def _encoded(kind: str, **settings: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(GRAY).save(stream, format=kind, **settings)
    return stream.getvalue()


def dicom(folder: Path) -> dict[str, bytes]:
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [256, 0, 16], np.arange(256, dtype="<u2").tobytes()
    table.add_new(0x00283006, "OW", np.arange(256, dtype="<u2").tobytes())
    wide = GRAY.astype("<u2") * 16
    rle = pydicom.dcmread(io.BytesIO(write_dicom(GRAY)))
    rle.compress(pydicom.uid.RLELossless)
    stream = io.BytesIO()
    rle.save_as(stream)
    return {
        "plain.dcm": write_dicom(GRAY),
        "wide.dcm": write_dicom(
            wide, RescaleSlope=2, RescaleIntercept=-5, WindowCenter=2000, WindowWidth=500, VOILUTFunction="SIGMOID"
        ),
        "inverted.dcm": write_dicom(wide, "1.2.840.10008.1.2", PhotometricInterpretation="MONOCHROME1", BitsStored=12),
        "lut.dcm": write_dicom(GRAY, VOILUTSequence=[table]),
        "big.dcm": write_dicom(GRAY, "1.2.840.10008.1.2.2"),
        "deflated.dcm": write_dicom(GRAY, "1.2.840.10008.1.2.1.99"),
        "jpeg.dcm": write_dicom(GRAY, "1.2.840.10008.1.2.4.50", [_encoded("JPEG")]),
        "jpeg2000.dcm": write_dicom(GRAY, J2K, [_encoded("JPEG2000", irreversible=False)]),
        "rle.dcm": stream.getvalue(),
    }


def pictures(folder: Path) -> dict[str, bytes]:
    files = {f"1.{kind}": _encoded(kind.upper()) for kind in ("png", "jpeg", "bmp", "gif", "tiff")}
    files["lzw.tiff"] = _encoded("TIFF", compression="tiff_lzw")
    files["progressive.jpeg"] = _encoded("JPEG", progressive=True)
    for name, image in {
        "wide.png": Image.fromarray(GRAY.astype(np.uint16) * 100),
        "palette.png": Image.fromarray(GRAY).convert("P"),
        "color.png": Image.fromarray(GRAY).convert("RGBA"),
    }.items():
        image.save(folder / name)
        files |= _files(folder, name)
    return files


def _nifti(folder: Path, values: np.ndarray, *names: str) -> dict[str, bytes]:
    for name in names:
        nibabel.save(nibabel.Nifti1Image(values, AFFINE), folder / name)
    return _files(folder, *names)


def nifti(folder: Path) -> dict[str, bytes]:
    return {
        **_nifti(folder, GRAY.T, "1.nii", "1.nii.gz"),
        **_nifti(folder, GRAY.T[..., None].astype(np.float32), "2.nii"),
    }


def volume(folder: Path) -> dict[str, bytes]:
    values = np.arange(6 * 7 * 8).reshape(6, 7, 8).astype(np.int16)
    places = [Dataset(), Dataset()]
    for k, place in enumerate(places):
        place.PlanePositionSequence, place.PlaneOrientationSequence = [Dataset()], [Dataset()]
        place.PixelMeasuresSequence = [Dataset()]
        place.PlanePositionSequence[0].ImagePositionPatient = [0, 0, 3 * k]
        place.PlaneOrientationSequence[0].ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        place.PixelMeasuresSequence[0].PixelSpacing = [0.5, 0.5]
    frames = {"NumberOfFrames": 2, "Modality": "CT", "PerFrameFunctionalGroupsSequence": places}
    return {
        **_nifti(folder, values, "ct.nii", "ct.nii.gz"),
        "plain.dcm": write_dicom(GRAY, frames=[GRAY.tobytes()] * 2, **frames),
        "jpeg2000.dcm": write_dicom(GRAY, J2K, frames=[_encoded("JPEG2000", irreversible=False)] * 2, **frames),
    }


def series(folder: Path) -> dict[str, bytes]:
    (folder / "series").mkdir()
    for k in range(4):
        place = {"ImagePositionPatient": [0, 0, k], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
        uids = {"SeriesInstanceUID": UID("1.2.5"), "StudyInstanceUID": UID("1.2.6"), "SliceThickness": 1}
        data = write_dicom(GRAY.astype("<u2"), InstanceNumber=k + 1, Modality="CT", **place, **uids)
        (folder / "series" / f"{k}.dcm").write_bytes(data)
    return _files(folder, "series/0.dcm", "series/2.dcm")


def masks(folder: Path) -> dict[str, bytes]:
    Image.fromarray((GRAY % 4).astype(np.uint8)).save(folder / "mask.png")
    return {**_files(folder, "mask.png"), **_nifti(folder, (GRAY.T % 4).astype(np.uint8), "mask.nii.gz", "mask.nii")}


def annotations(folder: Path) -> dict[str, bytes]:
    _images(folder, "1.png", "mask.png")
    entry = {"mask": RUNS, "boxes": [[1, 2, 10, 12.5], [0, 0, 30, 20]], "box_labels": [0, 0], "labels": [1, None]}
    (folder / "entry.json").write_text(json.dumps(entry))
    return _files(folder, "entry.json")


def checkpoints(folder: Path) -> dict[str, bytes]:
    state = {"layer.weight": torch.arange(12.0).reshape(3, 4), "layer.bias": torch.zeros(3, dtype=torch.bfloat16)}
    torch.save({"state_dict": state, "epoch": 3}, folder / "model.pt")
    torch.save(state, folder / "old.pth", _use_new_zipfile_serialization=False)
    return {**_files(folder, "model.pt", "old.pth"), "model.safetensors": save(state)}


def settings(folder: Path) -> dict[str, bytes]:
    write_settings(
        folder / "model.json", {"image_encoder": "resnet50", "image_size": 224, "report_encoder": {"a": [1]}}
    )
    return _files(folder, "model.json")


def lists(folder: Path) -> dict[str, bytes]:
    prompts = {"edema": {"positive": ["pulmonary edema"], "negative": ["no edema"], "names": ["Edema"]}}
    return {"quarantine.json": b'{"1.png": 2, "2.png": 1}', "prompts.json": json.dumps(prompts).encode()}


def embeddings(folder: Path) -> dict[str, bytes]:
    arrays = {"image": np.ones((5, 16), np.float32), "row": np.arange(5)}
    write_embeddings(folder / "embeddings.npz", arrays, "sha256:0")
    return _files(folder, "embeddings.npz")


def label_maps(folder: Path) -> dict[str, bytes]:
    names = ("label.nrrd", "label.nii.gz", "label.nii", "label.png")
    for name in names:
        write_label_map((GRAY > 100).astype(np.uint8), Geometry((30, 20), AFFINE), folder / name)
    return _files(folder, *names)


def geometry(folder: Path) -> dict[str, bytes]:
    _images(folder, "1.png", "1.jpeg")
    (folder / "1.dcm").write_bytes(write_dicom(GRAY))
    return {**_files(folder, "1.png", "1.jpeg", "1.dcm"), **_nifti(folder, GRAY.T, "1.nii", "1.nii.gz")}


def markups(folder: Path) -> dict[str, bytes]:
    rois = boxes_to_markups(
        np.array([[2, 3, 12, 18], [0, 0, 5, 5]]), ["nodule", "mass"], [0.5, 1], Geometry((30, 20), AFFINE)
    )
    (folder / "label.json").write_text(json.dumps(rois))
    return _files(folder, "label.json")
