# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""A live server before the CT series of a real PACS, Orthanc: all that a client asks of it."""

from __future__ import annotations

import itertools
import json
from io import BytesIO

import nibabel
import numpy as np
import pytest

from monai_mgca.io.volumes.volume_geometry import read_volume_geometry, write_volume
from monai_mgca.io.volumes.volume_labels import read_volume_labels
from monai_mgca.label.store.volume_markups import read_volume_markups
from monai_mgca.label.store.volume_seg import read_volume_segmentation
from monai_mgca.transforms import LoadVolume

from .served_studies import CANARY
from .test_orthanc import orthanc, segs  # noqa: F401  a fixture
from .test_volume_server import REPORT, sent
from .volume_studies import SIZE, SPACING, draw_ct

pydicom = pytest.importorskip("pydicom")
dicomweb_client = pytest.importorskip("dicomweb_client")
LUNG = [{"name": "lung", "idx": 1}]


@pytest.fixture(scope="module")
def series(orthanc, write_series, tmp_path_factory):  # noqa: F811
    """The folders of three series that the PACS has, by their UIDs; each lies elsewhere."""
    folder, found = tmp_path_factory.mktemp("series"), {}
    for seed in range(3):
        one = write_series(folder / str(seed), draw_ct(seed), SPACING, (-160 - seed, -150, -130 + 7 * seed))
        data = [pydicom.dcmread(path) for path in sorted(one.iterdir())]
        dicomweb_client.DICOMwebClient(orthanc).store_instances(data)
        found[data[0].SeriesInstanceUID] = one
    return found


@pytest.fixture(scope="module")
def running(start_server, orthanc, series, volume_bundle, tmp_path_factory):  # noqa: F811
    reports = tmp_path_factory.mktemp("reports")
    for uid in series:
        (reports / f"{uid}.txt").write_text(REPORT)
    return start_server(orthanc, volume_bundle, "--reports", str(reports))


def test_it_lists_the_series(running, series):
    info = running.ask("GET", "/info/").json()
    assert list(info["models"]) == ["segmentation", "detection", "classification", "grounding"]
    assert {model["dimension"] for model in info["models"].values()} == {3}
    assert (info["datastore"]["total"], info["datastore"]["completed"]) == (3, 0)
    assert set(running.ask("GET", "/datastore/?output=all").json()["objects"]) == set(series)


CORNERS = np.array(list(itertools.product(*((0, size - 1) for size in SIZE))))


def places_by_nibabel(path):
    """(8, 3) of the corner voxels, in the units of one voxel."""
    return nibabel.affines.apply_affine(nibabel.load(path).affine, CORNERS) / SPACING


def places_by_itk(image):
    return [image.TransformIndexToPhysicalPoint(corner.tolist()) / np.array(SPACING) for corner in CORNERS]


def test_masks_lie_where_the_series_lies(running, series, tmp_path):
    """Within half a voxel, by nibabel and by SimpleITK, which reads the series by itself; it is a thousandth."""
    sitk = pytest.importorskip("SimpleITK")
    for uid, folder in series.items():
        image = sent(tmp_path, "image.nii.gz", running.ask("GET", f"/datastore/image?image={uid}"))
        read, reader = LoadVolume()(folder), sitk.ImageSeriesReader()
        np.testing.assert_array_equal(nibabel.load(image).get_fdata(), read[0].numpy())
        own = nibabel.affines.apply_affine(read.affine.numpy(), CORNERS) / SPACING
        np.testing.assert_allclose(places_by_nibabel(image), own, atol=1e-3)
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
        place = reader.Execute()
        np.testing.assert_array_equal(sitk.GetArrayFromImage(place).T, read[0].numpy())
        for model, params in (("segmentation", {}), ("grounding", {"text": "left pleural effusion"})):
            usual = sent(tmp_path, "mask.nii.gz", running.infer(model, uid, "image", **params))
            np.testing.assert_allclose(places_by_nibabel(usual), own, atol=1e-3)
            answer = running.infer(model, uid, "image", result_extension=".nrrd", **params)
            mask = sitk.ReadImage(str(sent(tmp_path, "mask.nrrd", answer)))
            assert mask.GetSize() == place.GetSize() == SIZE
            np.testing.assert_allclose(places_by_itk(mask), places_by_itk(place), atol=1e-3)
            values = sitk.GetArrayFromImage(mask).T
            assert 0 < (values > 0).mean() < 1
            np.testing.assert_array_equal(nibabel.load(usual).get_fdata(), values)


def test_boxes_and_classes_of_the_series(running, series, tmp_path):
    for uid, folder in series.items():
        geometry = read_volume_geometry(folder)
        result = running.infer("detection", uid, score_threshold=0.5).json()
        markups = sent(tmp_path, "boxes.json", running.infer("detection", uid, "image", score_threshold=0.5))
        boxes, names = read_volume_markups(markups, geometry)
        assert len(boxes) > 0
        assert names == result["label_name"]
        np.testing.assert_allclose(boxes, result["box_mm"], atol=0.02)
        least, greatest = geometry.bounds
        assert (boxes[:, :3] >= least - 0.1).all()
        assert (boxes[:, 3:] <= greatest + 0.1).all()
        assert len(running.infer("classification", uid).json()["prediction"]) == 2


def test_a_result_as_dicom_seg_is_the_mask(running, series, orthanc, tmp_path):  # noqa: F811
    for uid, folder in series.items():
        answer = running.infer("segmentation", uid, "dicom_seg", label_info=LUNG)
        assert answer.status_code == 200, answer.text
        seg, geometry = pydicom.dcmread(BytesIO(answer.content)), read_volume_geometry(folder)
        mask = sent(tmp_path, "mask.nii.gz", running.infer("segmentation", uid, "image"))
        np.testing.assert_array_equal(read_volume_segmentation(seg, geometry), read_volume_labels(mask, geometry))
        assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == uid
    assert segs(orthanc) == []  # an answer is not stored


def test_saved_labels_are_segs_and_train_what_is_served(running, series, orthanc, tmp_path):  # noqa: F811
    masks = {}
    for uid in series:
        image = sent(tmp_path, "image.nii.gz", running.ask("GET", f"/datastore/image?image={uid}"))
        values, geometry = nibabel.load(image).get_fdata(), read_volume_geometry(image)
        masks[uid] = np.asfortranarray((values > -920) & (values < -780)).astype(np.uint8)
        write_volume(masks[uid], geometry, tmp_path / "label.nrrd")
        files = {"label": ("label.nrrd", (tmp_path / "label.nrrd").read_bytes())}
        params = {"params": json.dumps({"label_info": LUNG})}
        answer = running.ask("PUT", f"/datastore/label?image={uid}&tag=final", data=params, files=files)
        assert answer.status_code == 200, answer.text
        assert answer.json()["label"] == uid
        back = sent(tmp_path, "back.nii.gz", running.ask("GET", f"/datastore/label?label={uid}&tag=final"))
        np.testing.assert_array_equal(read_volume_labels(back, geometry), masks[uid])
    stored = {seg.ReferencedSeriesSequence[0].SeriesInstanceUID: seg for seg in segs(orthanc)}
    assert set(stored) == set(series)
    for uid, seg in stored.items():
        assert seg.PatientID == "patient-canary"  # that of the series
        found = read_volume_segmentation(seg, read_volume_geometry(series[uid]))
        np.testing.assert_array_equal(found, masks[uid])
    assert running.ask("GET", "/datastore/").json()["completed"] == 3
    body = {"max_epochs": 1, "classes": "lung", "val_split": 0.4, "device": "cpu"}
    answer = running.ask("POST", "/train/segmentation?run_sync=true", json=body)
    assert answer.status_code == 200, answer.text
    stats = running.ask("GET", "/info/").json()["train_stats"]["segmentation"]
    assert (stats["epoch"], stats["new_weights"]) == (1, True)
    assert running.infer("segmentation", uid).json()["label_names"] == {"lung": 1}


def test_nothing_of_a_patient_is_logged(running):
    """Last of all, when everything was asked."""
    assert (logs := running.logs())
    assert not any(word in logs for word in (CANARY, "patient-canary", "Doe"))
    (listed,) = (running.app_dir / "dicomweb").glob("*/datastore_v2.json")
    assert "Doe" not in listed.read_text()
    assert "SeriesInstanceUID" in listed.read_text()
