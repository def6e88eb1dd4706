# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Merlin: abdominal CTs with reports and the labels of 30 findings, of Stanford.

Source of the layout and of the labels' meaning: documentation/download.md of github.com/StanfordMIMI/Merlin; of the
columns: run_scripts/generate_merlin_split_csvs.py of github.com/peterhan91/clip_3d_ct, which reads them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from monai_mgca.data.sources.collection import Collection
from monai_mgca.data.sources.tables.finding_labels import finding_names, read_labels
from monai_mgca.data.sources.tables.rows import numbered_rows
from monai_mgca.data.split import split_name
from monai_mgca.text.report_reader import ReportReader
from monai_mgca.utils import DataError

__all__ = ["collect_merlin"]

_ID, _TEXT, _SPLIT = "study id", "Findings", "Split"
_NAME = re.compile(r"\w+")
# -1 is a finding that the report does not mention
_WORDS = {"-1": None, "-1.0": None}
_IMAGES, _WORKBOOK, _LABELS = "merlin_data", "reports_final.xlsx", "zero_shot_findings_disease_cls.csv"


def collect_merlin(
    dataset_dir: str | os.PathLike,
    reports: str | os.PathLike | None = None,
    labels: bool = True,
    classes: Sequence[str] = (),
    headings: str | os.PathLike | None = None,
) -> Collection:
    """Collect the volumes of the Merlin Abdominal CT Dataset with their reports, in its own splits.

    It names no patients: every scan counts as its own, and whether a patient is in two of its splits cannot be seen.

    Args:
        dataset_dir: the folder merlinabdominalctdataset, with merlin_data/ and the tables.
        reports: the table of "study id", "Findings" and "Split": the sheet of reports_final.xlsx as CSV. Defaults to
            reports_final.csv in the folder.
        labels: read zero_shot_findings_disease_cls.csv; what a report does not mention is unknown.
        classes: the findings to take, in this order. Defaults to all of the table.
        headings: a JSON file of headings that the table of them lacks, see :class:`Headings`.

    Raises:
        DataError: when a table, a column or the folder of volumes is not there, or a row is broken (by line).

    Example::

        print(collect_merlin("merlinabdominalctdataset").write("dataset.json"))
    """
    folder = Path(dataset_dir)
    if not (folder / _IMAGES).is_dir():
        raise DataError(f"no folder {_IMAGES} in {folder}: give merlinabdominalctdataset/, as it is published.")
    table, collection, reader = _table(folder, reports), Collection("merlin", folder), ReportReader(headings)
    names = list(classes) or (finding_names(folder / _LABELS, _ID) if labels else [])
    known = read_labels(folder / _LABELS, _ID, names, _WORDS) if labels else {}
    collection.header = {"classes": names} if labels else {}
    unlabeled = 0
    for name, text, split in _read_reports(table):
        extra = {"labels": known[name]} if name in known else {}
        unlabeled += labels and name not in known
        plain = (folder / _IMAGES / f"{name}.nii").is_file()
        place = f"{_IMAGES}/{name}.nii{'' if plain else '.gz'}"
        collection.add(name, place, collection.readings.take(reader.whole(text)), name, split, **extra)
    collection.notes.append("the set names no patients: every scan counts as its own patient, in the set's splits")
    collection.notes += [f"{unlabeled} scans are not in the table of labels"] if unlabeled else []
    return collection


def _table(folder: Path, reports: str | os.PathLike | None) -> Path:
    table = Path(reports) if reports else folder / _WORKBOOK.replace(".xlsx", ".csv")
    if not reports and not table.is_file() and (folder / _WORKBOOK).is_file():
        raise DataError(f"{folder / _WORKBOOK} is a workbook: save its sheet beside it as {table.name} (CSV, UTF-8).")
    return table


def _read_reports(table: Path) -> Iterator[tuple[str, str, str]]:
    for line, row in numbered_rows(table, (_ID, _TEXT, _SPLIT)):
        name, split = row[_ID].strip(), split_name(row[_SPLIT].strip())
        if not _NAME.fullmatch(name):  # it becomes a path
            raise DataError(f"{table} line {line}: '{_ID}' is no name such as AC421363e.")
        if split is None:
            raise DataError(f"{table} line {line}: '{_SPLIT}' is none of train, val, test.")
        yield name, row[_TEXT], split
