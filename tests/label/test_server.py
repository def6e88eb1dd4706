# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""A live server over 30 radiographs, asked by plain HTTP."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
import tarfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import requests
from PIL import Image

from monai_mgca.io.geometry import Geometry, read_geometry, read_label_map, write_label_map
from monai_mgca.label.sessions import remove_old
from monai_mgca.label.store.markups import boxes_to_markups, markups_to_boxes

ROOT = Path(__file__).resolve().parents[2]
CXR = ROOT.parent / "shared" / "data" / "cxr"
CANARY = "Canarywordium"
PHRASE = "Canaryphrasium"
ENDINGS = (".png", ".jpg", ".nii.gz", ".dcm")
FOUR = ("s00", "s01", "s02", "s03")  # one of every format


def real_images(count):
    """Real radiographs where they are, else gray levels of any kind."""
    if not CXR.is_dir():
        return [np.random.default_rng(i).integers(0, 255, (97 + i, 81 + 2 * i), dtype=np.uint8) for i in range(count)]
    rows = [row for row in csv.DictReader((CXR / "manifest.csv").open()) if row["source"] == "iu_xray"][:count]
    images = [np.asarray(Image.open(CXR / row["image_path"]).convert("L")) for row in rows]
    return [image[: image.shape[0] - i, : image.shape[1] - 1 - 2 * i] for i, image in enumerate(images)]


@pytest.fixture(scope="module")
def studies(tmp_path_factory, save_image):
    """30 images of odd, different and not square sizes; every report and patient id holds a word to look for."""
    folder = tmp_path_factory.mktemp("studies")
    for i, values in enumerate(real_images(30)):
        save_image(
            folder / f"s{i:02d}{ENDINGS[i % 4]}", affine=np.diag([-0.2, -0.3, 1, 1]), values=values, patient=CANARY
        )
        (folder / f"s{i:02d}.txt").write_text(f"{CANARY} {i}. Small left pleural effusion. Heart size is normal.")
    return folder


@pytest.fixture(scope="module")
def server(start_server, studies, label_bundle):
    running = start_server(studies, label_bundle)
    assert running.wait_for("/scoring/")["status"] == "DONE"  # what it does by itself when it starts
    return running


def state(studies: Path) -> dict[str, bytes]:
    """The studies, the labels and the list, whatever hidden work goes on."""
    files = [
        path for path in studies.rglob("*") if path.is_file() and ".mgca" not in path.parts and path.name != ".lock"
    ]
    return {str(path): path.read_bytes() for path in files}


def path_of(studies: Path, image: str) -> Path:
    return next(path for path in studies.glob(f"{image}.*") if path.suffix != ".txt")


def test_info_tells_what_there_is(server):
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


def test_a_session_stays_in_its_folder(server, studies):
    archive = BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("../../escaped.txt"))
    files = {"files": ("x.tar", archive.getvalue())}
    refused(server, studies, "PUT", "/session/?uncompress=true", 400, "not unpacked", files=files)
    assert not list(server.app_dir.rglob("escaped.txt"))
    # MONAI Label would remove the folder of an image that is not there
    other = server.app_dir / "other"
    other.mkdir()
    (other / "meta.info").write_text('{"image": "/nowhere"}')
    for place in (str(other), "../other"):
        refused(server, studies, "POST", f"/infer/segmentation?session_id={place}", 400, "name a session")
    assert (other / "meta.info").exists()


def refused(server, studies, method, path, code, message, **arguments):
    before = state(studies)
    answer = server.ask(method, path, **arguments)
    assert answer.status_code == code and message in answer.json()["detail"], answer.text  # noqa: PT018
    assert state(studies) == before
    assert server.ask("GET", "/info/").status_code == 200


@pytest.mark.parametrize("image", ["s99", "../studies/s00", "../../etc/passwd", "/etc/passwd", "s00/../../x", "."])
def test_unknown_images_get_an_error(server, studies, image):
    label = {"label": ("x.png", path_of(studies, "s00").read_bytes())}
    for method, path, arguments in (
        ("POST", "/infer/segmentation", {"params": {"image": image}}),
        ("POST", "/infer/segmentation", {"params": {"image": "s00"}, "data": {"params": json.dumps({"image": image})}}),
        ("GET", "/datastore/image", {"params": {"image": image}}),
        ("GET", "/datastore/image/info", {"params": {"image": image}}),
        ("PUT", "/datastore/label", {"params": {"image": image}, "files": label}),
        ("DELETE", "/datastore/image", {"params": {"id": image}}),
    ):
        refused(server, studies, method, path, 404, "There is no image", **arguments)


def test_other_wrong_requests_get_an_error(server, studies):
    sent = {"files": {"label": ("x.png", path_of(studies, "s00").read_bytes())}}
    for path, message in (
        ("/infer/segmentatio?image=s00", "There is no model 'segmentatio'"),
        ("/batch/infer/nothing?run_sync=true", "There is no model 'nothing'"),
        ("/batch/infer/nothing", "There is no model 'nothing'"),
        ("/train/classification?run_sync=true", "There is no model to train"),
        ("/train/nothing", "There is no model 'nothing'"),
        ("/activelearning/guess", "There is no strategy 'guess'"),
        ("/scoring/guess?run_sync=true", "There is no scoring method 'guess'"),
    ):
        refused(server, studies, "POST", path, 404, message)
    refused(server, studies, "PUT", "/datastore/label?image=s00&tag=../../x", 400, "tag", **sent)
    refused(server, studies, "DELETE", "/model/segmentation", 404, "Model File NOT Found")  # the bundle's stay
    refused(server, studies, "PUT", "/model/segmentation", 403, "not replaced", files={"file": ("a.pt", b"x")})
    refused(server, studies, "POST", "/infer/grounding?image=s00", 400, "no word")
    refused(server, studies, "POST", "/activelearning/mgca_text", 400, "text", json={})
    refused(
        server, studies, "PUT", "/datastore/image?image=../x", 400, "an image's id", files={"file": ("x.png", b"x")}
    )
    assert requests.get(f"{server.url}/info/", headers={"Host": "elsewhere.example"}, timeout=9).status_code == 400
    asked = requests.get(f"{server.url}/info/", headers={"Origin": "http://elsewhere.example"}, timeout=9)
    assert "access-control-allow-origin" not in asked.headers


LONG = "x" * 300


@pytest.mark.parametrize(
    ("method", "path", "code", "message", "arguments"),
    [
        ("POST", "/infer/segmentation", 400, "name an image", {}),
        ("POST", f"/infer/segmentation?image={LONG}", 404, "There is no image", {}),
        ("POST", "/infer/segmentation?image=s00&output=dicom_seg", 400, "needs a PACS", {}),
        ("POST", "/infer/classification", 400, "ending", {"files": {"file": (f"a.{LONG}", b"x")}}),
        ("PUT", f"/datastore/image?image={LONG}", 400, "at most 200 bytes", {"files": {"file": ("a.png", b"x")}}),
        ("PUT", "/datastore/image", 400, "ending", {"files": {"file": (f"a.{LONG}", b"x")}}),
        ("PUT", "/datastore/image?image=S00", 409, "an image 's00'", {"files": {"file": ("a.png", b"x")}}),
        (
            "PUT",
            "/datastore/label?image=s00&tag=" + LONG,
            400,
            "at most 200 bytes",
            {"files": {"label": ("a.png", b"")}},
        ),
        ("PUT", "/datastore/label?image=s00", 400, "ending", {"files": {"label": (f"a.{LONG}", b"x")}}),
        ("PUT", "/datastore/label?image=s00", 400, "is not saved", {"files": {"label": ("a.png", b"")}}),
        ("PUT", "/datastore/label?image=s00", 400, "a label is", {"files": {"label": ("a.exe", b"MZ")}}),
        ("PUT", "/datastore/label/info?label=s00&tag=" + LONG, 400, "at most 200", {"data": {"info": "{}"}}),
        ("GET", f"/datastore/label?label={LONG}&tag=final", 400, "at most 200", {}),
        ("GET", "/datastore/dataset", 404, "nothing to download", {}),
        ("PUT", "/session/", 400, "255 bytes", {"files": {"files": (LONG, b"x")}}),
        ("POST", "/activelearning/mgca_text", 400, "half a character", {"json": {"text": "\ud800"}}),
        ("POST", "/batch/infer/\ud83d", 404, "There is no model", {}),
        ("POST", "/infer/grounding?image=s00", 400, "half a character", {"data": {"params": '{"text": "\\ud800"}'}}),
        ("GET", "/proxy/dicom/studies", 404, "The studies are a folder", {}),
        ("POST", "/infer/segmentation?image=s00", 404, "There is no model", {"data": {"params": '{"model": ["x"]}'}}),
        ("POST", "/activelearning/random", 404, "There is no strategy", {"json": {"strategy": ["x"]}}),
        ("POST", "/batch/infer/segmentation?run_sync=true", 400, "are texts", {"json": {"images": [5]}}),
        ("POST", "/batch/infer/segmentation?run_sync=true", 400, "max_workers is", {"json": {"max_workers": "x"}}),
        ("POST", "/train/segmentation", 400, "at most 100000", {"json": {"classes": "x" * 200000}}),
        ("POST", "/train/segmentation", 400, "gpus are", {"json": {"gpus": "\0"}}),
        ("POST", "/train/", 500, "The request failed", {"json": {"segmentation": "x"}}),
        ("PUT", "/model/segmentation", 400, "ending", {"files": {"file": (f"a.{LONG}", b"x")}}),
        ("GET", "/proxy/dicom/qido/studies/1.2/metadata", 404, "The studies are a folder", {}),
    ],
)
def test_what_is_missing_or_too_long_is_told(server, studies, method, path, code, message, arguments):
    refused(server, studies, method, path, code, message, **arguments)


def test_a_machine_without_a_gpu(server, studies):
    if shutil.which("nvidia-smi"):
        assert server.ask("GET", "/logs/gpu").status_code == 200
    else:
        refused(server, studies, "GET", "/logs/gpu", 404, "There is no nvidia-smi")


FOREIGN = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/train/segmentation"),
        ("DELETE", "/train/"),
        ("POST", "/reload"),
        ("POST", "/batch/infer/segmentation"),
        ("POST", "/activelearning/mgca_diversity"),
        ("POST", "/scoring/mgca_embeddings"),
        ("POST", "/infer/segmentation?image=s00"),
        ("DELETE", "/datastore/image?id=s00"),
        ("PUT", "/datastore/label?image=s00"),
        ("DELETE", "/model/segmentation"),
        ("PUT", "/session/"),
        ("GET", "/datastore/image?image=s00"),
        ("POST", "/proxy/dicom/studies"),
    ],
)
def test_a_page_of_another_site_is_refused(server, studies, method, path):
    refused(server, studies, method, path, 403, "other sites", headers=FOREIGN)


def test_an_upload_has_a_limit(server, studies):
    received = set((server.app_dir / "tmp").iterdir())
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
    refused(
        server,
        studies,
        "PUT",
        "/datastore/image?image=new",
        413,
        "at most 200 MiB",
        data=iter([head, *[bytes(1 << 20)] * 220]),  # which tells no length
        headers={"Content-Type": "multipart/form-data; boundary=x"},
    )
    assert server.ask("GET", "/info/").status_code == 200
    assert set((server.app_dir / "tmp").iterdir()) <= received


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


def test_odd_addresses_of_pages_and_sums(server):
    for path in ("/ohif/%2e%2e", "/ohif/.", "/logs/?lines=99999999999999999999"):
        assert server.ask("GET", path).status_code == 200
    assert server.ask("HEAD", "/datastore/image?image=s00&check_sum=x:y").status_code == 400


def test_scoring_tells_what_it_computed(server):
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


def test_a_batch_in_a_process_of_its_own_tells_no_phrase(server):
    """Its log is read by the last test."""
    params = {"text": f"left pleural effusion {PHRASE}", "max_batch_size": 2, "max_workers": 1, "device": "cpu"}
    assert server.ask("POST", "/batch/infer/grounding", json=params).status_code == 200
    assert server.wait_for("/batch/infer")["status"] == "DONE"


def test_a_reloaded_server_answers(server):
    assert server.ask("POST", "/reload").status_code == 200
    assert server.ask("POST", "/activelearning/mgca_diversity", json={}).status_code == 200


def test_damaged_weights_of_one_model_leave_the_others(server, label_bundle):
    folder = server.app_dir / "models"
    folder.mkdir(exist_ok=True)
    weights = folder / "model_detection.pt"
    shutil.copy(label_bundle / "models" / "model_detection.json", folder)
    weights.write_bytes(b"x")
    try:
        assert list(server.ask("GET", "/info/").json()["models"]) == ["segmentation", "classification", "grounding"]
        assert server.infer("segmentation", "s00").status_code == 200
        broken = server.infer("detection", "s00")
        assert broken.status_code == 400
        assert "cannot be read as a checkpoint" in broken.json()["detail"]
    finally:
        weights.unlink()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"image_encoder": "resnet_9000"}', '{"classes": 3}', "\0\0"])
def test_damaged_settings_of_one_model_leave_the_others(server, label_bundle, content):
    folder = server.app_dir / "models"
    folder.mkdir(exist_ok=True)
    shutil.copy(label_bundle / "models" / "model_detection.pt", folder)
    described = [folder / "model_detection.json", folder / "train_detection.json"]
    for path in described:
        path.write_text(content)
    try:
        info = server.ask("GET", "/info/")
        assert info.status_code == 200
        assert list(info.json()["models"]) == ["segmentation", "classification", "grounding"]
        assert set(info.json()["trainers"]) == {"segmentation", "detection"}
        assert server.infer("segmentation", "s00").status_code == 200
        broken = server.infer("detection", "s00")
        assert 400 <= broken.status_code < 500 and broken.json()["detail"], broken.text  # noqa: PT018
        assert "model_detection" in broken.json()["detail"], broken.text
        assert server.ask("POST", "/activelearning/mgca_uncertainty", json={}).status_code == 200
    finally:
        for path in (*described, folder / "model_detection.pt"):
            path.unlink()


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


CLASSES = ("nodule", "effusion")


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
