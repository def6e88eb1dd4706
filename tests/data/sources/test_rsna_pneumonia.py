# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import numpy as np
import pytest

from monai_mgca.apps.data_command import main
from monai_mgca.data import load_labeled
from monai_mgca.data.check.check_datalist import check_datalist
from monai_mgca.data.sources.rsna_pneumonia import collect_rsna_pneumonia
from monai_mgca.io import decode_rle

from .labeled_sets import HEIGHT, WIDTH, everything, save_dicom, write_table


class TestRsna:
    HEADER = ("patientId", "x", "y", "width", "height", "Target")

    @pytest.fixture
    def folder(self, tmp_path):
        folder = tmp_path / "rsna"
        for i in range(20):
            save_dicom(folder / "stage_2_train_images" / f"p{i}.dcm")
        rows = [("p0", 1.0, 2.0, 5.0, 6.0, 1), ("p0", 10.0, 3.0, 4.0, 4.0, 1), ("p1", 0, 0, 30, 20, 1)]
        rows += [(f"p{i}", "", "", "", "", 0) for i in range(2, 20)]
        write_table(folder / "stage_2_train_labels.csv", self.HEADER, rows)
        return folder

    def test_boxes_masks_labels(self, folder, collect, tmp_path):
        classes = [(f"p{i}", "Normal" if i > 1 else "Lung Opacity") for i in range(20)]
        write_table(folder / "stage_2_detailed_class_info.csv", ("patientId", "class"), classes)
        document, output = collect("rsna_pneumonia", folder)
        assert document["counts"] == {"training": 14, "validation": 3, "test": 3}  # 70 / 15 / 15 by patient
        entries = everything(document)
        assert entries["p0"]["boxes"] == [[1, 2, 6, 8], [10, 3, 14, 7]]
        assert entries["p0"]["box_labels"] == [0, 0]
        assert entries["p0"]["labels"] == [1]
        assert entries["p2"]["labels"] == [0]
        assert entries["p2"]["boxes"] == []
        assert entries["p2"]["detail"] == "Normal"
        mask = np.zeros((HEIGHT, WIDTH))
        mask[2:8, 1:6], mask[3:7, 10:14] = 1, 1
        np.testing.assert_array_equal(decode_rle(entries["p0"]["mask"]), mask)
        assert not decode_rle(entries["p2"]["mask"]).any()
        assert decode_rle(entries["p1"]["mask"]).all()
        assert "p7" not in output  # ids are patients

    def test_serves_three_tasks(self, folder, collect, tmp_path):
        collect("rsna_pneumonia", folder, "--fractions", "1", "0", "0")
        for task in ("detection", "segmentation", "classification"):
            assert len(load_labeled(tmp_path / "datalist.json", "training", task, folder)) == 20

    @pytest.mark.parametrize(
        ("row", "message"),
        [
            (("p3", 1, 1, 5, 0, 1), "line 2: a box must have a width"),
            (("p3", "a", 1, 5, 5, 1), "line 2: x, y, width and height must be numbers"),
            (("p3", 1, 1, 5, 5, 0), "line 2: Target is 0, but there is a box"),
            (("p3", "", "", "", "", 2), "line 2: Target is 0 or 1"),
        ],
    )
    def test_broken_rows(self, folder, collect, row, message):
        write_table(folder / "stage_2_train_labels.csv", self.HEADER, [row])
        error = collect("rsna_pneumonia", folder, fails=True)
        assert message in error
        assert "p3" not in error

    def test_missing_parts(self, folder, collect, tmp_path):
        (tmp_path / "empty").mkdir()
        assert "stage_2_train_images" in collect("rsna_pneumonia", tmp_path / "empty", fails=True)
        (folder / "stage_2_train_labels.csv").unlink()
        assert "no such table" in collect("rsna_pneumonia", folder, fails=True)

    def test_box_outside_is_reported_by_the_check(self, folder, tmp_path):
        write_table(folder / "stage_2_train_labels.csv", self.HEADER, [("p0", 20, 2, 50, 6, 1)])
        output = tmp_path / "datalist.json"
        main(["rsna_pneumonia", "--dataset-dir", str(folder), "--output", str(output), "--fractions", "1", "0", "0"])
        (problem,) = check_datalist(output, folder)
        assert "p0.dcm" in problem.file
        assert "30 x 20" in problem.detail

    def test_a_box_outside_fills_what_is_inside(self, folder, tmp_path):
        write_table(folder / "stage_2_train_labels.csv", self.HEADER, [("p0", -2, 2, 6, 600, 1)])
        collection = collect_rsna_pneumonia(folder)
        mask = decode_rle(collection.entries[0][1]["mask"])
        assert mask[2:, :4].all()
        assert mask.sum() == 18 * 4

    def test_two_targets_of_one_patient(self, folder, collect):
        write_table(
            folder / "stage_2_train_labels.csv", self.HEADER, [("p0", 1, 2, 5, 6, 1), ("p0", "", "", "", "", 0)]
        )
        assert "line 3: Target is 0 or 1, and the same" in collect("rsna_pneumonia", folder, fails=True)

    def test_images_that_cannot_be_used(self, folder, collect):
        (folder / "stage_2_train_images" / "p3.dcm").unlink()
        (folder / "stage_2_train_images" / "p4.dcm").write_text("nothing")
        document, output = collect("rsna_pneumonia", folder)
        assert document["dropped"] == {"image: missing": 1, "image: unreadable": 1}
        assert "p3.dcm: missing" in output
        assert "p4.dcm: unreadable" in output
