# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""The radiographs of a PACS, from a server of DICOMweb that lives in memory."""

from __future__ import annotations

import os
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from monai_mgca.io.geometry import read_geometry
from monai_mgca.label.store.pacs_client import _filters, is_uid
from monai_mgca.label.store.pacs_datastore import connect
from monai_mgca.label.store.pacs_endpoints import RESOURCE, result_as_segmentation
from monai_mgca.transforms import LoadRadiograph
from monai_mgca.utils import DataError

from .fake_pacs import CANARY, FakeClient, open_pacs, refused

pydicom = pytest.importorskip("pydicom")


@pytest.fixture
def open_store(tmp_path):
    return partial(open_pacs, tmp_path / "cache")


def test_default_filter_stands_for_radiographs():
    assert _filters({"Modality": "CT"}) == [{"Modality": "CR"}, {"Modality": "DX"}]
    assert _filters({"Modality": "DX"}) == [{"Modality": "DX"}]
    assert _filters({"Modality": ["RG", "XA"], "StudyDate": "2020"}) == [
        {"Modality": "RG", "StudyDate": "2020"},
        {"Modality": "XA", "StudyDate": "2020"},
    ]


def test_lists_radiographs_alone_and_soon_those_that_come(open_store, make_radiograph):
    kept = [make_radiograph(Modality=name) for name in ("CR", "DX", "CT")]
    client = FakeClient(*kept)
    store = open_store(client, lifetime=1000)
    cr, dx, ct = (one.SeriesInstanceUID for one in kept)
    assert store.list_images() == [cr, dx] == store.list_images()
    assert client.asked == ["series", "series"]  # one question a modality, remembered
    new = make_radiograph()
    client.kept.append(new)
    assert store.knows(new.SeriesInstanceUID)
    assert new.SeriesInstanceUID in store.list_images()
    assert not store.knows(ct)
    assert not store.knows("1.2.3")
    assert set(store.json()["objects"]) == {cr, dx, new.SeriesInstanceUID}
    client.kept.append(make_radiograph())
    assert len(store.list_images()) == 3
    assert len(open_store(client).list_images()) == 4


@pytest.mark.parametrize("size", [(31, 47), (48, 33), (16, 16)])
def test_image_is_kept_as_it_is_displayed(open_store, make_radiograph, size, tmp_path):
    values = np.random.default_rng(1).integers(0, 255, size[::-1], dtype=np.uint8)
    values[0, :2] = 0, 255
    for name, stored in (("MONOCHROME2", values), ("MONOCHROME1", 255 - values)):
        data = make_radiograph(values=stored, PhotometricInterpretation=name)
        path = open_store(FakeClient(data)).get_image_uri(data.SeriesInstanceUID)
        assert path.endswith(f"{data.SeriesInstanceUID}.nii.gz")
        np.testing.assert_array_equal(LoadRadiograph()(path)[0].numpy(), values)
        place = read_geometry(path)
        assert place.size == size
        np.testing.assert_allclose(place.affine, np.diag([0.2, 0.3, 1, 1]), atol=1e-6)
        data.save_as(tmp_path / "same.dcm")
        np.testing.assert_allclose(place.affine, read_geometry(tmp_path / "same.dcm").affine, atol=1e-6)


def test_window_is_applied(open_store, make_radiograph):
    values = np.tile(np.arange(60, 140, 2, dtype=np.uint8), (21, 1))  # leaves some of the displayed range unused
    data = make_radiograph(values=values, WindowCenter="100.5", WindowWidth="101")
    path = open_store(FakeClient(data)).get_image_uri(data.SeriesInstanceUID)
    expected = np.clip((values - 50.0) / 100, 0, 1) * 255
    np.testing.assert_allclose(LoadRadiograph()(path)[0].numpy(), expected, atol=0.501)  # in whole gray levels


def test_image_is_fetched_once(open_store, make_radiograph):
    data = make_radiograph()
    client = FakeClient(data)
    store = open_store(client)
    path = store.get_image_uri(data.SeriesInstanceUID)
    store.get_image_uri(data.SeriesInstanceUID)
    open_store(client).get_image_uri(data.SeriesInstanceUID)
    assert client.asked.count("instance") == 1
    assert sorted(os.listdir(os.path.dirname(path) + "/" + data.SeriesInstanceUID)) == [".lock", "image.dcm"]


def test_what_is_no_single_radiograph_is_refused(open_store, make_radiograph):
    first = make_radiograph()
    second = make_radiograph(SeriesInstanceUID=first.SeriesInstanceUID, StudyInstanceUID=first.StudyInstanceUID)
    store = open_store(FakeClient(first, second))
    refused(400, lambda: store.get_image_uri(first.SeriesInstanceUID), f"{first.SeriesInstanceUID} holds 2 images")
    for tags, message in (({"NumberOfFrames": 2}, "2 frames"), ({"PhotometricInterpretation": "RGB"}, "RGB")):
        data = make_radiograph(patient=CANARY, **tags)
        store = open_store(FakeClient(data))
        detail = refused(400, lambda uid=data.SeriesInstanceUID: store.get_image_uri(uid), message)  # noqa: B023
        assert data.SeriesInstanceUID in detail
        assert not list(store.work_dir.parent.glob("*.nii.gz"))


@pytest.mark.parametrize("name", ["1.2.3", "../1.2", "1.2/../../x", "/etc/passwd", "", ".", "..", "1.2\n", "1..2"])
def test_unknown_ids_are_refused(open_store, make_radiograph, tmp_path, name):
    store = open_store(FakeClient(make_radiograph()))
    before = sorted(tmp_path.rglob("*"))
    for attempt in (
        lambda: store.get_image_uri(name),
        lambda: store.get_image_info(name),
        lambda: store.update_image_info(name, {}),
        lambda: store.save_label(name, "x.nii.gz", "final", {}),
        lambda: store.remove_image(name),
    ):
        refused(404, attempt, "There is no image")
    assert store.get_label_uri(name, "final") == ""
    assert sorted(tmp_path.rglob("*")) == before


def test_only_uids_are_names_of_files(open_store, make_radiograph):
    assert is_uid("1.2.840.10008.1")
    assert not any(map(is_uid, ("1.2/3", "1", "1.2.", "0" * 65, None, "1.2.x", "-1.2")))
    strange = make_radiograph()
    strange.SeriesInstanceUID = pydicom.uid.UID("../../1.2")
    assert open_store(FakeClient(strange)).list_images() == []


def test_radiographs_are_the_pacs_own(open_store, make_radiograph):
    data = make_radiograph()
    store = open_store(FakeClient(data))
    refused(403, lambda: store.add_image("1.2.3", "x.png", {}), "PACS")
    refused(403, lambda: store.remove_image(data.SeriesInstanceUID), "PACS")


def test_nothing_of_the_patient_is_in_list_and_image(open_store, make_radiograph):
    data = make_radiograph(patient=CANARY)
    store = open_store(FakeClient(data))
    info = store.get_image_info(data.SeriesInstanceUID)
    store.update_image_info(data.SeriesInstanceUID, {"note": 1})
    assert set(info) == {"name", "path", "SeriesInstanceUID", "StudyInstanceUID", "Modality"}
    assert store.get_image_info(data.SeriesInstanceUID)["note"] == 1
    for path in store.work_dir.parent.rglob("*"):
        if path.is_file() and path.name != "image.dcm":
            assert CANARY.encode() not in path.read_bytes()
    assert store.work_dir.parent.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("kind", ["link", "open", "open parent"])
def test_others_cannot_write_where_radiographs_are_kept(open_store, make_radiograph, tmp_path, kind):
    folder = Path(open_store(FakeClient(make_radiograph())).work_dir).parent
    (folder.parent / "elsewhere").mkdir()
    if kind == "link":
        shutil.rmtree(folder)
        folder.symlink_to(folder.parent / "elsewhere")
    else:
        (folder if kind == "open" else folder.parent).chmod(0o777)
    with pytest.raises(DataError, match="MONAI_LABEL_DICOMWEB_CACHE_PATH"):
        open_store(FakeClient(make_radiograph()))
    assert not list((folder.parent / "elsewhere").iterdir())
    if kind == "open parent":  # as /tmp is: nobody can move what is another's
        folder.parent.chmod(0o1777)
        open_store(FakeClient(make_radiograph()))


def test_addresses_that_are_handed_on():
    for path in ("studies", "studies/1.2/series/1.3/instances/1.4/frames/1,2", "/series/", "studies/1.2/rendered"):
        assert RESOURCE.fullmatch(path)
    for path in (
        "../system",
        "studies/../../system",
        "%2e%2e/system",
        "..",
        ".",
        "a\\..\\b",
        "a?b",
        "a\n",
        "studies//x",
        "system",
        "servers/other/retrieve",  # what Orthanc has besides
    ):
        assert not RESOURCE.fullmatch(path)


def test_a_pacs_that_is_down_is_named(open_store, make_radiograph):
    data = make_radiograph()
    client = FakeClient(data)
    store = open_store(client)
    client.down = True
    for attempt in (store.list_images, store.get_labeled_images, lambda: store.get_image_uri(data.SeriesInstanceUID)):
        refused(502, attempt, "does not answer")
    client.down = False
    assert store.list_images() == [data.SeriesInstanceUID]


def test_connects_as_the_variables_of_monai_label_say(tmp_path, monkeypatch):
    from monailabel.config import settings
    from monailabel.endpoints import infer

    values = {"DICOMWEB_USERNAME": "me", "DICOMWEB_PASSWORD": "secret", "QIDO_PREFIX": "q", "DICOMWEB_CACHE_EXPIRY": 5}
    values["DICOMWEB_SEARCH_FILTER"] = {"Modality": "RG"}
    for name, value in values.items():
        monkeypatch.setattr(settings, f"MONAI_LABEL_{name}", value)
    monkeypatch.setattr(infer, "nifti_to_dicom_seg", None)
    store = connect("http://127.0.0.1:1/dicom-web/", tmp_path)
    assert store.name() == "http://127.0.0.1:1/dicom-web"
    assert store.pacs.lifetime == 5
    assert store.pacs.filters == [{"Modality": "RG"}]
    assert store._client._session.auth == ("me", "secret")
    assert infer.nifti_to_dicom_seg is result_as_segmentation
    refused(502, store.list_images, "does not answer")
