# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Open-i: the chest radiographs and XML reports of Indiana University."""

from __future__ import annotations

import os
import re
from pathlib import Path

from monai_mgca.data.paths import find_files
from monai_mgca.data.sources.collection import Collection
from monai_mgca.data.sources.tables.rows import read_rows
from monai_mgca.io import list_files, quick_kind
from monai_mgca.io.plain_xml import read_plain_xml
from monai_mgca.text.report_reader import Reading, ReportReader
from monai_mgca.utils import DataError
from monai_mgca.utils.progress import progress_bar

__all__ = ["collect_open_i", "read_report_xml"]

# Open-i names an image CXR11_IM-0067-1001, the table on Kaggle 11_IM-0067-1001.dcm; the first report's images are
# CXR1_1_IM-... and 1_IM-... The report's number and the part from IM- on identify an image under either name.
_IMAGE = re.compile(r"^(?:CXR)?(?P<report>\d+)_(?:\d+_)?(?P<image>IM-[\d-]+)")


def collect_open_i(
    reports: str | os.PathLike,
    images: str | os.PathLike,
    projections: str | os.PathLike | None = None,
    headings: str | os.PathLike | None = None,
) -> Collection:
    """Collect Open-i's Indiana University chest radiographs: XML reports and PNG (or JPEG, DICOM) images.

    Args:
        reports: the folder of XML files.
        images: the folder of images, named as Open-i or Kaggle name them, sub-folders included.
        projections: the table uid, filename, projection (from Kaggle): all frontal images of a report are kept. The
            XML does not say the view: without the table only the first image of each report is kept.
        headings: a JSON file of headings that the table lacks, see :class:`Headings`.

    Raises:
        DataError: when a folder is not there or holds none of its files, or an XML file is broken or a link out
            of its folder.

    Example::

        print(collect_open_i("ecgen-radiology", "NLMCXR_png").write("dataset.json"))
    """
    files = find_files(reports, "*.xml")
    if not files:
        raise DataError(f"no XML reports in {reports}; give the folder unpacked from NLMCXR_reports.tgz.")
    collection = Collection(f"open_i {Path(images).name}", images)
    path_of = _find_images(Path(images))
    frontal = None if projections is None else _read_frontal(projections)
    reader = ReportReader(headings)
    for file in progress_bar(files, "reading the reports"):
        uid, reading, names = _read(file, reader)
        there = [key for key in filter(None, map(_image_key, names)) if key in path_of]
        chosen = there[:1] if frontal is None else [key for key in there if key in frontal]
        if not chosen:
            reason = "report without an image" if not names else "no image file"
            collection.drop("no frontal image" if there else reason, file.name)
        text = collection.readings.take(reading) if chosen else ""
        for key in chosen:
            path = path_of[key]
            collection.add(Path(path).name.split(".")[0], path, text, uid)
    if frontal is None:
        collection.notes.append(
            "no --projections given: the first image of each report is kept; some of them are lateral views"
        )
    return collection


def read_report_xml(path: str | os.PathLike) -> tuple[str, str, list[str]]:
    """Read one of Open-i's reports.

    Returns:
        The report's uid (one a patient), impression + " " + findings, the names of its images.

    Raises:
        DataError: when it is no such XML, or has a DOCTYPE or entities, which could make the parser open other files.
    """
    uid, reading, names = _read(path, ReportReader())
    return uid, reading.report, names


def _read(path: str | os.PathLike, reader: ReportReader) -> tuple[str, Reading, list[str]]:
    root = read_plain_xml(path)
    uid = root.find("uId")
    if uid is None or not uid.get("id"):
        raise DataError(f"{path} has no <uId id=...>: it is none of Open-i's reports.")
    parts = [(node.get("Label", ""), " ".join((node.text or "").split())) for node in root.iter("AbstractText")]
    names = [node.get("id", "") for node in root.iter("parentImage")]
    return uid.get("id", ""), reader.labeled(parts), names


def _image_key(name: str) -> tuple[str, str] | None:
    match = _IMAGE.match(name)
    return (match["report"], match["image"]) if match else None


def _find_images(folder: Path) -> dict[tuple[str, str], str]:
    """The images by (report, image), relative to the folder."""
    found: dict[tuple[str, str], str] = {}
    for path in sorted(list_files(folder)):
        key = _image_key(path.name)
        if key and quick_kind(path):
            found.setdefault(key, path.relative_to(folder).as_posix())
    if not found:
        raise DataError(f"no images named like CXR1_1_IM-0001-3001.png in {folder}; give the folder of the images.")
    return found


def _read_frontal(table: str | os.PathLike) -> set[tuple[str, str]]:
    rows = read_rows(table, ("uid", "filename", "projection"))
    frontal = (_image_key(row["filename"]) for row in rows if row["projection"].strip().lower() == "frontal")
    keys = {key for key in frontal if key is not None}
    if not keys:
        raise DataError(f"{table}: no row has projection 'Frontal'.")
    return keys
