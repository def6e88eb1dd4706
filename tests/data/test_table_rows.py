# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0


"""Rows of one image are put together, or refused where they contradict each other."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from PIL import Image

from monai_mgca.io.run_lengths import decode_rle, encode_rle

TEXT = "The lungs are clear. No effusion."
BOXES = ("--box-columns", *"xywh", "--box-format", "xywh")


class TestRowsOfOneImage:
    def test_names_are_united(self, collect):
        rows = [["a.png", "edema"], ["b.png", "effusion"], ["a.png", "effusion|mass"], ["a.png", ""]]
        entries, document, output = collect("image finding", rows, "--label", "finding")
        assert document["classes"] == ["edema", "effusion", "mass"]
        assert entries["a.png"]["labels"] == [1, 1, 1]
        assert entries["b.png"]["labels"] == [0, 1, 0]
        assert "4 rows made 2 images" in output
        assert "dropped: 0" in output
        assert "3 classes of labels (images that have it): edema 1, effusion 2, mass 1" in output

    def test_boxes_and_labels_agree(self, collect):
        rows = [["a.png", 1, 2, 3, 4, "edema"], ["a.png", 5, 6, 7, 8, "effusion"], ["b.png", "", "", "", "", "none"]]
        options = ("--label", "kind", "--box-label", "kind", *BOXES)
        entries, _document, output = collect("image x y w h kind", rows, *options, "--no-box", "none")
        assert entries["a.png"]["labels"] == [1, 1]
        assert entries["a.png"]["box_labels"] == [0, 1]
        assert "labels" not in entries["b.png"]
        assert entries["b.png"]["boxes"] == []
        assert "2 classes of boxes: edema 1, effusion 1" in output

    def test_a_box_that_two_readers_drew_alike(self, collect):
        rows = [["a.png", 1, 2, 3, 4, "x", "R1"], ["a.png", 1, 2, 3, 4, "x", "R2"], ["a.png", 1, 2, 3, 5, "x", "R1"]]
        entries, _, output = collect("image x y w h kind reader", rows, "--box-label", "kind", *BOXES)
        assert len(entries["a.png"]["boxes"]) == 2
        assert "dropped: 1 (same id as another entry)" in output

    def test_json_boxes(self, collect):
        rows = [["a.png", "[[1, 2, 3, 4]]"], ["a.png", "[[5, 6, 7, 8], (1, 2, 3, 4)]"]]
        entries, _, _ = collect("image boxes", rows, "--boxes", "boxes")
        assert entries["a.png"]["boxes"] == [[1, 2, 3, 4], [5, 6, 7, 8]]

    def test_no_finding_of_all_readers(self, collect):
        rows = [["a.png", "No finding"], ["a.png", "No finding"], ["b.png", "mass"]]
        entries, _, output = collect("image f", rows, "--label", "f")
        assert entries["a.png"]["labels"] == [1, 0]
        assert "3 rows made 2 images" in output

    @pytest.mark.parametrize("name", ["No finding", "normal", "No_Finding"])
    def test_no_finding_beside_a_finding(self, collect, name):
        rows = [["b.png", "mass", "R1"], ["a.png", name, "R1"], ["a.png", "mass", "R2"]]
        output = collect("image f reader", rows, "--label", "f", fails=True)
        assert "a.png: lines 3, 4: a finding and 'no finding'" in output
        assert "--where" in output
        entries, _, _ = collect("image f reader", rows, "--label", "f", "--where", "reader=R2")
        assert list(entries) == ["a.png"]

    def test_columns_of_labels(self, collect):
        rows = [["a.png", 1, ""], ["a.png", 1, 0], ["b.png", "", -1]]
        entries, _, _ = collect("image edema mass", rows, "--labels", "edema", "mass")
        assert entries["a.png"]["labels"] == [1, 0]
        assert entries["b.png"]["labels"] == [None, -1]

    @pytest.mark.parametrize("values", [(1, 0), (0, 1), (1, -1)])
    def test_columns_that_contradict_each_other(self, collect, values):
        rows = [["b.png", 1], *(["a.png", value] for value in values)]
        output = collect("image edema", rows, "--labels", "edema", fails=True)
        assert "of 1 images" in output
        assert "a.png: lines 3, 4: 2 different values of 'edema'" in output

    @pytest.mark.parametrize("column", ["patient", "split", "report", "id"])
    def test_what_an_image_has_one_of(self, collect, column):
        header = "image patient split report id"
        row = {"image": "a.png", "patient": "secret1", "split": "train", "report": TEXT, "id": "i1"}
        other = {"patient": "secret2", "split": "val", "report": "The secret lungs are not clear.", "id": "i2"}
        options = [text for name in header.split()[1:] for text in (f"--{name}", name)]
        rows = [list(row.values()), list((row | {column: ""}).values())]
        entries, _, output = collect(header, rows, *options)
        assert entries["a.png"]["patient"] == "secret1"
        assert "2 rows made 1 images" in output
        rows[1] = list((row | {column: other[column]}).values())
        (message,) = [collect(header, rows, *options, fails=True)]
        assert f"a.png: lines 2, 3: 2 different values of the {column}" in message
        assert "secret" not in message

    def test_masks_are_united(self, collect, tmp_path):
        one, two = np.zeros((40, 60)), np.zeros((40, 60))
        one[:10], two[30:, 20:] = 1, 1
        Image.fromarray((two * 255).astype(np.uint8)).save(tmp_path / "two.png")
        rows = [
            ["a.png", json.dumps(encode_rle(one))],
            ["a.png", "two.png"],
            ["b.png", "two.png"],
            ["b.png", "two.png"],
        ]
        entries, _, output = collect("image m", rows, "--mask", "m")
        assert (decode_rle(entries["a.png"]["mask"]) == np.maximum(one, two)).all()
        assert entries["b.png"]["mask"] == "two.png"
        assert "images with masks: 2" in output

    def test_masks_of_classes_in_several_rows(self, collect):
        rle = json.dumps(encode_rle(np.eye(40, 60)))
        rows = [["a.png", rle, ""], ["a.png", "", rle], ["b.png", rle, ""]]
        entries, _, output = collect("image l h", rows, "--mask", "lung=l", "--mask", "heart=h")
        assert entries["a.png"]["mask"] == [json.loads(rle)] * 2
        assert "dropped: 1 (no annotation)" in output
        assert "images with masks: 1 (lung, heart)" in output

    @pytest.mark.parametrize("other", ["none.png", json.dumps(encode_rle(np.zeros((4, 4))))])
    def test_masks_that_cannot_be_united(self, collect, other):
        rows = [["a.png", json.dumps(encode_rle(np.eye(40, 60)))], ["a.png", other]]
        assert "a.png: lines 2, 3: 2 masks that cannot be put together" in collect(
            "image m", rows, "--mask", "m", fails=True
        )

    def test_paths_that_are_written_in_two_ways(self, collect):
        rows = [["a.png", "edema"], ["./a.png", "mass"]]
        entries, _, _ = collect("image f", rows, "--label", "f")
        assert list(entries) == ["a.png"]
        assert entries["a.png"]["labels"] == [1, 1]

    def test_names_of_what_was_dropped(self, collect, tmp_path):
        rows = [
            ["a.png", "secret", TEXT],
            ["b.png", "secret", ""],
            ["", "p", TEXT],
            ["c.png", "", TEXT],
            ["a.png", "secret", TEXT],
        ]
        options = ("--patient", "p", "--report", "r")
        _, document, output = collect("image p r", rows, *options, images=["a.png", "b.png", "c.png"])
        assert f"their names: {tmp_path / 'list.dropped.csv'}" in output
        lines = list(csv.reader((tmp_path / "list.dropped.csv").open(newline="")))
        assert sorted(lines[1:]) == [
            ["a.png (line 6)", "same id as another entry"],
            ["b.png", "empty report"],
            ["c.png", "no patient"],
            ["line 4", "no image path"],
        ]
        assert sum(document["dropped"].values()) == 4
        collect("image p r", rows[:1], *options)
        assert not (tmp_path / "list.dropped.csv").exists()
