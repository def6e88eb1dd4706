# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import pytest

from monai_mgca.apps.data_command import main
from monai_mgca.data import load_labeled
from monai_mgca.data.check.check_datalist import check_datalist

from .labeled_sets import everything, save_png, write_table


class TestObjectCxr:
    @pytest.fixture
    def folder(self, tmp_path):
        folder = tmp_path / "objects"
        for name in [*(f"train/{i:05d}.jpg" for i in range(10)), "dev/1.jpg"]:
            save_png(folder / name)
        rows = [("00000.jpg", "0 1 2 5 6;1 7 8 9 10"), ("00001.jpg", "2 3 4 9 5 6 11"), ("00002.jpg", "")]
        rows += [(f"{i:05d}.jpg", "") for i in range(3, 10)]
        write_table(folder / "train.csv", ("image_name", "annotation"), rows)
        write_table(folder / "dev.csv", ("image_name", "annotation"), [("1.jpg", "0 1 2 5 6;")])
        return folder

    def test_shapes_become_boxes(self, folder, collect):
        document, _ = collect("object_cxr", folder)
        assert document["counts"] == {"training": 8, "validation": 2, "test": 1}
        assert [entry["image"] for entry in document["test"]] == ["dev/1.jpg"]
        entries = everything(document)
        assert entries["train/00000"]["boxes"] == [[1, 2, 5, 6], [7, 8, 9, 10]]
        assert entries["train/00001"]["boxes"] == [[3, 4, 9, 11]]
        assert entries["train/00002"]["boxes"] == []
        assert entries["train/00002"]["labels"] == [0]
        assert document["box_classes"] == ["foreign object"]

    @pytest.mark.parametrize("annotation", ["0 1 2 5", "3 1 2 5 6", "2 1 2 3 4", "0 1 2 x 6", "2 1 2 3 4 5 6 7"])
    def test_broken_annotations(self, folder, collect, annotation):
        write_table(folder / "train.csv", ("image_name", "annotation"), [("00000.jpg", annotation)])
        error = collect("object_cxr", folder, fails=True)
        assert "train.csv line 2: object 1 is no shape" in error

    def test_serves_two_tasks(self, folder, collect, tmp_path):
        collect("object_cxr", folder, "--fractions", "1", "0", "0")
        for section, count in (("training", 10), ("test", 1)):
            for task in ("detection", "classification"):
                items = load_labeled(tmp_path / "datalist.json", section, task, folder)
                assert len(items) == count
                assert items[0]["image"].startswith(str(folder))

    def test_a_seed_gives_another_split_of_the_training_table(self, folder, collect):
        one, output = collect("object_cxr", folder)
        two, _ = collect("object_cxr", folder, "--seed", 1)
        assert "given: test; the other patients split 0.8 / 0.2 / 0 with seed 0" in output
        assert one["validation"] != two["validation"]
        assert one["test"] == two["test"]

    def test_box_outside_is_reported_by_the_check(self, folder, tmp_path):
        write_table(folder / "dev.csv", ("image_name", "annotation"), [("1.jpg", "0 1 2 31 6")])
        output = tmp_path / "datalist.json"
        main(["object_cxr", "--dataset-dir", str(folder), "--output", str(output)])
        (problem,) = check_datalist(output, folder)
        assert problem.file == "dev/1.jpg"
        assert "[1, 2, 31, 6] leaves the image of 30 x 20" in problem.detail

    def test_missing_parts(self, folder, collect):
        write_table(folder / "dev.csv", ("image_name", "boxes"), [("1.jpg", "")])
        assert "dev.csv has no column 'annotation'" in collect("object_cxr", folder, fails=True)
        (folder / "dev.csv").unlink()
        assert "no such table" in collect("object_cxr", folder, fails=True)
        (folder / "train").rename(folder / "images")
        assert "no folder train" in collect("object_cxr", folder, fails=True)
