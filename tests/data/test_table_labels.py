# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from PIL import Image

from monai_mgca.apps.data_command import main
from monai_mgca.data import load_labeled, read_datalist
from monai_mgca.data.check.check_datalist import check_datalist
from monai_mgca.data.sources.tables.table_labels import LabelColumns
from monai_mgca.io.run_lengths import encode_rle
from monai_mgca.utils import DataError

TEXT = "The lungs are clear. No effusion."


@pytest.fixture
def collect(tmp_path, capsys):
    """Writes a table of columns, with an image a row unless the table names them, and makes its datalist."""

    def run(columns, *options, names=None, fails=False):
        count = len(next(iter(columns.values())))
        names = names or [f"{i}.png" for i in range(count)]
        for i, name in enumerate(dict.fromkeys(names)):
            pixels = np.arange(40 * 60).reshape(40, 60) % 251
            Image.fromarray((pixels + i).astype(np.uint8)).save(tmp_path / name)
        columns = {"image": names, "split": ["train"] * count, **columns}
        with (tmp_path / "table.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows(zip(*columns.values(), strict=True))
        output = tmp_path / "datalist.json"
        code = main(
            [
                "csv",
                str(tmp_path / "table.csv"),
                "--image",
                "image",
                "--split",
                "split",
                "--output",
                str(output),
                *options,
            ]
        )
        captured = capsys.readouterr()
        assert code == (2 if fails else 0), captured.err
        return captured.err if fails else (read_datalist(output), captured.out)

    return run


def entries(document):
    return {entry["image"]: entry for entry in document["training"]}


class TestMasks:
    def test_paths_and_run_lengths(self, collect, tmp_path):
        Image.new("L", (60, 40), 255).save(tmp_path / "lungs.png")
        rle = encode_rle(np.eye(40, 60))
        document, output = collect({"m": ["lungs.png", json.dumps(rle), ""]}, "--mask", "m")
        assert "mask_classes" not in document
        assert "dropped: 1 (no annotation)" in output
        assert {name: entry["mask"] for name, entry in entries(document).items()} == {
            "0.png": "lungs.png",
            "1.png": rle,
        }
        assert "report" not in document["training"][0]
        items = load_labeled(tmp_path / "datalist.json", "training", "segmentation")
        assert items[0]["label"] == str(tmp_path / "lungs.png")
        assert items[1]["label"] == rle

    def test_several_classes(self, collect, tmp_path):
        for name in ("l.png", "h.png"):
            Image.new("L", (60, 40), 255).save(tmp_path / name)
        columns = {"l": ["l.png", "l.png"], "h": ["h.png", ""]}
        document, _ = collect(columns, "--mask", "lung=l", "--mask", "heart=h")
        assert document["mask_classes"] == ["lung", "heart"]
        assert document["training"][0]["mask"] == ["l.png", "h.png"]
        assert len(document["training"]) == 1  # where one of them is missing there is no mask

    def test_named_class(self, collect):
        document, _ = collect({"m": [json.dumps(encode_rle(np.zeros((40, 60))))]}, "--mask", "lung=m")
        assert document["mask_classes"] == ["lung"]

    def test_errors(self, collect):
        columns = {"a": ["x"], "b": ["y"]}
        assert "CLASS=COL" in collect(columns, "--mask", "a", "--mask", "b", fails=True)
        assert "0.png is no JSON" in collect({"m": ["{1"]}, "--mask", "m", fails=True)
        assert "no column 'n'" in collect({"m": ["x"]}, "--mask", "n", fails=True)


class TestBoxes:
    LABELED = json.dumps([{"label": "lung", "box": [1, 2, 30, 40]}, {"label": "heart", "box": [5, 5, 9.5, 9]}])

    def test_json(self, collect, tmp_path):
        document, output = collect({"b": [self.LABELED, "", "[]"]}, "--boxes", "b")
        assert document["box_classes"] == ["heart", "lung"]
        assert document["training"] == [
            {
                "id": "0",
                "image": "0.png",
                "patient": "0.png",
                "boxes": [[1, 2, 30, 40], [5, 5, 9.5, 9]],
                "box_labels": [1, 0],
            }
        ]
        assert "dropped: 2 (no annotation)" in output
        assert check_datalist(tmp_path / "datalist.json") == []

    def test_no_box_as_no_finding(self, collect):
        document, _ = collect({"b": [self.LABELED, ""]}, "--boxes", "b", "--no-box", "none")
        assert entries(document)["1.png"]["boxes"] == []
        assert entries(document)["1.png"]["box_labels"] == []

    def test_chosen_classes(self, collect):
        document, _ = collect({"b": [self.LABELED]}, "--boxes", "b", "--classes", "lung")
        assert document["box_classes"] == ["lung"]
        assert document["training"][0]["boxes"] == [[1, 2, 30, 40]]

    def test_plain_boxes_and_a_column_of_their_class(self, collect):
        columns = {"b": ["[[1, 2, 3, 4]]", "[[1, 2, 3, 4], [2, 2, 3, 5]]"], "kind": ["nodule", "mass"]}
        document, _ = collect(columns, "--boxes", "b", "--box-label", "kind")
        assert document["box_classes"] == ["mass", "nodule"]
        assert entries(document)["1.png"]["box_labels"] == [0, 0]
        document, _ = collect({"b": ["[[1, 2, 3, 4]]"]}, "--boxes", "b")
        assert document["box_classes"] == ["finding"]

    def test_four_columns_a_row_a_box(self, collect):
        columns = {
            "x": ["1", "10", "", "5"],
            "y": ["2", "3", "", "5"],
            "w": ["5", "6", "", "5"],
            "h": ["7", "8", "", "5"],
            "kind": ["a", "b", "", "a"],
        }
        options = (
            "--box-columns",
            "x",
            "y",
            "w",
            "h",
            "--box-format",
            "xywh",
            "--box-label",
            "kind",
            "--no-box",
            "none",
        )
        document, _ = collect(columns, *options, names=["p.png", "p.png", "q.png", "r.png"])
        assert {name: entry["boxes"] for name, entry in entries(document).items()} == {
            "p.png": [[1, 2, 6, 9], [10, 3, 16, 11]],
            "q.png": [],
            "r.png": [[5, 5, 10, 10]],
        }
        assert entries(document)["p.png"]["box_labels"] == [0, 1]

    @pytest.mark.parametrize("no_box", ["unknown", "none"])
    def test_rows_without_a_box_among_those_with_one(self, collect, no_box):
        edges = {column: ["", edge, "", edge, "", ""] for column, edge in zip("xyzw", "1234", strict=True)}
        names = ["p.png"] * 3 + ["q.png"] + ["r.png"] * 2
        document, _ = collect(edges, "--box-columns", *"xyzw", "--no-box", no_box, names=names)
        found = {name: entry["boxes"] for name, entry in entries(document).items()}
        expected = {"p.png": [[1, 2, 3, 4]], "q.png": [[1, 2, 3, 4]]}
        assert found == (expected if no_box == "unknown" else {**expected, "r.png": []})

    @pytest.mark.parametrize(
        "cell", ["[[1, 2, 3]]", "[1, 2, 3, 4]", '[{"box": [1, 2, 3, 4]}]', "[[1, 2, 3, NaN]]", "x"]
    )
    def test_what_cannot_be_understood(self, collect, cell):
        output = collect({"b": [cell]}, "--boxes", "b", fails=True)
        assert "the boxes of 0.png cannot be parsed ([[x0, y0, x1, y1], ...] or" in output

    def test_both_forms(self, collect):
        output = collect({"b": [""]}, "--boxes", "b", "--box-columns", "b", "b", "b", "b", fails=True)
        assert "either one column of boxes" in output


class TestLabels:
    def test_a_column_a_class(self, collect, tmp_path):
        columns = {"edema": ["1", "0.0", "-1.0"], "effusion": ["", "1", "0"]}
        document, _ = collect(columns, "--labels", "edema", "effusion")
        assert document["classes"] == ["edema", "effusion"]
        assert [entry["labels"] for entry in document["training"]] == [[1, None], [0, 1], [-1, 0]]
        assert check_datalist(tmp_path / "datalist.json") == []

    def test_names(self, collect):
        document, output = collect({"f": ["edema| effusion", "mass", ""]}, "--label", "f")
        assert document["classes"] == ["edema", "effusion", "mass"]
        assert [entry["labels"] for entry in document["training"]] == [[1, 1, 0], [0, 0, 1]]
        assert "dropped: 1 (no annotation)" in output
        document, _ = collect({"f": ["a;b", "c"]}, "--label", "f", "--separator", ";", "--classes", "b", "a")
        assert document["classes"] == ["b", "a"]
        assert [entry["labels"] for entry in document["training"]] == [[1, 1], [0, 0]]

    def test_classes_that_no_entry_has_are_reported(self, collect):
        _, output = collect({"f": ["edema", "mass"]}, "--label", "f", "--classes", "edema", "oedema", "Mass")
        assert "no entry has the class oedema, Mass: is it written as in the table?" in output
        _, output = collect({"f": ["edema", "mass"]}, "--label", "f", "--classes", "mass")
        assert "no entry has" not in output

    def test_errors(self, collect):
        output = collect({"edema": ["2"]}, "--labels", "edema", fails=True)
        assert "0.png" in output
        assert "'edema'" in output
        assert "2" not in output.split("column")[1]
        assert "either columns of labels" in collect({"e": ["1"]}, "--labels", "e", "--label", "e", fails=True)


class TestReports:
    def test_with_annotations(self, collect):
        """Where a column of reports is named, what has no report is left out as ever."""
        document, output = collect({"r": [TEXT, ""], "e": ["1", "1"]}, "--report", "r", "--labels", "e")
        assert document["training"][0]["report"] == TEXT
        assert document["training"][0]["labels"] == [1]
        assert "dropped: 1 (empty report)" in output

    def test_neither(self, collect):
        assert "or annotations" in collect({"e": ["1"]}, fails=True)


def test_columns():
    columns = LabelColumns(masks=["lung=m"], boxes="b", box_label="k", labels=["e", "f"])
    assert columns
    assert columns.columns == ["m", "b", "k", "e", "f"]
    assert not LabelColumns()
    with pytest.raises(DataError, match=r"1.png"):
        columns.read({"m": "", "b": "{", "k": "", "e": "", "f": ""}, "1.png")


@pytest.mark.parametrize(
    "options",
    [
        {"labels": ["e", "f", "e"]},
        {"label": "k", "classes": ["e", "e"]},
        {"masks": ["e=left", "e=right"]},
        {"box_columns": ["x", "e", "x1", "e"]},
    ],
)
def test_repeated(options):
    with pytest.raises(DataError, match="has 'e' 2 times"):
        LabelColumns(**options)


def test_real_table(shared, tmp_path):
    table = str(shared / "data" / "cxr" / "manifest.csv")
    common = ["csv", table, "--image", "image_path", "--patient", "patient_id", "--split", "split"]
    for options, source, training, key in (
        (["--mask", "lung=mask_path"], "kermany_v7", 719, "mask_classes"),
        (["--boxes", "boxes", "--classes", "Left Lung", "Right Lung"], "covid_chestxray", 483, "box_classes"),
        (["--label", "finding", "--classes", "No Finding"], "nih_cxr14", 796, "classes"),
    ):
        output = tmp_path / f"{source}.json"
        assert main([*common, *options, "--where", f"source={source}", "--output", str(output)]) == 0
        document = read_datalist(output)
        assert len(document["training"]) == training
        assert document[key] in (["lung"], ["Left Lung", "Right Lung"], ["No Finding"])
