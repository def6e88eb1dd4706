# Copyright (c) MONAI MGCA contributors
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#     http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""From saved labels to weights that are served."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from fastapi import HTTPException
from PIL import Image

from monai_mgca.data import load_labeled
from monai_mgca.label.datastore import RadiographDatastore
from monai_mgca.label.geometry import read_geometry, write_label_map
from monai_mgca.label.infers import DetectionInfer, SegmentationInfer
from monai_mgca.label.labels import labels_to_datalist
from monai_mgca.label.markups import boxes_to_markups
from monai_mgca.label.settings import LabelSettings
from monai_mgca.label.trainers import BundleTrain
from monai_mgca.utils import DataError

CANARY = "Canarywordium"
ENDINGS = (".png", ".jpg", ".nii.gz", ".dcm")
COUNT = 9
FAST = {"max_epochs": 1, "batch_size": 4, "val_split": 0.25, "device": "cpu"}


@pytest.fixture
def settings(label_bundle, tmp_path):
    return LabelSettings(tmp_path / "app", label_bundle)


@pytest.fixture
def store(tmp_path, save_image):
    """Images of odd and different sizes in all formats, the reports beside them."""
    folder = tmp_path / "studies"
    folder.mkdir()
    for i in range(COUNT):
        path = folder / f"s{i}{ENDINGS[i % 4]}"
        save_image(path, (61 + 2 * i, 93 - i), np.diag([-0.2, -0.3, 1, 1]), patient=CANARY)
        (folder / f"s{i}.txt").write_text(f"{CANARY} of {i}. Small left effusion.")
    return RadiographDatastore(folder)


def mask_of(store, name, value=1):
    width, height = read_geometry(store.get_image_uri(name)).size
    mask = np.zeros((height, width), np.uint8)
    mask[height // 4 : height // 2, 5 : width // 2] = value
    return mask


def save(store, name, content, ending, tmp_path, tag="final"):
    """A mask or boxes as a client saves them."""
    geometry, path = read_geometry(store.get_image_uri(name)), tmp_path / f"label{ending}"
    if isinstance(content, np.ndarray):
        write_label_map(content, geometry, path)
    else:
        boxes, names = content
        path.write_text(json.dumps(boxes_to_markups(np.array(boxes), names, None, geometry)))
    store.save_label(name, str(path), tag, {})


def save_masks(store, tmp_path, names=range(COUNT)):
    for i in names:
        save(store, f"s{i}", mask_of(store, f"s{i}"), (".nii.gz", ".nrrd", ".png")[i % 3], tmp_path)


def save_boxes(store, tmp_path, names=range(COUNT)):
    for i in names:
        save(store, f"s{i}", ([[5, 6 + i, 40, 50.25]], [("nodule", "effusion")[i % 2]]), ".json", tmp_path)


def test_masks_become_a_datalist(store, tmp_path):
    save_masks(store, tmp_path)
    save(store, "s0", mask_of(store, "s0") * 0, ".nrrd", tmp_path, tag="original")
    path = labels_to_datalist(store, "segmentation", ["lung"], 0.25)
    document = json.loads(path.read_text())
    assert document["mask_classes"] == ["lung"]
    assert [len(document[part]) for part in ("training", "validation")] == [7, 2]
    base = store.work_dir.parent
    for part in ("training", "validation"):
        for item, entry in zip(load_labeled(path, part, "segmentation", base), document[part], strict=True):
            np.testing.assert_array_equal(np.asarray(Image.open(item["label"])), mask_of(store, entry["id"]))
            assert item["image"] == store.get_image_uri(entry["id"])
            assert not entry["image"].startswith(("/", "..")) and not entry["mask"].startswith(("/", ".."))
    again = json.loads(labels_to_datalist(store, "segmentation", ["lung"], 0.25).read_text())
    assert again["hash"] == document["hash"]


def test_boxes_become_a_datalist(store, tmp_path):
    save_boxes(store, tmp_path)
    path = labels_to_datalist(store, "detection", ["nodule", "effusion"], 0.25)
    items = load_labeled(path, "training", "detection", store.work_dir.parent)
    assert len(items) == 7
    for item in items:
        number = int(item["image"].split("/s")[-1][0])
        np.testing.assert_allclose(item["boxes"], [[5, 6 + number, 40, 50.25]], atol=0.011)
        assert item["box_labels"] == [number % 2]


def test_names_are_those_of_the_labels_where_none_are_given(store, tmp_path):
    save_boxes(store, tmp_path, range(3))
    assert json.loads(labels_to_datalist(store, "detection").read_text())["box_classes"] == ["effusion", "nodule"]
    for i in (3, 4, 5):
        save(store, f"s{i}", mask_of(store, f"s{i}", value=i - 3), ".nrrd", tmp_path)
    assert json.loads(labels_to_datalist(store, "segmentation").read_text())["mask_classes"] == ["class 1", "class 2"]


def test_labels_of_the_other_kind_are_left_out_and_counted(store, tmp_path, caplog):
    save_masks(store, tmp_path, range(4))
    save_boxes(store, tmp_path, range(4, 7))
    with caplog.at_level(logging.INFO):
        document = json.loads(labels_to_datalist(store, "segmentation", ["lung"]).read_text())
    assert len(document["training"]) + len(document["validation"]) == 4
    assert "3 labels of another kind" in caplog.text


def test_labels_that_cannot_be_used_are_all_named(store, tmp_path):
    save_masks(store, tmp_path, range(2))
    save(store, "s2", mask_of(store, "s2", value=3), ".nrrd", tmp_path)
    store.save_label("s3", store.get_label_uri("s0", "final"), "final", {})  # of another image
    (tmp_path / "broken.nrrd").write_text("nothing")
    store.save_label("s4", str(tmp_path / "broken.nrrd"), "final", {})
    with pytest.raises(DataError) as told:
        labels_to_datalist(store, "segmentation", ["lung"])
    text = str(told.value)
    assert "3 of 5 saved labels cannot be used" in text
    assert "s2: has the values 0 to 3; there are 1 classes" in text
    assert "s3: its mask is" in text and "s4: cannot read the label" in text


def test_boxes_that_cannot_be_used_are_all_named(store, tmp_path):
    save_boxes(store, tmp_path, range(2))
    save(store, "s2", ([[5, 6, 40, 50]], ["mass"]), ".json", tmp_path)
    save(store, "s3", ([[500, 600, 540, 650]], ["nodule"]), ".json", tmp_path)
    save(store, "s4", ([[-20, -20, 30, 30]], ["nodule"]), ".json", tmp_path)  # what is over the edge is cut
    (tmp_path / "broken.json").write_text("{")
    store.save_label("s5", str(tmp_path / "broken.json"), "final", {})
    with pytest.raises(DataError) as told:
        labels_to_datalist(store, "detection", ["nodule", "effusion"])
    text = str(told.value)
    assert "3 of 6 saved labels cannot be used" in text and "s4" not in text
    assert "s2: has boxes of mass; the classes are nodule, effusion" in text
    assert "s3: a box is outside the image" in text and "s5: its label is no JSON" in text


@pytest.mark.parametrize("task", ["segmentation", "detection"])
def test_one_label_is_too_few(store, tmp_path, settings, task):
    (save_masks if task == "segmentation" else save_boxes)(store, tmp_path, range(1))
    with pytest.raises(DataError, match=rf"{task} has 1 images with saved .* two or more"):
        BundleTrain(settings, task)(FAST, store)


@pytest.mark.parametrize(("task", "infer"), [("segmentation", SegmentationInfer), ("detection", DetectionInfer)])
def test_one_epoch_gives_weights_that_are_served(store, tmp_path, settings, label_bundle, caplog, task, infer):
    (save_masks if task == "segmentation" else save_boxes)(store, tmp_path)
    before = {path: path.read_bytes() for path in label_bundle.rglob("*") if path.is_file()}
    train = BundleTrain(settings, task)
    assert train.stats() == {}
    with caplog.at_level(logging.DEBUG):
        stats = train({**FAST, "pretrained": False}, store)
    assert CANARY not in caplog.text and "Served from now on" in caplog.text
    assert stats == train.stats() == BundleTrain(settings, task).stats()
    assert stats["before"] is None and stats["images"] == 7 and stats["validation_images"] == 2
    assert sorted(path.name for path in settings.trained_dir.iterdir()) == [
        f"model_{task}.json",
        f"model_{task}.pt",
        f"train_{task}.json",
    ]
    assert settings.weights(task).parent == settings.trained_dir
    infer(settings)({"image": store.get_image_uri("s0")})
    assert {path: path.read_bytes() for path in label_bundle.rglob("*") if path.is_file()} == before


def test_it_goes_on_from_what_is_served_and_gets_no_worse(store, tmp_path, settings):
    save_masks(store, tmp_path)
    train = BundleTrain(settings, "segmentation")
    first = train({**FAST, "learning_rate": 0.01, "max_epochs": 3}, store)
    assert first["before"] is not None and first["best_metric"] >= first["before"]
    kept = torch.load(settings.weights("segmentation"), weights_only=True)
    nothing = train({**FAST, "learning_rate": 0}, store)  # learns nothing, and so begins and ends alike
    assert nothing["before"] == pytest.approx(first["best_metric"], abs=1e-5)
    assert nothing["best_metric"] >= nothing["before"]
    weights = torch.load(settings.weights("segmentation"), weights_only=True)
    head = {key: value for key, value in weights.items() if key.startswith("segmentation_head")}
    assert head and all(torch.equal(value, kept[key]) for key, value in head.items())


def test_other_classes_begin_anew(store, tmp_path, settings):
    for i in range(COUNT):
        save(store, f"s{i}", mask_of(store, f"s{i}", value=1 + i % 2), ".nrrd", tmp_path)
    with pytest.raises(DataError, match="there are 1 classes"):
        BundleTrain(settings, "segmentation")(FAST, store)  # the weights now served know the lung alone
    stats = BundleTrain(settings, "segmentation")({**FAST, "classes": "lung, heart"}, store)
    assert stats["before"] is None
    assert SegmentationInfer(settings).info()["labels"] == {"lung": 1, "heart": 2}


def test_a_training_that_fails_leaves_all_as_it_was(store, tmp_path, settings, monkeypatch):
    save_masks(store, tmp_path)
    BundleTrain(settings, "segmentation")({**FAST, "pretrained": False}, store)
    before = {path: path.read_bytes() for path in settings.trained_dir.iterdir()}

    def fail(*_):
        raise RuntimeError("the disk is full")

    monkeypatch.setattr("monai.bundle.ConfigWorkflow.finalize", fail)
    with pytest.raises(RuntimeError, match="disk is full"):
        BundleTrain(settings, "segmentation")({**FAST, "learning_rate": 0.1}, store)
    assert {path: path.read_bytes() for path in settings.trained_dir.iterdir()} == before


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"max_epochs": 0}, "max_epochs is a number from 1"),
        ({"val_split": 1}, "val_split"),
        ({"batch_size": "many"}, "batch_size"),
        ({"learning_rate": -1}, "learning_rate"),
    ],
)
def test_wrong_values_are_told(store, tmp_path, settings, request_, message):
    save_masks(store, tmp_path, range(3))
    with pytest.raises(HTTPException, match=message):
        BundleTrain(settings, "segmentation")({**FAST, **request_}, store)


def test_needs_the_pretrained_encoder(store, tmp_path, settings, label_bundle):
    save_masks(store, tmp_path, range(3))
    bundle = shutil.copytree(label_bundle, tmp_path / "mgca", ignore=shutil.ignore_patterns("model.pt"))
    with pytest.raises(HTTPException, match=r"no model\.pt in the bundle"):
        BundleTrain(replace(settings, bundle=bundle), "segmentation")(FAST, store)
