# Copyright (c) MONAI MGCA contributors
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#     http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""Nothing that a client names leads out of the folder of the studies."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from fastapi import HTTPException

from monai_mgca.label.datastore import RadiographDatastore
from monai_mgca.label.geometry import Geometry, read_geometry, write_label_map
from monai_mgca.label.held_folder import HeldFolder
from monai_mgca.label.labels import labels_to_datalist
from monai_mgca.label.markups import boxes_to_markups
from monai_mgca.label.row_store import refresh_rows
from monai_mgca.label.sessions import ContainedSessions
from monai_mgca.utils import DataError


@pytest.fixture
def place(tmp_path, save_image):
    """A folder of studies beside a file that is nobody's business."""
    folder = tmp_path / "studies"
    folder.mkdir()
    for name in ("a.png", "b.jpg", "c.nii.gz", "d.dcm", "E.PNG"):
        save_image(folder / name)
    (folder / "a.txt").write_text("The report of a.")
    save_image(tmp_path / "secret.png")
    return folder


@pytest.fixture(scope="session")
def save_mask(save_image):
    """Writes a mask of zeros and ones, by default of the size of the images."""

    def save(path, size=(31, 47)):
        mask = np.zeros(size[::-1], np.uint8)
        mask[5:20, 3:9] = 1
        write_label_map(mask, Geometry(size, np.eye(4)), path)
        return path

    return save


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_lists_radiographs_of_every_format(place):
    store = RadiographDatastore(place)
    assert sorted(store.list_images()) == ["E", "a", "b", "c", "d"]
    assert store.get_image_uri("c") == str(place / "c.nii.gz")
    assert store.work_dir == place / ".mgca" and store.work_dir.is_dir()


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
        assert self.wait(store, {"f"}) and not {"a", "b"} & set(store.list_images())

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
def test_unknown_images_are_refused(place, name):
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
def test_new_names_and_tags_are_plain(place, name):
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
def test_only_radiographs_are_added(place, file):
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
    "info", [[1], "x", {"x": float("nan")}, {"strategy": 5}, {"strategy": {"a": 5}}, {"strategy": {"a": {"ts": "now"}}}]
)
def test_what_a_client_tells_of_an_image_can_be_read_later(place, info):
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
        with pytest.raises(OSError, match="the disk is full"):
            store.update_image_info("a", {"x": 1})
    assert (place / "datastore_v2.json").read_text() == before
    assert not list(place.glob("*.tmp"))
    store.update_image_info("a", {"x": 1})
    assert json.loads((place / "datastore_v2.json").read_text())["objects"]["a"]["image"]["info"]["x"] == 1


def test_two_images_of_one_name_are_told_at_the_start(place, save_image):
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


@pytest.fixture
def outside(place):
    """A folder and a file beside the studies, which nothing may change."""
    folder = place.parent / "outside"
    folder.mkdir()
    (folder / "a.nrrd").write_bytes(b"somebody's own")
    return folder


class TestLinks:
    """Of somebody who can write into the studies, to have the server write elsewhere."""

    @pytest.mark.parametrize("target", ["a.nrrd", "nothing"])
    def test_file(self, place, outside, save_mask, target):
        (place / "labels" / "final").mkdir(parents=True)
        (place / "labels" / "final" / "a.nrrd").symlink_to(outside / target)
        (place / "new.png").symlink_to(outside / target)
        store = RadiographDatastore(place)
        store._datastore.objects.pop("new", None)  # as before the link was made
        sent = save_mask(place.parent / "sent.nrrd")
        before = everything(outside)
        for attempt in (
            lambda: store.save_label("a", str(sent), "final", {}),
            lambda: store.add_image("new", str(place / "a.png"), {}),
        ):
            with pytest.raises(HTTPException, match="is a link") as refused:
                attempt()
            assert refused.value.status_code == 409
        assert everything(outside) == before and len(list(outside.iterdir())) == 1

    @pytest.mark.parametrize("link", ["labels", "labels/final"])
    def test_folder(self, place, outside, link):
        store = RadiographDatastore(place)
        shutil.rmtree(place / "labels")
        (place / link).parent.mkdir(exist_ok=True)
        (place / link).symlink_to(outside, target_is_directory=True)
        before = everything(outside)
        with pytest.raises(HTTPException, match=f"{link} is a link") as refused:
            store.save_label("a", str(place / "E.PNG"), "final", {})
        assert refused.value.status_code == 409
        assert everything(outside) == before and len(list(outside.iterdir())) == 1

    def test_link_that_comes_after_the_check(self, place, outside, save_mask, monkeypatch):
        store = RadiographDatastore(place)

        def make_link(folder, name):
            (place / "labels" / "final" / name).symlink_to(outside / "a.nrrd")
            return False

        monkeypatch.setattr("monai_mgca.label.held_folder.HeldFolder.is_link", make_link)
        sent = save_mask(place.parent / "sent.nrrd")
        store.save_label("a", str(sent), "final", {})
        assert (outside / "a.nrrd").read_bytes() == b"somebody's own"
        label = place / "labels" / "final" / "a.nrrd"
        assert not label.is_symlink() and label.read_bytes() == sent.read_bytes()

    def test_folder_that_is_replaced_after_the_check(self, place, outside, monkeypatch):
        store = RadiographDatastore(place)

        def replace(folder, name):
            (place / "labels" / "final").rename(place / "labels" / "moved")
            (place / "labels" / "final").symlink_to(outside, target_is_directory=True)
            return False

        monkeypatch.setattr("monai_mgca.label.held_folder.HeldFolder.is_link", replace)
        before = everything(outside)
        store.save_label("a", str(place / "a.png"), "final", {})
        assert everything(outside) == before and (place / "labels" / "moved" / "a.png").is_file()

    @pytest.mark.parametrize("link", [".lock", "labels", "labels/final", "labels/original"])
    def test_at_the_start(self, place, outside, link):
        (place / link).parent.mkdir(exist_ok=True)
        (place / link).symlink_to(outside / "new" if link == ".lock" else outside)
        before = everything(outside)
        with pytest.raises(DataError, match=f"{link} is a link"):
            RadiographDatastore(place)
        assert everything(outside) == before and len(list(outside.iterdir())) == 1

    def test_lock_that_becomes_one(self, place, outside):
        store = RadiographDatastore(place)
        (place / ".lock").unlink(missing_ok=True)
        (place / ".lock").symlink_to(outside / "a.nrrd")
        for attempt in (
            lambda: store.save_label("a", str(place / "a.png"), "final", {}),
            lambda: store.update_image_info("a", {}),
            store.refresh,
        ):
            with pytest.raises(HTTPException, match=r"\.lock among the studies is a link") as refused:
                attempt()
            assert refused.value.status_code == 409
        assert (outside / "a.nrrd").read_bytes() == b"somebody's own"

    @pytest.mark.parametrize("link", ["segmentation", "segmentation/masks"])
    def test_where_a_training_writes(self, place, outside, save_image, link):
        """Masks of what was saved."""
        for name in ("a", "b", "c"):
            (place / f"{name}.txt").write_text("x")
        store = RadiographDatastore(place)
        for name in ("a", "b", "c", "d"):
            store.save_label(name, str(place / "a.png"), "final", {"label_info": [{"name": "x", "idx": i} for i in range(1, 256)]})
        (store.work_dir / link).parent.mkdir(exist_ok=True)
        (store.work_dir / link).symlink_to(outside)
        with pytest.raises(DataError, match=f"{link} is a link"):
            labels_to_datalist(store, "segmentation")
        assert [path.name for path in outside.iterdir()] == ["a.nrrd"]

    def test_folder_of_what_we_keep(self, place, outside):
        store = RadiographDatastore(place)
        (place / ".mgca").symlink_to(outside)
        with pytest.raises(HTTPException, match=r"\.mgca is a link"):
            print(store.work_dir)
        with pytest.raises(DataError, match=r"\.mgca is a link"):  # it became one after the question
            refresh_rows(place / ".mgca" / "rows.npz", "f", {"a": "1"}, lambda ids: {i: np.ones(2) for i in ids})
        assert [path.name for path in outside.iterdir()] == ["a.nrrd"]

    def test_label_that_is_one_to_a_study(self, place):
        store = RadiographDatastore(place)
        (place / "labels" / "final" / "a.png").symlink_to(place / "E.PNG")
        store.refresh()
        store.remove_label("a", "final")
        assert (place / "E.PNG").is_file() and not (place / "labels" / "final" / "a.png").is_symlink()
        (place / "link.png").symlink_to(place / "E.PNG")
        store.refresh()
        store.remove_image("link")
        assert (place / "E.PNG").is_file() and not (place / "link.png").is_symlink()


class TestList:
    """The list of images and labels is a file among the studies: what it says may be somebody's."""

    def write(self, place, change):
        path = place / "datastore_v2.json"
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))
        os.utime(path, (1, 1))

    @pytest.mark.parametrize("key", ["labels_dir", "images_dir"])
    def test_folders(self, place, outside, key):
        RadiographDatastore(place)
        self.write(place, lambda content: content.update({key: str(outside)}))
        store = RadiographDatastore(place)
        store.save_label("a", str(place / "a.png"), "final", {})
        assert store.get_label_uri("a", "final") == str(place / "labels" / "final" / "a.png")
        assert [path.name for path in outside.iterdir()] == ["a.nrrd"]
        self.write(place, lambda content: content.update({key: str(outside)}))  # while the server runs
        store.refresh()
        store.save_label("b", str(place / "a.png"), "final", {})
        assert [path.name for path in outside.iterdir()] == ["a.nrrd"]

    @pytest.mark.parametrize("name", ["../outside/a", "../outside/b"])
    def test_ids(self, place, outside, save_mask, name):
        store, image = RadiographDatastore(place), {"image": {"ext": ".nrrd"}, "labels": {"../../outside": {"ext": ".nrrd"}}}
        save_mask(outside / "b.nrrd")
        before = everything(outside)
        self.write(place, lambda content: content["objects"].update({name: image}))
        store._init_from_datastore_file()
        assert store.knows(name)
        label = str(save_mask(place.parent / "sent.nrrd"))
        for attempt in (
            lambda: store.save_label(name, label, "final", {}),
            lambda: store.save_label(name, label, "original", {}),
            lambda: store.remove_label(name, "../../outside"),
            lambda: store.remove_image(name),
            lambda: store.get_image_uri(name),
        ):
            with pytest.raises(HTTPException) as refused:
                attempt()
            assert refused.value.status_code in (400, 404, 409)
        assert everything(outside) == before


class TestFullDisk:
    @pytest.fixture
    def store(self, small_disk, save_image):
        folder = small_disk(1)
        save_image(folder / "a.png")
        return RadiographDatastore(folder)

    @pytest.mark.parametrize("before", [False, True])
    def test_a_label_is_old_or_new(self, store, tmp_path, save_mask, before):
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


class TestWhatIsNoLabel:
    """A label that counts as done, and which no training could take."""

    @pytest.mark.parametrize("tag", ["final", "original"])
    @pytest.mark.parametrize("ending", [".exe", ".txt", ".jpg", ".html", "", ".bin"])
    def test_kind_of_file(self, place, tag, ending):
        sent = place.parent / f"sent{ending}"
        sent.write_bytes((place / "b.jpg").read_bytes())
        self.refused(place, sent, "a label is .nii.gz", tag=tag)

    @pytest.mark.parametrize("ending", [".png", ".nrrd", ".seg.nrrd", ".nii", ".nii.gz", ".json"])
    @pytest.mark.parametrize("content", [b"", b"text", b"MZ\x90\0" * 99, b"[1, 2]", b"NRRD0004\ntype: uint8\n"])
    def test_content(self, place, ending, content):
        sent = place.parent / f"sent{ending}"
        sent.write_bytes(content)
        self.refused(place, sent, "The label of 'a' is not saved")

    def test_size(self, place, save_mask):
        self.refused(place, save_mask(place.parent / "sent.nrrd", (47, 31)), "its mask is 47 x 31")
        self.refused(place, save_mask(place.parent / "sent.png", (30, 47)), "its mask is 30 x 47")

    @pytest.mark.parametrize(
        ("values", "info", "message"),
        [
            (np.full((47, 31), -1, np.int16), None, "the values -1 to -1"),
            (np.full((47, 31), 300, np.int16), None, "the values 300 to 300"),
            (np.full((47, 31), np.nan, np.float32), None, "not finite"),
            (np.full((47, 31), 2, np.uint8), [{"name": "lung"}], r"holds \[2\], .* names \[1\]"),
            (np.full((47, 31), 1, np.uint8), [{"idx": 1}], "no list of"),
            (np.full((47, 31), 1, np.uint8), "lung", "no list of"),
            (np.full((47, 31), 1, np.uint8), [{"name": "$lung"}], "A name is letters"),
        ],
    )
    def test_values(self, place, values, info, message):
        sent = place.parent / "sent.nii.gz"
        nib.save(nib.Nifti1Image(values.T[..., None], np.eye(4)), sent)
        self.refused(place, sent, message, {"label_info": info})

    @pytest.mark.parametrize("box", [[40, 50, 60, 70], [3, 3, 3.2, 9], [np.nan] * 4])
    def test_boxes(self, place, box):
        sent = place.parent / "sent.json"
        sent.write_text(json.dumps(boxes_to_markups(np.array([box]), ["nodule"], None, read_geometry(place / "a.png"))))
        self.refused(place, sent, "outside the image|no markups JSON")

    def refused(self, place, sent, message, info=None, tag="final"):
        store = RadiographDatastore(place)
        store.save_label("a", str(place / "E.PNG"), tag, {})
        before = everything(place)
        with pytest.raises(HTTPException, match=message) as refused:
            store.save_label("a", str(sent), tag, info or {})
        assert refused.value.status_code == 400 and str(place.parent) not in refused.value.detail
        assert everything(place) == before


class TestNamesThatAreOne:
    """To people, or to the file systems of other machines."""

    ALIKE = ("A", "ａ", "Ａ")

    @pytest.mark.parametrize("name", ALIKE)
    def test_to_add(self, place, name):
        store = RadiographDatastore(place)
        before = everything(place)
        with pytest.raises(HTTPException, match="There is an image 'a'") as refused:
            store.add_image(name, str(place / "a.png"), {})
        assert refused.value.status_code == 409 and everything(place) == before

    @pytest.mark.parametrize(("first", "second"), [("x 1", "x  1"), ("x 1", "X\u00a01"), ("stra\u00dfe", "STRASSE"), ("\u00e9", "e\u0301")])
    def test_in_the_folder(self, place, first, second):
        for name in (first, second):
            shutil.copy(place / "a.png", place / f"{name}.png")
        with pytest.raises(DataError, match="1 names of several images"):
            RadiographDatastore(place)

    def test_that_come_later(self, place, caplog):
        store = RadiographDatastore(place)
        for name in ("A.png", "b.png"):
            shutil.copy(place / "a.png", place / name)
        store.refresh()
        assert sorted(store.list_images()) == ["E", "a", "b", "c", "d"]
        assert store.get_image_uri("b") == str(place / "b.jpg")
        assert "A.png is left out: its id is that of a.png" in caplog.text and "b.png is left out" in caplog.text


def test_a_name_that_is_no_text_is_left_out(place, caplog):
    """The answer that lists all images could not be sent."""
    shutil.copy(place / "a.png", os.fsencode(place) + b"/\xff.png")
    store = RadiographDatastore(place)
    assert sorted(store.list_images()) == ["E", "a", "b", "c", "d"]
    assert r"'\udcff.png' is left out: its name is not UTF-8" in caplog.text


@pytest.mark.parametrize("name", ["x ", "x.", "x" * 201, "é" * 101])
def test_names_that_no_file_should_have(place, name):
    store = RadiographDatastore(place)
    for attempt in (
        lambda: store.add_image(name, str(place / "a.png"), {}),
        lambda: store.save_label("a", str(place / "a.png"), name, {}),
        lambda: store.remove_label("a", name),
        lambda: store.get_label_uri("a", name),
    ):
        with pytest.raises(HTTPException) as refused:
            attempt()
        assert refused.value.status_code == 400
    assert store.add_image("x" * 200, str(place / "a.png"), {}) and store.save_label("a", str(place / "a.png"), "x" * 200, {})


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "/a", "a\0"])
def test_a_held_folder_takes_names_alone(tmp_path, name):
    with pytest.raises(DataError, match="is no name"):
        HeldFolder(tmp_path, name)
    with HeldFolder(tmp_path) as folder, pytest.raises(DataError, match="is no name"):
        folder.write(name, lambda file: file.write(b"x"))
    assert not list(tmp_path.iterdir())


def test_nothing_to_download(place):
    with pytest.raises(HTTPException, match="nothing to download"):
        RadiographDatastore(place).get_dataset_archive(None)


def test_an_image_is_not_replaced(place):
    store = RadiographDatastore(place)
    before = (place / "a.png").read_bytes()
    with pytest.raises(HTTPException, match="delete it with its labels") as refused:
        store.add_image("a", str(place / "E.PNG"), {})
    assert refused.value.status_code == 409 and (place / "a.png").read_bytes() == before
