# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""MIMIC-CXR-JPG with the reports of MIMIC-CXR."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from monai_mgca.data.paths import resolve_path
from monai_mgca.data.sources.collection import Collection
from monai_mgca.data.sources.tables.rows import read_rows
from monai_mgca.data.split import split_name
from monai_mgca.text.report_reader import Reading, ReportReader
from monai_mgca.utils import DataError
from monai_mgca.utils.progress import map_in_threads, progress_bar

__all__ = ["CHEXPERT_CLASSES", "collect_mimic_cxr"]

FRONTAL_VIEWS = ("PA", "AP")
CHEXPERT_CLASSES = (
    *("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Enlarged Cardiomediastinum", "Fracture"),
    *("Lung Lesion", "Lung Opacity", "No Finding", "Pleural Effusion", "Pleural Other", "Pneumonia", "Pneumothorax"),
    "Support Devices",
)


def collect_mimic_cxr(
    dataset_dir: str | os.PathLike,
    reports: str | os.PathLike,
    labels: bool = False,
    headings: str | os.PathLike | None = None,
) -> Collection:
    """Collect the frontal radiographs of MIMIC-CXR-JPG 2.0.0 and the reports of MIMIC-CXR, in the official splits.

    Args:
        dataset_dir: MIMIC-CXR-JPG's folder: mimic-cxr-2.0.0-metadata.csv, mimic-cxr-2.0.0-split.csv (each may be .gz)
            and files/p10/p10000032/s50414267/<dicom_id>.jpg.
        reports: MIMIC-CXR's folder of reports, files/p10/p10000032/s50414267.txt (with or without "files").
        labels: add mimic-cxr-2.0.0-chexpert.csv as "labels": 1 where a finding is positive, 0 where it is negative,
            uncertain or not mentioned.
        headings: a JSON file of headings that the table lacks, see :class:`Headings`.

    Raises:
        DataError: when a table or folder is not there.

    Example::

        print(collect_mimic_cxr("mimic-cxr-jpg", "mimic-cxr-reports").write("dataset.json"))
    """
    folder, texts = Path(dataset_dir), Path(reports)
    texts = texts / "files" if (texts / "files").is_dir() else texts
    if not texts.is_dir():
        raise DataError(f"the folder of reports does not exist: {texts}")
    collection = Collection("mimic_cxr", folder)
    split_of = {r["dicom_id"]: r["split"] for r in read_rows(_table(folder, "split"), ("dicom_id", "split"))}
    labels_of = _read_labels(_table(folder, "chexpert")) if labels else None
    rows = []
    for row in read_rows(_table(folder, "metadata"), ("dicom_id", "subject_id", "study_id", "ViewPosition")):
        reason = _unwanted(row, split_of, labels_of)
        if reason:
            collection.drop(reason, row["dicom_id"])
        else:
            rows.append(row)
    readings = _read_reports(texts, {_study(row) for row in rows}, ReportReader(headings))
    report_of = {study: reading and collection.readings.take(reading) for study, reading in readings.items()}
    for row in progress_bar(rows, "cleaning the reports", len(rows)):
        study, text = _study(row), report_of[_study(row)]
        if not text:
            reason = "no report file" if text is None else "report has neither findings nor impression"
            collection.drop(reason, row["dicom_id"])
            continue
        extra: dict[str, Any] = {"view": row["ViewPosition"]}
        if labels_of is not None:
            extra["labels"] = labels_of[row["study_id"]]
        split = split_name(split_of[row["dicom_id"]])
        image = f"files/{study}/{row['dicom_id']}.jpg"
        collection.add(row["dicom_id"], image, text, row["subject_id"], split, **extra)
    if labels:
        collection.header["classes"] = list(CHEXPERT_CLASSES)
        collection.notes.append("labels: uncertain findings and those not mentioned count as 0")
    return collection


def _unwanted(row: dict[str, str], split_of: dict[str, str], labels_of: dict[str, list[int]] | None) -> str | None:
    """Why an image is left out."""
    if row["ViewPosition"] not in FRONTAL_VIEWS:
        return "not a frontal view (PA, AP)"
    if not (row["subject_id"] + row["study_id"]).isdecimal():  # they are parts of a path
        return "a subject or study that is no number"
    if split_name(split_of.get(row["dicom_id"], "")) is None:
        return "not in the split table"
    return "not in the table of labels" if labels_of is not None and row["study_id"] not in labels_of else None


def _table(folder: Path, name: str) -> Path:
    plain = folder / f"mimic-cxr-2.0.0-{name}.csv"
    found = [path for path in (plain, plain.with_name(plain.name + ".gz")) if path.is_file()]
    if not found:
        raise DataError(f"no {plain.name} or {plain.name}.gz in {folder}; it comes with MIMIC-CXR-JPG.")
    return found[0]


def _study(row: dict[str, str]) -> str:
    """A study's folder, and its report's path without the suffix."""
    return f"p{row['subject_id'][:2]}/p{row['subject_id']}/s{row['study_id']}"


def _read_labels(table: Path) -> dict[str, list[int]]:
    rows = read_rows(table, ("study_id", *CHEXPERT_CLASSES))
    return {row["study_id"]: [int(row[c] in ("1", "1.0")) for c in CHEXPERT_CLASSES] for row in rows}


def _read_reports(folder: Path, studies: set[str], reader: ReportReader) -> dict[str, Reading | None]:
    """The impression and findings of each study's report; None where there is no file."""

    def read(study: str) -> Reading | None:
        path = Path(resolve_path(base, f"{study}.txt") or base)
        text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None
        return None if text is None else reader.whole(text, named_only=True)

    base, ordered = os.path.realpath(folder), sorted(studies)
    return dict(zip(ordered, map_in_threads(read, ordered, "reading the reports"), strict=True))
