# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
from PIL import Image

from monai_mgca.data import class_names, load_labeled
from monai_mgca.io import encode_rle
from monai_mgca.utils import DataError

SIZE = {"width": 30, "height": 20}
WHOLE = [0, 0, 30, 20]


def write(folder, entries, **header):
    """A datalist of these annotations, each of an image and a patient of its own; entry i is i.png of patient p<i>.

    The first two are the validation part as well, as other patients.
    """
    entries = [{"id": str(i), "image": f"{i}.png", "patient": f"p{i}", **entry} for i, entry in enumerate(entries)]
    for entry in entries:
        Image.new("L", (SIZE["width"], SIZE["height"])).save(folder / entry["image"])
    path = folder / "datalist.json"
    others = [{**entry, "patient": f"v{i}"} for i, entry in enumerate(entries[:2])]
    path.write_text(json.dumps({**header, "training": entries, "validation": others}))
    return path


def filled(value=1, height=20, width=30):
    return encode_rle(np.full((height, width), value))


def error_of(path, *args, **kwargs):
    with pytest.raises(DataError) as info:
        load_labeled(path, *args, **kwargs)
    return str(info.value)


class TestItems:
    def test_classification(self, tmp_path):
        path = write(tmp_path, [{"labels": [1, 0, -1]}, {"labels": [0, 1, None]}], classes=["a", "b", "c"])
        data = load_labeled(path, "training", "classification", classes=["b", "a"])
        assert data == [
            {"image": str(tmp_path / "0.png"), "label": [0, 1]},
            {"image": str(tmp_path / "1.png"), "label": [1, 0]},
        ]

    def test_detection(self, tmp_path):
        entry = {"boxes": [WHOLE, [1, 2, 3, 4]], "box_labels": [0, 1]}
        path = write(tmp_path, [entry, {"boxes": [], "box_labels": []}], box_classes=["a", "b"])
        assert load_labeled(path, "training", "detection", classes=["b"]) == [
            {"image": str(tmp_path / "0.png"), "boxes": [[1, 2, 3, 4]], "box_labels": [0]},
            {"image": str(tmp_path / "1.png"), "boxes": [], "box_labels": []},
        ]

    def test_segmentation(self, tmp_path):
        Image.new("L", (30, 20), 255).save(tmp_path / "m.png")
        path = write(tmp_path, [{"lung_mask": "m.png"}, {"lung_mask": filled()}])
        data = load_labeled(path, "training", "segmentation", label_key="lung_mask")
        assert [item["label"] for item in data] == [str(tmp_path / "m.png"), filled()]

    def test_dataset_dir(self, tmp_path):
        path = write(tmp_path, [{"labels": [1]}], classes=["a"])
        (tmp_path / "lists").mkdir()
        moved = path.rename(tmp_path / "lists" / "datalist.json")
        (item,) = load_labeled(moved, "training", "classification", dataset_dir=tmp_path)
        assert item["image"] == str(tmp_path / "0.png")


class TestClasses:
    def test_names(self, tmp_path):
        path = write(tmp_path, [{}], classes=["a"], box_classes=["b"], mask_classes=["c", "d"])
        names = [class_names(path, task) for task in ("classification", "detection", "segmentation")]
        assert names == [["a"], ["b"], ["c", "d"]]
        assert class_names(write(tmp_path, [{}]), "segmentation", "lung_mask") == ["lung"]

    @pytest.mark.parametrize(("task", "key"), [("classification", "classes"), ("detection", "box_classes")])
    def test_none(self, tmp_path, task, key):
        with pytest.raises(DataError, match=f"names no classes under '{key}'"):
            class_names(write(tmp_path, [{"labels": [1]}]), task)

    def test_unknown_class(self, tmp_path):
        path = write(tmp_path, [{"labels": [1, 0]}], classes=["a", "b"])
        assert "no class c; its classes are a, b" in error_of(path, "training", "classification", classes=["a", "c"])

    def test_repeated(self, tmp_path):
        path = write(tmp_path, [{"labels": [1, 0]}], classes=["a", "b"])
        assert "classes has 'a' 2 times" in error_of(path, "training", "classification", classes=["a", "a"])
        path = write(tmp_path, [{"labels": [1, 0]}], classes=["a", "a"])
        with pytest.raises(DataError, match=r"'classes' of .* has 'a' 2 times"):
            class_names(path, "classification")

    def test_unknown_task(self, tmp_path):
        with pytest.raises(ValueError, match="segmentation"):
            load_labeled(write(tmp_path, [{}]), "training", "segment")


class TestErrors:
    """Every error lists its files before training begins."""

    def test_boxes(self, tmp_path):
        boxes = [[WHOLE], [[5, 5, 5, 9]], [[0, 0, 31, 20]], [[0, 0, 5, 5]], None]
        labels = [[0], [0], [0], [7], None]
        entries = [{"boxes": b, "box_labels": c} for b, c in zip(boxes, labels, strict=True)]
        message = error_of(write(tmp_path, entries, box_classes=["mass"]), "training", "detection")
        assert "section 'training' has 4 problems for detection" in message
        assert "1.png: the box [5, 5, 5, 9] has no area" in message
        assert "2.png: the box [0, 0, 31, 20] leaves the image of 30 x 20 pixels" in message
        assert "3.png: the box label 7 is no index of the 1 classes" in message
        assert "4.png: has no 'boxes'" in message
        assert f"{tmp_path / '0.png'}:" not in message

    def test_masks(self, tmp_path):
        Image.new("L", (20, 30)).save(tmp_path / "turned.png")
        entries = [{"mask": filled()}, {"mask": "turned.png"}, {"mask": "none.png"}, {}]
        message = error_of(write(tmp_path, entries), "validation", "segmentation")
        assert "turned.png: mask of 20 x 30 pixels on the image" in message
        message = error_of(write(tmp_path, entries), "training", "segmentation")
        assert "has 3 problems for segmentation" in message
        assert "none.png: mask: missing" in message
        assert "3.png: has no 'mask'" in message

    def test_labels(self, tmp_path):
        entries = [{"labels": [1]}, {"labels": [1, 0]}, {"labels": ["edema"]}, {}]
        message = error_of(write(tmp_path, entries, classes=["edema"]), "training", "classification")
        assert "1.png: 2 labels for 1 classes" in message
        assert "2.png: the label (a text) is none of 1" in message
        assert "3.png: has no 'labels'" in message

    def test_missing_image(self, tmp_path):
        path = write(tmp_path, [{"labels": [1]}], classes=["edema"])
        (tmp_path / "0.png").unlink()
        assert "0.png: missing" in error_of(path, "training", "classification")

    def test_other_annotations_are_not_looked_at(self, tmp_path):
        entry = {"labels": [1], "boxes": [[0, 0, 99, 99]], "box_labels": [0], "mask": "none.png"}
        path = write(tmp_path, [entry], classes=["edema"], box_classes=["mass"])
        assert len(load_labeled(path, "training", "classification")) == 1


class TestPositives:
    """A class without a positive cannot be trained, but evaluated."""

    @pytest.mark.parametrize(
        ("task", "entries", "header"),
        [
            ("classification", [{"labels": [1, 0]}, {"labels": [1, -1]}], {"classes": ["a", "b"]}),
            (
                "detection",
                [{"boxes": [WHOLE], "box_labels": [0]}, {"boxes": [], "box_labels": []}],
                {"box_classes": ["a", "b"]},
            ),
            ("segmentation", [{"mask": [filled(), filled(0)]}] * 2, {"mask_classes": ["a", "b"]}),
        ],
    )
    def test_of_every_task(self, tmp_path, task, entries, header):
        path = write(tmp_path, entries, **header)
        assert "no positive example of b among the 2 training images" in error_of(path, "training", task)
        assert len(load_labeled(path, "validation", task)) == 2
        assert len(load_labeled(path, "training", task, classes=["a"])) == 2

    def test_one_empty_mask_is_enough_of_none(self, tmp_path):
        path = write(tmp_path, [{"mask": filled(0)}, {"mask": filled()}])
        assert len(load_labeled(path, "training", "segmentation")) == 2


class TestFraction:
    ENTRIES = [{"labels": [int(i % 4 == 0)], "patient": f"p{i // 2}"} for i in range(80)]

    def load(self, folder, **kwargs):
        data = load_labeled(write(folder, self.ENTRIES, classes=["a"]), "training", "classification", **kwargs)
        return [int(item["image"].removesuffix(".png").rsplit("/")[-1]) for item in data]

    def test_patients_stay_whole_and_classes_keep_their_part(self, tmp_path):
        chosen = self.load(tmp_path, fraction=0.1)
        assert len(chosen) == 8
        assert {i ^ 1 for i in chosen} == set(chosen)  # both images of a patient
        assert sum(i % 4 == 0 for i in chosen) == 2  # of 20

    def test_the_seed_alone_decides(self, tmp_path):
        assert self.load(tmp_path, fraction=0.1, seed=1) == self.load(tmp_path, fraction=0.1, seed=1)
        assert self.load(tmp_path, fraction=0.1, seed=1) != self.load(tmp_path, fraction=0.1, seed=2)

    def test_it_is_logged(self, tmp_path, caplog):
        with caplog.at_level(logging.INFO, logger="monai_mgca.data.labeled"):
            self.load(tmp_path, fraction=0.1)
        assert "training: 8 of 80 images (label_fraction 0.1)." in caplog.text
        assert "p0" not in caplog.text

    def test_only_training_is_cut(self, tmp_path):
        path = write(tmp_path, self.ENTRIES, classes=["a"])
        assert len(load_labeled(path, "validation", "classification", fraction=0.01)) == 2

    def test_out_of_range(self, tmp_path):
        with pytest.raises(DataError, match="label_fraction"):
            self.load(tmp_path, fraction=0)


class TestNothingToMeasureBy:
    """A training whose every validation is nan would end without a model, and with exit code 0."""

    @pytest.mark.parametrize(
        ("task", "entry", "header", "reason"),
        [
            ("detection", {"boxes": [], "box_labels": []}, {"box_classes": ["a"]}, "no image has a box"),
            ("segmentation", {"mask": filled(0)}, {}, "all masks are empty"),
        ],
    )
    def test_sections(self, tmp_path, task, entry, header, reason):
        path = write(tmp_path, [entry, entry], **header)
        assert reason in error_of(path, "validation", task)

    @pytest.mark.parametrize(("second", "warned"), [(0, True), (None, True), (-1, False), (1, False)])
    def test_one_kind_of_labels_is_warned_of(self, tmp_path, caplog, second, warned):
        """Uncertain ones may become either."""
        path = write(tmp_path, [{"labels": [0]}, {"labels": [second]}], classes=["a"])
        assert len(load_labeled(path, "validation", "classification")) == 2
        assert ("no class has both positives and negatives" in caplog.text) == warned


class TestBoxesAtTheNetworksSize:
    def boxes(self, tmp_path, *boxes):
        entries = [{"boxes": [box], "box_labels": [0]} for box in boxes]
        return write(tmp_path, entries, box_classes=["mass"])

    def test_those_that_vanish_are_counted(self, tmp_path, caplog):
        path = self.boxes(tmp_path, [0, 0, 20, 20], [4, 4, 6.5, 20])
        with caplog.at_level("WARNING"):
            load_labeled(path, "training", "detection", image_size=10)
        assert "1 of 2 boxes are smaller than a pixel at the network's image_size of 10" in caplog.text
        assert f"{tmp_path / '1.png'}" in caplog.text
        assert f"{tmp_path / '0.png'}" not in caplog.text
        caplog.clear()
        with caplog.at_level("WARNING"):
            load_labeled(path, "training", "detection", image_size=12)
            load_labeled(path, "training", "detection")
        assert caplog.text == ""

    @pytest.mark.parametrize("section", ["training", "validation"])
    def test_all_vanish(self, tmp_path, section):
        path = self.boxes(tmp_path, [4, 4, 6, 20], [4, 4, 20, 5])
        message = error_of(path, section, "detection", image_size=10)
        assert "2 of 2 boxes" in message
        assert "Take a larger --image_size" in message

    def test_parts_of_the_image(self, tmp_path):
        message = error_of(self.boxes(tmp_path, [0.2, 0.3, 0.6, 0.7]), "training", "detection")
        assert "0.png: the box [0.2, 0.3, 0.6, 0.7] looks like parts of the image" in message
