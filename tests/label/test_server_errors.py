# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""A live server refuses wrong requests and those of other sites, names what is damaged, and goes on."""

from __future__ import annotations

import json
import shutil
import tarfile
from io import BytesIO
from pathlib import Path

import pytest
import requests

from .served_studies import CANARY, path_of


def state(studies: Path) -> dict[str, bytes]:
    """The studies, the labels and the list, whatever hidden work goes on."""
    files = [
        path for path in studies.rglob("*") if path.is_file() and ".mgca" not in path.parts and path.name != ".lock"
    ]
    return {str(path): path.read_bytes() for path in files}


def refused(server, studies, method, path, code, message, **arguments):
    before = state(studies)
    answer = server.ask(method, path, **arguments)
    assert answer.status_code == code and message in answer.json()["detail"], answer.text  # noqa: PT018
    assert state(studies) == before
    assert server.ask("GET", "/info/").status_code == 200


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
def test_what_is_missing_or_too_long_is_named(server, studies, method, path, code, message, arguments):
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
        data=iter([head, *[bytes(1 << 20)] * 220]),  # which states no length
        headers={"Content-Type": "multipart/form-data; boundary=x"},
    )
    assert server.ask("GET", "/info/").status_code == 200
    assert set((server.app_dir / "tmp").iterdir()) <= received


def test_odd_addresses_of_pages_and_sums(server):
    for path in ("/ohif/%2e%2e", "/ohif/.", "/logs/?lines=99999999999999999999"):
        assert server.ask("GET", path).status_code == 200
    assert server.ask("HEAD", "/datastore/image?image=s00&check_sum=x:y").status_code == 400


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


def test_nothing_of_a_patient_is_in_the_log_of_errors(server, studies):
    """Last of all, when everything was asked."""
    assert CANARY.encode() in path_of(studies, "s03").read_bytes()
    log = server.logs()
    assert "segmentation:" in log
    assert CANARY not in log
