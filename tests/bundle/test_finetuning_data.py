# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""What is wrong with masks, boxes and labels is reported by file before a finetuning starts."""

from __future__ import annotations

import json
import shutil

import pytest
from PIL import Image

from monai_mgca.utils import DataError
from monai_mgca.utils.errors import first_cause


def break_mask(entry, data):
    Image.new("L", (9, 9), 255).save(data / entry["lung_mask"])


def break_box(entry, data):
    entry["boxes"], entry["box_labels"] = [[10, 10, 9999, 20]], [0]


def break_label(entry, data):
    entry["labels"] = [0, 0, 0, 0, 0, 7]


def remove(*keys):
    def change(entry, data):
        for key in keys:
            del entry[key]

    return change


@pytest.fixture
def fail(new_bundle, sample, tmp_path):
    def run(task, change):
        data = tmp_path / "data"
        shutil.copytree(sample, data)
        document = json.loads((data / "datalist.json").read_text())
        for entry in document["training"][3:5]:
            change(entry, data)
        (data / "datalist.json").write_text(json.dumps(document))
        bundle = new_bundle()
        with pytest.raises(Exception) as caught:  # noqa: PT011
            bundle.run(f"train_{task}", dataset_dir=str(data), image_size=64)
        error = first_cause(caught.value)
        assert isinstance(error, DataError), repr(error)
        assert not bundle.path("models").exists()  # nothing was begun
        return str(error), [entry["image"] for entry in document["training"][3:5]]

    return run


@pytest.mark.parametrize(
    ("task", "change", "problem"),
    [
        ("segmentation", break_mask, "9 x 9"),
        ("segmentation", remove("lung_mask"), "lung_mask"),
        ("detection", break_box, "9999"),
        ("detection", remove("boxes", "box_labels"), "boxes"),
        ("classification", break_label, "7"),
        ("classification", remove("labels"), "labels"),
    ],
)
def test_listed_by_file(fail, task, change, problem):
    message, files = fail(task, change)
    assert problem in message
    assert all(file in message for file in files)
    assert "2 problems" in message
