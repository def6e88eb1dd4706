# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""CT-RATE in a small copy of its own layout, and the first rows of its published tables."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from monai_mgca.data import load_datalist
from monai_mgca.data.sources.ct_rate import CT_RATE_CLASSES, _read_geometry, _version, collect_ct_rate
from monai_mgca.data.sources.tables.finding_labels import read_labels
from monai_mgca.transforms import LoadVolumed
from monai_mgca.utils import DataError

from .labeled_sets import everything, make_volume, write_table

PUBLISHED = Path(__file__).resolve().parents[4] / "shared" / "data" / "tables"
REPORTS = ("VolumeName", "ClinicalInformation_EN", "Technique_EN", "Findings_EN", "Impressions_EN")
METADATA = ("VolumeName", "Manufacturer", "XYSpacing", "RescaleIntercept", "RescaleSlope", "ZSpacing")


def findings(name):
    """Of every patient's own."""
    part, patient, *_ = name.split("_")
    return f"The right lung holds a nodule of {patient} mm in {part}. No fluid around the heart."


def volumes(part, patients):
    return [f"{part}_{patient}_a_{reconstruction}.nii.gz" for patient in patients for reconstruction in (1, 2)]


@pytest.fixture
def make(tmp_path):
    def run(end="_fixed"):
        folder = tmp_path / "CT-RATE" / "dataset"
        for part, word, patients in (("train", "train", range(1, 11)), ("valid", "validation", (1, 2))):
            names = volumes(part, patients)
            for name in names:
                path = folder / f"{part}{end}" / "_".join(name.split("_")[:2]) / "_".join(name.split("_")[:3]) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                nibabel.save(nibabel.Nifti1Image(make_volume(name), np.diag([-1, -1, 1, 1])), path)
            rows = [(name, "Cough.", "Thin sections.", findings(name), "Nodule") for name in names]
            write_table(folder / "radiology_text_reports" / f"{word}_reports.csv", REPORTS, rows)
            labels = [(name, *(int(c == "Lung nodule") for c in CT_RATE_CLASSES)) for name in names]
            table = folder / "multi_abnormality_labels" / f"{part}_predicted_labels.csv"
            write_table(table, ("VolumeName", *CT_RATE_CLASSES), labels)
            rows = [(name, "A", "[0.75, 0.5]", "-8192", "1", "1.5") for name in names]
            write_table(folder / "metadata" / f"{word}_metadata.csv", METADATA, rows)
        return folder.parent

    return run


def test_second_version(make, collect):
    document, output = collect("ct_rate", make(), "--fractions", "0.8", "0.2", "0")
    assert document["counts"] == {"training": 16, "validation": 4, "test": 4}
    assert document["classes"] == list(CT_RATE_CLASSES)
    assert "volumes of v2: in Hounsfield units as they are" in output
    entry = everything(document)["train_1_a_1"]
    assert entry == {
        "id": "train_1_a_1",
        "image": "dataset/train_fixed/train_1/train_1_a/train_1_a_1.nii.gz",
        "report": f"Nodule. {findings('train_1')}",
        "patient": "train_1",
        "labels": [int(c == "Lung nodule") for c in CT_RATE_CLASSES],
    }


def test_first_version(make, collect, tmp_path):
    folder = make("")
    document, _ = collect("ct_rate", folder / "dataset", "--fractions", "1", "0", "0", "--no-labels")
    entry = everything(document)["train_1_a_1"]
    assert (entry["rescale"], entry["spacing"]) == ([1, -8192], [0.5, 0.75, 1.5])
    assert "labels" not in entry
    assert "classes" not in document
    loaded = load_datalist(tmp_path / "datalist.json", "training", folder / "dataset")[0]
    image = LoadVolumed("image")(loaded)["image"]
    np.testing.assert_array_equal(image[0].numpy(), make_volume(f"{loaded['id']}.nii.gz") - 8192.0)
    np.testing.assert_allclose(image.affine.numpy(), np.diag([-0.5, -0.75, 1.5, 1]))
    assert "no folder train_fixed/ or valid_fixed/" in collect("ct_rate", folder, "--version", "v2", fails=True)


def test_one_reconstruction(make, collect):
    document, output = collect("ct_rate", make(), "--reconstructions", "first")
    assert sum(document["counts"].values()) == 12
    assert "dropped: 12 (another reconstruction of a scan)" in output


def test_what_is_dropped(make, collect):
    folder = make()
    table = folder / "dataset" / "radiology_text_reports" / "validation_reports.csv"
    write_table(table, REPORTS, [(name, "", "", "", "") for name in volumes("valid", (1, 2, 3))])
    table = folder / "dataset" / "multi_abnormality_labels" / "train_predicted_labels.csv"
    table.write_text("\n".join(table.read_text().splitlines()[:-2]) + "\n")
    document, output = collect("ct_rate", folder)
    assert document["dropped"] == {"empty report": 4, "not in the table of labels": 4}
    assert "holds a nodule" not in output


@pytest.mark.parametrize(
    ("table", "old", "new", "error"),
    [
        (
            "radiology_text_reports/train_reports.csv",
            "train_1_a_1",
            "../secret",
            "line 2: VolumeName is no train_1_a_1",
        ),
        ("radiology_text_reports/train_reports.csv", "Findings_EN", "Findings", "no column 'Findings_EN'"),
        ("multi_abnormality_labels/train_predicted_labels.csv", "gz,0", "gz,7", "line 2: 'Medical material' is none"),
        ("metadata/train_metadata.csv", "-8192", "x", "line 2: 'RescaleIntercept' is not a number"),
        ("metadata/train_metadata.csv", "[0.75, 0.5]", "[0.75]", "line 2: 'XYSpacing' is not a list of 2 numbers"),
        ("metadata/train_metadata.csv", "1.5", "0", "line 2: RescaleSlope is 0, or XYSpacing or ZSpacing"),
    ],
)
def test_errors(make, table, old, new, error):
    folder = make("")
    path = folder / "dataset" / table
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(DataError, match=f"{path.name}.*{error}"):
        collect_ct_rate(folder)


def test_another_folder(tmp_path):
    with pytest.raises(DataError, match="no radiology_text_reports in"):
        collect_ct_rate(tmp_path)
    (tmp_path / "radiology_text_reports").mkdir()
    with pytest.raises(DataError, match="no folder train_fixed/"):
        _version(tmp_path, "auto")
    (tmp_path / "train").mkdir()
    with pytest.raises(DataError, match=r"has none of train_reports\.csv"):
        collect_ct_rate(tmp_path)


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the first rows of the published tables are not there")
def test_published_tables():
    labels = read_labels(PUBLISHED / "ct_rate_valid_labels.csv", "VolumeName", CT_RATE_CLASSES)
    assert labels["valid_1_a_1.nii.gz"] == [int(c == "Lung nodule") for c in CT_RATE_CLASSES]
    geometry = _read_geometry(PUBLISHED / "ct_rate_valid_metadata.csv")
    assert geometry["valid_1_a_1.nii.gz"] == {"rescale": [1, -1024], "spacing": [0.341796875, 0.341796875, 1.5]}
    assert set(geometry) == set(labels)
