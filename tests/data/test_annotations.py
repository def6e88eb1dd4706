# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import math
import warnings

import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import FileMetaDataset

from monai_mgca.data.annotations import annotation_problems, image_size
from monai_mgca.io import encode_rle
from monai_mgca.utils import DataError

HEIGHT, WIDTH = 20, 30


def save_image(path, height=HEIGHT, width=WIDTH):
    values = np.arange(height * width, dtype=np.uint8).reshape(height, width)
    if path.suffix == ".nii":
        nibabel.save(nibabel.Nifti1Image(values.T, np.eye(4)), path)
    elif path.suffix == ".dcm":
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1", "1.2.3"
        meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        dataset = pydicom.dataset.FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
        dataset.Rows, dataset.Columns = height, width
        with warnings.catch_warnings():  # pydicom 3 has other names for these, pydicom 2 needs them
            warnings.simplefilter("ignore")
            dataset.is_little_endian, dataset.is_implicit_VR = True, False
            dataset.save_as(path)  # without pixels: the header is enough
    else:
        Image.fromarray(values).save(path)
    return path


@pytest.fixture
def problems(tmp_path):
    """The problems of an entry with an image of 30 x 20 pixels."""
    save_image(tmp_path / "a.png")

    def find(
        classes=("edema", "mass"), box_classes=("mass", "node"), mask_keys=("mask",), mask_classes=None, **annotation
    ):
        entry = {"image": "a.png", **annotation}
        return list(annotation_problems(entry, str(tmp_path), classes, box_classes, mask_keys, mask_classes))

    return find


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".dcm", ".nii"])
def test_image_size(tmp_path, suffix):
    assert tuple(image_size(save_image(tmp_path / f"a{suffix}"))) == (HEIGHT, WIDTH)


def test_size_of_what_cannot_be_read(tmp_path):
    (tmp_path / "a.png").write_text("no image")
    with pytest.raises(DataError, match=r"a\.png"):
        image_size(tmp_path / "a.png")


def test_right_annotations(problems, tmp_path):
    Image.new("L", (WIDTH, HEIGHT)).save(tmp_path / "m.png")
    whole = [0, 0, WIDTH, HEIGHT]
    assert problems() == []
    assert problems(labels=[-1, None], boxes=[whole, [0.5, 1, 2, 3]], box_labels=[0, 1], mask="m.png") == []
    assert problems(labels=[1, 0], boxes=[], box_labels=[], mask=encode_rle(np.ones((HEIGHT, WIDTH)))) == []
    assert problems(labels=None, boxes=None, box_labels=None, mask=None) == []
    assert problems(mask=["m.png", encode_rle(np.zeros((HEIGHT, WIDTH)))]) == []
    assert problems(classes=None, labels=[1, 0, 1, 0]) == []
    assert problems(mask_keys=(), mask="none.png") == []


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ([5, 5, 5, 9], "has no area"),
        ([5, 9, 9, 5], "has no area"),
        ([-1, 0, 5, 5], "leaves the image of 30 x 20 pixels"),
        ([0, 0, 30, 20.5], "leaves the image of 30 x 20 pixels"),
        ([0, 0, 31, 20], r"the box [0, 0, 31, 20] leaves"),
        ([0, 0, math.nan, 5], "is not finite"),
        ([0.2, 0.3, 0.6, 0.7], "looks like parts of the image: coordinates are pixels"),
        ([0, 0, 1, 1], "looks like parts of the image"),
        ([0.5, 0.5, 0.2, 0.2], "looks like parts of the image"),  # YOLO's center and size
        ([5, 5, 5.4, 9], "is smaller than a pixel"),
        ([5, 5, 9, 5.9], "is smaller than a pixel"),
        ([20, 10, 6, 8], "has no area (boxes are [x0, y0, x1, y1], and these may be [x, y, width, height])"),
        ([0, 0, 5], "no list of [x0, y0, x1, y1]"),
        ("box", "no list of [x0, y0, x1, y1]"),
        ([0, 0, "a", 5], "no list of [x0, y0, x1, y1]"),
        ([0, 0, 4, "5"], "all of them numbers"),
        (["0", "0", "4.5", "5"], "all of them numbers"),
    ],
)
def test_wrong_box(problems, box, reason):
    ((file, problem),) = problems(boxes=[box], box_labels=[0])
    assert file == "a.png"
    assert reason in problem


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ([2], "the box label 2 is no index of the 2 classes"),
        ([-1], "the box label -1"),
        (["mass"], "the box label (a text)"),
        ([], "1 boxes, but 'box_labels' are 0"),
        ([0, 1], "1 boxes, but 'box_labels' are 2"),
        (None, "'box_labels' are missing"),
    ],
)
def test_wrong_box_labels(problems, labels, reason):
    ((_, problem),) = problems(boxes=[[0, 0, 5, 5]], box_labels=labels)
    assert reason in problem


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ([1], "1 labels for 2 classes"),
        ([1, 2], "the label 2 is none of"),
        ([0.5, 0], "the label 0.5"),
        (["1", 0], "the label (a text)"),
        ("10", "labels are no list"),
    ],
)
def test_wrong_labels(problems, labels, reason):
    ((file, problem),) = problems(labels=labels)
    assert file == "a.png"
    assert reason in problem


def test_mask_of_another_size(problems, tmp_path):
    Image.new("L", (HEIGHT, WIDTH)).save(tmp_path / "turned.png")
    ((file, problem),) = problems(mask="turned.png")
    assert file == "turned.png"
    assert problem == "mask of 20 x 30 pixels on the image a.png of 30 x 20"
    ((file, problem),) = problems(mask=encode_rle(np.ones((WIDTH, HEIGHT))))
    assert file == "a.png"
    assert "mask of 20 x 30 pixels" in problem


def test_masks_that_cannot_be_read(problems, tmp_path):
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty.png").write_bytes(b"")
    masks = ["none.png", "empty.png", "text.png", "../a.png", {"size": [20, 30], "counts": [7]}]
    found = problems(mask=masks)
    assert [file for file, _ in found] == [*masks[:4], "a.png"]
    reasons = [reason for _, reason in found]
    assert reasons[0] == "mask: missing"
    assert reasons[1] == "mask: zero bytes"
    assert "cannot read the mask" in reasons[2]
    assert reasons[3] == "mask: lies outside the dataset folder"
    assert "run lengths cover 7 pixels" in reasons[4]


def test_values_of_a_mask_of_several_classes(problems, tmp_path):
    values = np.zeros((HEIGHT, WIDTH), np.uint8)
    values[4:12, 4:12] = 60
    Image.fromarray(values).save(tmp_path / "m.png")
    assert problems(mask="m.png") == []
    ((file, problem),) = problems(mask="m.png", mask_classes=["lung", "heart"])
    assert file == "m.png"
    assert "holds the value 60, but there are 2 classes" in problem
    values[14:18, 4:12] = 255
    Image.fromarray(values).save(tmp_path / "m.png")
    ((file, problem),) = problems(mask=["m.png"])
    assert file == "m.png"
    assert "areas of several gray levels" in problem


def test_an_image_that_cannot_be_read_is_named_once(problems, tmp_path):
    (tmp_path / "a.png").unlink()
    ((file, problem),) = problems(boxes=[[0, 0, 99, 99]], box_labels=[0], mask="none.png")
    assert file == "a.png"
    assert "there is no such file" in problem


def test_every_problem_is_reported(problems):
    found = problems(labels=[3, 3], boxes=[[0, 0, 0, 0], [0, 0, 99, 99]], box_labels=[0, 7], mask="none.png")
    assert len(found) == 6
