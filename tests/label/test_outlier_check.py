# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""Every model's answer says whether its image is unlike those of the pretraining, where the weights have a score."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from monai_mgca.apps import OutlierDetector, fit_outliers
from monai_mgca.data import load_datalist
from monai_mgca.label.infers.grounding_infer import PhraseInfer
from monai_mgca.label.infers.outlier_check import OutlierCheck
from monai_mgca.label.infers.task_infers import ClassificationInfer, DetectionInfer, SegmentationInfer
from monai_mgca.label.label_settings import LabelSettings
from monai_mgca.weights import outlier_path


@pytest.fixture
def settings(label_bundle, tmp_path):
    return LabelSettings(tmp_path / "app", label_bundle)


@pytest.fixture
def own(settings, tmp_path):
    """The same with files that may be changed."""
    return replace(settings, bundle=shutil.copytree(settings.bundle, tmp_path / "mgca"))


@pytest.fixture
def image(tmp_path, save_image):
    return str(save_image(tmp_path / "noise.png", (93, 71)))


def test_every_model_says_it(settings, image):
    """The same, whatever a finetuning did to the encoder."""
    detector = OutlierDetector.load(settings.pretrained, "cpu")
    distance = float(detector([image])[0])
    wanted = {
        "distance": round(distance, 4),
        "threshold": round(detector.score.threshold, 4),
        "flagged": distance > detector.score.threshold,
    }
    assert wanted["flagged"]  # it is noise
    shared = OutlierCheck(settings)
    infers = [kind(settings, shared) for kind in (SegmentationInfer, DetectionInfer, ClassificationInfer)]
    infers.append(PhraseInfer(settings, lambda: [image], shared))
    for infer in infers:
        _, result = infer({"image": image, "text": "pleural effusion"})
        assert result["outlier"] == wanted


def test_one_of_the_training_is_not_flagged(settings):
    data = load_datalist(settings.bundle.parent / "sample" / "datalist.json", "training")
    assert OutlierCheck(settings)(data[0]["image"])["outlier"]["flagged"] is False


def test_answers_without_a_score(own, image):
    _, before = ClassificationInfer(own)({"image": image})
    outlier_path(own.pretrained).unlink()
    infer = ClassificationInfer(own)
    _, after = infer({"image": image})
    assert before.keys() - after.keys() == {"outlier"}
    assert before["prediction"] == after["prediction"]


def test_a_damaged_score_is_logged_once(own, image, caplog):
    infer = ClassificationInfer(own)
    outlier_path(own.pretrained).write_bytes(b"")
    for _ in range(2):
        assert "outlier" not in infer({"image": image})[1]
    assert caplog.text.count("model_outliers.safetensors is damaged") == 1


def test_a_new_score_is_used(own, image, settings):
    check = OutlierCheck(own)
    before = check(image)["outlier"]
    data = load_datalist(settings.bundle.parent / "sample" / "datalist.json", "training")
    fit_outliers(own.pretrained, data, count=20)
    assert check(image)["outlier"]["threshold"] != before["threshold"]


def test_volumes(volume_bundle, tmp_path):
    root = shutil.copytree(volume_bundle, tmp_path / "mgca")
    settings = replace(LabelSettings(tmp_path / "app", root), spatial_dims=3)
    data = load_datalist(volume_bundle / "data" / "datalist.json", "training", volume_bundle / "data")
    assert OutlierCheck(settings)(data[0]["image"]) == {}
    score = fit_outliers(settings.pretrained, data)
    found = OutlierCheck(settings)(data[0]["image"])["outlier"]
    assert found["threshold"] == round(score.threshold, 4)
    assert found["flagged"] is False
