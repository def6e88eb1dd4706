# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""A folder of NIfTI volumes and of DICOM series: what is listed, kept, saved and refused."""

from __future__ import annotations

import json
import os
import shutil
import time
import zipfile

import nibabel
import numpy as np
import pytest
from fastapi import HTTPException

from monai_mgca.io.volumes.volume_geometry import read_volume_geometry, write_volume
from monai_mgca.label.store.file_state import file_state
from monai_mgca.label.store.saved_label import read_label
from monai_mgca.label.store.volume_datastore import VolumeDatastore
from monai_mgca.label.store.volume_endpoints import write_series_file
from monai_mgca.label.store.volume_markups import volume_boxes_to_markups
from monai_mgca.transforms import LoadVolume
from monai_mgca.utils import DataError

from .volume_studies import SPACING, draw_ct, save_nifti

SERIES = ("p1=chest", "p1=again=late", "p2")


@pytest.fixture
def place(tmp_path, write_series):
    """Two NIfTI volumes, three series, and what is neither."""
    folder = tmp_path / "studies"
    folder.mkdir()
    save_nifti(folder / "a.nii.gz", draw_ct(0), "LPS")
    save_nifti(folder / "b.nii", draw_ct(1), "PIR")
    for number, name in enumerate(SERIES):
        write_series(folder.joinpath(*name.split("=")), draw_ct(2 + number)[:, :, :5], SPACING, (-150, -150, 7))
    (folder / "a.txt").write_text("The report of a.")
    (folder / "p1" / "notes.txt").write_text("text")
    (folder / "empty").mkdir()
    (folder / "pictures").mkdir()
    (folder / "pictures" / "x.png").write_bytes(b"\x89PNG\r\n")
    save_nifti(folder / "pictures" / "deeper.nii.gz", draw_ct(9))
    return folder


@pytest.fixture
def save(tmp_path):
    """Saves a mask of a value in a corner of an image, or boxes with names, as the server does."""

    def save(store, name, label=1, ending=".nrrd", info=None, tag="final"):
        path, geometry = tmp_path / f"sent{ending}", read_volume_geometry(store.get_image_uri(name))
        if ending == ".json":
            names = ["nodule"] * len(label)
            path.write_text(json.dumps(volume_boxes_to_markups(label, names, None, geometry)))
        else:
            mask = np.zeros(geometry.size, np.uint8, order="F")
            mask[2:9, 1:4, :3] = label
            write_volume(mask, geometry, path)
        return store.save_label(name, str(path), tag, info or {})

    return save


def test_lists_volumes_and_series(place):
    store = VolumeDatastore(place)
    assert set(store.list_images()) == {"a", "b", *SERIES}
    assert store.get_image_uri("a") == str(place / "a.nii.gz")
    assert store.get_image_uri("p1=again=late") == str(place / "p1" / "again" / "late")
    assert store.get_image_info("a")["path"] == str(place / "a.nii.gz")
    info = store.get_image_info("p1=chest")
    assert "path" not in info  # of this machine's viewers, which would open a folder as a file
    assert info["name"] == "p1=chest.nii.gz"
    again = VolumeDatastore(place)
    assert set(again.list_images()) == {"a", "b", *SERIES}
    assert {again.id_of(again.get_image_uri(name)) for name in again.list_images()} == {"a", "b", *SERIES}
    shutil.rmtree(place / "p2")
    again.refresh()
    assert set(again.list_images()) == {"a", "b", *SERIES[:2]}


def test_a_series_as_the_folder_of_the_studies_is_warned_of(place, caplog):
    assert VolumeDatastore(place / "p2").list_images() == []
    assert "5 DICOM files lie in the studies' folder itself" in caplog.text


def test_folders_whose_ids_would_be_one(place, caplog):
    shutil.copytree(place / "p2", place / "p1=x")
    store = VolumeDatastore(place)
    assert "p1=x" not in store.list_images()
    assert "1 series are left out, whose folders have '='" in caplog.text
    save_nifti(place / "P2.nii.gz", draw_ct(0))
    with pytest.raises(DataError, match=r"P2\.nii\.gz, p2/: are all 'p2'"):
        VolumeDatastore(place)


def test_labels_are_saved_and_found_again(place, save):
    store = VolumeDatastore(place)
    for name in ("a", "b", "p1=chest", "p1=again=late"):
        for ending in (".nrrd", ".nii.gz"):
            save(store, name, ending=ending)
    again = VolumeDatastore(place)
    assert set(again.get_labeled_images()) == {"a", "b", "p1=chest", "p1=again=late"}
    assert again.get_unlabeled_images() == ["p2"]
    path = again.get_label_uri("p1=chest", "final")
    assert path == str(place / "labels" / "final" / "p1=chest.nii.gz")
    assert len(list((place / "labels" / "final").iterdir())) == 4  # one label an image and tag
    labels, names = read_label(again.get_image_uri("p1=chest"), path, None, 3)
    assert labels.sum() == 7 * 3 * 3
    assert names == {}
    pairs = {pair["image"]: pair["label"] for pair in again.datalist()}
    assert pairs[str(place / "p1" / "chest")] == path
    again.remove_label("p1=chest", "final")
    assert set(VolumeDatastore(place).get_unlabeled_images()) == {"p2", "p1=chest"}


def test_what_no_training_could_take_is_not_saved(place, save, tmp_path):
    """Kind, size, place and values are checked when a label comes; the one that was there stays."""
    store = VolumeDatastore(place)
    save(store, "a")
    kept = (place / "labels" / "final" / "a.nrrd").read_bytes()
    other, small = read_volume_geometry(place / "p2"), np.zeros((4, 5, 6), np.uint8)
    write_volume(np.zeros(other.size, np.uint8), other, tmp_path / "other.nrrd")
    nibabel.save(nibabel.Nifti1Image(small, np.eye(4)), tmp_path / "small.nii.gz")
    nibabel.save(nibabel.Nifti1Image(small[..., :1], np.eye(4)), tmp_path / "flat.nii.gz")
    for file, reason in [
        ("small.nii.gz", "does not lie on the volume's voxels"),
        ("other.nrrd", "does not lie on the volume's voxels"),
        ("flat.nii.gz", "voxels"),
        ("a.png", "a PNG is no volume"),
    ]:
        (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n")
        with pytest.raises(HTTPException, match=rf"The label of 'a' is not saved: .*({reason})") as error:
            store.save_label("a", str(tmp_path / file), "final", {})
        assert str(tmp_path) not in error.value.detail
    with pytest.raises(HTTPException, match=r"holds \[2\], but the label_info"):
        save(store, "a", 2, info={"label_info": [{"name": "lung", "idx": 1}]})
    with pytest.raises(HTTPException, match="a box lies outside the volume"):
        save(store, "a", np.array([[900, 0, 0, 950, 10, 10.0]]), ".json")
    assert (place / "labels" / "final" / "a.nrrd").read_bytes() == kept
    save(store, "a", np.array([[0, 0, 0, 50, 60, 70.0]]), ".json")
    assert [path.name for path in (place / "labels" / "final").iterdir()] == ["a.json"]


@pytest.mark.parametrize("axes", ["LPS", "RAS", "PIR", "SAL"])
def test_boxes_lie_in_the_patient_whatever_the_axes(place, save, axes):
    save_nifti(place / "a.nii.gz", draw_ct(0), axes)
    store, boxes = VolumeDatastore(place), np.array([[10, -20, 30, 50.5, 60, 70], [-500, -9, 3, 40, 80, 90.0]])
    save(store, "a", boxes, ".json")
    found, names = read_label(store.get_image_uri("a"), store.get_label_uri("a", "final"), None, 3)
    least = read_volume_geometry(place / "a.nii.gz").bounds[0, 0]
    np.testing.assert_allclose(found, [boxes[0], [least, *boxes[1, 1:]]], atol=0.01)
    assert names == ["nodule"] * 2


@pytest.mark.parametrize("name", ["p1", "p1=", "=p1", "..=p1", "p1=..", "p1/chest", "/p2", "labels=final", "p1=chest="])
def test_unknown_series_are_refused(place, name, everything):
    store = VolumeDatastore(place)
    before = everything(place)
    for attempt in (
        lambda: store.get_image_uri(name),
        lambda: store.get_image_info(name),
        lambda: store.save_label(name, str(place / "a.nii.gz"), "final", {}),
        lambda: store.remove_image(name),
    ):
        with pytest.raises(HTTPException):
            attempt()
    assert everything(place) == before


def test_a_list_of_somebody_leads_nowhere(place, tmp_path):
    """Folders outside, and ours, under ids that the list names."""
    VolumeDatastore(place)
    shutil.copytree(place / "p2", tmp_path / "secret")
    path = place / "datastore_v2.json"
    content = json.loads(path.read_text())
    for name in ("..=secret", "=secret", "labels", "labels=final", ".mgca", f"={tmp_path}=secret", "p2=..=..=secret"):
        content["objects"][name] = {"image": {"ext": "/"}}
    for name in ("../secret", "p1/chest"):
        content["objects"][name] = {"image": {"ext": ""}}
    path.write_text(json.dumps(content))
    assert set(VolumeDatastore(place).list_images()) == {"a", "b", *SERIES}


def test_links_out_of_the_folder_are_not_followed(place, tmp_path, save):
    shutil.copytree(place / "p2", tmp_path / "secret")
    store = VolumeDatastore(place)
    save(store, "p2")
    first = min((tmp_path / "secret").iterdir())
    (place / "p2" / first.name).unlink()
    (place / "p2" / first.name).symlink_to(first)
    (place / "p1" / "inner").mkdir()
    for file in (place / "p1" / "chest").iterdir():
        (place / "p1" / "inner" / file.name).symlink_to(file)
    (place / "whole").symlink_to(tmp_path / "secret")
    again = VolumeDatastore(place)
    assert "whole" not in again.list_images()
    with pytest.raises(HTTPException, match="A file of image 'p2' is a link out"):
        again.get_image_uri("p2")
    assert LoadVolume()(again.get_image_uri("p1=inner")).shape == (1, 30, 26, 5)
    assert again.datalist() == []
    shutil.rmtree(place / "p2")
    (place / "p2").symlink_to(tmp_path / "secret")
    with pytest.raises(HTTPException, match="link out"):
        again.get_image_uri("p2")


def test_only_nifti_is_added_and_no_series_deleted(place, everything):
    store = VolumeDatastore(place)
    before = everything(place)
    dicom = next(path for path in (place / "p2").iterdir())
    for file in (dicom, place / "pictures" / "x.png", place / "a.txt"):
        with pytest.raises(HTTPException, match=r"a volume is sent as \.nii"):
            store.add_image("new", str(file), {})
    for name in ("a", "P2", "p1=chest"):
        with pytest.raises(HTTPException, match="There is an image"):
            store.add_image(name, str(place / "b.nii"), {})
    with pytest.raises(HTTPException, match="not deleted from here") as refused:
        store.remove_image("p2")
    assert refused.value.status_code == 403
    assert everything(place) == before
    store.add_image("new", str(place / "b.nii"), {})
    store.remove_image("a")
    assert set(VolumeDatastore(place).list_images()) == {"new", "b", *SERIES}


def test_archive_holds_the_files_of_a_series(place, save):
    store = VolumeDatastore(place)
    for name in ("b", "p1=chest"):
        save(store, name)
    names = zipfile.ZipFile(store.get_dataset_archive(None)).namelist()
    assert {"image/b.nii", "label/b.nrrd", "label/p1=chest.nrrd", "metadata.json"} <= set(names)
    assert sum(name.startswith("image/p1=chest/") for name in names) == 5


def test_viewers_get_a_series_as_one_file(place, tmp_path):
    write_series_file(place / "p1" / "chest", tmp_path / "ct.nii.gz")
    written, read = nibabel.load(tmp_path / "ct.nii.gz"), LoadVolume()(place / "p1" / "chest")
    np.testing.assert_array_equal(written.get_fdata(), read[0].numpy())
    np.testing.assert_array_equal(written.get_fdata(), draw_ct(2)[:, :, :5])
    np.testing.assert_allclose(written.affine, read.affine.numpy(), atol=1e-4)
    assert written.get_data_dtype() == np.int16
    assert b"canary" not in (tmp_path / "ct.nii.gz").read_bytes()


def test_a_changed_slice_changes_the_state_of_its_series(place):
    before = file_state(place / "p2")
    assert file_state(place / "p2") == before
    file = next((place / "p2").iterdir())
    file.write_bytes(file.read_bytes())
    os.utime(file, (1, 1))
    assert file_state(place / "p2") != before


class TestWatching:
    @pytest.fixture
    def store(self, place):
        store = VolumeDatastore(place, auto_reload=True)
        yield store
        store._observer.stop()
        store._observer.join()

    def wait(self, condition, seconds=20):
        end = time.monotonic() + seconds
        while not condition() and time.monotonic() < end:
            time.sleep(0.05)
        return condition()

    def test_new_series_and_volumes_are_listed_and_others_go(self, store, place):
        shutil.copytree(place / "p2", place / "p3" / "new")
        save_nifti(place / "c.nii.gz", draw_ct(0))
        assert self.wait(lambda: {"p3=new", "c"} <= set(store.list_images()))
        shutil.rmtree(place / "p3")
        (place / "p2").rename(place / "p4")
        assert self.wait(lambda: {"p3=new", "p2"}.isdisjoint(store.list_images()) and "p4" in store.list_images())

    def test_a_known_series_is_not_searched_again_for_each_of_its_files(self, store, place, monkeypatch):
        searched = []
        monkeypatch.setattr(store, "refresh", lambda: searched.append(1))
        for file in sorted((place / "p2").iterdir()):
            shutil.copy(file, place / "p2" / f"copy{file.name}")
        (place / ".mgca" / "images.npz").write_bytes(b"x") if (place / ".mgca").is_dir() else None
        (place / "pictures" / "y.png").write_bytes(b"\x89PNG\r\n")
        time.sleep(0.5)
        assert searched == []
        shutil.copytree(place / "p2", place / "p5")
        assert self.wait(lambda: bool(searched))
