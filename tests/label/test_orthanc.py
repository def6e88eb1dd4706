# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""A real PACS: Orthanc with its DICOMweb plugin, in a folder of its own, and a live server before it."""

from __future__ import annotations

import csv
import json
import shutil
import socket
import subprocess
import time
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import requests
from PIL import Image

from monai_mgca.io.geometry import read_geometry, read_label_map, write_label_map
from monai_mgca.label.store.markups import markups_to_boxes
from monai_mgca.label.store.pacs_datastore import connect
from monai_mgca.transforms import LoadRadiograph

pydicom = pytest.importorskip("pydicom")
dicomweb_client = pytest.importorskip("dicomweb_client")

ROOT = Path(__file__).resolve().parents[2]
CXR = ROOT.parent / "shared" / "data" / "cxr"
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
CANARY = "Canarywordium"
KINDS = [  # modality, photometric interpretation
    ("CR", "MONOCHROME2"),
    ("CR", "MONOCHROME1"),
    ("DX", "MONOCHROME2"),
    ("DX", "MONOCHROME1"),
    ("CR", "MONOCHROME2"),
]


def page_block(language):
    """A block of the page's section on a PACS."""
    section = (ROOT / "docs" / "monailabel.md").read_text(encoding="utf-8").split("## A PACS by DICOMweb\n")[1]
    return section.split(f"```{language}\n")[1].split("```")[0]


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory):
    """The address of an empty PACS on free ports; it is stopped after the module's tests."""
    program = shutil.which("Orthanc")
    if program is None or not PLUGIN.is_file():
        pytest.skip("Orthanc is not installed: apt-get install orthanc orthanc-dicomweb")
    folder = tmp_path_factory.mktemp("orthanc")
    with socket.socket() as http, socket.socket() as dicom:
        http.bind(("127.0.0.1", 0))
        dicom.bind(("127.0.0.1", 0))
        ports = http.getsockname()[1], dicom.getsockname()[1]
    config = json.loads(page_block("json"))
    assert config["Plugins"] == [str(PLUGIN)]
    database = str(folder / "db")
    config |= {"HttpPort": ports[0], "DicomPort": ports[1], "StorageDirectory": database, "IndexDirectory": database}
    (folder / "orthanc.json").write_text(json.dumps(config))
    with (folder / "output.txt").open("w") as output:
        process = subprocess.Popen(
            [program, str(folder / "orthanc.json")], cwd=folder, stdout=output, stderr=subprocess.STDOUT
        )
    url = f"http://127.0.0.1:{ports[0]}/dicom-web"
    try:
        _wait(url, process, folder / "output.txt")
        yield url
    finally:
        process.terminate()
        process.wait(20)


def _wait(url, process, output):
    for _ in range(120):
        if process.poll() is not None:
            break
        try:
            if requests.get(f"{url}/series", timeout=5).ok:
                return
        except requests.ConnectionError:
            pass
        time.sleep(0.25)
    pytest.fail(f"Orthanc did not start:\n{output.read_text()[-2000:]}")


def gray_levels():
    """Real radiographs where they are, else gray levels of any kind; all of odd, different sizes, none square."""
    if CXR.is_dir():
        rows = [row for row in csv.DictReader((CXR / "manifest.csv").open()) if row["source"] == "iu_xray"]
        images = [np.array(Image.open(CXR / row["image_path"]).convert("L")) for row in rows[: len(KINDS)]]
    else:
        images = [np.random.default_rng(i).integers(0, 255, (256, 256), dtype=np.uint8) for i in range(len(KINDS))]
    for i, image in enumerate(images):
        images[i] = np.ascontiguousarray(image[: 151 - 4 * i, : 121 + 10 * i])
        images[i][0, :2] = 0, 255  # nothing of the range is left for the reader to stretch
    return images


@pytest.fixture(scope="module")
def pacs(orthanc, make_radiograph):
    """The address of a PACS with five radiographs, what each shows, by the UID of its series, and their datasets."""
    shown, kept = {}, {}
    client = dicomweb_client.DICOMwebClient(orthanc)
    for values, (modality, photometric) in zip(gray_levels(), KINDS, strict=True):
        stored = 255 - values if photometric == "MONOCHROME1" else values
        data = make_radiograph(values=stored, patient=CANARY, Modality=modality, PhotometricInterpretation=photometric)
        data.PatientBirthDate, data.StudyDescription, data.ReferringPhysicianName = "19500101", CANARY, CANARY
        client.store_instances([data])
        shown[data.SeriesInstanceUID], kept[data.SeriesInstanceUID] = values, data
    other = make_radiograph(Modality="OT")
    client.store_instances([other])
    return orthanc, shown, kept


def segs(url):
    client = dicomweb_client.DICOMwebClient(url)
    found = [pydicom.Dataset.from_json(one) for one in client.search_for_series(search_filters={"Modality": "SEG"})]
    return [client.retrieve_series(one.StudyInstanceUID, one.SeriesInstanceUID)[0] for one in found]


def make_mask(size, *values):
    mask = np.zeros(size[::-1], np.uint8)
    for number, value in enumerate(values):
        mask[11 + 30 * number : 38 + 30 * number, 17 : 60 + number] = value
    return mask


def test_radiographs_come_as_displayed_and_masks_go_back(pacs, tmp_path):
    url, shown, kept = pacs
    store = connect(url, tmp_path)
    assert set(store.list_images()) == set(shown)
    for uid, values in shown.items():
        path = store.get_image_uri(uid)
        np.testing.assert_array_equal(LoadRadiograph()(path)[0].numpy(), values)
        assert read_geometry(path).size == values.shape[::-1]
        mask = make_mask(values.shape[::-1], 3, 1)
        write_label_map(mask, read_geometry(path), tmp_path / "mask.nii.gz")
        names = [{"name": name, "idx": number} for number, name in enumerate(("lung", "heart", "effusion"), 1)]
        store.save_label(uid, str(tmp_path / "mask.nii.gz"), "final", {"label_info": names})
        fresh = connect(url, tmp_path / "elsewhere")
        assert uid in fresh.get_labeled_images()
        assert uid not in fresh.get_unlabeled_images()
        np.testing.assert_array_equal(read_label_map(fresh.get_label_uri(uid, "final")), mask)
        assert fresh.get_label_info(uid, "final") == {"label_info": names}
    assert len(store.datalist()) == 5
    assert store.status()["completed"] == 5
    for seg in segs(url):
        reference = seg.ReferencedSeriesSequence[0]
        source = kept[reference.SeriesInstanceUID]
        assert reference.ReferencedInstanceSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID
        assert (seg.StudyInstanceUID, seg.PatientID) == (source.StudyInstanceUID, CANARY)
        expected = make_mask((source.Columns, source.Rows), 3, 1)
        np.testing.assert_array_equal(seg.pixel_array, [expected == number for number in (1, 2, 3)])
        remove(url, seg)


def remove(url, data):
    """DICOMweb has no way of its own; Orthanc has."""
    root = url.removesuffix("/dicom-web")
    (found,) = requests.post(f"{root}/tools/lookup", data=data.SeriesInstanceUID, timeout=30).json()
    requests.delete(f"{root}{found['Path']}", timeout=30).raise_for_status()


def test_dcmqi_reads_the_segmentation(pacs, tmp_path):
    """3D Slicer reads DICOM SEG by dcmqi."""
    program = shutil.which("segimage2itkimage")
    if program is None:
        pytest.skip("dcmqi is not installed: pip install dcmqi")
    url, shown, _ = pacs
    store = connect(url, tmp_path)
    uid, values = next(iter(shown.items()))
    mask, geometry = make_mask(values.shape[::-1], 2, 1), read_geometry(store.get_image_uri(uid))
    write_label_map(mask, geometry, tmp_path / "mask.nii.gz")
    store.save_label(uid, str(tmp_path / "mask.nii.gz"), "final", {})
    (seg,) = segs(url)
    seg.save_as(tmp_path / "seg.dcm", write_like_original=False)
    command = [program, "--inputDICOM", tmp_path / "seg.dcm", "--outputDirectory", tmp_path, "--outputType", "nrrd"]
    subprocess.run([*command, "--mergeSegments"], check=True, capture_output=True)
    np.testing.assert_array_equal(read_label_map(tmp_path / "1.nrrd"), mask)
    np.testing.assert_allclose(read_geometry(tmp_path / "1.nrrd").affine, geometry.affine, atol=1e-6)
    remove(url, seg)


@pytest.fixture(scope="module")
def server(start_server, pacs, label_bundle, tmp_path_factory):
    reports = tmp_path_factory.mktemp("reports")
    for uid in pacs[1]:
        (reports / f"{uid}.txt").write_text(f"{CANARY}. Small left pleural effusion.")
    return start_server(pacs[0], label_bundle, "--reports", str(reports))


def test_server_knows_the_radiographs(server, pacs):
    info = server.ask("GET", "/info/").json()
    assert list(info["models"]) == ["segmentation", "detection", "classification", "grounding"]
    assert info["datastore"]["total"] == 5
    assert info["datastore"]["completed"] == 0
    assert set(server.ask("GET", "/datastore/?output=all").json()["objects"]) == set(pacs[1])


def test_masks_have_size_and_geometry_of_the_radiograph(server, pacs, tmp_path):
    for uid, values in pacs[1].items():
        sent = server.ask("GET", f"/datastore/image?image={uid}")
        (tmp_path / "image.nii.gz").write_bytes(sent.content)
        for model, params in (("segmentation", {}), ("grounding", {"text": "left pleural effusion"})):
            answer = server.infer(model, uid, output="image", **params)
            assert answer.status_code == 200, answer.text
            (tmp_path / "mask.nii.gz").write_bytes(answer.content)
            mask = read_label_map(tmp_path / "mask.nii.gz")
            assert mask.shape == values.shape
            assert set(np.unique(mask)) <= {0, 1}
            place = read_geometry(tmp_path / "image.nii.gz")
            np.testing.assert_allclose(read_geometry(tmp_path / "mask.nii.gz").affine, place.affine, atol=1e-6)


def test_boxes_and_classes_of_the_radiograph(server, pacs, tmp_path):
    for uid in pacs[1]:
        (tmp_path / "image.nii.gz").write_bytes(server.ask("GET", f"/datastore/image?image={uid}").content)
        place = read_geometry(tmp_path / "image.nii.gz")
        result = server.infer("detection", uid, score_threshold=0.01).json()
        markups = server.infer("detection", uid, output="image", score_threshold=0.01).json()
        boxes, names = markups_to_boxes(markups, place)
        assert len(boxes) > 0
        assert names == result["label_name"]
        np.testing.assert_allclose(boxes, result["box_pixels"], atol=0.02)
        assert len(server.infer("classification", uid).json()["prediction"]) == 2


def test_polarity_does_not_change_what_is_seen(server, pacs, tmp_path):
    """A MONOCHROME1 radiograph gives what its displayed image gives when it is sent as PNG."""
    for uid, values in pacs[1].items():
        Image.fromarray(values).save(tmp_path / "shown.png")
        with (tmp_path / "shown.png").open("rb") as file:
            sent = server.ask("POST", "/infer/classification?output=json", files={"file": ("shown.png", file)})
        assert sent.json()["prediction"] == server.infer("classification", uid).json()["prediction"]


def test_result_as_dicom_seg_is_the_mask(server, pacs, tmp_path):
    info = {"label_info": [{"name": "lung", "idx": 1}]}
    for uid, values in pacs[1].items():
        answer = server.infer("segmentation", uid, output="dicom_seg", **info)
        assert answer.status_code == 200 and answer.headers["content-type"] == "application/dicom", answer.text  # noqa: PT018
        seg = pydicom.dcmread(BytesIO(answer.content))
        (tmp_path / "mask.nii.gz").write_bytes(server.infer("segmentation", uid, output="image").content)
        np.testing.assert_array_equal(seg.pixel_array, read_label_map(tmp_path / "mask.nii.gz"))
        assert seg.pixel_array.shape == values.shape
        assert seg.SegmentSequence[0].SegmentLabel == "lung"
        assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == uid
    assert segs(pacs[0]) == []  # an answer is not stored
    for model in ("detection", "classification"):
        answer = server.infer(model, uid, output="dicom_seg", **info)
        assert answer.status_code == 400
        assert "masks" in answer.json()["detail"]


def save_mask(server, uid, mask, folder):
    """As Slicer does."""
    (folder / "image.nii.gz").write_bytes(server.ask("GET", f"/datastore/image?image={uid}").content)
    write_label_map(mask, read_geometry(folder / "image.nii.gz"), folder / "label.nrrd")
    params = json.dumps({"label_info": [{"name": "lung", "idx": 1}]})
    files = {"label": ("label.nrrd", (folder / "label.nrrd").read_bytes())}
    answer = server.ask("PUT", f"/datastore/label?image={uid}&tag=final", data={"params": params}, files=files)
    assert answer.status_code == 200 and answer.json()["label"] == uid, answer.text  # noqa: PT018


def test_saved_label_is_a_seg_in_the_pacs(server, pacs, tmp_path):
    url, shown, _ = pacs
    uid = list(shown)[1]
    mask = make_mask(shown[uid].shape[::-1], 1)
    save_mask(server, uid, mask, tmp_path)
    (seg,) = segs(url)
    np.testing.assert_array_equal(seg.pixel_array, mask)
    assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == uid
    assert server.ask("GET", "/datastore/").json()["completed"] == 1
    (pair,) = server.ask("GET", "/datastore/?output=train").json()
    np.testing.assert_array_equal(read_label_map(pair["label"]), mask)
    back = server.ask("GET", f"/datastore/label?label={uid}&tag=final")
    (tmp_path / "back.nii.gz").write_bytes(back.content)
    np.testing.assert_array_equal(read_label_map(tmp_path / "back.nii.gz"), mask)
    assert server.ask("DELETE", f"/datastore/label?id={uid}&tag=final").status_code == 403


def test_active_learning_leaves_out_what_is_labeled(server, pacs):
    labeled = list(pacs[1])[1]
    for strategy, params in (
        ("mgca_diversity", {}),
        ("mgca_text", {"text": "left pleural effusion"}),
        ("mgca_disagreement", {}),
        ("mgca_uncertainty", {"model": "segmentation"}),
        ("random", {}),
    ):
        answer = server.ask("POST", f"/activelearning/{strategy}", json=params)
        assert answer.status_code == 200, answer.text
        assert answer.json()["id"] in set(pacs[1]) - {labeled}
        assert answer.json()["path"].endswith(".nii.gz")
        assert CANARY not in answer.text
    server.wait_for("/scoring/")  # what the server does by itself when it starts
    answer = server.ask("POST", "/scoring/mgca_embeddings?run_sync=true").json()
    assert answer["images"] == answer["reports"] == 5


def test_a_session_beside_the_pacs(server, pacs, tmp_path):
    uid, values = next(iter(pacs[1].items()))
    Image.fromarray(values).save(tmp_path / "shown.png")
    with (tmp_path / "shown.png").open("rb") as file:
        session = server.ask("PUT", "/session/", files={"files": ("shown.png", file)}).json()["session_id"]
    answer = server.ask("POST", f"/infer/classification?session_id={session}&output=json")
    assert answer.json()["prediction"] == server.infer("classification", uid).json()["prediction"]
    assert server.ask("DELETE", f"/session/{session}").status_code == 200


def test_batch_inference_reads_the_pacs(server, pacs):
    answer = server.ask("POST", "/batch/infer/segmentation?images=all&run_sync=true", json={"max_workers": 1})
    assert answer.status_code == 200 and len(answer.json()) == 5, answer.text  # noqa: PT018


def test_training_from_the_segs_changes_what_is_served(server, pacs, tmp_path):
    for uid, values in pacs[1].items():
        save_mask(server, uid, make_mask(values.shape[::-1], 1), tmp_path)
    before = server.infer("segmentation", uid, output="image").content
    # not from the weights now served: it could find none better in one epoch, and would leave them
    request = {"max_epochs": 1, "val_split": 0.25, "batch_size": 2, "pretrained": False, "device": "cpu"}
    answer = server.ask("POST", "/train/segmentation", json=request)
    assert answer.status_code == 200, answer.text
    done = server.wait_for("/train/")
    assert done["status"] == "DONE", done
    assert (server.app_dir / "models" / "model_segmentation.pt").is_file()
    assert server.infer("segmentation", uid, output="image").content != before


@pytest.mark.parametrize("image", ["1.2.3.4", "../../x", "s00", "/etc/passwd"])
def test_unknown_ids_get_an_error_and_the_server_lives(server, pacs, tmp_path, image):
    (tmp_path / "x.nrrd").write_bytes(b"x")
    for method, path, arguments in (
        ("POST", "/infer/segmentation", {"params": {"image": image}}),
        ("POST", "/infer/segmentation", {"params": {"image": image, "output": "dicom_seg"}}),
        ("GET", "/datastore/image", {"params": {"image": image}}),
        ("GET", "/datastore/image/info", {"params": {"image": image}}),
        ("PUT", "/datastore/label", {"params": {"image": image}, "files": {"label": ("x.nrrd", b"x")}}),
        ("DELETE", "/datastore/image", {"params": {"id": image}}),
    ):
        answer = server.ask(method, path, **arguments)
        assert answer.status_code == 404 and "There is no image" in answer.json()["detail"], (path, answer.text)  # noqa: PT018
    uid = next(iter(pacs[1]))
    assert server.ask("DELETE", f"/datastore/image?id={uid}").status_code == 403
    broken = server.ask("PUT", f"/datastore/label?image={uid}&tag=final", files={"label": ("x.nrrd", b"x")})
    assert broken.status_code == 400
    assert "label" in broken.json()["detail"]
    assert len(segs(pacs[0])) == 6
    assert server.ask("GET", "/info/").status_code == 200


def test_commands_of_the_page_run(server, pacs, make_radiograph, tmp_path):
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    data = make_radiograph((61, 83))
    data.save_as(tmp_path / "radiograph.dcm")
    places = {"http://127.0.0.1:8042": pacs[0].removesuffix("/dicom-web"), "http://127.0.0.1:8000": server.url}
    commands = [line for line in page_block("sh").splitlines() if line.startswith("curl ")]
    assert len(commands) == 5
    for command in commands:
        for old, new in {**places, "SERIES": data.SeriesInstanceUID, "curl ": "curl --fail-with-body "}.items():
            command = command.replace(old, new)
        done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    mask = read_label_map(tmp_path / "mask.nii.gz")
    np.testing.assert_array_equal(pydicom.dcmread(tmp_path / "segmentation.dcm").pixel_array, mask)
    (seg,) = [seg for seg in segs(pacs[0]) if seg.StudyInstanceUID == data.StudyInstanceUID]
    np.testing.assert_array_equal(seg.pixel_array, mask)


def test_proxy_for_viewers_reaches_dicomweb_alone(server, pacs):
    """MONAI Label hands a viewer's questions on, with the server's own password."""
    root = pacs[0].removesuffix("/dicom-web")
    assert requests.get(f"{root}/system", timeout=30).ok
    for operation in ("qido", "wado"):
        assert len(server.ask("GET", f"/proxy/dicom/{operation}/series").json()) >= 5
        for path in ("%2e%2e/system", "%252e%252e/system", "..%2fsystem", "studies/..%2f..%2fsystem", "..%5csystem"):
            answer = server.ask("GET", f"/proxy/dicom/{operation}/{path}")
            assert answer.status_code == 404, (path, answer.text)


def test_nothing_of_a_patient_is_in_logs_or_list(server):
    """Last of all, when everything was asked."""
    assert CANARY not in server.logs()
    assert "segmentation:" in server.logs()
    (listed,) = (server.app_dir / "dicomweb").glob("*/datastore_v2.json")
    assert CANARY not in listed.read_text()
    assert "SeriesInstanceUID" in listed.read_text()
