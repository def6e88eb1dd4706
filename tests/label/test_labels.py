# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("monailabel", reason="MONAI Label is not installed: on Python 3.13 it needs a line of its own")

from monai_mgca.data import load_labeled
from monai_mgca.io.geometry import read_geometry, write_label_map
from monai_mgca.label.labels_to_datalist import labels_to_datalist, split_ids
from monai_mgca.label.store.markups import boxes_to_markups
from monai_mgca.label.store.radiograph_datastore import RadiographDatastore
from monai_mgca.transforms import LoadMask
from monai_mgca.utils import DataError

SIZES = {"a.png": (31, 47), "b.nii.gz": (53, 29), "c.dcm": (40, 61), "d.jpg": (37, 37)}


@pytest.fixture
def store(tmp_path, save_image):
    """Four radiographs of four formats and odd sizes, none labeled."""
    folder = tmp_path / "studies"
    folder.mkdir()
    for name, size in SIZES.items():
        save_image(folder / name, size, np.diag([-0.2, -0.3, 1, 1]))
    return RadiographDatastore(folder)


@pytest.fixture
def save(store, tmp_path):
    """Saves a label as the server does: an id, a mask (H, W) or boxes with names, the file's ending.

    `by_hand`: it is copied to its place, where the server does not look at it.
    """

    def save(name, label, ending, info=None, tag="final", by_hand=False):
        path, geometry = tmp_path / f"label{ending}", read_geometry(store.get_image_uri(name))
        if ending == ".json":
            path.write_text(json.dumps(boxes_to_markups(*label, None, geometry)))
        else:
            write_label_map(label, geometry, path)
        if by_hand:
            lay(store, name, path)
        else:
            store.save_label(name, str(path), tag, info or {})

    return save


def lay(store, name, path):
    shutil.copy(path, Path(store.work_dir).parent / "labels" / "final" / f"{name}{''.join(path.suffixes)}")
    store.refresh()


def mask_of(store, name, *values):
    """An upright mask with a rectangle of each value, no two alike."""
    width, height = read_geometry(store.get_image_uri(name)).size
    mask = np.zeros((height, width), np.uint8)
    for place, value in enumerate(values):
        mask[3 + 9 * place : 8 + 9 * place, 2 : 20 + place] = value
    return mask


def test_masks_keep_their_pixels_in_every_format(store, save):
    masks = {name: mask_of(store, name, 1, 2) for name in "abcd"}
    for name, ending in zip("abcd", (".nrrd", ".nii.gz", ".png", ".nii"), strict=True):
        save(name, masks[name], ending)
    path = labels_to_datalist(store, "segmentation", ["lung", "heart"], 0.25)
    assert path.is_relative_to(store.work_dir)
    content = json.loads(path.read_text())
    assert content["mask_classes"] == ["lung", "heart"]
    entries = content["training"] + content["validation"]
    assert sorted(entry["id"] for entry in entries) == list("abcd")
    assert len(content["validation"]) >= 1
    for entry in entries:
        read = LoadMask(2)(str(path.parents[2] / entry["mask"])).numpy()
        np.testing.assert_array_equal(read, [masks[entry["id"]] == 1, masks[entry["id"]] == 2])
    assert json.loads(labels_to_datalist(store, "segmentation", ["lung", "heart"], 0.25).read_text()) == content
    # as the bundle's configuration loads it
    loaded = load_labeled(path, "training", "segmentation", path.parents[2])
    assert len(loaded) == len(content["training"])


def test_values_follow_the_names_that_slicer_saves(store, save):
    info = {"label_info": [{"name": "heart", "idx": 1}, {"name": "nodule", "idx": 2}, {"name": "lung", "idx": 3}]}
    for name in "ab":
        save(name, mask_of(store, name, 1, 3), ".nrrd", info)
    path = labels_to_datalist(store, "segmentation", ["lung", "heart"])
    for name in "ab":
        found = np.asarray(Image.open(path.parent / "masks" / f"{name}.png"))
        np.testing.assert_array_equal(found, mask_of(store, name, 2, 1))
    assert json.loads(labels_to_datalist(store, "segmentation").read_text())["mask_classes"] == ["heart", "lung"]


def test_without_names_classes_are_numbered_and_black_and_white_is_one_class(store, save):
    for name in "ab":
        save(name, mask_of(store, name, 1, 2), ".png")
    path = labels_to_datalist(store, "segmentation")
    assert json.loads(path.read_text())["mask_classes"] == ["class 1", "class 2"]
    with pytest.raises(DataError, match=r"a: has the values 0 to 2; there are 1 classes \(lung\)"):
        labels_to_datalist(store, "segmentation", ["lung"])
    for name in "ab":
        save(name, mask_of(store, name, 255), ".png")
    labels_to_datalist(store, "segmentation", ["lung"])
    assert set(np.unique(Image.open(path.parent / "masks" / "a.png"))) == {0, 1}


def test_boxes_keep_their_pixels_and_end_at_the_edge(store, save):
    boxes = {name: np.array([[2.5, 3, 12, 23.25], [5, 6, 7, 8]]) + place for place, name in enumerate("abcd")}
    for name, some in boxes.items():
        save(name, (some, ["nodule", "effusion"]), ".json")
    save("d", (np.array([[-4, -3, 50, 20.0]]), ["nodule"]), ".json")
    path = labels_to_datalist(store, "detection")
    content = json.loads(path.read_text())
    assert content["box_classes"] == ["effusion", "nodule"]
    entries = {entry["id"]: entry for entry in content["training"] + content["validation"]}
    for name in "abc":
        np.testing.assert_allclose(entries[name]["boxes"], boxes[name], atol=0.01)
        assert entries[name]["box_labels"] == [1, 0]
    assert entries["d"]["boxes"] == [[0, 0, 37, 20]]
    assert load_labeled(path, "validation", "detection", path.parents[2])


def test_other_kinds_and_other_tags_are_left_out_and_reported(store, save, caplog):
    for name in "abc":
        save(name, mask_of(store, name, 1), ".nrrd")
    save("d", (np.array([[2, 3, 12, 23]]), ["nodule"]), ".json")
    save("c", mask_of(store, "c", 1), ".nrrd", tag="original")
    store.remove_label("c", "final")
    with caplog.at_level(logging.INFO, "monai_mgca"):
        path = labels_to_datalist(store, "segmentation", ["lung"])
    content = json.loads(path.read_text())
    assert sorted(entry["id"] for entry in content["training"] + content["validation"]) == ["a", "b"]
    assert "1 images have a label of another kind, left out: d." in caplog.text
    with pytest.raises(DataError, match="detection has 1 images with saved boxes"):
        labels_to_datalist(store, "detection", ["nodule"])


def test_masks_of_labels_that_are_no_more_go(store, save):
    for name in "abc":
        save(name, mask_of(store, name, 1), ".nrrd")
    folder = labels_to_datalist(store, "segmentation", ["lung"]).parent / "masks"
    assert (folder / "c.png").is_file()
    store.remove_label("c", "final")
    labels_to_datalist(store, "segmentation", ["lung"])
    assert sorted(path.name for path in folder.iterdir()) == ["a.png", "b.png"]


def test_all_labels_that_cannot_be_used_are_reported_at_once(store, save, tmp_path):
    save("a", mask_of(store, "a", 1, 3), ".nrrd")
    save("b", mask_of(store, "b", 1), ".nrrd", {"label_info": [{"name": "rib", "idx": 1}]})
    Image.fromarray(mask_of(store, "c", 1)[:, 1:]).save(tmp_path / "small.png")
    lay(store, "c", tmp_path / "small.png")
    (tmp_path / "broken.nrrd").write_text("no label")
    lay(store, "d", tmp_path / "broken.nrrd")
    with pytest.raises(DataError) as refused:
        labels_to_datalist(store, "segmentation", ["lung", "heart"])
    message = str(refused.value)
    assert message.startswith("4 of 4 saved labels cannot be used for segmentation")
    assert "a: has the values 0 to 3; there are 2 classes (lung, heart)" in message
    assert "b: has 'rib'; the classes are lung, heart" in message
    assert "c: its mask is 39 x 61, the image 40 x 61 pixels" in message
    assert "d: cannot read the label" in message
    assert not (store.work_dir / "segmentation" / "datalist.json").exists()


@pytest.mark.parametrize(
    "content", ["[]", "{", '{"markups": [3]}', '{"markups": [{"center": ["x", 1, 2], "size": [1, 1, 1]}]}']
)
def test_boxes_that_cannot_be_used_are_reported_at_once(store, save, tmp_path, content):
    save("a", (np.array([[2, 3, 12, 23]]), ["ghost"]), ".json")
    save("b", (np.array([[200, 3, 212, 23]]), ["nodule"]), ".json", by_hand=True)
    (tmp_path / "broken.json").write_text(content)
    lay(store, "c", tmp_path / "broken.json")
    with pytest.raises(DataError) as refused:
        labels_to_datalist(store, "detection", ["nodule"])
    message = str(refused.value)
    assert "a: has 'ghost'; the classes are nodule" in message
    assert "b: a box lies outside the image" in message
    assert "\n  c: " in message


@pytest.mark.parametrize("name", ["$print(1)", "@device", "%file", "", "a\nb"])
def test_a_name_that_a_configuration_would_run_is_no_class(store, save, name):
    for image in "ab":
        save(image, (np.array([[2, 3, 12, 23]]), [name]), ".json", by_hand=True)
    with pytest.raises(DataError, match="A name is letters"):
        labels_to_datalist(store, "detection")


def test_a_class_without_a_label_to_train_with_is_reported(store, save):
    for image in "ab":
        save(image, mask_of(store, image, 1), ".nrrd")
    with pytest.raises(DataError, match="no label of heart among the 1 images to train with"):
        labels_to_datalist(store, "segmentation", ["lung", "heart"])
    for image in "ab":
        save(image, mask_of(store, image), ".nrrd")
    with pytest.raises(DataError, match="no label of any class"):
        labels_to_datalist(store, "segmentation")


def test_an_image_stays_on_its_side_when_others_come():
    ids = [f"study_{number}" for number in range(400)]
    few, many = split_ids(ids[:200], 0.2), split_ids(ids, 0.2)
    assert set(few["validation"]) <= set(many["validation"])
    assert set(few["training"]) <= set(many["training"])
    assert 50 < len(many["validation"]) < 110
    for part in (0.01, 0.99):
        assert all(len(some) == 1 for some in split_ids(["a", "b"], part).values())
