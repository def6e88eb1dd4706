# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""What is refused when it is saved: labels that no training could take, and names that are one."""

from __future__ import annotations

import json
import os
import shutil

import nibabel as nib
import numpy as np
import pytest
from fastapi import HTTPException

from monai_mgca.io.geometry import read_geometry
from monai_mgca.label.store.markups import boxes_to_markups
from monai_mgca.label.store.radiograph_datastore import RadiographDatastore
from monai_mgca.utils import DataError


@pytest.fixture
def refused(place, everything):
    """Checks that a label of "a" is refused, and that the one that was there stays."""

    def check(sent, message, info=None, tag="final"):
        store = RadiographDatastore(place)
        store.save_label("a", str(place / "E.PNG"), tag, {})
        before = everything(place)
        with pytest.raises(HTTPException, match=message) as error:
            store.save_label("a", str(sent), tag, info or {})
        assert error.value.status_code == 400
        assert str(place.parent) not in error.value.detail
        assert everything(place) == before

    return check


class TestWhatIsNoLabel:
    """A label that counts as done, and which no training could take."""

    @pytest.mark.parametrize("tag", ["final", "original"])
    @pytest.mark.parametrize("ending", [".exe", ".txt", ".jpg", ".html", "", ".bin"])
    def test_kind_of_file(self, place, refused, tag, ending):
        sent = place.parent / f"sent{ending}"
        sent.write_bytes((place / "b.jpg").read_bytes())
        refused(sent, "a label is .nii.gz", tag=tag)

    @pytest.mark.parametrize("ending", [".png", ".nrrd", ".seg.nrrd", ".nii", ".nii.gz", ".json"])
    @pytest.mark.parametrize("content", [b"", b"text", b"MZ\x90\0" * 99, b"[1, 2]", b"NRRD0004\ntype: uint8\n"])
    def test_content(self, place, refused, ending, content):
        sent = place.parent / f"sent{ending}"
        sent.write_bytes(content)
        refused(sent, "The label of 'a' is not saved")

    def test_size(self, place, refused, save_mask):
        refused(save_mask(place.parent / "sent.nrrd", (47, 31)), "its mask is 47 x 31")
        refused(save_mask(place.parent / "sent.png", (30, 47)), "its mask is 30 x 47")

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
    def test_values(self, place, refused, values, info, message):
        sent = place.parent / "sent.nii.gz"
        nib.save(nib.Nifti1Image(values.T[..., None], np.eye(4)), sent)
        refused(sent, message, {"label_info": info})

    @pytest.mark.parametrize("box", [[40, 50, 60, 70], [3, 3, 3.2, 9], [np.nan] * 4])
    def test_boxes(self, place, refused, box):
        sent = place.parent / "sent.json"
        sent.write_text(json.dumps(boxes_to_markups(np.array([box]), ["nodule"], None, read_geometry(place / "a.png"))))
        refused(sent, "outside the image|no markups JSON")


class TestNamesThatAreOne:
    """To people, or to the file systems of other machines."""

    ALIKE = ("A", "ａ", "Ａ")

    @pytest.mark.parametrize("name", ALIKE)
    def test_to_add(self, place, name, everything):
        store = RadiographDatastore(place)
        before = everything(place)
        with pytest.raises(HTTPException, match="There is an image 'a'") as refused:
            store.add_image(name, str(place / "a.png"), {})
        assert refused.value.status_code == 409
        assert everything(place) == before

    @pytest.mark.parametrize(
        ("first", "second"), [("x 1", "x  1"), ("x 1", "X\u00a01"), ("stra\u00dfe", "STRASSE"), ("\u00e9", "e\u0301")]
    )
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
        assert "A.png is left out: its id is that of a.png" in caplog.text
        assert "b.png is left out" in caplog.text


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
    assert store.add_image("x" * 200, str(place / "a.png"), {})
    assert store.save_label("a", str(place / "a.png"), "x" * 200, {})


@pytest.mark.parametrize("name", ["CON", "nul", "Aux.x", "com1", "LPT\u00b9", 5, None, ["a"], {}])
def test_names_that_are_a_device_or_no_text(place, name):
    """Devices of Windows, from which the folder may be shared."""
    store = RadiographDatastore(place)
    attempts = [lambda: store.save_label("a", str(place / "a.png"), name, {})]
    attempts += [lambda: store.add_image(name, str(place / "a.png"), {})] if isinstance(name, str) else []
    for attempt in attempts:
        with pytest.raises(HTTPException, match=r"device|letters") as refused:
            attempt()
        assert refused.value.status_code == 400


def test_a_label_that_would_be_another_images(place, save_mask, everything):
    """``a.seg.nrrd`` is how Slicer names the label of ``a``."""
    shutil.copy(place / "a.png", place / "a.seg.png")
    store, sent = RadiographDatastore(place), str(save_mask(place.parent / "sent.nrrd"))
    store.save_label("a", str(save_mask(place.parent / "sent.seg.nrrd")), "final", {})
    before = everything(place)
    with pytest.raises(HTTPException, match=r"'a.seg.nrrd' would be a file of 'a'") as refused:
        store.save_label("a.seg", sent, "final", {})
    assert refused.value.status_code == 400
    assert everything(place) == before
    store.save_label("a.seg", str(place / "E.PNG"), "final", {})
    store.remove_label("a", "final")
    assert store.get_labeled_images() == ["a.seg"]


def test_what_a_client_sends_changes_no_fields_of_ours(place):
    """Who asks for the next image would get another one, or another file."""
    store, hostile = (
        RadiographDatastore(place),
        {"id": "b", "path": "/etc/passwd", "name": "b.jpg", "ts": "now", "x": 1},
    )
    store.update_image_info("a", hostile)
    store.add_image("new", str(place / "E.PNG"), hostile)
    store.save_label("a", str(place / "E.PNG"), "final", hostile)
    store.update_label_info("a", "final", hostile)
    infos = [store.get_image_info("a"), store.get_image_info("new"), store.get_label_info("a", "final")]
    assert [info["name"] for info in infos] == ["a.png", "new.PNG", "a.PNG"]
    assert all("id" not in info and isinstance(info["ts"], int) and info["x"] == 1 for info in infos)
    assert infos[0]["path"] == str(place / "a.png")
    assert "path" not in infos[2]


@pytest.mark.parametrize("info", ["$x", [{"name": "$import os"}], [{"idx": 1}], [{"name": "lung", "idx": 2}]])
def test_names_that_are_sent_later_are_checked_as_those_saved(place, save_mask, info, everything):
    """No training could use the label any more."""
    store = RadiographDatastore(place)
    store.save_label("a", str(save_mask(place.parent / "sent.nrrd")), "final", {"label_info": [{"name": "lung"}]})
    before = everything(place)
    with pytest.raises(HTTPException, match="The label of 'a' is not saved") as refused:
        store.update_label_info("a", "final", {"label_info": info})
    assert refused.value.status_code == 400
    assert everything(place) == before
    store.update_label_info("a", "final", {"label_info": [{"name": "heart", "idx": 1}], "by": "me"})
    assert store.get_label_info("a", "final")["label_info"] == [{"name": "heart", "idx": 1}]
