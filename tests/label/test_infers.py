# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""The models answer with what the bundle's own inference writes, in the geometry of the image."""

from __future__ import annotations

import csv
import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from fastapi import HTTPException
from monai.bundle import ConfigWorkflow
from PIL import Image

from monai_mgca.apps import PhraseGrounder, load_pretrained, read_reference
from monai_mgca.io.geometry import read_geometry, read_label_map
from monai_mgca.label.app import MGCAApp
from monai_mgca.label.infers import grounding_infer as phrases
from monai_mgca.label.infers.grounding_infer import PhraseInfer
from monai_mgca.label.infers.task_infers import ClassificationInfer, DetectionInfer, SegmentationInfer
from monai_mgca.label.label_command import make_app
from monai_mgca.label.label_settings import LabelSettings
from monai_mgca.label.store.markups import markups_to_boxes
from monai_mgca.utils import CheckpointError, DataError
from monai_mgca.weights import read_model_settings, write_calibration

FILES = ["a.png", "b.jpg", "c.nii.gz", "d.dcm"]
SIZE = (93, 71)


@pytest.fixture(scope="module")
def studies(tmp_path_factory, save_image):
    folder = tmp_path_factory.mktemp("studies")
    for name in FILES:
        save_image(folder / name, SIZE, np.diag([-0.2, -0.3, 1, 1]))
    return folder


@pytest.fixture
def settings(label_bundle, tmp_path):
    return LabelSettings(tmp_path / "app", label_bundle)


@pytest.fixture(scope="module")
def inference(label_bundle, studies, tmp_path_factory):
    """What the bundle's inference of a task writes for the folder."""

    def run(task, **overrides):
        output = tmp_path_factory.mktemp(task)
        workflow = ConfigWorkflow(
            str(label_bundle / "configs" / f"inference_{task}.json"),
            workflow_type="infer",
            logging_file=False,
            bundle_root=str(label_bundle),
            dataset_dir=str(studies),
            output_dir=str(output),
            num_workers=0,
            device="$torch.device('cpu')",
            **overrides,
        )
        workflow.initialize()
        workflow.run()
        return output

    return run


def test_segmentation_is_the_bundles(settings, studies, inference):
    written = inference("segmentation")
    infer = SegmentationInfer(settings)
    for name, ending in zip(FILES, (".nrrd", ".nrrd", ".nii.gz", ".nrrd"), strict=True):
        file, result = infer({"image": str(studies / name)})
        mask = read_label_map(file)
        assert file.endswith(ending)
        assert mask.shape == SIZE[::-1]
        np.testing.assert_allclose(read_geometry(file).affine, read_geometry(studies / name).affine, atol=1e-6)
        bundles = written / "masks" / name.replace(".", "_mask.", 1).replace(".jpg", ".png").replace(".dcm", ".png")
        np.testing.assert_array_equal(mask, read_label_map(bundles) > 0)
        assert result["label_names"] == {"lung": 1}
    assert 0 < mask.mean() < 1
    assert infer.info()["labels"] == {"lung": 1}
    assert infer.info()["type"] == "segmentation"
    file, _ = infer({"image": str(studies / "a.png"), "result_extension": ".png"})
    assert Image.open(file).size == SIZE
    assert Image.open(file).mode == "L"
    for extension in (".exe", ".png/../../x.png", "/tmp/x.png", "png"):
        with pytest.raises(HTTPException, match="result_extension is one of"):
            infer({"image": str(studies / "a.png"), "result_extension": extension})


def test_overlapping_classes_become_the_more_probable_one(label_bundle, studies, settings, tmp_path):
    bundle = shutil.copytree(label_bundle, tmp_path / "mgca")
    settings = replace(settings, bundle=bundle)
    values = json.loads((bundle / "models" / "model_segmentation.json").read_text())
    (bundle / "models" / "model_segmentation.json").write_text(json.dumps({**values, "classes": ["lung", "heart"]}))
    infer = SegmentationInfer(settings)
    with pytest.raises(CheckpointError, match="model_segmentation"):
        infer({"image": str(studies / "a.png")})  # weights of one class
    state = torch.load(bundle / "models" / "model_segmentation.pt", weights_only=True)
    last = {
        key: value for key, value in state.items() if value.shape[:1] == (1,) and key.startswith("segmentation_head")
    }
    assert last, "the layer that makes the classes"
    state |= {key: torch.cat([value, -value]) for key, value in last.items()}
    torch.save(state, bundle / "models" / "model_segmentation.pt")
    one, two = infer.probabilities(str(studies / "a.png"))
    torch.testing.assert_close(one, 1 - two)
    mask = read_label_map(infer({"image": str(studies / "a.png")})[0])
    assert set(np.unique(mask)) == {1, 2}


def test_detection_is_the_bundles(settings, studies, inference):
    found = json.loads((inference("detection") / "detections.json").read_text())
    infer = DetectionInfer(settings)
    for name in FILES:
        wanted = [entry for entry in found if entry["file_name"] == name]
        assert len(wanted) > 3
        threshold = wanted[2]["score"] - 1e-5  # an image alone may score a rounding less than in a batch
        file, result = infer({"image": str(studies / name), "score_threshold": threshold})
        boxes, names = markups_to_boxes(json.loads(open(file).read()), read_geometry(studies / name))  # noqa: SIM115
        wanted = [entry for entry in wanted if entry["score"] >= threshold]
        corners = [[x, y, x + w, y + h] for x, y, w, h in (entry["bbox"] for entry in wanted)]
        np.testing.assert_allclose(boxes, corners, atol=1e-4)
        np.testing.assert_allclose(result["box_pixels"], corners, atol=0.011)
        assert names == result["label_name"] == [entry["category_name"] for entry in wanted]
        assert result["label_scores"] == pytest.approx([entry["score"] for entry in wanted], abs=2e-6)
        assert (boxes >= 0).all()
        assert (boxes <= [*SIZE, *SIZE]).all()
    with pytest.raises(HTTPException, match="score_threshold"):
        infer({"image": str(studies / "a.png"), "score_threshold": "much"})


def test_classification_is_the_bundles(settings, studies, inference):
    rows = list(csv.DictReader((inference("classification") / "probabilities.csv").open()))
    infer = ClassificationInfer(settings)
    for row, name in zip(sorted(rows, key=lambda row: next(iter(row.values()))), FILES, strict=True):
        file, result = infer({"image": str(studies / name)})
        scores = {entry["label"]: entry["score"] for entry in result["prediction"]}
        assert file is None
        assert scores == pytest.approx({key: float(row[key]) for key in scores}, abs=1e-4)
        assert [entry["score"] for entry in result["prediction"]] == sorted(scores.values(), reverse=True)
        assert {entry["label"]: entry["idx"] for entry in result["prediction"]} == {"effusion": 0, "device": 1}


def test_classification_is_calibrated(label_bundle, settings, studies, tmp_path):
    own, image = replace(settings, bundle=tmp_path / "bundle"), {"image": str(studies / "a.png")}
    shutil.copytree(label_bundle, own.bundle)
    infer = ClassificationInfer(own)
    before = {entry["label"]: entry for entry in infer(image)[1]["prediction"]}
    assert "present" not in before["effusion"]
    numbers = {"temperature": 2.0, "threshold": 0.4}
    # the model in use takes the numbers up as they appear
    write_calibration(own.weights("classification"), {"label_mode": "multilabel", "findings": {"effusion": numbers}})
    after = {entry["label"]: entry for entry in infer(image)[1]["prediction"]}
    assert after["device"] == before["device"]
    odds = np.log(before["effusion"]["score"] / (1 - before["effusion"]["score"]))
    score = after["effusion"]["score"]
    assert score == pytest.approx(1 / (1 + np.exp(-odds / 2)), abs=1e-5)
    assert after["effusion"]["present"] == (score >= 0.4)


def test_weights_are_the_tasks_own_and_the_newest(label_bundle, settings, studies, tmp_path):
    infer, image = SegmentationInfer(settings), {"image": str(studies / "a.png"), "result_extension": ".png"}
    before = read_label_map(infer(image)[0])
    settings.trained_dir.mkdir(parents=True)
    shutil.copy(label_bundle / "models" / "model_segmentation.json", settings.trained_dir)
    assert settings.weights("segmentation").parent == label_bundle / "models"  # settings alone are no weights
    state = torch.load(label_bundle / "models" / "model_segmentation.pt", weights_only=True)
    torch.save({key: -value for key, value in state.items()}, settings.trained_dir / "model_segmentation.pt")
    assert (read_label_map(infer(image)[0]) != before).any()
    torch.save(state, settings.trained_dir / "model_segmentation.pt")
    os.utime(settings.trained_dir / "model_segmentation.pt", (1, 1))  # another time, not a later one
    np.testing.assert_array_equal(read_label_map(infer(image)[0]), before)
    bare = replace(settings, app_dir=tmp_path / "new", bundle=tmp_path / "bundle")
    shutil.copytree(label_bundle, bare.bundle, ignore=shutil.ignore_patterns("model_segmentation.pt"))
    assert (bare.bundle / "models" / "model.pt").is_file()
    assert not SegmentationInfer(bare).is_valid()
    assert DetectionInfer(bare).is_valid()
    with pytest.raises(HTTPException, match="no weights of segmentation yet"):
        SegmentationInfer(bare)(image)


def test_weights_are_tensors_alone(settings, label_bundle, studies):
    class Payload:
        def __reduce__(self):
            return (os.mkdir, (str(settings.app_dir / "harm"),))

    settings.trained_dir.mkdir(parents=True)
    shutil.copy(label_bundle / "models" / "model_segmentation.json", settings.trained_dir)
    torch.save({"model": Payload()}, settings.trained_dir / "model_segmentation.pt")
    with pytest.raises(CheckpointError, match="model_segmentation"):
        SegmentationInfer(settings)({"image": str(studies / "a.png")})
    assert not (settings.app_dir / "harm").exists()


def test_what_cannot_be_served_says_why_and_is_not_listed(
    settings, label_bundle, studies, tmp_path, monkeypatch, caplog
):
    """As weights whose report encoder is gone, which older versions looked for from where they were started."""
    bundle = shutil.copytree(label_bundle, tmp_path / "mgca")
    (bundle / "models" / "model_detection.pt").write_bytes(b"x")
    broken = replace(settings, bundle=bundle)
    monkeypatch.chdir(tmp_path)
    assert PhraseInfer(broken, list).is_valid()
    assert not DetectionInfer(broken).is_valid()
    for folder in (bundle / "models").glob("report_encoder-*"):
        folder.rename(tmp_path / "away")
    phrases = PhraseInfer(broken, list)
    assert not phrases.is_valid()
    assert "encoder of reports that is not there" in phrases.problem()
    make_app(broken)
    infos = MGCAApp(str(broken.app_dir), str(studies), {}).info()["models"]
    assert list(infos) == ["segmentation", "classification"]
    assert "grounding cannot be served" in caplog.text
    assert "detection cannot be served" in caplog.text
    (tmp_path / "away").rename(folder)
    assert phrases.is_valid()  # once it is there again


def test_a_phrase_becomes_a_mask_or_a_heat_map(settings, studies):
    infer = PhraseInfer(settings, lambda: iter([str(studies / name) for name in FILES]))
    assert infer.is_valid()
    assert infer.info()["type"] == "segmentation"
    for name in FILES:
        request = {"image": str(studies / name), "text": "pleural effusion"}
        file, result = infer({**request, "result": "heat"})
        heat = read_heat(file)
        assert heat.shape == SIZE[::-1]
        assert heat.min() >= 0
        x, y = result["peak"]
        assert heat[y, x] == heat.max()
        assert -1 <= result["similarity"] <= 1
        mask = read_label_map(infer({**request, "threshold": 0.25})[0])
        np.testing.assert_array_equal(mask, (heat >= 0.25 * heat.max()) & (heat > 0))
        np.testing.assert_allclose(read_geometry(file).affine, read_geometry(studies / name).affine, atol=1e-6)


def read_heat(path):
    from monai.data import ITKReader

    reader = ITKReader()
    return reader.get_data(reader.read(path))[0][..., 0].T


@pytest.mark.parametrize(
    ("request_", "error", "message"),
    [
        ({}, DataError, "no word"),
        ({"text": "  "}, DataError, "no word"),
        ({"text": "effusion " * 99}, DataError, "longer than"),
        ({"text": "effusion", "threshold": 0}, HTTPException, "threshold"),
        ({"text": "effusion", "threshold": "x"}, HTTPException, "threshold"),
        ({"text": "effusion", "result": "movie"}, HTTPException, "result is one of mask, heat"),
        ({"text": "effusion", "method": "magic"}, HTTPException, "method is one of"),
    ],
)
def test_a_phrase_that_cannot_be_grounded_is_refused(settings, studies, request_, error, message):
    infer = PhraseInfer(settings, lambda: iter([str(studies / "a.png")]))
    with pytest.raises(error, match=message):
        infer({"image": str(studies / "a.png"), **request_})


def test_few_studies_are_compared_with_what_the_training_kept(settings, studies, monkeypatch):
    """An image that is compared with itself alone has nothing unusual."""
    model, image = load_pretrained(settings.pretrained), str(studies / "a.png")
    request = {"image": image, "text": "pleural effusion", "result": "heat"}
    heat = read_heat(PhraseInfer(settings, lambda: iter([]))(request)[0])
    expected = PhraseGrounder(model, read_reference(settings.pretrained))(image, ["pleural effusion"])[0]
    np.testing.assert_allclose(heat, expected, rtol=1e-5, atol=1e-7)
    with pytest.raises(HTTPException, match="No study can be read"):
        PhraseInfer(settings, lambda: iter([]))({**request, "method": "token"})
    monkeypatch.setattr(phrases, "read_reference", lambda path: None)  # as of weights that were converted
    alone = read_heat(PhraseInfer(settings, lambda: iter([image]))(request)[0])
    assert heat.max() > 100 * alone.max()


def test_what_is_usual_leaves_broken_studies_out(settings, studies, tmp_path, caplog):
    (tmp_path / "broken.png").write_bytes(b"no image")
    files = [str(tmp_path / "broken.png"), str(studies / "a.png")]
    PhraseInfer(settings, lambda: iter(files))({"image": files[1], "text": "effusion", "method": "token"})
    assert "broken.png" in caplog.text
    with pytest.raises(HTTPException, match="No study can be read"):
        PhraseInfer(settings, lambda: iter(files[:1]))({"image": files[1], "text": "effusion", "method": "token"})


@pytest.mark.parametrize(
    "change",
    [
        {"image_encoder": "resnet_9000"},
        {"image_encoder": 5},
        {"num_prototypes": "many"},
        {"in_channels": None},
        {"embed_dim": [1]},
        {"hidden_dim": None},
    ],
)
def test_settings_that_make_no_network_are_named(settings, tmp_path, change):
    """Of the pretraining; the server's test damages those of a finetuned network."""
    bundle = shutil.copytree(settings.bundle, tmp_path / "bundle")
    weights = bundle / "models" / "model_pretrain.pt"
    known = read_model_settings(weights)
    torch.save(torch.load(weights, weights_only=True), weights)  # without the settings in it
    (bundle / "models" / "model.json").write_text(json.dumps({**known, **change}))
    infer = PhraseInfer(replace(settings, bundle=bundle), lambda: iter([]))
    assert "model.json" in infer.problem()
    assert not infer.is_valid()
    with pytest.raises(CheckpointError, match=r"make no network \("):
        load_pretrained(weights)
