# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""The Merlin Abdominal CT Dataset in a small copy of its own layout."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest

from monai_mgca.data.sources.merlin import collect_merlin
from monai_mgca.utils import DataError

from .labeled_sets import everything, make_volume, write_table

REPORTS = ("study id", "Findings", "Split", "Few Shot")
CLASSES = ("pleural_effusion", "ascites", "hepatic_steatosis")
NAMES = [f"AC42136{k}e" for k in range(6)]
SPLITS = ["train"] * 3 + ["val", "test", "test"]


def findings(name):
    return f"Lower thorax: No pleural effusion. Liver: Fat in the liver of {name}.\nIMPRESSION: Steatosis."


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "merlinabdominalctdataset"
    (folder / "merlin_data").mkdir(parents=True)
    for name in NAMES:
        path = folder / "merlin_data" / f"{name}{'.nii' if name == NAMES[0] else '.nii.gz'}"
        nibabel.save(nibabel.Nifti1Image(make_volume(name), np.diag([-1, -1, 3, 1])), path)
    rows = [(name, findings(name), split, 0) for name, split in zip(NAMES, SPLITS, strict=True)]
    write_table(folder / "reports_final.csv", REPORTS, rows)
    labels = [(name, 0, -1, 1) for name in NAMES[:5]]
    write_table(folder / "zero_shot_findings_disease_cls.csv", ("study id", *CLASSES), labels)
    return folder


def test_datalist(folder, collect):
    document, output = collect("merlin", folder)
    assert document["counts"] == {"training": 3, "validation": 1, "test": 2}
    assert document["classes"] == list(CLASSES)
    entries = everything(document)
    assert entries[NAMES[1]] == {
        "id": NAMES[1],
        "image": f"merlin_data/{NAMES[1]}.nii.gz",
        "report": f"Steatosis. Lower thorax: No pleural effusion. Liver: Fat in the liver of {NAMES[1]}.",
        "patient": NAMES[1],
        "labels": [0, None, 1],
    }
    assert entries[NAMES[0]]["image"] == f"merlin_data/{NAMES[0]}.nii"
    assert "labels" not in entries[NAMES[5]]
    assert "1 scans are not in the table of labels" in output
    assert "Fat in the liver" not in output


def test_chosen_findings(folder, collect):
    document, _ = collect("merlin", folder, "--classes", "ascites", "pleural_effusion")
    assert document["classes"] == ["ascites", "pleural_effusion"]
    assert everything(document)[NAMES[1]]["labels"] == [None, 0]
    document, _ = collect("merlin", folder, "--no-labels")
    assert "classes" not in document
    assert not any("labels" in entry for entry in everything(document).values())


@pytest.mark.parametrize(
    ("table", "old", "new", "error"),
    [
        ("reports_final.csv", NAMES[0], "../secret", "line 2: 'study id' is no name such as"),
        ("reports_final.csv", ",train,", ",all,", "line 2: 'Split' is none of train, val, test"),
        ("reports_final.csv", "Findings", "Report", "no column 'Findings'"),
        ("zero_shot_findings_disease_cls.csv", "0,-1", "2,-1", "line 2: 'pleural_effusion' is none of"),
    ],
)
def test_errors(folder, table, old, new, error):
    path = folder / table
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(DataError, match=f"{path.name}.*{error}"):
        collect_merlin(folder)


def test_what_is_not_there(folder, tmp_path):
    table = (folder / "reports_final.csv").rename(tmp_path / "sheet.csv")
    assert len(collect_merlin(folder, reports=table).entries) == 6
    with pytest.raises(DataError, match=r"no such table: .*reports_final\.csv"):
        collect_merlin(folder)
    (folder / "reports_final.xlsx").write_bytes(b"PK\3\4")
    with pytest.raises(DataError, match=r"is a workbook: save its sheet beside it as reports_final\.csv"):
        collect_merlin(folder)
    with pytest.raises(DataError, match="no folder merlin_data"):
        collect_merlin(tmp_path)
