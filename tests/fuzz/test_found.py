# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""What the fuzzer and the properties found, each by its least input."""

from __future__ import annotations

import gzip
import json
import struct
import time

import numpy as np
import pytest
import torch
from PIL import Image

from monai_mgca.apps.zero_shot.zero_shot_classifier import read_prompts
from monai_mgca.data import load_datalist
from monai_mgca.data.annotations import annotation_problems
from monai_mgca.data.check.burned_in import has_corner_text
from monai_mgca.data.check.clean_datalist import read_exclusions
from monai_mgca.data.check.image_problems import check_radiograph
from monai_mgca.data.check.phi import tag_signs
from monai_mgca.data.check.problem import CheckLimits
from monai_mgca.data.datalist import read_datalist
from monai_mgca.data.labeled import load_labeled
from monai_mgca.data.sources.report_folder import collect_folder
from monai_mgca.data.sources.tables.csv_table import read_rows
from monai_mgca.data.sources.tables.table_labels import LabelColumns
from monai_mgca.handlers.non_finite import read_quarantine
from monai_mgca.io import decode_rle, decode_siim
from monai_mgca.io.dicom.dicom_guard import refuse_damaged_dicom
from monai_mgca.io.embedding_file import read_embeddings, write_embeddings
from monai_mgca.io.geometry import Geometry, read_geometry, read_label_map, write_label_map
from monai_mgca.label.store.markups import read_markups
from monai_mgca.transforms import LoadMask, LoadRadiograph, LoadVolume
from monai_mgca.utils import CheckpointError, DataError
from monai_mgca.utils.files import read_settings
from monai_mgca.weights.weight_file import read_checkpoint

DEEP = "[" * 200_000
GRAY = (np.arange(600) % 251).astype(np.uint8).reshape(20, 30)
GEOMETRY = Geometry((30, 20), np.eye(4))


@pytest.mark.parametrize(
    "read",
    [
        read_datalist,
        read_settings,
        read_prompts,
        read_exclusions,
        read_quarantine,
        lambda path: read_markups(path, GEOMETRY),
        lambda path: LabelColumns(boxes="b").read({"b": path.read_text()}, "1.png"),
        lambda path: LabelColumns(masks=("m",)).read({"m": '{"a":' + path.read_text()}, "1.png"),
    ],
)
def test_json_that_is_nested_too_deeply(tmp_path, read):
    """It was a RecursionError."""
    path = tmp_path / "deep.json"
    path.write_text(DEEP)
    with pytest.raises((DataError, CheckpointError)):
        read(path)


def test_a_damaged_packed_table(tmp_path):
    """It was a zlib.error."""
    packed = bytearray(gzip.compress(b"image,report\n" + bytes(range(32, 127)) * 20))
    packed[10] ^= 6  # the kind of the first block
    (tmp_path / "table.csv.gz").write_bytes(packed)
    with pytest.raises(DataError, match=r"table.csv.gz cannot be read"):
        list(read_rows(tmp_path / "table.csv.gz"))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"classes": 1.5}, "'classes' is no list"),
        ({"box_classes": {"a": 1}}, "'box_classes' is no list"),
        (
            {"training": [{"id": "1", "image": "1.png", "report": "Clear lungs, no effusion.", "patient": ["1"]}]},
            "patient",
        ),
    ],
)
def test_datalists_with_the_wrong_kind_of_value(tmp_path, change, reason):
    """They were TypeErrors."""
    Image.fromarray(GRAY).save(tmp_path / "1.png")
    entry = {"id": "1", "image": "1.png", "report": "Clear lungs, no effusion.", "patient": "1", "labels": [1]}
    path = tmp_path / "datalist.json"
    path.write_text(json.dumps({"training": [entry], "classes": ["edema"], **change}))
    for load in (lambda: load_labeled(path, "training", "classification"), lambda: load_datalist(path, "training")):
        with pytest.raises(DataError, match=reason):
            load()


def test_a_mask_that_is_a_number():
    """It was a TypeError."""
    for mask in (1.5, None, [2]):
        with pytest.raises(DataError, match="a mask is a path or run lengths"):
            LoadMask()(mask if not isinstance(mask, list) else [3])


@pytest.mark.parametrize("counts", [False, 0, "0", {}, [[0]]])
def test_run_lengths_that_are_no_list(counts):
    """False was no mask of no size."""
    with pytest.raises(DataError, match="run lengths must be"):
        decode_rle({"size": [0, 0], "counts": counts})


def test_run_lengths_that_overflow_or_are_huge():
    """Four runs of 2**62 were 0 pixels; one of 2**40 took all memory."""
    with pytest.raises(DataError, match="run lengths cover"):
        decode_rle({"size": [0, 0], "counts": [2**62] * 4})
    with pytest.raises(DataError, match="declares"):
        decode_rle({"size": [2**20, 2**20], "counts": [2**40]})


def test_a_dicom_file_whose_first_element_is_damaged(tmp_path, save_dicom):
    """It was pydicom's BytesLengthException."""
    for name in ("images", "reports"):
        (tmp_path / name).mkdir()
    (tmp_path / "reports" / "1.txt").write_text("Clear lungs, no effusion.")
    path = save_dicom(tmp_path / "images" / "1.dcm", GRAY, PatientID="p1")
    data = bytearray(path.read_bytes())
    data[140:142] = b"\x03\0"  # the length of the length of the meta information
    data[136:138] = b"UL"
    path.write_bytes(data[:138] + struct.pack("<H", 3) + data[140:])
    with pytest.raises(DataError, match=r"1.dcm"):
        collect_folder(tmp_path / "images", tmp_path / "reports", "dicom")


def test_a_radiograph_without_a_pixel(tmp_path, save_dicom):
    """It was an empty tensor, at which the first minimum failed."""
    with pytest.raises(DataError, match="cannot read the radiograph"):
        LoadRadiograph()(save_dicom(tmp_path / "1.dcm", GRAY, Rows=0))


def test_embeddings_whose_header_does_not_close(tmp_path):
    """It was a TokenError."""
    path = tmp_path / "embeddings.npz"
    write_embeddings(path, {"image": np.ones((5, 16), np.float32)}, "sha256:0")
    path.write_bytes(path.read_bytes().replace(b"(5, 16), }", b"(5, 16  ( "))
    assert read_embeddings(path, "sha256:0") is None


@pytest.mark.parametrize("zipped", [True, False])
def test_a_class_with_a_name_without_end(tmp_path, zipped):
    """torch searched its own message of it for hours."""

    class Named:
        pass

    Named.__qualname__ = Named.__name__ = "A"
    Named.__module__ = "m"
    torch.save({"a": torch.ones(2)}, tmp_path / "sound.pt", _use_new_zipfile_serialization=zipped)
    head = b"ctorch._utils\n_rebuild_tensor_v2\n"
    data = (tmp_path / "sound.pt").read_bytes()
    assert data.count(head) == 1
    long = head[:-1] + b"A" * 300_000 + b"\n"
    if zipped:
        import zipfile

        with zipfile.ZipFile(tmp_path / "sound.pt") as old, zipfile.ZipFile(tmp_path / "long.pt", "w") as new:
            for name in old.namelist():
                new.writestr(name, old.read(name).replace(head, long))
    else:
        (tmp_path / "long.pt").write_bytes(data.replace(head, long))
    assert read_checkpoint(tmp_path / "sound.pt")["a"].sum() == 2
    with pytest.raises(CheckpointError, match=r"cannot be read|pickled objects"):
        read_checkpoint(tmp_path / "long.pt")


def test_a_pickled_length_beyond_all_memory(tmp_path):
    """It was a MemoryError within our own look at the names."""
    path = tmp_path / "model.pt"
    path.write_bytes(b"\x80\2" + b"\x8e" + struct.pack("<Q", 2**40) + b".")
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    "change",
    [
        (b"sizes: 30 20 1", b"sizes:" + b":" * 400),
        (b"dimension: 3", b"dimension: " + b"9" * 200),
        (b"sizes: 30", b"sizes: -3"),
    ],
)
def test_a_client_s_label_with_a_damaged_header(tmp_path, change):
    """ITK's reader of NRRD crashed the process."""
    path = tmp_path / "label.nrrd"
    write_label_map(GRAY, GEOMETRY, path)
    assert np.array_equal(read_label_map(path), GRAY)
    data = path.read_bytes()
    assert change[0] in data
    path.write_bytes(data.replace(*change))
    with pytest.raises(DataError, match=r"label.nrrd"):
        read_label_map(path)


def test_volumes_of_other_formats(tmp_path):
    """ITK's reader of MetaImage crashed the process."""
    (tmp_path / "ct.mha").write_bytes(b"ObjectType = Image\nNDims = 65536\nDimSize = 8 7 6\nElementDataFile = LOCAL\n")
    with pytest.raises(DataError, match=r"NIfTI .* or DICOM"):
        LoadVolume()(tmp_path / "ct.mha")


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"PhotometricInterpretation": "RGB"}, "gray"),
        ({"SamplesPerPixel": 255}, "gray"),
        ({"BitsStored": 65535}, "describes no pixels"),
        ({"PixelRepresentation": 2}, "sign"),
        ({"Rows": 4000}, "fewer than it describes"),
    ],
)
def test_damaged_dicom_files_do_not_reach_itk(tmp_path, save_dicom, tags, reason):
    """ITK took gigabytes, loaded all its modules for many seconds, or raised a RuntimeError."""
    path = save_dicom(tmp_path / "1.dcm", GRAY, **tags)
    with pytest.raises(DataError, match=reason):
        read_geometry(path)
    with pytest.raises(DataError, match=reason):
        LoadVolume()(path)


def test_lengths_and_depths_that_cannot_be(tmp_path, save_dicom):
    """ITK made room for as much as was declared, and went down into sequences without end."""
    path = save_dicom(tmp_path / "1.dcm", GRAY)
    refuse_damaged_dicom(path)
    sound = path.read_bytes()
    for end in (
        b"\xf1\x7f\x10\0OB\0\0" + struct.pack("<I", 2**31),
        b"\xf1\x7f\x10\0SQ\0\0\xff\xff\xff\xff" * 100,
        b"\x08\0\x60\0CS\x02\0CR",  # behind the pixels
    ):
        path.write_bytes(sound + end)
        with pytest.raises(DataError, match=r"longer than|sequences|order"):
            refuse_damaged_dicom(path)


def test_dicom_files_that_were_filled_up(tmp_path, save_dicom):
    """They were refused: zeros behind the pixels are no elements, and ITK reads past them."""
    path = save_dicom(tmp_path / "1.dcm", GRAY)
    path.write_bytes(path.read_bytes() + bytes(512))
    assert refuse_damaged_dicom(path) == GRAY.size
    assert read_geometry(path).size == (30, 20)
    path.write_bytes(path.read_bytes() + b"\1")
    with pytest.raises(DataError, match="order"):
        refuse_damaged_dicom(path)


def test_dicom_files_of_many_elements(tmp_path, save_dicom):
    """The time grew with the square of their number: minutes of some 300 kB."""
    path = save_dicom(tmp_path / "1.dcm", GRAY)
    many = b"".join(struct.pack("<HH", 0x7FE1 + 2 * (k >> 15), k & 0x7FFF) + b"CS\0\0" for k in range(40_000))
    path.write_bytes(path.read_bytes() + many)
    start = time.process_time()
    refuse_damaged_dicom(path)
    assert time.process_time() - start < 4


def test_a_check_of_tags_of_no_kind(tmp_path, save_dicom):
    """pydicom's NotImplementedError ended the check of all images."""
    path = save_dicom(tmp_path / "1.dcm", GRAY, ViewPosition="PA", PatientName="A^B")
    data = path.read_bytes()
    for tag in (b"\x08\0\x60\0CS", b"\x10\0\x10\0PN", b"\x18\0\x01\x51CS"):
        assert data.count(tag) == 1
        data = data.replace(tag, tag[:5] + b"[")
    path.write_bytes(data)
    found = check_radiograph(str(path), CheckLimits())
    assert found.found == [("modality not given", "")]
    assert found.pixels is not None
    assert list(tag_signs(found.tags)) == [("DICOM tag about a person", "PatientName")]


def test_text_in_a_very_long_image():
    """It took minutes."""
    start = time.process_time()
    assert has_corner_text(np.zeros((2**19, 30), np.float32)) is None
    assert time.process_time() - start < 10


HUGE = 10**400


def test_numbers_that_no_float_holds(tmp_path):
    """They were OverflowErrors."""
    Image.fromarray(GRAY).save(tmp_path / "1.png")
    entry = {"image": "1.png", "boxes": [[HUGE, 0, 1, 1]], "box_labels": [0]}
    reason = "boxes are no list of [x0, y0, x1, y1], all of them numbers"
    assert list(annotation_problems(entry, str(tmp_path))) == [("1.png", reason)]
    with pytest.raises(DataError, match="a box has four numbers"):
        LabelColumns(boxes="b").read({"b": f"[[{HUGE}, 0, 1, 1]]"}, "1.png")
    (tmp_path / "1.json").write_text(f'{{"markups": [{{"center": [{HUGE}, 0, 0], "size": [1, 1, 1]}}]}}')
    with pytest.raises(DataError, match="OverflowError"):
        read_markups(tmp_path / "1.json", GEOMETRY)


@pytest.mark.parametrize("text", [f"{2**62} {2**62}", f"3 {2**63 - 1}", f"{-(2**63)} 1", f"1 1 {2**62} {2**62}"])
def test_run_lengths_of_siim_that_overflow(text):
    """They were IndexErrors, or pixels elsewhere."""
    for relative in (True, False):
        with pytest.raises(DataError, match="leaves the image"):
            decode_siim(text, 4, 5, relative)


def test_an_unknown_kind_of_value_in_the_meta_information(tmp_path, save_dicom):
    """ITK took 1.5 GB for a file of 2 kB."""
    path = save_dicom(tmp_path / "a.dcm", GRAY)
    path.write_bytes(path.read_bytes().replace(b"\2\0\2\0UI", b"\2\0\2\0UA", 1))
    with pytest.raises(DataError, match="meta information of the DICOM file is damaged"):
        refuse_damaged_dicom(path)
