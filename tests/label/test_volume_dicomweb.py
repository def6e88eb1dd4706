# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""The CT series of a PACS, from a server of DICOMweb that lives in memory; masks go there and come back."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from pathlib import Path

import nibabel
import numpy as np
import pytest

from monai_mgca.io.volumes.volume_geometry import read_volume_geometry, write_volume
from monai_mgca.io.volumes.volume_labels import read_volume_labels
from monai_mgca.label.store import pacs_volumes
from monai_mgca.label.store.pacs_client import Pacs, _filters
from monai_mgca.label.store.pacs_endpoints import result_as_segmentation
from monai_mgca.label.store.pacs_volumes import VolumeDICOMWebDatastore
from monai_mgca.label.store.volume_seg import read_volume_segmentation
from monai_mgca.transforms import LoadVolume
from monai_mgca.utils import DataError

from .fake_pacs import FakeClient, refused
from .volume_studies import SPACING, draw_ct

pydicom = pytest.importorskip("pydicom")
CANARY = "canary"
NAMES = [{"name": name, "idx": number} for number, name in enumerate(("lung", "heart", "nodule"), 1)]


class Client(FakeClient):
    """As of radiographs, and gives whole series."""

    def iter_series(self, study, series, media_types):
        yield from self._found("series whole", {"SeriesInstanceUID": series})


@pytest.fixture
def make_series(write_series, tmp_path):
    """Makes the datasets of a series of its own, in no order, and gives its folder too."""

    def make(seed=0, slices=7):
        folder = write_series(tmp_path / f"sent{seed}", draw_ct(seed)[:, :, :slices], SPACING, (-150, -150, 7))
        return [pydicom.dcmread(path) for path in sorted(folder.iterdir())], folder

    return make


@pytest.fixture
def open_store(tmp_path):
    def make(client, filters=({"Modality": "CT"},)):
        return VolumeDICOMWebDatastore(Pacs(client, filters, 0.0), tmp_path / "cache")

    return partial(make)


def mask_of(size, *values):
    """(X, Y, Z), a block of each value, each in slices of its own and in one of all."""
    labels = np.zeros(size, np.uint8, order="F")
    for place, value in enumerate(values):
        labels[3 + 8 * place : 9 + 8 * place, 2 : 20 + place, place : place + 3] = value
    return labels


def test_default_filter_is_ct():
    assert _filters({"Modality": "CT"}, 3) == [{"Modality": "CT"}]
    assert _filters({"Modality": ["CT", "MR"]}, 3) == [{"Modality": "CT"}, {"Modality": "MR"}]


def test_a_series_is_fetched_once_and_kept_in_hounsfield_units(open_store, make_series):
    kept, folder = make_series()
    client, uid = Client(*kept), kept[0].SeriesInstanceUID
    store = open_store(client)
    assert store.list_images() == [uid]
    path = store.get_image_uri(uid)
    assert path.endswith(f"{uid}.nii.gz")
    np.testing.assert_array_equal(nibabel.load(path).get_fdata(), draw_ct(0)[:, :, :7])
    np.testing.assert_allclose(nibabel.load(path).affine, LoadVolume()(folder).affine.numpy(), atol=1e-4)
    for again in (store, open_store(client)):
        assert again.get_image_uri(uid) == path
        assert again.image_state(uid) == uid
    assert client.asked.count("series whole") == 1
    left = Path(path.removesuffix(".nii.gz"))
    headers = [f"{number:06d}.dcm" for number in range(7)]
    assert {file.name for file in left.iterdir()} == {".lock", "place.json", *headers}
    assert not any("PixelData" in pydicom.dcmread(left / name) for name in headers)
    assert os.stat(store.work_dir.parent).st_mode & 0o077 == 0


def test_masks_go_to_the_pacs_and_come_back(open_store, make_series, tmp_path):
    kept, _ = make_series()
    client, uid = Client(*kept), kept[0].SeriesInstanceUID
    store = open_store(client)
    geometry = read_volume_geometry(store.get_image_uri(uid))
    assert store.get_unlabeled_images() == [uid]
    for labels in (mask_of(geometry.size, 3, 1), mask_of(geometry.size), mask_of(geometry.size, 2)):
        write_volume(labels, geometry, tmp_path / "mask.nrrd")
        assert store.save_label(uid, str(tmp_path / "mask.nrrd"), "final", {"label_info": NAMES}) == uid
        (pair,) = store.datalist()
        assert (store.id_of(pair["image"]), pair["image"]) == (uid, store.get_image_uri(uid))
        np.testing.assert_array_equal(read_volume_labels(pair["label"], geometry), labels)
        assert store.get_label_info(uid, "final") == {"label_info": NAMES}
    assert store.get_labeled_images() == [uid]
    seg = client.kept[len(kept)]  # the first of them
    assert (seg.Modality, seg.StudyInstanceUID, seg.PatientID) == ("SEG", kept[0].StudyInstanceUID, "patient-canary")
    assert seg.FrameOfReferenceUID == kept[0].FrameOfReferenceUID
    assert seg.NumberOfFrames == 3 + 3
    places = {data.SOPInstanceUID: data.ImagePositionPatient for data in kept}
    first = mask_of(geometry.size, 3, 1)
    for frame, pixels in zip(seg.PerFrameFunctionalGroupsSequence, seg.pixel_array, strict=True):
        source = frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        place = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        np.testing.assert_allclose(place, np.array(places[source], dtype=float), atol=1e-6)
        number = frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        k = round((place[2] - 7) / SPACING[2])
        np.testing.assert_array_equal(pixels, number == first[..., k].T)


def test_a_result_as_dicom_seg(open_store, make_series, tmp_path):
    kept, _ = make_series()
    store, uid = open_store(Client(*kept)), kept[0].SeriesInstanceUID
    path = store.get_image_uri(uid)
    geometry = read_volume_geometry(path)
    labels = mask_of(geometry.size, 2, 1)
    write_volume(labels, geometry, tmp_path / "result.nii.gz")
    made = pydicom.dcmread(result_as_segmentation(path.removesuffix(".nii.gz"), str(tmp_path / "result.nii.gz"), NAMES))
    np.testing.assert_array_equal(read_volume_segmentation(made, geometry), labels)
    assert made.SegmentSequence[0].SegmentAlgorithmType == "AUTOMATIC"
    # as OHIF sends labels
    labels.T.tofile(tmp_path / "label.bin")
    store.save_label(uid, str(tmp_path / "label.bin"), "final", {})
    np.testing.assert_array_equal(read_volume_labels(store.get_label_uri(uid, "final"), geometry), labels)
    other = replace(geometry, size=(3, 4, 5), affine=geometry.affine @ np.diag([2, 1, 1, 1]), header=None)
    write_volume(np.zeros((3, 4, 5), np.uint8), other, tmp_path / "x.nrrd")
    refused(400, lambda: store.save_label(uid, str(tmp_path / "x.nrrd"), "final", {}), "The label cannot be saved")
    (tmp_path / "label.bin").write_bytes(b"x" * 9)
    refused(400, lambda: store.save_label(uid, str(tmp_path / "label.bin"), "final", {}), "The label cannot be saved")


def test_segmentations_of_others(open_store, make_series, tmp_path):
    kept, _ = make_series()
    client, uid = Client(*kept), kept[0].SeriesInstanceUID
    store = open_store(client)
    geometry = read_volume_geometry(store.get_image_uri(uid))
    write_volume(mask_of(geometry.size, 1), geometry, tmp_path / "mask.nrrd")
    store.save_label(uid, str(tmp_path / "mask.nrrd"), "final", {})
    seg = client.kept[-1]
    shared, frame = seg.SharedFunctionalGroupsSequence[0], seg.PerFrameFunctionalGroupsSequence[0]
    # the orientation may be each frame's own
    for one in seg.PerFrameFunctionalGroupsSequence:
        one.PlaneOrientationSequence = shared.PlaneOrientationSequence
    del shared.PlaneOrientationSequence
    np.testing.assert_array_equal(read_volume_segmentation(seg, geometry), mask_of(geometry.size, 1))
    place = frame.PlanePositionSequence[0]
    for position, reason in [([-150, -150, 12], "do not lie"), ([-150, -150, -400], "do not lie"), ([1], "be read")]:
        place.ImagePositionPatient = position
        with pytest.raises(DataError, match=reason):
            read_volume_segmentation(seg, geometry)
    place.ImagePositionPatient = [-150, -150, 7]
    frame.PlaneOrientationSequence[0].ImageOrientationPatient = [0, 1, 0, 1, 0, 0]
    with pytest.raises(DataError, match="another orientation"):
        read_volume_segmentation(seg, geometry)
    seg.SegmentationType = "FRACTIONAL"
    with pytest.raises(DataError, match="is FRACTIONAL"):
        read_volume_segmentation(seg, geometry)
    seg.NumberOfFrames, seg.SegmentationType = 2**30, "BINARY"
    with pytest.raises(DataError, match="bomb"):
        read_volume_segmentation(seg, geometry)
    seg.Rows = 5
    with pytest.raises(DataError, match="its slices 30 x 26"):
        read_volume_segmentation(seg, geometry)


def test_what_is_no_volume_is_refused_and_leaves_nothing(open_store, make_series, monkeypatch):
    kept, _ = make_series()
    uid = kept[0].SeriesInstanceUID
    for some, reason in [
        (kept[:1], "it is one slice"),
        ([*kept[:3], *kept[4:]], "slices are missing"),
        ([*kept, kept[0]], ""),
    ]:
        store = open_store(Client(*some))
        if reason:
            detail = refused(400, lambda store=store: store.get_image_uri(uid), f"{uid} is no volume: .*{reason}")
            assert "/cache/" not in detail
            assert [path.name for path in (store.work_dir.parent / uid).iterdir()] == [".lock"]
    monkeypatch.setattr(pacs_volumes, "MAX_VOXELS", 30 * 26 * 6)
    (store.work_dir.parent / f"{uid}.nii.gz").unlink(missing_ok=True)
    refused(400, lambda: store.get_image_uri(uid), "more than 4,680 voxels")
    client = Client(*kept)
    client.iter_series = lambda *_: iter([kept[0], pydicom.Dataset()])
    refused(502, lambda: open_store(client).get_image_uri(uid), "gives another series")
    client = Client(*kept)
    store = open_store(client)
    assert store.knows(uid)
    client.down = True
    refused(502, lambda: store.get_image_uri(uid), "does not answer")


def test_the_cache_has_a_limit(open_store, make_series, monkeypatch):
    series = [make_series(seed, 6)[0] for seed in range(3)]
    client = Client(*(one for some in series for one in some))
    store = open_store(client)
    uids = [some[0].SeriesInstanceUID for some in series]
    paths = [store.get_image_uri(uid) for uid in uids]
    sizes = list(map(os.path.getsize, paths))
    store.update_image_info(uids[0], {"x": 1})
    for number, path in enumerate(paths):
        os.utime(path, (number, number))
    monkeypatch.setenv("MGCA_PACS_CACHE", str((sizes[1] + sizes[2]) / 2**30))
    assert store.get_image_uri(uids[1]) == paths[1]
    assert list(map(os.path.getsize, paths)) == [0, *sizes[1:]]
    assert "path" not in store.get_image_info(uids[0])
    assert store.get_image_info(uids[0])["x"] == 1
    assert store.get_image_info(uids[1])["path"] == paths[1]
    assert client.asked.count("series whole") == 3
    assert store.get_image_uri(uids[0]) == paths[0]  # fetched again; the third was not used for the longest time
    assert client.asked.count("series whole") == 4
    assert os.path.getsize(paths[0]) == sizes[0]
    assert os.path.getsize(paths[2]) == 0
    assert set(store.list_images()) == set(uids)
