# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""RAD-ChestCT: chest CTs with the labels of 84 findings, without reports."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from monai_mgca.data.sources.collection import Collection
from monai_mgca.data.sources.tables.finding_labels import finding_names, read_labels
from monai_mgca.data.sources.tables.rows import numbered_rows
from monai_mgca.utils import DataError

__all__ = ["collect_rad_chestct"]

_ID = "NoteAcc_DEID"
_SPLITS = {"imgtrain": "training", "imgvalid": "validation", "imgtest": "test"}
_TABLE = "{part}_Abnormality_and_Location_Labels.csv"
_NAME = re.compile(r"[A-Za-z]+\d+")


def collect_rad_chestct(
    dataset_dir: str | os.PathLike,
    labels: Sequence[str | os.PathLike] = (),
    classes: Sequence[str] = (),
    summary: str | os.PathLike | None = None,
) -> Collection:
    """Collect the volumes of RAD-ChestCT in its own splits.

    Args:
        dataset_dir: the folder of the volumes, trn00001.npz and so on, with or without a folder images/.
        labels: tables of NoteAcc_DEID and a column a finding, or one a ``finding*location``. Defaults to
            imgtrain_Abnormality_and_Location_Labels.csv, imgvalid_... and imgtest_..., those there are in the folder.
        classes: the findings to take, in this order. Defaults to all of the first table.
        summary: the table of NoteAcc_DEID, MRN_DEID (the patient) and Subset_Assigned. Defaults to Summary_3630.csv in
            the folder.

    Raises:
        DataError: when a table or column is not there, or a row is broken (by line).

    Example::

        print(collect_rad_chestct("RAD-ChestCT").write("dataset.json"))
    """
    folder = Path(dataset_dir)
    collection = Collection("rad_chestct", folder, needs_report=False)
    tables = [Path(table) for table in labels] or [folder / _TABLE.format(part=part) for part in _SPLITS]
    there = tables if labels else [table for table in tables if table.is_file()]
    if not there:
        missing = ", ".join(table.name for table in tables)
        raise DataError(f"no tables of labels in {folder}: none of {missing}. Name them with --labels.")
    names = list(classes) or finding_names(there[0], _ID)
    known: dict[str, list[int | None]] = {}
    for table in there:
        known |= read_labels(table, _ID, names)
    images = "images/" if (folder / "images").is_dir() else ""
    for name, patient, split in _read_summary(Path(summary) if summary else folder / "Summary_3630.csv"):
        if name in known:
            collection.add(name, f"{images}{name}.npz", "", patient, split, labels=known[name])
        else:
            collection.drop("not in the tables of labels", name)
    collection.header = {"classes": names}
    return collection


def _read_summary(table: Path) -> Iterator[tuple[str, str, str]]:
    for line, row in numbered_rows(table, (_ID, "MRN_DEID", "Subset_Assigned")):
        name, patient, part = (row[column].strip() for column in (_ID, "MRN_DEID", "Subset_Assigned"))
        if not _NAME.fullmatch(name):  # it becomes a path
            raise DataError(f"{table} line {line}: {_ID} is no name such as trn00001.")
        if not patient:
            raise DataError(f"{table} line {line}: MRN_DEID, the patient, is empty.")
        if part not in _SPLITS:
            raise DataError(f"{table} line {line}: Subset_Assigned is none of {', '.join(_SPLITS)}.")
        yield name, patient, _SPLITS[part]
