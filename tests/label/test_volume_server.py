# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""A live server over NIfTI volumes and DICOM series: all that a client asks of it."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import nibabel
import numpy as np
import pytest
import requests

from monai_mgca.io.volumes.volume_geometry import read_volume_geometry, write_volume
from monai_mgca.io.volumes.volume_labels import read_volume_labels
from monai_mgca.label.store.volume_markups import read_volume_markups
from monai_mgca.transforms import LoadVolume

from .served_studies import CANARY
from .volume_studies import SPACING, draw_ct, save_nifti

ROOT = Path(__file__).resolve().parents[2]
STUDIES = {"a": "LPS", "b": "PIR", "c": "ASL", "d": "RAS"}
SERIES = ("p1=s1", "p1=s2")
REPORT = f"{CANARY}. Small left pleural effusion. Heart size is normal."


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    folder = tmp_path_factory.mktemp("volumes")
    for number, (name, axes) in enumerate(STUDIES.items()):
        save_nifti(folder / f"{name}.nii.gz", draw_ct(number), axes)
    return folder


@pytest.fixture(scope="module")
def running(studies, start_server, volume_bundle, write_series):
    """The server, with two series and a report of each study."""
    for number, name in enumerate(SERIES):
        write_series(studies.joinpath(*name.split("=")), draw_ct(4 + number), SPACING, (-160, -150, -130))
    for name in (*STUDIES, *SERIES):
        (studies / f"{name}.txt").write_text(REPORT)
    server = start_server(studies, volume_bundle)
    assert server.wait_for("/scoring/")["status"] == "DONE"
    return server


def path_of(studies: Path, name: str) -> Path:
    return studies.joinpath(*name.split("=")) if "=" in name else studies / f"{name}.nii.gz"


def sent(tmp_path: Path, name: str, answer: requests.Response) -> Path:
    assert answer.status_code == 200, answer.text
    (tmp_path / name).write_bytes(answer.content)
    return tmp_path / name


def test_it_knows_what_it_serves(running):
    info = running.ask("GET", "/info/").json()
    assert "volumes" in info["description"]
    assert list(info["models"]) == ["segmentation", "detection", "classification", "grounding"]
    assert {model["dimension"] for model in info["models"].values()} == {3}
    assert info["datastore"]["total"] == len(STUDIES) + len(SERIES)
    assert set(running.ask("GET", "/datastore/?output=all").json()["objects"]) == {*STUDIES, *SERIES}
    assert "Studies: volumes." in running.output.read_text()


@pytest.mark.parametrize("name", ["b", "c", SERIES[0]])
def test_results_lie_where_the_volume_lies(running, studies, tmp_path, name):
    """The volume as viewers get it, and what the models answer of it, have one geometry, by another reader."""
    sitk = pytest.importorskip("SimpleITK")
    image = sent(tmp_path, "image.nii.gz", running.ask("GET", f"/datastore/image?image={name}"))
    read = LoadVolume()(path_of(studies, name))
    np.testing.assert_array_equal(nibabel.load(image).get_fdata(), read[0].numpy())
    place = sitk.ReadImage(str(image))
    for model, params in (("segmentation", {}), ("grounding", {"text": "left pleural effusion"})):
        mask = sent(tmp_path, f"{model}.nrrd", running.infer(model, name, "image", result_extension=".nrrd", **params))
        found = sitk.ReadImage(str(mask))
        assert found.GetSize() == place.GetSize()
        for get in ("GetOrigin", "GetSpacing", "GetDirection"):
            np.testing.assert_allclose(getattr(found, get)(), getattr(place, get)(), atol=1e-3)
        assert 0 < (sitk.GetArrayFromImage(found) > 0).mean() < 1
        usual = sent(tmp_path, f"{model}.nii.gz", running.infer(model, name, "image", **params))
        geometry = read_volume_geometry(image)
        np.testing.assert_array_equal(read_volume_labels(usual, geometry), sitk.GetArrayFromImage(found).T)
    result = running.infer("grounding", name, text="left pleural effusion").json()
    assert all(0 <= at < size for at, size in zip(result["peak"], read.shape[1:], strict=True))
    heat = sent(tmp_path, "heat.nii.gz", running.infer("grounding", name, "image", text="effusion", result="heat"))
    assert nibabel.load(heat).get_data_dtype() == np.float32


@pytest.mark.parametrize("name", ["b", SERIES[0]])
def test_boxes_and_classes(running, studies, tmp_path, name):
    result = running.infer("detection", name, score_threshold=0.5).json()
    markups = sent(tmp_path, "l.json", running.infer("detection", name, "image", score_threshold=0.5))
    boxes, names = read_volume_markups(markups, read_volume_geometry(path_of(studies, name)))
    assert len(boxes) > 0
    np.testing.assert_allclose(boxes, result["box_mm"], atol=0.02)
    assert names == result["label_name"]
    assert len(running.infer("classification", name).json()["prediction"]) == 2


def test_a_volume_that_is_sent(running, studies, tmp_path):
    expected = running.infer("classification", "a").json()["prediction"]
    content = (studies / "a.nii.gz").read_bytes()
    answer = running.ask("POST", "/infer/classification?output=json", files={"file": ("x.nii.gz", content)})
    assert answer.json()["prediction"] == expected
    session = running.ask("PUT", "/session/", files={"files": ("x.nii.gz", content)}).json()["session_id"]
    answer = running.ask("POST", f"/infer/classification?session_id={session}&output=json")
    assert answer.json()["prediction"] == expected
    files = [("files", (file.name, file.read_bytes())) for file in sorted(path_of(studies, SERIES[0]).iterdir())]
    session = running.ask("PUT", "/session/", files=files).json()["session_id"]  # the files of a series
    answer = running.ask("POST", f"/infer/classification?session_id={session}&output=json")
    assert answer.json()["prediction"] == running.infer("classification", SERIES[0]).json()["prediction"]


@pytest.mark.parametrize(
    ("method", "path", "arguments", "code", "words"),
    [
        ("POST", "/infer/segmentation?image=p1", {}, 404, "There is no image 'p1'"),
        ("POST", "/infer/segmentation?image=../a", {}, 404, "There is no image"),
        ("POST", "/infer/segmentation?image=p1/s1", {}, 404, "There is no image"),
        ("POST", "/infer/segmentation?image=/etc", {}, 404, "There is no image"),
        ("GET", "/datastore/image?image=..=..=etc", {}, 404, "There is no image"),
        ("POST", "/infer/grounding?image=a", {}, 400, "word"),
        ("POST", "/infer/segmentation", {"files": {"file": ("x.nii.gz", b"no volume")}}, 400, "cannot read the volume"),
        ("PUT", "/datastore/image?image=new", {"files": {"file": ("x.dcm", b"x")}}, 400, "a volume is sent as .nii"),
        ("DELETE", f"/datastore/image?id={SERIES[0]}", {}, 403, "not deleted from here"),
        ("POST", "/infer/segmentation?image=a&output=dicom_seg", {}, 400, "needs a PACS"),
        ("PUT", "/datastore/label?image=a", {"files": {"label": ("x.nrrd", b"NRRD0004\n")}}, 400, "is not saved"),
        ("PUT", "/datastore/label?image=a", {"files": {"label": ("x.png", b"x")}}, 400, "a PNG is no volume"),
    ],
)
def test_what_is_wrong_is_answered_in_a_sentence(running, method, path, arguments, code, words):
    answer = running.ask(method, path, **arguments)
    assert (answer.status_code, words in answer.json()["detail"]) == (code, True), answer.text


def test_pages_of_other_sites_are_refused(running):
    headers = {"Sec-Fetch-Site": "cross-site"}
    for path in ("/datastore/image?image=a", f"/datastore/image?image={SERIES[0]}", "/infer/segmentation?image=a"):
        assert running.ask("POST" if "infer" in path else "GET", path, headers=headers).status_code == 403


def test_strategies_give_a_volume_that_is_not_labeled(running, tmp_path):
    given = []
    for strategy, params in (
        ("mgca_diversity", {}),
        ("mgca_text", {"text": "left pleural effusion"}),
        ("mgca_disagreement", {}),
        ("mgca_uncertainty", {"model": "segmentation"}),
        ("random", {}),
    ):
        answer = running.ask("POST", f"/activelearning/{strategy}", json=params)
        assert answer.status_code == 200, answer.text
        given.append(answer.json())
        assert given[-1]["id"] in {*STUDIES, *SERIES}
        # viewers of this machine open a file, and fetch a series
        assert given[-1].get("path", "").endswith(".nii.gz") != ("=" in given[-1]["id"])
        assert given[-1]["name"].endswith(".nii.gz")
        assert CANARY not in answer.text
    assert len({one["id"] for one in given[:4]}) == 4
    scores = running.ask("POST", "/scoring/mgca_embeddings?run_sync=true").json()
    assert (scores["images"], scores["reports"], scores["unreadable"]) == (6, 6, {})


def test_saved_labels_train_the_model_that_is_served(running, studies, tmp_path):
    """As Slicer does: the image, a mask in its geometry, with the segments' names."""
    for name in ("a", "b", SERIES[0]):
        image = sent(tmp_path, "image.nii.gz", running.ask("GET", f"/datastore/image?image={name}"))
        values = nibabel.load(image).get_fdata()
        mask = np.asfortranarray((values > -920) & (values < -780)).astype(np.uint8)
        write_volume(mask, read_volume_geometry(image), tmp_path / "label.nrrd")
        params = {"params": json.dumps({"label_info": [{"name": "lung", "idx": 1}]})}
        files = {"label": ("label.nrrd", (tmp_path / "label.nrrd").read_bytes())}
        answer = running.ask("PUT", f"/datastore/label?image={name}&tag=final", data=params, files=files)
        assert answer.status_code == 200, answer.text
    assert running.ask("GET", "/datastore/").json()["completed"] == 3
    body = {"max_epochs": 1, "classes": "lung", "val_split": 0.4, "device": "cpu"}
    answer = running.ask("POST", "/train/segmentation?run_sync=true", json=body)
    assert answer.status_code == 200, answer.text
    stats = running.ask("GET", "/info/").json()["train_stats"]["segmentation"]
    assert (stats["epoch"], stats["new_weights"]) == (1, True)
    assert running.infer("segmentation", "c").json()["label_names"] == {"lung": 1}
    assert (running.app_dir / "models" / "model_segmentation.pt").is_file()


def test_the_commands_of_the_page(running, studies, tmp_path):
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    section = (ROOT / "docs" / "monailabel.md").read_text(encoding="utf-8").split("\n## Volumes\n")[1]
    commands = [line for line in section.split("```sh\n")[1].split("```")[0].splitlines() if line.startswith("curl ")]
    assert len(commands) == 5
    for command in commands:
        command = command.replace("http://127.0.0.1:8000", running.url).replace("patient1=chest", SERIES[0])
        command = command.replace("curl ", "curl --fail-with-body --max-time 300 ", 1)
        done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    geometry = read_volume_geometry(path_of(studies, SERIES[0]))
    for name in ("mask.nii.gz", "effusion.nrrd"):
        assert read_volume_labels(tmp_path / name, geometry).shape == geometry.size


def test_nothing_of_a_patient_is_logged(running, studies):
    assert (logs := running.logs())
    assert CANARY not in logs
    assert "patient-canary" not in logs
    assert "Doe" not in logs
    kept = [path for path in (studies / ".mgca").rglob("*") if path.is_file()]
    assert kept
    assert not any(b"canary" in path.read_bytes().lower() for path in kept)
