# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""The datastore of a PACS, with a server of DICOMweb that lives in memory."""

from __future__ import annotations

import os
import shutil
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from fastapi import HTTPException

from monai_mgca.io.geometry import Geometry, read_geometry, read_label_map, write_label_map
from monai_mgca.label.store.dicom_seg import read_segmentation, segment_names, write_segmentation
from monai_mgca.label.store.pacs_client import Pacs, _filters, is_uid
from monai_mgca.label.store.pacs_datastore import RadiographDICOMWebDatastore, connect
from monai_mgca.label.store.pacs_endpoints import RESOURCE, result_as_segmentation
from monai_mgca.transforms import LoadRadiograph
from monai_mgca.utils import DataError

pydicom = pytest.importorskip("pydicom")
requests = pytest.importorskip("requests")

CANARY = "Canarywordium"


class FakeClient:
    """What a DICOMweb client can do, on a list of datasets."""

    base_url = "http://pacs.example/dicom-web"

    def __init__(self, *kept):
        self.kept, self.asked, self.down, self.refuses = list(kept), [], False, False

    def _found(self, name, filters):
        self.asked.append(name)
        if self.down:
            raise requests.ConnectionError(f"http://pacs.example/{CANARY}")
        return [one for one in self.kept if all(str(one.get(key)) == value for key, value in filters.items())]

    def search_for_series(self, search_filters):
        series = {one.SeriesInstanceUID: one for one in self._found("series", search_filters)}
        return [self._json(one) for one in series.values()]

    def search_for_instances(self, study, series):
        return [self._json(one) for one in self._found("instances", {"SeriesInstanceUID": series})]

    def retrieve_series_metadata(self, study, series):
        return [self._json(one) for one in self._found("metadata", {"SeriesInstanceUID": series})]

    def retrieve_instance(self, study, series, instance):
        (one,) = self._found("instance", {"SeriesInstanceUID": series, "SOPInstanceUID": instance})
        return one

    def store_instances(self, datasets):
        answer = pydicom.Dataset()
        if self.refuses:
            failed = pydicom.Dataset()
            failed.FailureReason = 0xA700
            answer.FailedSOPSequence = [failed]
            return answer
        for data in datasets:
            buffer = BytesIO()
            pydicom.dcmwrite(buffer, data)
            buffer.seek(0)
            self.kept.append(pydicom.dcmread(buffer))
        return answer

    def _json(self, data):
        return {key: value for key, value in data.to_json_dict().items() if key != "7FE00010"}


@pytest.fixture
def open_store(tmp_path):
    def open_store(client, filters=({"Modality": "CR"}, {"Modality": "DX"}), lifetime=0.0):
        return RadiographDICOMWebDatastore(Pacs(client, filters, lifetime), tmp_path / "cache")

    return open_store


def refused(code, attempt, message=""):
    with pytest.raises(HTTPException, match=message) as error:
        attempt()
    assert error.value.status_code == code
    assert CANARY not in error.value.detail
    return error.value.detail


def mask_of(size, *values):
    """(H, W), a block of each value."""
    mask = np.zeros(size[::-1], np.uint8)
    for number, value in enumerate(values):
        mask[3 + 8 * number : 9 + 8 * number, 2 : 20 + number] = value
    return mask


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


def test_what_is_no_single_radiograph_is_told(open_store, make_radiograph):
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


def test_mask_goes_to_the_pacs_and_comes_back(open_store, make_radiograph, tmp_path):
    data = make_radiograph((31, 47), patient=CANARY)
    client, uid = FakeClient(data), data.SeriesInstanceUID
    store = open_store(client)
    mask = mask_of((31, 47), 2, 3)
    write_label_map(mask, read_geometry(store.get_image_uri(uid)), tmp_path / "mask.nrrd")
    names = [{"name": "lung", "idx": 2}, {"name": "heart", "idx": 1}, {"name": "effusion", "idx": 3}]
    assert store.get_unlabeled_images() == [uid]
    assert store.save_label(uid, str(tmp_path / "mask.nrrd"), "final", {"label_info": names}) == uid
    seg = client.kept[-1]
    assert (seg.Modality, seg.StudyInstanceUID, seg.PatientID) == ("SEG", data.StudyInstanceUID, CANARY)
    reference = seg.ReferencedSeriesSequence[0]
    assert reference.SeriesInstanceUID == uid
    assert reference.ReferencedInstanceSequence[0].ReferencedSOPInstanceUID == data.SOPInstanceUID
    for frame in seg.PerFrameFunctionalGroupsSequence:
        source = frame.DerivationImageSequence[0].SourceImageSequence[0]
        assert source.ReferencedSOPInstanceUID == data.SOPInstanceUID
        assert source.SpatialLocationsPreserved == "YES"
    assert [segment.SegmentLabel for segment in seg.SegmentSequence] == ["heart", "lung", "effusion"]
    np.testing.assert_array_equal(seg.pixel_array, [mask == number for number in (1, 2, 3)])
    assert store.get_labeled_images() == [uid]
    assert store.get_unlabeled_images() == []
    (pair,) = store.datalist()
    assert pair == {"image": store.get_image_uri(uid), "label": store.get_label_uri(uid, "final")}
    np.testing.assert_array_equal(read_label_map(pair["label"]), mask)
    np.testing.assert_allclose(read_geometry(pair["label"]).affine, read_geometry(pair["image"]).affine, atol=1e-6)
    assert sorted(store.get_label_info(uid, "final")["label_info"], key=lambda row: row["idx"]) == [
        {"name": "heart", "idx": 1},
        {"name": "lung", "idx": 2},
        {"name": "effusion", "idx": 3},
    ]
    refused(403, lambda: store.remove_label(uid, "final"), "PACS")


def test_the_newest_mask_counts_also_an_empty_one(open_store, make_radiograph, tmp_path):
    data = make_radiograph((20, 30))
    store = open_store(FakeClient(data))
    geometry = read_geometry(store.get_image_uri(data.SeriesInstanceUID))
    for mask in (mask_of((20, 30), 1), mask_of((20, 30), 5), mask_of((20, 30))):
        write_label_map(mask, geometry, tmp_path / "mask.nii.gz")
        store.save_label(data.SeriesInstanceUID, str(tmp_path / "mask.nii.gz"), "final", {})
        np.testing.assert_array_equal(read_label_map(store.get_label_uri(data.SeriesInstanceUID, "final")), mask)
        assert store.get_label_info(data.SeriesInstanceUID, "final") == {"label_info": []}


def test_boxes_and_other_tags_stay_here(open_store, make_radiograph, tmp_path):
    data = make_radiograph((20, 30), SeriesInstanceUID="1.2.840.7")  # ".7.json" is no ending
    client, uid = FakeClient(data), data.SeriesInstanceUID
    store = open_store(client)
    (tmp_path / "boxes.json").write_text('{"markups": []}')
    write_label_map(mask_of((20, 30), 1), read_geometry(store.get_image_uri(uid)), tmp_path / "mask.nii.gz")
    store.save_label(uid, str(tmp_path / "mask.nii.gz"), "original", {})
    assert store.get_labeled_images() == []
    assert store.datalist() == []
    store.save_label(uid, str(tmp_path / "boxes.json"), "final", {})
    assert store.get_labeled_images() == [uid]
    assert len(client.kept) == 1
    store.save_label(uid, str(tmp_path / "mask.nii.gz"), "final", {})
    assert len(client.kept) == 2
    assert [os.path.splitext(pair["label"])[1] for pair in store.datalist()] == [".gz", ".json"]
    assert store.get_label_uri(uid, "original").endswith(f"original/{uid}.nii.gz")
    refused(400, lambda: store.save_label(uid, str(tmp_path / "boxes.json"), "../x", {}), "tag")
    store.save_label(uid, str(tmp_path / "boxes.json"), "original", {})  # takes the mask's place, and goes
    assert store.get_label_uri(uid, "original").endswith(f"original/{uid}.json")
    store.remove_label(uid, "original")
    assert not store.get_label_uri(uid, "original")
    assert not list(tmp_path.rglob(f"original/{uid}.*"))
    (tmp_path / "boxes.json").write_text("{}")
    refused(400, lambda: store.save_label(uid, str(tmp_path / "boxes.json"), "final", {}), "no 'markups'")


def test_raw_bytes_of_ohif_are_a_mask(open_store, make_radiograph, tmp_path):
    data = make_radiograph((21, 33))
    store = open_store(FakeClient(data))
    mask = mask_of((21, 33), 1)
    mask.tofile(tmp_path / "label.bin")
    store.save_label(data.SeriesInstanceUID, str(tmp_path / "label.bin"), "final", {})
    np.testing.assert_array_equal(read_label_map(store.get_label_uri(data.SeriesInstanceUID, "final")), mask)


def test_labels_that_do_not_fit_are_refused_and_nothing_is_sent(open_store, make_radiograph, tmp_path):
    data = make_radiograph((20, 30))
    client = FakeClient(data)
    store = open_store(client)
    good = tmp_path / "good.nii.gz"
    write_label_map(mask_of((20, 30), 1), Geometry((20, 30), np.eye(4)), good)
    write_label_map(mask_of((30, 20), 1), Geometry((30, 20), np.eye(4)), tmp_path / "turned.nii.gz")
    write_label_map(mask_of((20, 30), 1).astype(np.int16) * 300, Geometry((20, 30), np.eye(4)), tmp_path / "high.nrrd")
    (tmp_path / "short.bin").write_bytes(b"1")
    for name, message in (("turned.nii.gz", "its radiograph"), ("high.nrrd", "1 to 255"), ("short.bin", "cannot")):
        refused(
            400, lambda name=name: store.save_label(data.SeriesInstanceUID, str(tmp_path / name), "final", {}), message
        )
    for wrong in ("lung", [{"idx": 1}], [{"name": "lung", "idx": 0}], {"name": "lung"}):
        refused(
            400,
            lambda wrong=wrong: store.save_label(data.SeriesInstanceUID, str(good), "final", {"label_info": wrong}),
            "label_info",
        )
    assert len(client.kept) == 1
    client.refuses = True
    refused(502, lambda: store.save_label(data.SeriesInstanceUID, str(good), "final", {}), "A700")


def test_masks_of_others_that_cannot_be_used_are_left_out(open_store, make_radiograph, tmp_path, caplog):
    data = make_radiograph((20, 30))
    client = FakeClient(data)
    store = open_store(client)
    write_label_map(
        mask_of((20, 30), 1), read_geometry(store.get_image_uri(data.SeriesInstanceUID)), tmp_path / "m.nrrd"
    )
    store.save_label(data.SeriesInstanceUID, str(tmp_path / "m.nrrd"), "final", {})
    client.kept[-1].SegmentationType = "FRACTIONAL"
    assert store.datalist() == []
    assert data.SeriesInstanceUID in caplog.text
    refused(400, lambda: store.get_label_uri(data.SeriesInstanceUID, "final"), "FRACTIONAL")


def test_a_result_becomes_a_segmentation(open_store, make_radiograph, tmp_path):
    data = make_radiograph((31, 47))
    path = open_store(FakeClient(data)).get_image_uri(data.SeriesInstanceUID)
    mask = mask_of((31, 47), 1)
    write_label_map(mask, read_geometry(path), tmp_path / "m.nii.gz")
    folder = path.removesuffix(".nii.gz")
    seg = pydicom.dcmread(result_as_segmentation(folder, str(tmp_path / "m.nii.gz"), [{"name": "lung"}], use_itk=True))
    np.testing.assert_array_equal(read_segmentation(seg, (31, 47)), mask)
    assert seg.SegmentSequence[0].SegmentAlgorithmType == "AUTOMATIC"
    for label in (None, "boxes.json"):
        refused(400, lambda label=label: result_as_segmentation(folder, label, []), "masks")


def test_segmentation_of_any_reader(make_radiograph):
    """The frames and their geometry as the reader of MONAI Label's own environment understands them."""
    pydicom_seg = pytest.importorskip("pydicom_seg")
    data = make_radiograph((31, 47))
    mask = mask_of((31, 47), 4, 1)
    seg = write_segmentation(mask, data, Geometry((31, 47), np.diag([0.143, 1 / 3, 1, 1])), ["a", "b"])
    found = pydicom_seg.MultiClassReader().read(seg)
    np.testing.assert_array_equal(found.data[0], mask)
    np.testing.assert_allclose(found.spacing, [0.143, 1 / 3, 1])
    assert [segment.SegmentLabel for segment in seg.SegmentSequence] == ["a", "b", "segment 3", "segment 4"]
    again = write_segmentation(mask, data, Geometry((31, 47), np.eye(4)))
    assert again.FrameOfReferenceUID == seg.FrameOfReferenceUID
    assert again.SOPInstanceUID != seg.SOPInstanceUID


def test_segmentation_refuses_what_it_cannot_read(make_radiograph):
    seg = write_segmentation(mask_of((20, 30), 1, 2), make_radiograph((20, 30)), Geometry((20, 30), np.eye(4)))
    with pytest.raises(DataError, match="20 x 30, its radiograph 30 x 20"):
        read_segmentation(seg, (30, 20))
    del seg.PerFrameFunctionalGroupsSequence[0].SegmentIdentificationSequence
    with pytest.raises(DataError, match="do not name their segments"):
        read_segmentation(seg, (20, 30))
    seg.PixelData = b"\0"
    with pytest.raises(DataError, match="cannot be read"):
        read_segmentation(seg, (20, 30))


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


def test_names_follow_their_numbers():
    assert segment_names(None) == [] == segment_names([])
    assert segment_names([{"name": "a"}, {"name": "b"}]) == ["a", "b"]
    assert segment_names([{"name": "c", "idx": 3}, {"name": "a", "idx": "1"}]) == ["a", "segment 2", "c"]


def test_a_pacs_that_is_down_is_told(open_store, make_radiograph):
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
