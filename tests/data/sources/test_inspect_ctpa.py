# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""INSPECT in a small copy of its own layout."""

from __future__ import annotations

import csv

import nibabel
import numpy as np
import pytest

from monai_mgca.data.sources.inspect_ctpa import collect_inspect
from monai_mgca.utils import DataError

from .labeled_sets import everything, make_volume

# of an impression: its number, image, patient, split, embolism, death within a year
STUDIES = [
    ("11", "PE452363f", "115967", "train", "TRUE", "Censored"),
    ("12", "PE452363e", "115967", "train", "FALSE", "FALSE"),
    ("13", "PE4523640", "115968", "train", "False", "TRUE"),
    ("14", "PE4523641", "115969", "valid", "TRUE", "FALSE"),
    ("15", "PE4523642", "115970", "test", "FALSE", "FALSE"),
]


def write(path, header, rows):
    with path.open("w", newline="") as file:
        csv.writer(file, delimiter="\t").writerows([header, *rows])


@pytest.fixture
def folder(tmp_path):
    full = tmp_path / "inspect" / "full"
    (full / "CTPA").mkdir(parents=True)
    for _, name, *_ in STUDIES:
        image = nibabel.Nifti1Image(make_volume(name), np.diag([-1, -1, 3, 1]))
        nibabel.save(image, full / "CTPA" / f"{name}.nii.gz")
    texts = [(key, f"1. PULMONARY EMBOLISM OF LOBE {key}. 2. NO EFFUSION.") for key, *_ in STUDIES]
    write(full / "impressions_20250611.tsv", ("impression_id", "impressions"), texts)
    write(full / "impressions_20240101.tsv", ("impression_id", "text"), [])
    rows = [(key, pe, death) for key, *_, pe, death in STUDIES]
    write(full / "labels_20250611.tsv", ("impression_id", "pe_positive_nlp", "12_month_mortality"), rows)
    rows = [(key, split) for key, _, _, split, *_ in STUDIES]
    write(full / "splits_20250611.tsv", ("impression_id", "split"), [*rows, rows[0]])
    rows = [(patient, key, name, "2015-03-24") for key, name, patient, *_ in STUDIES]
    header = ("person_id", "impression_id", "image_id", "procedure_DATETIME")
    write(full / "study_mapping_20250611.tsv", header, rows)
    return full.parent


def test_datalist(folder, collect):
    document, output = collect("inspect", folder)
    assert document["counts"] == {"training": 3, "validation": 1, "test": 1}
    assert document["classes"] == ["pe_positive_nlp"]
    entries = everything(document)
    assert entries["PE452363f"] == {
        "id": "PE452363f",
        "image": "full/CTPA/PE452363f.nii.gz",
        "report": "1. PULMONARY EMBOLISM OF LOBE 11. 2. NO EFFUSION.",
        "patient": "115967",
        "labels": [1],
    }
    assert [entries[name]["labels"] for _, name, *_ in STUDIES] == [[1], [0], [0], [1], [0]]
    assert "EMBOLISM" not in output
    assert "115967" not in output


def test_other_labels(folder, collect):
    document, _ = collect("inspect", folder / "full", "--classes", "12_month_mortality", "pe_positive_nlp")
    entries = everything(document)
    assert entries["PE452363f"]["image"] == "CTPA/PE452363f.nii.gz"
    assert [entries[name]["labels"] for _, name, *_ in STUDIES] == [[None, 1], [0, 0], [1, 0], [0, 1], [0, 0]]
    document, _ = collect("inspect", folder, "--no-labels")
    assert "classes" not in document


def test_what_is_dropped(folder, collect):
    for name, missing in (("labels", 2), ("splits", 3)):
        table = folder / "full" / f"{name}_20250611.tsv"
        lines = table.read_text().splitlines()
        table.write_text("\n".join(lines[:missing] + lines[missing + 1 :]) + "\n")
    (folder / "full" / "CTPA" / "PE4523641.nii.gz").unlink()
    document, _ = collect("inspect", folder)
    assert document["dropped"] == {
        "not in the table of labels": 1,
        "not in the table of splits": 1,
        "image: missing": 1,
    }


@pytest.mark.parametrize(
    ("table", "old", "new", "error"),
    [
        ("study_mapping", "PE452363f", "../secret", "line 2: 'image_id' is no name of a file in CTPA"),
        ("study_mapping", "115967", " ", "line 2: 'person_id', the patient, is empty"),
        ("splits", "train", "all", "line 2: 'split' is none of train, valid, test"),
        ("splits", "11\ttrain", "11\ttest", "line 7: 'impression_id' is one of an earlier line, with another split"),
        ("labels", "TRUE", "7", "line 2: 'pe_positive_nlp' is none of TRUE, FALSE, CENSORED, 1, 0, -1 and empty"),
        ("impressions", "impressions", "text", "no column 'impressions'"),
    ],
)
def test_errors(folder, table, old, new, error):
    path = folder / "full" / f"{table}_20250611.tsv"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(DataError, match=f"{path.name}.*{error}"):
        collect_inspect(folder)


def test_another_folder(folder, tmp_path):
    with pytest.raises(DataError, match="no folder CTPA in"):
        collect_inspect(tmp_path)
    (folder / "full" / "labels_20250611.tsv").unlink()
    with pytest.raises(DataError, match=r"no table labels_\*\.tsv in"):
        collect_inspect(folder)
    assert len(collect_inspect(folder, labels=False).entries) == 5
