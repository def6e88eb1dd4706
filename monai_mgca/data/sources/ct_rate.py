# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""CT-RATE: chest CTs with reports and the labels of 18 findings."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from monai.utils import look_up_option

from monai_mgca.data.sources.collection import Collection
from monai_mgca.data.sources.tables.finding_labels import read_labels
from monai_mgca.data.sources.tables.rows import numbered_rows
from monai_mgca.text.report_reader import ReportReader
from monai_mgca.utils import DataError

__all__ = ["CT_RATE_CLASSES", "collect_ct_rate"]

CT_RATE_CLASSES = (
    *("Medical material", "Arterial wall calcification", "Cardiomegaly", "Pericardial effusion"),
    *("Coronary artery wall calcification", "Hiatal hernia", "Lymphadenopathy", "Emphysema", "Atelectasis"),
    *("Lung nodule", "Lung opacity", "Pulmonary fibrotic sequela", "Pleural effusion", "Mosaic attenuation pattern"),
    *("Peribronchial thickening", "Consolidation", "Bronchiectasis", "Interlobular septal thickening"),
)
# The set writes its second part now so, now so; its volumes are the test part here.
_PARTS = {"train": (("train",), None), "valid": (("validation", "valid"), "test")}
_VOLUME = re.compile(r"(?P<scan>(?P<patient>(?:train|valid)_\d+)_[a-z]+)_\d+\.nii\.gz")
_TEXTS = ("Findings_EN", "Impressions_EN")
_RESCALE = ("RescaleSlope", "RescaleIntercept", "XYSpacing", "ZSpacing")
_MEND = "Give the folder that holds radiology_text_reports/, or the one above it, as CT-RATE is published."


def collect_ct_rate(
    dataset_dir: str | os.PathLike,
    version: str = "auto",
    reconstructions: str = "all",
    labels: bool = True,
    headings: str | os.PathLike | None = None,
) -> Collection:
    """Collect the volumes of CT-RATE with their reports; those of its validation part are the test part.

    Args:
        dataset_dir: the folder with radiology_text_reports/, multi_abnormality_labels/, metadata/ and the volumes.
        version: "v2", of train_fixed/ and valid_fixed/, whose files are in Hounsfield units; "v1", of train/ and
            valid/, whose values need the metadata's RescaleSlope and RescaleIntercept, and whose voxels its XYSpacing
            and ZSpacing: the entries hold both, and ``LoadVolumed`` applies them. "auto" is v2 where it is there.
        reconstructions: of a scan, which share its report: "all", or the "first".
        labels: read the labels of the 18 findings.
        headings: a JSON file of headings that the table of them lacks, see :class:`Headings`.

    Raises:
        DataError: when a table, a column or the volumes are not there, or a row is broken (by line).
        ValueError: when `version` or `reconstructions` is another word.

    Example::

        print(collect_ct_rate("CT-RATE").write("dataset.json", fractions=(0.95, 0.05, 0)))
    """
    look_up_option(reconstructions, ("all", "first"))
    folder = _folder(Path(dataset_dir))
    version = _version(folder, version)
    collection = Collection(f"ct_rate {version}", dataset_dir)
    collection.header = {"classes": list(CT_RATE_CLASSES)} if labels else {}
    collection.notes.append(f"volumes of {version}: {_SAID[version]}")
    reader = ReportReader(headings)
    for part in _parts(folder):
        label_of = _read_labels(folder, part) if labels else {}
        geometry = _read_geometry(_table(folder, "metadata", part, "metadata")) if version == "v1" else {}
        scans: set[str] = set()
        for name, match, row in _read_reports(_table(folder, "radiology_text_reports", part, "reports")):
            extra = {**geometry.get(name, {}), **({"labels": label_of.get(name)} if labels else {})}
            missing = [
                what for what, known in (("labels", label_of), ("metadata", geometry)) if known and name not in known
            ]
            if match["scan"] in scans and reconstructions == "first":
                collection.drop("another reconstruction of a scan", name)
            elif missing:
                collection.drop(f"not in the table of {missing[0]}", name)
            else:
                scans.add(match["scan"])
                text = collection.readings.take(reader.parts(*(row[column] for column in _TEXTS)))
                place = (folder / _place(part, version, match, name)).relative_to(dataset_dir).as_posix()
                collection.add(name.removesuffix(".nii.gz"), place, text, match["patient"], _PARTS[part][1], **extra)
    return collection


_SAID = {"v1": "their metadata's rescale and spacing go into the entries", "v2": "in Hounsfield units as they are"}


def _folder(folder: Path) -> Path:
    found = [place for place in (folder, folder / "dataset") if (place / "radiology_text_reports").is_dir()]
    if not found:
        raise DataError(f"no radiology_text_reports in {folder}. {_MEND}")
    return found[0]


def _version(folder: Path, version: str) -> str:
    there = [
        name for name, end in (("v2", "_fixed"), ("v1", "")) if any((folder / f"{p}{end}").is_dir() for p in _PARTS)
    ]
    version = look_up_option(version, ("auto", "v1", "v2"))
    if not there or version not in ("auto", *there):
        wanted = "train/ or valid/" if version == "v1" else "train_fixed/ or valid_fixed/"
        raise DataError(f"no volumes in {folder}: there is no folder {wanted}. {_MEND}")
    return there[0] if version == "auto" else version


def _parts(folder: Path) -> list[str]:
    """The parts of which there are reports."""
    names = {part: [f"{name}_reports.csv" for name in names] for part, (names, _) in _PARTS.items()}
    tables = folder / "radiology_text_reports"
    found = [part for part, files in names.items() if any((tables / file).is_file() for file in files)]
    if not found:
        raise DataError(f"{tables} has none of {', '.join(file for files in names.values() for file in files)}.")
    return found


def _read_labels(folder: Path, part: str) -> dict[str, list[int | None]]:
    return read_labels(
        _table(folder, "multi_abnormality_labels", part, "predicted_labels"), "VolumeName", CT_RATE_CLASSES
    )


def _table(folder: Path, place: str, part: str, name: str) -> Path:
    paths = [folder / place / f"{word}_{name}.csv" for word in _PARTS[part][0]]
    return next((path for path in paths if path.is_file()), paths[0])


def _place(part: str, version: str, match: re.Match[str], name: str) -> str:
    return f"{part}{'_fixed' if version == 'v2' else ''}/{match['patient']}/{match['scan']}/{name}"


def _match(table: Path, line: int, name: str) -> re.Match[str]:
    match = _VOLUME.fullmatch(name)
    if match is None:  # it becomes a path
        raise DataError(f"{table} line {line}: VolumeName is no train_1_a_1.nii.gz or valid_1_a_1.nii.gz.")
    return match


def _read_reports(table: Path) -> Iterator[tuple[str, re.Match[str], dict[str, str]]]:
    for line, row in numbered_rows(table, ("VolumeName", *_TEXTS)):
        name = row["VolumeName"].strip()
        yield name, _match(table, line, name), row


def _read_geometry(table: Path) -> dict[str, dict[str, Any]]:
    """What volumes of v1 lack: slope and intercept of their values, and the sizes of their voxels."""
    found = {}
    for line, row in numbered_rows(table, ("VolumeName", *_RESCALE)):
        number = partial(_numbers, table, line, row)
        (slope,), (intercept,), (thickness,) = number(_RESCALE[0]), number(_RESCALE[1]), number(_RESCALE[3])
        rows, columns = number("XYSpacing", 2)
        if slope == 0 or min(rows, columns, thickness) <= 0:
            raise DataError(f"{table} line {line}: RescaleSlope is 0, or XYSpacing or ZSpacing is not above 0.")
        found[row["VolumeName"].strip()] = {"rescale": [slope, intercept], "spacing": [columns, rows, thickness]}
    return found


def _numbers(table: Path, line: int, row: dict[str, str], column: str, count: int = 1) -> list[float]:
    try:
        values = json.loads(f"[{row[column].strip().strip('[]')}]")
        if len(values) != count or not all(isinstance(v, (int, float)) and abs(v) < 1e9 for v in values):
            raise ValueError
    except ValueError:
        wanted = "a number" if count == 1 else f"a list of {count} numbers"
        raise DataError(f"{table} line {line}: '{column}' is not {wanted}.") from None
    return [float(value) for value in values]
