# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import pytest

from monai_mgca.data import load_labeled

from .labeled_sets import everything, save_png


class TestCovidx:
    @pytest.fixture
    def make(self, tmp_path):
        def make(train, test):
            folder = tmp_path / "covidx"
            for part, lines in (("train", train), ("test", test)):
                for line in lines:
                    save_png(folder / part / line.split()[1])
                (folder / f"{part}.txt").write_text("\n".join(lines) + "\n")
            return folder

        return make

    def test_three_classes(self, make, collect, tmp_path):
        kinds = ("normal", "pneumonia", "COVID-19")
        train = [f"{i} image{i}.png {kinds[i % 3]} rsna" for i in range(20)]
        folder = make(train, ["0 t0.png normal rsna", "90 t1.png COVID-19 cohen"])
        document, output = collect("covidx", folder)
        assert document["classes"] == ["normal", "pneumonia", "COVID-19"]
        assert document["label_mode"] == "multiclass"
        assert "dropped: 1 (training image of a test patient)" in output
        assert document["counts"] == {"training": 17, "validation": 2, "test": 2}
        entries = everything(document)
        assert entries["train/image1"]["labels"] == [0, 1, 0]
        assert entries["test/t1"]["labels"] == [0, 0, 1]
        assert len(load_labeled(tmp_path / "datalist.json", "training", "classification", folder)) == 17

    def test_two_classes(self, make, collect):
        train = [f"{i} image{i}.png {'positive' if i % 2 else 'negative'}" for i in range(10)]
        document, _ = collect("covidx", make(train, ["99 t.png positive"]))
        assert document["classes"] == ["COVID-19"]
        assert document["label_mode"] == "multilabel"
        assert everything(document)["test/t"]["labels"] == [1]

    def test_errors(self, make, collect):
        folder = make(["1 a.png normal", "2 b.png positive"], ["3 c.png normal"])
        assert "mix" in collect("covidx", folder, fails=True)
        (folder / "train.txt").write_text("1 a.png normal\n2 b.png healthy\n")
        assert "train.txt line 2" in collect("covidx", folder, fails=True)
        (folder / "train.txt").unlink()
        assert "no such list" in collect("covidx", folder, fails=True)

    def test_header_and_names_with_spaces(self, make, collect):
        folder = make([f"{i} a{i}.png normal" for i in range(4)], ["9 t.png COVID-19"])
        save_png(folder / "train" / "COVID-19 (1).png")
        lines = (folder / "train.txt").read_text()
        (folder / "train.txt").write_text(f"patientid filename class source\n5 COVID-19 (1).png COVID-19 sirm\n{lines}")
        entries = everything(collect("covidx", folder)[0])
        assert len(entries) == 6
        assert entries["train/COVID-19 (1)"]["image"] == "train/COVID-19 (1).png"
        assert entries["train/COVID-19 (1)"]["labels"] == [0, 0, 1]

    def test_patients_of_two_sources_with_one_number(self, make, collect):
        train = [*(f"{i} a{i}.png normal rsna" for i in range(4)), "4 b.png pneumonia cohen"]
        document, _ = collect("covidx", make(train, ["3 t.png normal cohen", "4 u.png normal cohen"]))
        assert document["dropped"] == {"training image of a test patient": 1}
        assert "train/a3" in everything(document)

    def test_lists_of_other_names(self, make, collect):
        folder = make([f"{i} a{i}.png normal" for i in range(4)], ["9 t.png COVID-19"])
        for part in ("train", "test"):
            (folder / f"{part}.txt").rename(folder / f"{part}_COVIDx9A.txt")
        options = ("--train", folder / "train_COVIDx9A.txt", "--test", folder / "test_COVIDx9A.txt")
        assert collect("covidx", folder, *options)[0]["counts"] == {"training": 3, "validation": 1, "test": 1}
        (folder / "test").rename(folder / "images")
        assert "no folder test" in collect("covidx", folder, *options, fails=True)
