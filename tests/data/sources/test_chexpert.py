# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import pytest

from monai_mgca.data import load_labeled
from monai_mgca.data.sources.chexpert import COMPETITION_CLASSES
from monai_mgca.data.sources.mimic_cxr import CHEXPERT_CLASSES
from monai_mgca.utils import DataError

from .labeled_sets import save_png, write_table


class TestCheXpert:
    @pytest.fixture
    def folder(self, tmp_path):
        folder = tmp_path / "CheXpert-v1.0-small"
        header = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *CHEXPERT_CLASSES)
        values = {"Edema": "-1.0", "Cardiomegaly": "1.0", "Atelectasis": "0.0"}
        labels = [values.get(name, "") for name in CHEXPERT_CLASSES]
        for part, first, count in (("train", 1, 40), ("valid", 64001, 3)):
            rows = []
            for i in range(first, first + count):
                for view in ("Frontal", "Lateral"):
                    path = f"{part}/patient{i:05d}/study1/view1_{view.lower()}.jpg"
                    save_png(folder / path)
                    rows.append((f"CheXpert-v1.0-small/{path}", "Female", 50, view, "AP", *labels))
            write_table(folder / f"{part}.csv", header, rows)
        return folder

    def test_splits_and_labels(self, folder, collect):
        document, output = collect("chexpert", folder, "--fractions", "0.9", "0.1", "0")
        assert document["counts"] == {"training": 36, "validation": 4, "test": 3}
        assert "43 (not a frontal view)" in output
        assert document["classes"] == list(COMPETITION_CLASSES)
        # Atelectasis, Cardiomegaly, Consolidation, Edema, Pleural Effusion
        assert document["training"][0]["labels"] == [0, 1, None, -1, None]
        assert all(entry["image"].startswith("valid/") for entry in document["test"])

    def test_validation_leaves_the_training(self, folder, collect):
        """In the official code the validation images stay among those of the training."""
        document, _ = collect("chexpert", folder, "--fractions", "0.9", "0.1", "0")
        images = [{entry["image"] for entry in document[part]} for part in ("training", "validation")]
        patients = [{entry["patient"] for entry in document[part]} for part in ("training", "validation")]
        assert not images[0] & images[1]
        assert not patients[0] & patients[1]
        assert len(images[0] | images[1]) == 40

    def test_options(self, folder, collect):
        document, _ = collect("chexpert", folder, "--all-classes", "--unmentioned", "absent")
        assert document["classes"] == list(CHEXPERT_CLASSES)
        assert set(document["training"][0]["labels"]) == {0, 1, -1}

    def test_errors(self, folder, collect):
        table = (folder / "train.csv").read_text()
        (folder / "train.csv").write_text(table.replace("-1.0", "2.0", 1))
        error = collect("chexpert", folder, fails=True)
        assert "line 2" in error
        assert "Edema" in error
        (folder / "train.csv").write_text(table.replace("Edema", "Oedema"))
        assert "no column 'Edema'" in collect("chexpert", folder, fails=True)
        (folder / "valid.csv").unlink()
        (folder / "train.csv").write_text(table)
        assert "valid.csv" in collect("chexpert", folder, fails=True)

    def test_serves_classification(self, folder, collect, tmp_path):
        collect("chexpert", folder)
        output, classes = tmp_path / "datalist.json", ["Cardiomegaly", "Edema"]
        assert load_labeled(output, "test", "classification", folder, classes)[0]["label"] == [1, -1]
        assert len(load_labeled(output, "training", "classification", folder, classes[:1])) == 39
        with pytest.raises(DataError, match="no positive example of Edema"):
            load_labeled(output, "training", "classification", folder, classes)

    def test_another_path(self, folder, collect):
        table = (folder / "valid.csv").read_text()
        (folder / "valid.csv").write_text(table.replace("valid/patient64001/study1", "valid/64001", 1))
        error = collect("chexpert", folder, fails=True)
        assert "valid.csv line 2: Path is no" in error
        assert "64001" not in error
