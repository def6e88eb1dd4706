# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from monai_mgca.data import load_labeled
from monai_mgca.transforms import LoadMask
from monai_mgca.utils import DataError

CLASSES = ["lung", "heart", "clavicle"]


@pytest.fixture
def datalist(tmp_path):
    """Makes a datalist of one image with a mask for each class, or with one for all; class i fills column i."""

    def make(several):
        Image.new("L", (4, 3)).save(tmp_path / "image.png")
        values = np.tile(np.array([1, 2, 3, 0], dtype=np.uint8), (3, 1))
        Image.fromarray(values).save(tmp_path / "all.png")
        for index, name in enumerate(CLASSES, 1):
            Image.fromarray(values == index).save(tmp_path / f"{name}.png")
        mask = [f"{name}.png" for name in CLASSES] if several else "all.png"
        entry = {"id": "1", "image": "image.png", "patient": "1", "mask": mask}
        document = {"mask_classes": CLASSES, "training": [entry], "validation": [{**entry, "patient": "2"}], "test": []}
        (tmp_path / "datalist.json").write_text(json.dumps(document))
        return tmp_path / "datalist.json"

    return make


def columns(item, number):
    """The column that each mask fills."""
    planes = np.asarray(LoadMask(number)(item["label"]))
    return [np.unique(np.nonzero(plane)[1]).tolist() for plane in planes]


@pytest.mark.parametrize("section", ["training", "validation"])
@pytest.mark.parametrize("several", [True, False])
def test_all_classes(datalist, section, several):
    (item,) = load_labeled(datalist(several), section, "segmentation")
    assert columns(item, 3) == [[0], [1], [2]]


@pytest.mark.parametrize("chosen", [["heart"], ["clavicle", "lung"]])
def test_chosen_classes(datalist, chosen):
    (item,) = load_labeled(datalist(True), "training", "segmentation", classes=chosen)
    assert columns(item, len(chosen)) == [[CLASSES.index(name)] for name in chosen]


@pytest.mark.parametrize("chosen", [["heart"], ["heart", "lung", "clavicle"]])
def test_a_mask_of_several_classes_cannot_be_split(datalist, chosen):
    with pytest.raises(DataError, match=r"image.png has one 'mask' for lung, heart, clavicle"):
        load_labeled(datalist(False), "training", "segmentation", classes=chosen)
