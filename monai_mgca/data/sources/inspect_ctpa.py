# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""INSPECT: CT angiographies of the lungs with impressions and labels of pulmonary embolism, of Stanford.

Source of the tables, of their columns and of the layout: run_scripts/generate_inspect_split_csvs.py and
create_inspect_labels.py of github.com/peterhan91/clip_3d_ct, which read the release of June 2025; of the labels'
meaning: ehr/2_generate_labels_and_features.py of github.com/som-shahlab/INSPECT_public.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from monai_mgca.data.sources.collection import Collection
from monai_mgca.data.sources.tables.finding_labels import read_labels
from monai_mgca.data.sources.tables.rows import numbered_rows
from monai_mgca.data.split import split_name
from monai_mgca.text.report_reader import ReportReader
from monai_mgca.utils import DataError

__all__ = ["collect_inspect"]

_ID, _IMAGE, _PATIENT = "impression_id", "image_id", "person_id"
_NAME = re.compile(r"[\w-]+")
# of a patient who was not seen long enough, an outcome is not known
_WORDS = {"TRUE": 1, "FALSE": 0, "CENSORED": None}
_MEND = "Give the folder that holds CTPA/ and the tables, as INSPECT is published, or the one above it."


def collect_inspect(
    dataset_dir: str | os.PathLike,
    labels: bool = True,
    classes: Sequence[str] = ("pe_positive_nlp",),
    headings: str | os.PathLike | None = None,
) -> Collection:
    """Collect the volumes of INSPECT with their impressions, in its own splits; its findings are not published.

    Args:
        dataset_dir: the folder with CTPA/ and the tables of a release, impressions_20250611.tsv, labels_..., splits_...
            and study_mapping_..., or the one that holds it as full/. Of several releases the last is read.
        labels: read the labels.
        classes: columns of the labels, in this order: pulmonary embolism by what the report says, or others, such as
            12_month_mortality, of which "Censored" is unknown.
        headings: a JSON file of headings that the table of them lacks, see :class:`Headings`.

    Raises:
        DataError: when a table, a column or the folder of volumes is not there, or a row is broken (by line).

    Example::

        print(collect_inspect("inspect").write("dataset.json"))
    """
    folder = _folder(Path(dataset_dir))
    collection, reader = Collection("inspect", dataset_dir), ReportReader(headings)
    known = read_labels(_table(folder, "labels"), _ID, classes, _WORDS) if labels else {}
    collection.header = {"classes": list(classes)} if labels else {}
    rows = numbered_rows(_table(folder, "impressions"), (_ID, "impressions"))
    texts = {row[_ID].strip(): row["impressions"] for _, row in rows}
    splits, mapping = _read_splits(_table(folder, "splits")), _table(folder, "study_mapping")
    for line, row in numbered_rows(mapping, (_ID, _IMAGE, _PATIENT)):
        key, name = row[_ID].strip(), row[_IMAGE].strip().removesuffix(".nii.gz")
        tables = (("impressions", texts), ("splits", splits), *((("labels", known),) if labels else ()))
        if missing := [what for what, table in tables if key not in table]:
            collection.drop(f"not in the table of {missing[0]}", name or f"line {line}")
            continue
        if not _NAME.fullmatch(name):  # it becomes a path
            raise DataError(f"{mapping} line {line}: '{_IMAGE}' is no name of a file in CTPA/.")
        if not row[_PATIENT].strip():
            raise DataError(f"{mapping} line {line}: '{_PATIENT}', the patient, is empty.")
        place = (folder / "CTPA" / f"{name}.nii.gz").relative_to(dataset_dir).as_posix()
        text = collection.readings.take(reader.parts("", texts[key]))
        extra = {"labels": known[key]} if labels else {}
        collection.add(name, place, text, row[_PATIENT].strip(), splits[key], **extra)
    return collection


def _folder(folder: Path) -> Path:
    found = [place for place in (folder, folder / "full") if (place / "CTPA").is_dir()]
    if not found:
        raise DataError(f"no folder CTPA in {folder}. {_MEND}")
    return found[0]


def _table(folder: Path, name: str) -> Path:
    """The table of the last release."""
    found = sorted(folder.glob(f"{name}_*.tsv"))
    if not found:
        raise DataError(f"no table {name}_*.tsv in {folder}. {_MEND}")
    return found[-1]


def _read_splits(table: Path) -> dict[str, str]:
    """The split of each impression, of which some are there twice."""
    splits: dict[str, str] = {}
    for line, row in numbered_rows(table, (_ID, "split")):
        split = split_name(row["split"].strip())
        if split is None:
            raise DataError(f"{table} line {line}: 'split' is none of train, valid, test.")
        if splits.setdefault(row[_ID].strip(), split) != split:
            raise DataError(f"{table} line {line}: '{_ID}' is one of an earlier line, with another split.")
    return splits
