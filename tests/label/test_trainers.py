# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
import logging
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("monailabel", reason="MONAI Label is not installed: on Python 3.13 it needs a line of its own")

from fastapi import HTTPException
from filelock import FileLock

from monai_mgca.io.geometry import read_geometry, write_label_map
from monai_mgca.label.infers.task_infers import DetectionInfer, SegmentationInfer
from monai_mgca.label.label_command import make_app
from monai_mgca.label.label_settings import LabelSettings
from monai_mgca.label.store.markups import boxes_to_markups
from monai_mgca.label.store.radiograph_datastore import RadiographDatastore
from monai_mgca.label.trainers import BundleTrain
from monai_mgca.utils import DataError, read_settings, write_settings

ROOT = Path(__file__).resolve().parents[2]
TASKS = ("segmentation", "detection")
CANARY = "zzcanaryword"
ONE_EPOCH = {"max_epochs": 1, "val_split": 0.3, "batch_size": 2, "device": "cpu"}


@pytest.fixture
def settings(label_bundle, tmp_path):
    """An app's folder, new, with the bundle of the session."""
    (tmp_path / "app").mkdir()
    return LabelSettings(tmp_path / "app", label_bundle)


@pytest.fixture
def store(tmp_path, save_image):
    """Six radiographs of odd sizes with a report each, four with masks, and boxes for the same in another folder."""
    stores = {}
    for task in TASKS:
        folder = tmp_path / task
        folder.mkdir()
        for number in range(6):
            size = (61 + 2 * number, 83 - 3 * number)
            save_image(folder / f"i{number}.{('png', 'nii.gz', 'dcm')[number % 3]}", size, patient=CANARY)
            (folder / f"i{number}.txt").write_text(f"{CANARY} in the left lung.")
        stores[task] = RadiographDatastore(folder)
        for number in range(4):
            save_label(stores[task], f"i{number}", task, tmp_path)
    return stores


def save_label(store, name, task, folder):
    geometry = read_geometry(store.get_image_uri(name))
    path = folder / ("label.json" if task == "detection" else "label.nrrd")
    if task == "detection":
        markups = boxes_to_markups(np.array([[4, 5, 30, 50], [20, 8, 40, 44]]), ["nodule", "effusion"], None, geometry)
        path.write_text(json.dumps(markups))
    else:
        mask = np.zeros(geometry.size[::-1], np.uint8)
        mask[10:50, 5:40] = 1
        write_label_map(mask, geometry, path)
    store.save_label(name, str(path), "final", {})


def tree(folder):
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("task", TASKS)
def test_new_weights_are_served_and_nothing_of_a_patient_is_logged(settings, store, caplog, task):
    bundle, studies = tree(settings.bundle), store[task]
    served = {"segmentation": SegmentationInfer, "detection": DetectionInfer}[task](settings)
    old = torch.load(served.get_path(), weights_only=True)
    image = studies.get_image_uri("i5")
    served({"image": image})
    caplog.set_level(logging.DEBUG)
    stats = BundleTrain(settings, task)({**ONE_EPOCH, "pretrained": False}, studies)
    assert (stats["epoch"], stats["total_epochs"], stats["new_weights"]) == (1, 1, True)
    assert stats["training_images"] + stats["validation_images"] == 4
    assert BundleTrain(settings, task).stats() == stats  # another process reads it
    path = settings.weights(task)
    assert path == settings.app_dir / "models" / f"model_{task}.pt"
    new = torch.load(path, weights_only=True)
    assert new.keys() == old.keys()
    assert any(not torch.equal(new[key], old[key]) for key in new)
    assert served.get_path() == str(path)
    assert served.classes == read_settings(path.with_suffix(".json"))["classes"]
    assert served({"image": image})
    assert tree(settings.bundle) == bundle
    assert sorted(file.name for file in settings.trained_dir.iterdir() if file.suffix != ".lock") == [
        f"model_{task}.json",
        f"model_{task}.pt",
        f"train_{task}.json",
    ]
    assert "served:" in caplog.text  # what is logged is seen here
    assert CANARY not in caplog.text
    for file in [*settings.app_dir.rglob("*"), *studies.work_dir.rglob("*.json")]:
        assert not file.is_file() or CANARY.encode() not in file.read_bytes()


def test_goes_on_from_what_is_served_and_keeps_it_where_nothing_is_better(settings, store, caplog):
    caplog.set_level(logging.INFO)
    train, before = BundleTrain(settings, "segmentation"), settings.weights("segmentation")
    better = train({**ONE_EPOCH, "max_epochs": 8, "learning_rate": 0.01}, store["segmentation"])
    assert better["new_weights"]
    assert better["best_metric"] > better["before"]
    path = settings.weights("segmentation")
    assert path != before
    assert "no epoch was better" not in caplog.text
    weights = path.read_bytes()
    worse = train({**ONE_EPOCH, "learning_rate": 1}, store["segmentation"])  # from its own weights now
    assert worse["before"] == pytest.approx(better["best_metric"], abs=1e-3)
    assert not worse["new_weights"]
    assert path.read_bytes() == weights
    assert "no epoch was better" in caplog.text


@pytest.mark.parametrize("names", ["nodule, effusion", "effusion,nodule", ["effusion", "nodule"]])
def test_named_classes_that_are_those_served_are_compared(settings, store, names):
    before = settings.weights("detection")
    stats = BundleTrain(settings, "detection")({**ONE_EPOCH, "classes": names}, store["detection"])
    assert stats["before"] is not None
    assert stats["new_weights"] == (settings.weights("detection") != before)
    assert read_settings(settings.weights("detection").with_suffix(".json"))["classes"] == ["nodule", "effusion"]


def test_other_classes_begin_from_the_pretrained_encoder_in_the_same_architecture(settings, store):
    stats = BundleTrain(settings, "segmentation")({**ONE_EPOCH, "classes": "heart"}, store["segmentation"])
    assert stats["before"] is None
    assert stats["new_weights"]
    old = read_settings(settings.bundle / "models" / "model_segmentation.json")
    new = read_settings(settings.weights("segmentation").with_suffix(".json"))
    assert new["classes"] == ["heart"]
    assert {key: new[key] for key in ("image_encoder", "image_size", "in_channels")} == {
        key: old[key] for key in ("image_encoder", "image_size", "in_channels")
    }
    served = SegmentationInfer(settings)
    assert served.info()["labels"] == {"heart": 1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_epochs": 0}, "max_epochs"),
        ({"max_epochs": "$print(1)"}, "max_epochs"),
        ({"val_split": 1}, "val_split"),
        ({"learning_rate": "fast"}, "learning_rate"),
        ({"freeze_encoder": "perhaps"}, "freeze_encoder"),
        ({"device": "cpu') or print('x"}, "device"),
        ({"classes": 3}, "classes"),
        ({"classes": "$print(1)"}, "A name is letters"),
        ({"classes": ["@device"]}, "A name is letters"),
        ({"classes": "heart,lung"}, "no label of lung"),
    ],
)
def test_a_wrong_request_is_refused_before_training(settings, store, change, message):
    with pytest.raises((HTTPException, DataError)) as refused:
        BundleTrain(settings, "segmentation")({**ONE_EPOCH, **change}, store["segmentation"])
    assert message in str(getattr(refused.value, "detail", refused.value))
    assert settings.weights("segmentation").parent == settings.bundle / "models"


def test_a_training_that_fails_or_was_killed_changes_nothing(settings, store, monkeypatch):
    train, weights = BundleTrain(settings, "segmentation"), tree(settings.bundle)
    partial = settings.trained_dir / ".segmentation"
    write_settings(partial / "train_segmentation.json", {"epoch": 3})  # as a killed one leaves it
    assert train.stats() == {"epoch": 3}
    replace_file = os.replace

    def full(source, target, **options):
        if Path(target) == settings.trained_dir / "model_segmentation.pt":
            raise OSError("disk full")
        replace_file(source, target, **options)

    monkeypatch.setattr("monai_mgca.label.trainers.os.replace", full)
    with pytest.raises(OSError, match="disk full"):
        train({**ONE_EPOCH, "pretrained": "false"}, store["segmentation"])
    assert not partial.exists()
    assert train.stats() == {}
    assert settings.weights("segmentation").parent == settings.bundle / "models"
    assert tree(settings.bundle) == weights


def test_one_training_of_a_task_at_a_time(settings, store):
    settings.trained_dir.mkdir()
    with FileLock(settings.trained_dir / ".detection.lock"), pytest.raises(HTTPException, match="is being trained"):
        BundleTrain(settings, "detection")(ONE_EPOCH, store["detection"])


def test_labels_that_cannot_be_used_are_reported(settings, store, tmp_path):
    for name in ("i1", "i2", "i3"):
        store["detection"].remove_label(name, "final")
    with pytest.raises(DataError, match="detection has 1 images with saved boxes"):
        BundleTrain(settings, "detection")(ONE_EPOCH, store["detection"])
    assert not list(settings.trained_dir.glob("*.pt"))


def test_needs_the_pretrained_encoder(settings, store, tmp_path):
    bundle = shutil.copytree(settings.bundle, tmp_path / "mgca", ignore=shutil.ignore_patterns("model.pt"))
    with pytest.raises(HTTPException, match=r"no model\.pt in the bundle"):
        BundleTrain(replace(settings, bundle=bundle), "segmentation")(ONE_EPOCH, store["segmentation"])


def test_a_process_of_its_own_ends_with_one_line(forks, settings, store):
    """As the server starts it; there is no server here that it could ask for anything."""
    make_app(settings)
    store["detection"].remove_label("i0", "final")
    store["detection"].remove_label("i1", "final")
    store["detection"].remove_label("i2", "final")
    command = ["-m", "monailabel.interfaces.utils.app", "-a", str(settings.app_dir), "-m", "train"]
    running = {}
    for task in TASKS:
        request = json.dumps({**ONE_EPOCH, "model": task, "pretrained": False})
        output = settings.app_dir / f"{task}.txt"
        running[task] = forks.start(*command, "-s", str(store[task].work_dir.parent), "-r", request, output=output)
    printed = {task: process.communicate(timeout=240)[0] for task, process in running.items()}
    assert running["segmentation"].returncode == 0, printed["segmentation"]
    assert settings.weights("segmentation").parent == settings.trained_dir
    assert running["detection"].returncode != 0
    assert "400: detection has 1 images with saved boxes" in printed["detection"].strip().splitlines()[-1]
    assert CANARY not in "".join(printed.values())


def test_lists_its_options(settings):
    config = BundleTrain(settings, "detection").info()["config"]
    wanted = {"device", "pretrained", "max_epochs", "val_split", "batch_size", "learning_rate", "freeze_encoder"}
    assert wanted <= config.keys()
    assert BundleTrain(settings, "detection").stats() == {}
