# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0
"""RAD-ChestCT in a small copy of its own layout, and the first rows of its published tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from monai_mgca.data.sources.rad_chestct import _read_summary, collect_rad_chestct
from monai_mgca.data.sources.tables.finding_labels import finding_names, read_labels
from monai_mgca.io.volumes.rad_chestct_array import read_rad_chestct
from monai_mgca.transforms import LoadVolume
from monai_mgca.utils import DataError

from .labeled_sets import everything, make_volume, write_table

PUBLISHED = Path(__file__).resolve().parents[4] / "shared" / "data" / "tables"
COLUMNS = ("NoteAcc_DEID", "nodule*right_upper", "nodule*left_lower", "cardiomegaly*heart")


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "RAD-ChestCT"
    folder.mkdir()
    summary = []
    for part, prefix, count in (("imgtrain", "trn", 4), ("imgvalid", "val", 2), ("imgtest", "tst", 2)):
        names = [f"{prefix}0000{i}" for i in range(count)]
        for name in names:
            np.savez_compressed(folder / f"{name}.npz", ct=make_volume(name))
        rows = [(name, "0.0", str(float(i % 2)), "1.0") for i, name in enumerate(names)]
        write_table(folder / f"{part}_Abnormality_and_Location_Labels.csv", COLUMNS, rows)
        summary += [(f"mrn_{prefix}{i}", name, f"{part}_extra", part) for i, name in enumerate(names)]
    write_table(folder / "Summary_3630.csv", ("MRN_DEID", "NoteAcc_DEID", "Set_Assigned", "Subset_Assigned"), summary)
    return folder


def test_splits_and_labels(folder, collect):
    document, output = collect("rad_chestct", folder)
    assert document["counts"] == {"training": 4, "validation": 2, "test": 2}
    assert document["classes"] == ["nodule", "cardiomegaly"]
    entry = {"id": "trn00001", "image": "trn00001.npz", "patient": "mrn_trn1", "labels": [1, 1]}
    assert everything(document)["trn00001"] == entry
    assert everything(document)["trn00000"]["labels"] == [0, 1]
    assert "nodule 4, cardiomegaly 8" in output


def test_options(folder, collect):
    table = folder / "mine.csv"
    write_table(table, ("NoteAcc_DEID", "Emphysema", "Lung nodule"), [("trn00000", "1.0", "")])
    document, output = collect("rad_chestct", folder, "--labels", table, "--classes", "Lung nodule", "Emphysema")
    assert everything(document)["trn00000"]["labels"] == [None, 1]
    assert "dropped: 7 (not in the tables of labels)" in output


@pytest.mark.parametrize(
    ("table", "old", "new", "error"),
    [
        ("Summary_3630.csv", "trn00000", "../secret", "line 2: NoteAcc_DEID is no name"),
        ("Summary_3630.csv", "mrn_trn0", "", "line 2: MRN_DEID, the patient, is empty"),
        ("Summary_3630.csv", "imgtrain\n", "other\n", "line 2: Subset_Assigned is none of"),
        ("imgtrain_Abnormality_and_Location_Labels.csv", "0.0", "yes", "line 2: 'nodule.right_upper' is none"),
        ("imgvalid_Abnormality_and_Location_Labels.csv", "cardiomegaly", "heart", "has no column 'cardiomegaly'"),
        ("imgtest_Abnormality_and_Location_Labels.csv", "tst00001", "tst00000", "line 3: .*with other labels"),
    ],
)
def test_errors(folder, table, old, new, error):
    path = folder / table
    text = path.read_bytes().decode().replace("\r\n", "\n")
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(DataError, match=f"{path.name}.*{error}"):
        collect_rad_chestct(folder)


def test_no_tables(tmp_path):
    with pytest.raises(DataError, match=r"no tables of labels in .*imgtest_Abn.*--labels"):
        collect_rad_chestct(tmp_path)
    (tmp_path / "empty.csv").write_text("NoteAcc_DEID\n")
    with pytest.raises(DataError, match=r"empty\.csv has no row"):
        collect_rad_chestct(tmp_path, labels=[tmp_path / "empty.csv"])


def test_volume(folder):
    """The array is (slices from the head down, rows to the back, columns to the left)."""
    image = LoadVolume()(folder / "trn00000.npz")
    np.testing.assert_array_equal(image[0].numpy(), make_volume("trn00000").T)
    np.testing.assert_allclose(image.affine.numpy(), np.diag([-0.8, -0.8, -0.8, 1]))


@pytest.mark.parametrize(
    ("arrays", "error"),
    [
        ({"volume": make_volume("a")}, "no array 'ct'"),
        ({"ct": np.array([["a"]])}, "is no numbers"),
        ({"ct": np.array([{}], dtype=object)}, "is no numbers"),
    ],
)
def test_another_array(tmp_path, arrays, error):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=error):
        read_rad_chestct(tmp_path / "a.npz")


def test_damaged_file(folder):
    path = folder / "trn00000.npz"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match=r"cannot read the volume .*trn00000.npz: it cannot be read"):
        LoadVolume()(path)


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the first rows of the published tables are not there")
def test_published_tables():
    rows = list(_read_summary(PUBLISHED / "rad_chestct_Summary_3630.csv"))
    assert rows[0] == ("trn24737", "mrn12644", "training")
    for name, count in (("imgvalid", 84), ("labels", 15)):
        names = finding_names(PUBLISHED / f"rad_chestct_{name}.csv", "NoteAcc_DEID")
        labels = read_labels(PUBLISHED / f"rad_chestct_{name}.csv", "NoteAcc_DEID", names)
        assert len(names) == count
        assert all(set(values) <= {0, 1} for values in labels.values())
