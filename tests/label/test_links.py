# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""No link, no list and nothing else among the studies has the server read, write or delete elsewhere, or wait."""

from __future__ import annotations

import json
import os
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from fastapi import HTTPException

from monai_mgca.io.embedding_file import write_embeddings
from monai_mgca.label.active import study_embeddings as embeddings
from monai_mgca.label.active.row_store import refresh_rows
from monai_mgca.label.active.study_embeddings import StudyEmbeddings
from monai_mgca.label.labels_to_datalist import labels_to_datalist
from monai_mgca.label.store.held_folder import HeldFolder
from monai_mgca.label.store.radiograph_datastore import RadiographDatastore
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
        assert everything(outside) == before
        assert len(list(outside.iterdir())) == 1

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
        assert everything(outside) == before
        assert len(list(outside.iterdir())) == 1

    def test_link_that_comes_after_the_check(self, place, outside, save_mask, monkeypatch):
        store = RadiographDatastore(place)

        def make_link(folder, name):
            (place / "labels" / "final" / name).symlink_to(outside / "a.nrrd")
            return False

        monkeypatch.setattr("monai_mgca.label.store.held_folder.HeldFolder.is_link", make_link)
        sent = save_mask(place.parent / "sent.nrrd")
        store.save_label("a", str(sent), "final", {})
        assert (outside / "a.nrrd").read_bytes() == b"somebody's own"
        label = place / "labels" / "final" / "a.nrrd"
        assert not label.is_symlink()
        assert label.read_bytes() == sent.read_bytes()

    def test_folder_that_is_replaced_after_the_check(self, place, outside, monkeypatch, everything):
        store = RadiographDatastore(place)

        def replace(folder, name):
            (place / "labels" / "final").rename(place / "labels" / "moved")
            (place / "labels" / "final").symlink_to(outside, target_is_directory=True)
            return False

        monkeypatch.setattr("monai_mgca.label.store.held_folder.HeldFolder.is_link", replace)
        before = everything(outside)
        store.save_label("a", str(place / "a.png"), "final", {})
        assert everything(outside) == before
        assert (place / "labels" / "moved" / "a.png").is_file()

    @pytest.mark.parametrize("link", [".lock", "labels", "labels/final", "labels/original"])
    def test_at_the_start(self, place, outside, link, everything):
        (place / link).parent.mkdir(exist_ok=True)
        (place / link).symlink_to(outside / "new" if link == ".lock" else outside)
        before = everything(outside)
        with pytest.raises(DataError, match=f"{link} .*is a link|{link} is a link"):
            RadiographDatastore(place)
        assert everything(outside) == before
        assert len(list(outside.iterdir())) == 1

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

    def test_folder_of_what_we_keep_that_becomes_one_when_a_training_begins(self, place, outside, monkeypatch):
        store = RadiographDatastore(place)
        for name in ("a", "b", "c", "d"):
            store.save_label(name, str(place / "E.PNG"), "final", {})

        class Late(RadiographDatastore):
            @property
            def work_dir(self):
                path = super().work_dir
                path.rename(path.with_name("moved"))
                path.symlink_to(outside)
                return path

        monkeypatch.setattr(store, "__class__", Late)
        with pytest.raises(DataError, match=r"\.mgca is a link"):
            labels_to_datalist(store, "segmentation")
        assert not (place.parent / ".mgca").exists()
        assert [path.name for path in outside.iterdir()] == ["a.nrrd"]

    def test_lock_of_what_we_keep(self, place, outside):
        store = RadiographDatastore(place)
        (place / ".mgca-rows.npz.lock").symlink_to(outside / "a.nrrd")
        with pytest.raises(DataError, match=r"\.mgca-rows\.npz\.lock among the studies is a link"):
            refresh_rows(store.work_dir / "rows.npz", "f", {"a": "1"}, lambda ids: {i: np.ones(2) for i in ids})
        assert (outside / "a.nrrd").read_bytes() == b"somebody's own"

    def test_report(self, place, outside, monkeypatch):
        (place / "b.txt").symlink_to(outside / "a.nrrd")
        asked = []
        monkeypatch.setattr(embeddings, "refresh_rows", lambda path, fingerprint, states, embed: asked.extend(states))
        studies = StudyEmbeddings(SimpleNamespace(reports=None))
        studies._reports(None, "f", ["a", "b", "c"], RadiographDatastore(place))
        assert asked == ["a"]

    def test_label_that_is_one_to_a_study(self, place):
        store = RadiographDatastore(place)
        (place / "labels" / "final" / "a.png").symlink_to(place / "E.PNG")
        store.refresh()
        store.remove_label("a", "final")
        assert (place / "E.PNG").is_file()
        assert not (place / "labels" / "final" / "a.png").is_symlink()
        (place / "link.png").symlink_to(place / "E.PNG")
        store.refresh()
        store.remove_image("link")
        assert (place / "E.PNG").is_file()
        assert not (place / "link.png").is_symlink()


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

    @pytest.mark.parametrize(
        ("name", "ending"),
        [
            *(("../outside/a", ".nrrd"), ("a", "/../../outside/a.nrrd"), ("", ""), ("..", ""), ("b\0", ".png")),
            *(("a.seg", ".nrrd"), ("a", "\0"), ("x/../a", ".png")),
        ],
    )
    def test_names(self, place, outside, name, ending, everything):
        """What no image or label could have is not believed, and nothing fails for it."""
        before = everything(outside)
        image = {"image": {"ext": ending}, "labels": {"../../outside": {"ext": ".nrrd"}}}
        running = RadiographDatastore(place)
        self.write(place, lambda content: content["objects"].update({name: image}))
        for store in (running, RadiographDatastore(place)):
            store.refresh()
            assert store.list_images().count(name) == (name == "a")
            assert "../../outside" not in store.status()["label_tags"]
            if name != "a":
                with pytest.raises(HTTPException) as refused:
                    store.remove_image(name)
                assert refused.value.status_code == 404
            assert store.get_image_uri("a") == str(place / "a.png")
        assert everything(outside) == before

    @pytest.mark.parametrize("tag", ["../../outside", "\0", "..", "a/b"])
    @pytest.mark.parametrize("ending", [".nrrd", "/../../../outside/a.nrrd", "\0", "/"])
    def test_labels(self, place, outside, tag, ending, everything):
        running, before = RadiographDatastore(place), everything(outside)
        hostile = {tag: {"ext": ending}, "final": {"ext": "/../../../outside/a.nrrd"}}
        self.write(place, lambda content: content["objects"]["a"].update(labels=hostile))
        for store in (running, RadiographDatastore(place)):
            store.refresh()
            assert store.get_labels_by_image_id("a") == {}
        running.remove_image("a")
        assert everything(outside) == before
        assert not (place / "a.png").exists()

    @pytest.mark.parametrize("info", [{"x": float("nan")}, {"strategy": "x"}, {"strategy": {"random": {"ts": "now"}}}])
    def test_what_cannot_be_sent_as_json(self, place, info):
        RadiographDatastore(place)
        self.write(place, lambda content: content["objects"]["a"]["image"].update(info=info))
        store = RadiographDatastore(place)
        assert json.dumps(store.json(), allow_nan=False)
        assert set(store.get_image_info("a")) == {"path"}

    @pytest.mark.parametrize("kind", ["pipe", "folder", "link", "text", "deep", "nothing", "UTF-16", "other"])
    def test_what_is_no_list(self, place, outside, kind, caplog):
        """Nobody waits for it, nothing of another file is shown, and a server that runs goes on."""
        (outside / "secret").write_text("a secret")
        path = place / "datastore_v2.json"
        store = RadiographDatastore(place)
        path.unlink()
        make = {"pipe": os.mkfifo, "folder": os.mkdir, "link": lambda path: path.symlink_to(outside / "secret")}
        texts = {"text": b"a secret", "deep": b'{"name": ' + b"[" * 10**5, "nothing": b"", "other": b'{"name": 5}'}
        make.get(kind, lambda path: path.write_bytes(texts.get(kind, "{}".encode("utf-16"))))(path)
        with pytest.raises(DataError, match=r"datastore_v2\.json.* remove it") as error:
            RadiographDatastore(place)
        store.refresh()
        assert set(store.list_images()) == {"E", "a", "b", "c", "d"}
        assert "datastore_v2.json" in caplog.text
        assert "secret" not in f"{error.value}{caplog.text}"
        if kind not in ("folder", "pipe"):
            store.update_image_info("a", {"x": 1})
            assert RadiographDatastore(place).get_image_info("a")["x"] == 1
            assert not path.is_symlink()
        assert (outside / "secret").read_text() == "a secret"


class TestOtherThanFiles:
    """Folders and pipes in the place of files, and what is gone: a sentence, and nobody waits."""

    def test_folder_in_the_place_of_a_file(self, place):
        store = RadiographDatastore(place)
        (place / "labels" / "final" / "a.png").mkdir()
        (place / "a.png").rename(place / "kept")
        (place / "a.png").mkdir()
        for attempt in (
            lambda: store.save_label("a", str(place / "E.PNG"), "mine", {}) and store.remove_image("a"),
            lambda: store.save_label("b", str(place / "b.jpg"), "final", {}),
            lambda: store.add_image("labels", str(place / "b.jpg"), {}) and store.remove_image("a"),
        ):
            with pytest.raises(HTTPException) as refused:
                attempt()
            assert refused.value.status_code in (400, 409)
        with HeldFolder(place) as folder:
            for attempt in (lambda: folder.write("a.png", lambda file: None), lambda: folder.remove("a.png")):
                with pytest.raises(DataError, match=r"a\.png is a folder, where a file belongs"):
                    attempt()
        assert not list(place.glob(".*.tmp"))

    def test_what_no_label_is(self, place):
        store = RadiographDatastore(place)
        os.mkfifo(place / "labels" / "final" / "a.png")
        (place / "labels" / "final" / "b.png").mkdir()
        (place / "labels" / "final" / "c.Png").write_bytes((place / "E.PNG").read_bytes())
        other = os.fsencode(place / "labels") + b"/\xff"
        os.mkdir(other)
        shutil.copy(place / "E.PNG", other + b"/d.png")
        store.refresh()
        assert store.status()["label_tags"] == {"final": 1}
        assert store.get_labeled_images() == ["c"]
        assert RadiographDatastore(place).status()["completed"] == 1

    def test_folder_of_labels_that_went(self, place):
        store = RadiographDatastore(place)
        shutil.rmtree(place / "labels")
        store.remove_image("b")
        shutil.rmtree(place / "labels")
        (place / "labels").write_bytes(b"")
        with pytest.raises(HTTPException, match="labels is a link or no folder"):
            store.refresh()

    @pytest.mark.parametrize(
        "arrays",
        [
            {"ids": ["a"], "states": ["1"], "values": [[1.0, 1, 1]]},
            {"ids": ["a", "b"], "states": ["1"], "values": [[1.0, 1]]},
            {"ids": ["a"], "states": ["1"], "values": [[np.nan, 1]]},
            *({"ids": "a", "states": "1", "values": 1.0}, {"ids": ["a"]}),
            {"ids": ["a"], "states": ["1"], "values": ["x"]},
        ],
    )
    def test_rows_of_somebody(self, tmp_path, arrays):
        (tmp_path / ".mgca").mkdir()
        path = tmp_path / ".mgca" / "rows.npz"
        write_embeddings(path, {key: np.array(value) for key, value in arrays.items()}, "f")
        rows = refresh_rows(path, "f", {"a": "1", "b": "1"}, lambda ids: {i: np.ones(2, np.float32) for i in ids})
        assert rows.ids == ["a", "b"]
        assert rows.values.tolist() == [[1, 1]] * 2


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "/a", "a\0"])
def test_a_held_folder_takes_names_alone(tmp_path, name):
    with pytest.raises(DataError, match="is no name"):
        HeldFolder(tmp_path, name)
    with HeldFolder(tmp_path) as folder, pytest.raises(DataError, match="is no name"):
        folder.write(name, lambda file: file.write(b"x"))
    assert not list(tmp_path.iterdir())
