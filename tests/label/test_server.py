# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""A live server over 30 radiographs, asked by plain HTTP: what it answers, saves and trains."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest

from monai_mgca.io.geometry import Geometry, read_geometry, read_label_map, write_label_map
from monai_mgca.label.sessions import remove_old
from monai_mgca.label.store.markups import boxes_to_markups, markups_to_boxes

from .served_studies import CANARY, ENDINGS, path_of

PHRASE = "Canaryphrasium"
FOUR = ("s00", "s01", "s02", "s03")  # one of every format
CLASSES = ("nodule", "effusion")


def test_info_lists_what_there_is(server):
    info = server.ask("GET", "/info/").json()
    assert list(info["models"]) == ["segmentation", "detection", "classification", "grounding"]
    assert {name: model["type"] for name, model in info["models"].items()} == {
        "segmentation": "segmentation",
        "detection": "detection",
        "classification": "classification",
        "grounding": "segmentation",
    }
    assert info["models"]["detection"]["labels"] == {"nodule": 0, "effusion": 1}
    assert set(info["trainers"]) == {"segmentation", "detection"}
    assert {"mgca_diversity", "mgca_text", "mgca_disagreement", "mgca_uncertainty", "random"} == set(info["strategies"])
    assert info["datastore"]["total"] == 30
    assert info["datastore"]["completed"] == 0


@pytest.mark.parametrize("image", FOUR)
def test_masks_have_the_images_size_and_place(server, studies, tmp_path, image):
    place = read_geometry(path_of(studies, image))
    for model, params in (("segmentation", {}), ("grounding", {"text": "left pleural effusion"})):
        answer = server.infer(model, image, output="image", **params)
        assert answer.status_code == 200, answer.text
        ending = ".nii.gz" if image == "s02" else ".nrrd"
        assert answer.headers["content-disposition"].endswith(f'{ending}"')
        (tmp_path / f"mask{ending}").write_bytes(answer.content)
        mask = read_label_map(tmp_path / f"mask{ending}")
        assert mask.shape == place.size[::-1]
        assert set(np.unique(mask)) <= {0, 1}
        assert mask.any()
        np.testing.assert_allclose(read_geometry(tmp_path / f"mask{ending}").affine, place.affine, atol=1e-5)


@pytest.mark.parametrize("image", FOUR)
def test_boxes_come_back_within_a_pixel(server, studies, image):
    place = read_geometry(path_of(studies, image))
    params = {"score_threshold": 0.01}
    result = server.infer("detection", image, **params).json()
    markups = server.infer("detection", image, output="image", **params).json()
    boxes, names = markups_to_boxes(markups, place)
    assert len(boxes) > 0
    assert names == result["label_name"]
    np.testing.assert_allclose(boxes, result["box_pixels"], atol=0.02)
    assert (boxes >= -1e-6).all()
    assert (boxes <= [side + 1e-6 for side in (*place.size, *place.size)]).all()
    assert sorted(result["label_scores"], reverse=True) == result["label_scores"]


def test_classes_have_probabilities(server):
    both = server.infer("classification", "s01", output="all")
    assert both.headers["content-type"] == "application/json"  # there is no file
    scores = {entry["label"]: entry["score"] for entry in both.json()["prediction"]}
    assert set(scores) == {"effusion", "device"}
    assert all(0 < score < 1 for score in scores.values())


def test_a_file_that_is_sent_is_read_and_not_kept(server, studies):
    for image in FOUR:
        path = path_of(studies, image)
        with path.open("rb") as file:
            answer = server.ask("POST", "/infer/classification?output=json", files={"file": (path.name, file)})
        assert answer.json()["prediction"] == server.infer("classification", image).json()["prediction"]
    broken = server.ask("POST", "/infer/classification?output=json", files={"file": ("x.png", b"no image")})
    assert broken.status_code == 400
    assert "cannot read the radiograph" in broken.json()["detail"]
    left = list((server.app_dir / "tmp").iterdir())
    assert len(left) == 1  # the refused one: MONAI Label removes what was sent on success only
    remove_old(server.app_dir / "tmp", 3600)
    assert left[0].exists()
    os.utime(left[0], (1, 1))
    remove_old(server.app_dir / "tmp", 3600)
    assert not left[0].exists()


def test_a_session_is_opened_used_and_closed(server, studies):
    with path_of(studies, "s00").open("rb") as file:
        session = server.ask("PUT", "/session/", files={"files": ("s00.png", file)}).json()["session_id"]
    assert server.ask("GET", f"/session/{session}").status_code == 200
    answer = server.ask("POST", f"/infer/classification?session_id={session}&output=json")
    assert answer.json()["prediction"] == server.infer("classification", "s00").json()["prediction"]
    assert server.ask("DELETE", f"/session/{session}").status_code == 200
    assert server.ask("GET", f"/session/{session}").status_code == 404


def test_active_learning_gives_one_image_after_the_other(server):
    for strategy, params, key in (
        ("mgca_diversity", {}, "novelty"),
        ("mgca_text", {"text": f"left pleural effusion {CANARY}"}, "similarity"),
        ("mgca_disagreement", {}, "similarity"),
        ("mgca_uncertainty", {"model": "segmentation", "weight": 0.5}, "uncertainty"),
        ("mgca_uncertainty", {}, "uncertainty"),
        ("random", {}, "id"),
    ):
        answers = [server.ask("POST", f"/activelearning/{strategy}", json=params) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [200, 200], answers[0].text
        first, second = (answer.json() for answer in answers)
        assert key in first
        assert first["path"].endswith(ENDINGS)
        assert strategy == "random" or first["id"] != second["id"]
        assert CANARY not in answers[0].text


def test_scoring_reports_what_it_computed(server):
    answer = server.ask("POST", "/scoring/mgca_embeddings?run_sync=true").json()
    assert answer["images"] == 30
    assert answer["reports"] == 30
    assert not answer["unreadable"]


def test_batch_inference_saves_a_label_of_every_image(server, studies):
    params = {"save_label": True, "max_batch_size": 5, "max_workers": 1}
    answer = server.ask("POST", "/batch/infer/segmentation?images=unlabeled&run_sync=true", json=params)
    assert answer.status_code == 200
    assert len(answer.json()) == 5
    assert len(list((studies / "labels" / "original").iterdir())) == 5


def test_a_batch_in_a_process_of_its_own_logs_no_phrase(server):
    """Its log is read by the last test."""
    params = {"text": f"left pleural effusion {PHRASE}", "max_batch_size": 2, "max_workers": 1, "device": "cpu"}
    assert server.ask("POST", "/batch/infer/grounding", json=params).status_code == 200
    assert server.wait_for("/batch/infer")["status"] == "DONE"


def test_a_reloaded_server_answers(server):
    assert server.ask("POST", "/reload").status_code == 200
    assert server.ask("POST", "/activelearning/mgca_diversity", json={}).status_code == 200


def save_labels(server, studies, tmp_path, task):
    """Twelve labels, one of every fourth kind of file, as a client sends them."""
    for i in range(12):
        image = f"s{i:02d}"
        geometry = read_geometry(path_of(studies, image))
        label = tmp_path / (f"{image}.json" if task == "detection" else f"{image}.nrrd")
        if task == "detection":
            label.write_text(json.dumps(boxes_to_markups(np.array([[5, 6, 40, 50]]), [CLASSES[i % 2]], None, geometry)))
        else:
            _write_mask(label, geometry)
        with label.open("rb") as file:
            answer = server.ask("PUT", f"/datastore/label?image={image}&tag=final", files={"label": (label.name, file)})
        assert answer.status_code == 200, answer.text


def _write_mask(path: Path, geometry: Geometry) -> None:
    mask = np.zeros(geometry.size[::-1], np.uint8)
    mask[10:60, 5:50] = 1
    write_label_map(mask, geometry, path)


@pytest.mark.parametrize("task", ["segmentation", "detection"])
def test_training_from_saved_labels_changes_what_is_served(server, studies, label_bundle, tmp_path, task):
    save_labels(server, studies, tmp_path, task)
    params = {"score_threshold": 0.01} if task == "detection" else {}
    before = server.infer(task, "s20", output="image", **params).content
    weights = (label_bundle / "models" / f"model_{task}.pt").read_bytes()
    # not from the weights now served: it could find none better in one epoch, and would leave them
    request = {"max_epochs": 1, "val_split": 0.25, "batch_size": 4, "pretrained": False, "device": "cpu"}
    answer = server.ask("POST", f"/train/{task}", json=request)
    assert answer.status_code == 200, answer.text
    done = server.wait_for("/train/")
    assert done["status"] == "DONE", done
    assert (server.app_dir / "models" / f"model_{task}.pt").is_file()
    assert (label_bundle / "models" / f"model_{task}.pt").read_bytes() == weights
    assert server.infer(task, "s20", output="image", **params).content != before
    assert server.ask("GET", "/info/").json()["train_stats"][task]
    assert server.ask("GET", "/datastore/").json()["completed"] == 12
    checksum = hashlib.sha256((server.app_dir / "models" / f"model_{task}.pt").read_bytes()).hexdigest()
    assert server.ask("GET", f"/model/info/{task}").json()["checksum"].endswith(checksum)
    assert server.ask("DELETE", f"/model/{task}").status_code == 200  # the way back to the bundle's
    assert server.infer(task, "s20", output="image", **params).content == before


def test_nothing_of_a_patient_is_in_the_logs(server, studies):
    """Last of all, when everything was asked."""
    assert CANARY.encode() in path_of(studies, "s03").read_bytes()
    log = server.logs()
    assert "segmentation:" in log
    assert CANARY not in log
    assert PHRASE not in log
    assert CANARY not in (studies / "datastore_v2.json").read_text()
