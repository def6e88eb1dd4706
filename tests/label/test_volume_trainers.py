# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""Saved labels of volumes become datalists and weights; a training goes on from what is served."""

from __future__ import annotations

import json
import logging

import nibabel
import numpy as np
import pytest
import torch

pytest.importorskip("monailabel", reason="MONAI Label is not installed: on Python 3.13 it needs a line of its own")

from monai_mgca.data import load_labeled
from monai_mgca.io.volumes.volume_geometry import read_volume_geometry, write_volume
from monai_mgca.label.infers.task_infers import DetectionInfer, SegmentationInfer
from monai_mgca.label.label_settings import LabelSettings
from monai_mgca.label.labels_to_datalist import labels_to_datalist
from monai_mgca.label.store.volume_datastore import VolumeDatastore
from monai_mgca.label.store.volume_markups import volume_boxes_to_markups
from monai_mgca.label.trainers import BundleTrain
from monai_mgca.transforms import LoadMask, LoadVolume
from monai_mgca.utils import DataError, read_settings

from .volume_studies import SPACING, draw_ct, save_nifti

BOXES = np.array([[-60, -70, -80, 20, 30, 40], [10, 0, -20, 70, 80, 60.0]])
CANARY = "canary"  # of the series' patient


@pytest.fixture
def settings(volume_bundle, tmp_path):
    (tmp_path / "app").mkdir()
    return LabelSettings.load(tmp_path / "app", {"bundle": str(volume_bundle), "device": "cpu"})


@pytest.fixture
def store(tmp_path, write_series):
    """Three volumes and a series, none labeled."""
    folder = tmp_path / "studies"
    folder.mkdir()
    for number, axes in enumerate(("LPS", "PIR", "RAS")):
        save_nifti(folder / f"v{number}.nii.gz", draw_ct(number), axes)
    write_series(folder / "p" / "s", draw_ct(3), SPACING, (-160, -150, -130))
    return VolumeDatastore(folder)


def lungs_of(path, value=1):
    """(X, Y, Z), what is air inside of the body, which has no more than 60 voxels a slice."""
    labels = np.zeros(read_volume_geometry(path).size, np.uint8, order="F")
    values = LoadVolume()(path)[0].numpy()
    labels[(values > -920) & (values < -780)] = value
    return labels


def save(store, task, folder, value=1, info=None, names=("nodule", "effusion")):
    for name in store.list_images():
        image = store.get_image_uri(name)
        geometry, path = read_volume_geometry(image), folder / ("l.json" if task == "detection" else "l.nrrd")
        if task == "detection":
            path.write_text(json.dumps(volume_boxes_to_markups(BOXES, names, None, geometry)))
        else:
            write_volume(lungs_of(image, value), geometry, path)
        store.save_label(name, str(path), "final", info or {})


def entries_of(path):
    content = json.loads(path.read_text())
    return {entry["id"]: entry for part in ("training", "validation") for entry in content[part]}


def test_masks_lie_on_the_voxels_of_their_volume(store, tmp_path):
    save(store, "segmentation", tmp_path, 3, {"label_info": [{"name": "heart"}, {"name": "x"}, {"name": "lung"}]})
    path = labels_to_datalist(store, "segmentation", ["lung"], 0.3)
    entries, base = entries_of(path), path.parents[2]
    assert set(entries) == {"v0", "v1", "v2", "p=s"}
    assert entries["p=s"]["image"] == "p/s"
    for name, entry in entries.items():
        mask = LoadMask(1, spatial_dims=3)(str(base / entry["mask"]))
        np.testing.assert_array_equal(mask[0].numpy(), lungs_of(store.get_image_uri(name)))
        np.testing.assert_allclose(mask.affine, LoadVolume()(store.get_image_uri(name)).affine, atol=1e-4)
        assert nibabel.load(base / entry["mask"]).get_data_dtype() == np.uint8
    parts = [load_labeled(path, part, "segmentation", base, spatial_dims=3) for part in ("training", "validation")]
    assert sum(map(len, parts)) == len(entries)
    store.remove_label("v1", "final")
    labels_to_datalist(store, "segmentation", ["lung"])
    masks = sorted(file.name for file in (path.parent / "masks").iterdir())
    assert masks == ["p=s.nii.gz", "v0.nii.gz", "v2.nii.gz"]


def test_boxes_are_millimeters(store, tmp_path):
    save(store, "detection", tmp_path)
    path = labels_to_datalist(store, "detection")
    for entry in entries_of(path).values():
        np.testing.assert_allclose(entry["boxes"], BOXES, atol=0.01)
        assert entry["box_labels"] == [1, 0]
    assert load_labeled(path, "validation", "detection", path.parents[2], spatial_dims=3)
    with pytest.raises(DataError, match="v0: has 'effusion'; the classes are nodule"):
        labels_to_datalist(store, "detection", ["nodule"])


@pytest.mark.parametrize("task", ["segmentation", "detection"])
def test_one_epoch(settings, store, tmp_path, caplog, task):
    info = {"label_info": [{"name": "lung", "idx": 1}]} if task == "segmentation" else {}
    save(store, task, tmp_path, 1, info)
    infer = {"segmentation": SegmentationInfer, "detection": DetectionInfer}[task](settings)
    old, image = settings.weights(task), store.get_image_uri("p=s")
    caplog.set_level(logging.DEBUG)
    request = {"max_epochs": 1, "val_split": 0.3, "device": "cpu"}
    stats = BundleTrain(settings, task)({**request, "classes": "lung"} if task == "segmentation" else request, store)
    assert stats["training_images"] + stats["validation_images"] == 4
    # of other classes the new weights are served, of the same the better ones
    assert stats["new_weights"] or task == "detection"
    assert (stats["before"] is None) == (task == "segmentation")
    if stats["new_weights"]:
        path = settings.weights(task)
        assert path != old
        known = read_settings(path.with_suffix(".json"))
        assert (known["spatial_dims"], known["image_encoder"], known["voxel_size"]) == (3, "resnet_compact", 14.0)
        assert all(torch.isfinite(value).all() for value in torch.load(path, weights_only=True).values())
        assert infer.classes == (["lung"] if task == "segmentation" else ["nodule", "effusion"])
    assert infer({"image": image})
    assert CANARY not in caplog.text
    for file in [*settings.app_dir.rglob("*"), *store.work_dir.rglob("*")]:
        assert not file.is_file() or CANARY.encode() not in file.read_bytes()
