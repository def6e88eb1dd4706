# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""Masks go to the PACS as segmentations and come back; boxes and other labels stay here."""

from __future__ import annotations

import os
from functools import partial

import numpy as np
import pytest

from monai_mgca.io.geometry import Geometry, read_geometry, read_label_map, write_label_map
from monai_mgca.label.store.dicom_seg import read_segmentation, segment_names, write_segmentation
from monai_mgca.label.store.pacs_endpoints import result_as_segmentation
from monai_mgca.utils import DataError

from .fake_pacs import CANARY, FakeClient, mask_of, open_pacs, refused

pydicom = pytest.importorskip("pydicom")


@pytest.fixture
def open_store(tmp_path):
    return partial(open_pacs, tmp_path / "cache")


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


def test_names_follow_their_numbers():
    assert segment_names(None) == [] == segment_names([])
    assert segment_names([{"name": "a"}, {"name": "b"}]) == ["a", "b"]
    assert segment_names([{"name": "c", "idx": 3}, {"name": "a", "idx": "1"}]) == ["a", "segment 2", "c"]
