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
"""No link and no list among the studies has the server write or delete elsewhere."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest
from fastapi import HTTPException

from monai_mgca.label.datastore import RadiographDatastore
from monai_mgca.label.held_folder import HeldFolder
from monai_mgca.label.labels import labels_to_datalist
from monai_mgca.label.row_store import refresh_rows
from monai_mgca.utils import DataError


class TestLinks:
    """Of somebody who can write into the studies, to have the server write elsewhere."""

    @pytest.mark.parametrize("target", ["a.nrrd", "nothing"])
    def test_file(self, place, outside, save_mask, target, everything):
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
    def test_folder(self, place, outside, link, everything):
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

    def test_folder_that_is_replaced_after_the_check(self, place, outside, monkeypatch, everything):
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
    def test_at_the_start(self, place, outside, link, everything):
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
            store.save_label(
                name, str(place / "a.png"), "final", {"label_info": [{"name": "x", "idx": i} for i in range(1, 256)]}
            )
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
    def test_ids(self, place, outside, save_mask, name, everything):
        store, image = (
            RadiographDatastore(place),
            {"image": {"ext": ".nrrd"}, "labels": {"../../outside": {"ext": ".nrrd"}}},
        )
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


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "/a", "a\0"])
def test_a_held_folder_takes_names_alone(tmp_path, name):
    with pytest.raises(DataError, match="is no name"):
        HeldFolder(tmp_path, name)
    with HeldFolder(tmp_path) as folder, pytest.raises(DataError, match="is no name"):
        folder.write(name, lambda file: file.write(b"x"))
    assert not list(tmp_path.iterdir())
