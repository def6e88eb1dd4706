# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""Nothing that a client names leads out of the folder of the studies."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest
from fastapi import HTTPException

from monai_mgca.label.sessions import ContainedSessions
from monai_mgca.label.store.radiograph_datastore import RadiographDatastore
from monai_mgca.utils import DataError


def test_lists_radiographs_of_every_format(place):
    store = RadiographDatastore(place)
    assert sorted(store.list_images()) == ["E", "a", "b", "c", "d"]
    assert store.get_image_uri("c") == str(place / "c.nii.gz")
    assert store.work_dir == place / ".mgca"
    assert store.work_dir.is_dir()


def test_lists_what_is_an_image_by_name_or_content(place, save_image):
    for name in ("IM000001", "1.2.840.7", "1.2.840.8", "x.IMA", "1.2.840.9.DICOM"):
        (place / name).write_bytes((place / "d.dcm").read_bytes())
    save_image(place / "f.tiff")
    for name in ("._a.png", ".f.tiff", "Thumbs.db", "DICOMDIR", "a.xyz", "label.nrrd"):
        (place / name).write_bytes((place / "a.png").read_bytes() if name[0] == "." else b"x" * 200)
    (place / "folder.png").mkdir()
    store = RadiographDatastore(place)
    ids = {"1.2.840.7", "1.2.840.8", "1.2.840.9", "E", "IM000001", "a", "b", "c", "d", "f", "x"}
    assert set(store.list_images()) == ids
    assert store.get_image_uri("1.2.840.7") == str(place / "1.2.840.7")
    store.save_label("1.2.840.7", str(place / "a.png"), "final", {})
    assert set(RadiographDatastore(place).get_labels_by_image_id("1.2.840.7")) == {"final"}


class TestWatching:
    @pytest.fixture
    def store(self, place):
        store = RadiographDatastore(place, auto_reload=True)
        yield store
        store._observer.stop()
        store._observer.join()

    def wait(self, store, ids, seconds=20):
        end = time.monotonic() + seconds
        while not ids <= set(store.list_images()) and time.monotonic() < end:
            time.sleep(0.05)
        return ids <= set(store.list_images())

    @pytest.mark.parametrize("name", ["IM000001", "1.2.840.7", "x.IMA", "y.png"])
    @pytest.mark.parametrize("way", ["written", "renamed"])
    def test_new_files_are_listed(self, store, place, name, way):
        content = (place / "d.dcm").read_bytes()
        first = place / name if way == "written" else place / f".{name}.4x2"
        with first.open("wb", buffering=0) as file:
            file.write(content[:99])
            time.sleep(0.2)  # a copy that takes its time
            file.write(content[99:])
        first.rename(place / name)
        assert self.wait(store, {name.removesuffix(".IMA").removesuffix(".png")})

    def test_files_that_went_are_not_listed(self, store, place):
        (place / "a.png").unlink()
        (place / "b.jpg").rename(place / "f.jpg")
        assert self.wait(store, {"f"})
        assert not {"a", "b"} & set(store.list_images())

    def test_it_goes_on_after_a_folder_that_could_not_be_read(self, store, place, caplog):
        (place / ".lock").unlink(missing_ok=True)
        (place / ".lock").mkdir()
        shutil.copy(place / "a.png", place / "g.png")
        end = time.monotonic() + 20
        while "cannot be read" not in caplog.text and time.monotonic() < end:
            time.sleep(0.05)
        (place / ".lock").rmdir()
        shutil.copy(place / "a.png", place / "h.png")
        assert self.wait(store, {"g", "h"})

    def test_what_is_no_image_changes_nothing(self, store, place):
        before = (place / "datastore_v2.json").read_bytes()
        for name in ("notes", "a.xyz", ".hidden.png", "Thumbs.db"):
            (place / name).write_text("no image")
        store.update_image_info("a", {})
        time.sleep(0.5)
        assert set(store.list_images()) == {"E", "a", "b", "c", "d"}
        assert (place / "datastore_v2.json").read_bytes() == before


@pytest.mark.parametrize("names", [("a.png", "a.JPG"), ("d.dcm", "d"), ("c.nii", "c.nii.gz")])
def test_two_images_of_one_id(place, names):
    for name in names:
        (place / name).write_bytes((place / "d.dcm").read_bytes())
    with pytest.raises(DataError, match="1 names of several images"):
        RadiographDatastore(place)


@pytest.mark.parametrize("name", ["../secret", "secret", "/etc/passwd", "", ".", "..", "a/../../secret", "a\0"])
def test_unknown_images_are_refused(place, name, everything):
    store = RadiographDatastore(place)
    before = everything(place.parent)
    label = str(place / "a.png")
    for attempt in (
        lambda: store.get_image_uri(name),
        lambda: store.get_image_info(name),
        lambda: store.update_image_info(name, {"x": 1}),
        lambda: store.remove_image(name),
        lambda: store.save_label(name, label, "final", {}),
        lambda: store.remove_label(name, "final"),
    ):
        with pytest.raises(HTTPException) as refused:
            attempt()
        assert refused.value.status_code in (400, 404)
    assert everything(place.parent) == before


@pytest.mark.parametrize("name", ["../x", "/tmp/x", "..", ".hidden", "", "a/b", "a\\b", "x\n"])
def test_new_names_and_tags_are_plain(place, name, everything):
    store = RadiographDatastore(place)
    before = everything(place.parent)
    for attempt in (
        lambda: store.add_image(name, str(place / "a.png"), {}),
        lambda: store.save_label("a", str(place / "a.png"), name, {}),
        lambda: store.get_label_uri("a", name),
    ):
        with pytest.raises(HTTPException) as refused:
            attempt()
        assert refused.value.status_code == 400
    assert everything(place.parent) == before


def test_a_link_out_of_the_folder_is_not_followed(place):
    (place / "link.png").symlink_to(place.parent / "secret.png")
    (place / "inner.png").symlink_to(place / "a.png")
    store = RadiographDatastore(place)
    with pytest.raises(HTTPException, match="link out of the studies"):
        store.get_image_uri("link")
    assert os.path.samefile(store.get_image_uri("inner"), place / "a.png")
    for name in ("link", "inner"):
        store.save_label(name, str(place / "a.png"), "original", {})
    store.save_label("inner", str(place / "a.png"), "final", {})
    assert [Path(pair["label"]).stem for pair in store.datalist()] == ["inner"]  # of which archives are made


@pytest.mark.parametrize("file", ["new.txt", "new.json", "new.info", "new.nrrd", "new"])
def test_only_radiographs_are_added(place, file, everything):
    """What takes the place of a report or of the list, say."""
    (place.parent / file).write_bytes(b"x")
    store = RadiographDatastore(place)
    before = everything(place)
    for name in ("a", "datastore_v2", "new"):
        with pytest.raises(HTTPException, match="a radiograph is"):
            store.add_image(name, str(place.parent / file), {})
    with pytest.raises(HTTPException, match="delete it with its labels"):  # two of one name: the next start would fail
        store.add_image("a", str(place / "b.jpg"), {})
    assert everything(place) == before


@pytest.mark.parametrize(
    "info",
    [
        *([1], "x", {"x": float("nan")}, {"strategy": 5}, {"strategy": {"a": 5}}, {"strategy": {"a": {"ts": "now"}}}),
        *({"x": json.loads("[" * depth + "]" * depth)} for depth in (60, 200, 900)),  # the next start would fail
    ],
    ids=lambda info: str(info)[:40],
)
def test_what_a_client_sends_of_an_image_can_be_read_later(place, info, everything):
    store = RadiographDatastore(place)
    store.save_label("a", str(place / "a.png"), "final", {})
    before = everything(place)
    for attempt in (
        lambda: store.update_image_info("a", info),
        lambda: store.update_label_info("a", "final", info),
        lambda: store.save_label("a", str(place / "E.PNG"), "final", info),
        lambda: store.add_image("new", str(place / "a.png"), info),
    ):
        with pytest.raises(HTTPException, match="info is a JSON object"):
            attempt()
    with pytest.raises(HTTPException, match="no label"):
        store.update_label_info("b", "final", {})
    assert everything(place) == before


def test_labels_are_saved_and_found_again(place):
    store = RadiographDatastore(place)
    store.save_label("a", str(place / "a.png"), "final", {"by": "me"})
    again = RadiographDatastore(place)
    assert again.get_labeled_images() == ["a"]
    assert again.get_label_uri("a", "final") == str(place / "labels" / "final" / "a.png")
    again.remove_label("a", "final")
    assert again.get_labeled_images() == []
    with pytest.raises(HTTPException):
        again.remove_label("a", "final")
    assert again.add_image("new 1", str(place / "a.png"), {}) == "new 1"
    assert (place / "new 1.png").is_file()


def test_the_list_is_written_whole_or_not_at_all(place, monkeypatch):
    store = RadiographDatastore(place)
    before = (place / "datastore_v2.json").read_text()

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(HTTPException, match="the disk is full") as refused:
            store.update_image_info("a", {"x": 1})
    assert refused.value.status_code == 507
    assert (place / "datastore_v2.json").read_text() == before
    assert not list(place.glob("*.tmp"))
    assert not list(place.glob(".*.tmp"))
    store.update_image_info("a", {"x": 1})
    assert json.loads((place / "datastore_v2.json").read_text())["objects"]["a"]["image"]["info"]["x"] == 1


def test_two_images_of_one_name_are_reported_at_the_start(place, save_image):
    save_image(place / "a.nii.gz")
    with pytest.raises(DataError, match=r"a\.nii\.gz, a\.png: are all 'a'"):
        RadiographDatastore(place)
    assert not (place / "datastore_v2.json").exists()
    with pytest.raises(DataError, match="there is no folder"):
        RadiographDatastore(place / "nowhere")


def test_sessions_end_and_what_a_stopped_upload_left_goes(tmp_path):
    store, old = ContainedSessions(str(tmp_path)), "0" * 8 + "-0000-0000-0000-" + "0" * 12
    (tmp_path / old).mkdir()  # a stopped upload: no meta.info
    (tmp_path / "mine").mkdir()
    assert store.remove_expired() == 0
    for name in (old, "mine"):
        os.utime(tmp_path / name, (1, 1))
    assert store.remove_expired() == 1
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


class TestFullDisk:
    @pytest.fixture
    def store(self, small_disk, save_image):
        folder = small_disk(1)
        save_image(folder / "a.png")
        return RadiographDatastore(folder)

    @pytest.mark.parametrize("before", [False, True])
    def test_a_label_is_old_or_new(self, store, tmp_path, save_mask, before, everything):
        folder = Path(store._datastore_path)
        save_mask(tmp_path / "small.nrrd")
        (tmp_path / "large.nrrd").write_bytes((tmp_path / "small.nrrd").read_bytes() + bytes(2**21))
        if before:
            store.save_label("a", str(tmp_path / "small.nrrd"), "final", {})
        kept = everything(folder)
        with pytest.raises(HTTPException, match="the disk is full") as refused:
            store.save_label("a", str(tmp_path / "large.nrrd"), "final", {})
        assert refused.value.status_code == 507
        with pytest.raises(HTTPException, match="the disk is full"):
            store.add_image("new", str((tmp_path / "large.nrrd").rename(tmp_path / "large.png")), {})
        assert everything(folder) == kept
        assert set(RadiographDatastore(folder).get_labels_by_image_id("a")) == ({"final"} if before else set())


def test_one_label_of_a_tag(place, save_mask):
    store, folder = RadiographDatastore(place), place / "labels" / "final"
    (place.parent / "2.json").write_text('{"markups": []}')
    for name in ("1.nii.gz", "2.json", "3.seg.nrrd", "2.json"):
        sent = place.parent / name
        store.save_label("a", str(sent if sent.suffix == ".json" else save_mask(sent)), "final", {})
        assert [path.name for path in folder.iterdir()] == [f"a{name[1:]}"]
        (place / "datastore_v2.json").unlink()  # a copy of the folder without it
        assert RadiographDatastore(place).get_labels_by_image_id("a") == {"final": "a"}
    # as older versions left them
    (folder / "a.nii.gz").write_bytes(b"{}")
    store.remove_label("a", "final")
    assert not list(folder.iterdir())
    again = RadiographDatastore(place)
    assert "final" not in again.get_labels_by_image_id("a")


def test_what_a_killed_server_left_goes(place):
    RadiographDatastore(place)
    left = [
        folder / f".{'0f' * 8}.tmp" for folder in (place, place / "labels" / "final", place / "labels" / "original")
    ]
    mine, fresh = place / ".mine.tmp", place / f".{'1f' * 8}.tmp"  # the second is being written
    for path in (*left, mine, fresh):
        path.write_bytes(b"x")
    for path in (*left, mine):
        os.utime(path, (1, 1))
    RadiographDatastore(place)
    assert not any(path.exists() for path in left)
    assert mine.exists()
    assert fresh.exists()


def test_nothing_to_download(place):
    with pytest.raises(HTTPException, match="nothing to download"):
        RadiographDatastore(place).get_dataset_archive(None)


def test_an_image_is_not_replaced(place):
    store = RadiographDatastore(place)
    before = (place / "a.png").read_bytes()
    with pytest.raises(HTTPException, match="delete it with its labels") as refused:
        store.add_image("a", str(place / "E.PNG"), {})
    assert refused.value.status_code == 409
    assert (place / "a.png").read_bytes() == before
